"""P x K batches: what every pass must hold, for any set of identities."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from tripletlib.sampling import PKSampler

MIXED_LABELS = [9, 9, 9, 9, 9, -4, -4, 7, 7, 7, 5, 5, 5, 5, 2, 2, 2, 2]  # 5 identities, 2 to 5 each


@st.composite
def sets(draw: st.DrawFn) -> tuple[np.ndarray, int, int, int]:
    """Labels of a random set in random order, with P, K and a seed that suit it."""
    counts = draw(st.lists(st.integers(1, 9), min_size=1, max_size=14))
    names: Any = draw(
        st.sampled_from(
            [
                [-3 * i for i in range(len(counts))],
                [f"person {i}" for i in range(len(counts))],
                [2**40 + i for i in range(len(counts))],
            ]
        )
    )
    labels = np.repeat(np.array(names), counts)
    seed = draw(st.integers(0, 2**31))
    np.random.default_rng(seed).shuffle(labels)
    return labels, draw(st.integers(1, len(counts))), draw(st.integers(1, 10)), seed


@settings(max_examples=120, deadline=None)
@given(sets())
def test_every_pass_keeps_the_promises(case: tuple[np.ndarray, int, int, int]) -> None:
    labels, p, k, seed = case
    sampler = PKSampler(labels, p, k, seed)
    everybody, count = set(labels.tolist()), Counter(labels.tolist())
    for _ in range(2):
        batches = list(sampler)
        assert len(batches) == len(sampler) == -(-len(everybody) // p)
        seen = set()
        for batch in batches:
            assert len(batch) == p * k
            drawn = Counter(labels[batch].tolist())
            assert len(drawn) == p, "an identity came twice in a batch"
            assert set(drawn.values()) == {k}
            seen |= set(drawn)
            for name in drawn:
                times = Counter(index for index in batch if labels[index] == name)
                # Without replacement where possible; else each image before any a second time.
                assert len(times) == min(k, count[name])
                assert max(times.values()) - min(times.values()) <= 1
        assert seen == everybody


@settings(max_examples=40, deadline=None)
@given(sets(), st.data())
def test_resumes_at_any_batch(case: tuple[np.ndarray, int, int, int], data: st.DataObject) -> None:
    labels, p, k, seed = case
    sampler = PKSampler(labels, p, k, seed)
    wanted = data.draw(st.integers(0, 3 * len(sampler)), label="batches before the checkpoint")
    stream = endless(sampler)
    for _ in range(wanted):
        next(stream)
    resumed = PKSampler(labels, p, k, seed=seed + 1)
    resumed.load_state_dict(sampler.state_dict())
    rest = endless(resumed)
    for _ in range(2 * len(sampler) + 1):
        assert next(rest) == next(stream)


def endless(sampler: PKSampler) -> Any:
    while True:
        yield from sampler


@pytest.mark.parametrize("taken", range(7))
def test_resumes_at_every_position_of_three_passes(taken: int) -> None:
    make = partial(PKSampler, MIXED_LABELS, identities=2, images=3, seed=5)
    reference = endless(make())
    expected = [next(reference) for _ in range(20)]
    interrupted = make()
    stream = endless(interrupted)
    assert [next(stream) for _ in range(taken)] == expected[:taken]
    state = interrupted.state_dict()
    next(stream)  # going on must not change the state that was saved
    resumed = make()
    resumed.load_state_dict(state)
    assert resumed.state_dict()["handed_out"] == state["handed_out"]
    rest = endless(resumed)
    assert [next(rest) for _ in range(20 - taken)] == expected[taken:]


def test_state_survives_saving(tmp_path: Path) -> None:
    sampler = PKSampler(MIXED_LABELS, 2, 2)
    stream = endless(sampler)
    next(stream)
    torch.save(sampler.state_dict(), tmp_path / "state.pt")
    resumed = PKSampler(MIXED_LABELS, 2, 2, seed=99)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert next(endless(resumed)) == next(stream)


def test_a_state_saved_at_the_end_of_a_pass_leads_into_the_next() -> None:
    sampler, resumed = (PKSampler(MIXED_LABELS, 2, 2) for _ in range(2))
    list(sampler)
    resumed.load_state_dict(sampler.state_dict())
    following = list(resumed)
    assert len(following) == len(sampler), "a `for` loop over the loader must not see an empty pass"
    assert following == list(sampler)


def test_a_state_saved_inside_a_pass_yields_what_is_left_of_it() -> None:
    sampler, resumed = (PKSampler(MIXED_LABELS, 2, 2) for _ in range(2))
    stream = iter(sampler)
    next(stream)
    resumed.load_state_dict(sampler.state_dict())
    assert list(resumed) == list(stream)
    assert list(resumed) == list(sampler)


def test_the_same_seed_draws_the_same_batches_and_another_does_not() -> None:
    first, again, other = (list(PKSampler(MIXED_LABELS, 2, 3, seed)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_global_seeds_do_not_matter() -> None:
    torch.manual_seed(1)
    first = list(PKSampler(MIXED_LABELS, 2, 3))
    torch.manual_seed(2)
    assert list(PKSampler(MIXED_LABELS, 2, 3)) == first


def test_passes_differ() -> None:
    sampler = PKSampler(np.repeat(np.arange(20), 4), identities=5, images=2)
    first, second = list(sampler), list(sampler)
    assert first != second
    identities = [[index // 4 for index in batch[::2]] for batch in first + second]
    assert identities[:4] != identities[4:], "the identities, too, are shuffled anew"


def test_draws_are_uniform() -> None:
    # 8 identities in batches of 3: each pass redraws one of the six before the last two, evenly.
    sampler = PKSampler(np.repeat(np.arange(8), 5), identities=3, images=2)
    passes = 800
    drawn = Counter(index for _ in range(passes) for batch in sampler for index in batch)
    expected = passes * 9 * 2 / 40
    assert len(drawn) == 40
    assert all(abs(count - expected) < 0.25 * expected for count in drawn.values()), drawn


@pytest.mark.parametrize("workers", [0, 1])
def test_serves_a_dataloader(workers: int) -> None:
    data = TensorDataset(torch.arange(len(MIXED_LABELS)), torch.tensor(MIXED_LABELS))
    loader = DataLoader(data, batch_sampler=PKSampler(MIXED_LABELS, 2, 3), num_workers=workers)
    assert len(loader) == 3
    batches = [indices.tolist() for indices, _ in loader]
    assert batches == list(PKSampler(MIXED_LABELS, 2, 3))
    assert all(isinstance(index, int) for batch in batches for index in batch)


@pytest.mark.parametrize(
    "labels",
    [[1, 1, 2], np.array([1, 1, 2], np.uint8), torch.tensor([1, 1, 2]), ["a", "a", "b"]],
    ids=lambda labels: type(labels).__name__,
)
def test_labels_of_any_kind(labels: Any) -> None:
    (batch,) = PKSampler(labels, identities=2, images=2)
    assert sorted(batch) == [0, 1, 2, 2]


def test_identities_equal_to_p_give_one_batch() -> None:
    (batch,) = PKSampler([3, 3, 1, 1], identities=2, images=2)
    assert sorted(batch) == [0, 1, 2, 3]


def test_errors_say_what_was_given() -> None:
    with pytest.raises(ValueError, match=r"P = 3 identities cannot be drawn: the set has only 2"):
        PKSampler([1, 1, 2], identities=3, images=2)
    with pytest.raises(ValueError, match=r"P >= 1 and K >= 1, got 0 x 2"):
        PKSampler([1, 1, 2], identities=0, images=2)
    with pytest.raises(ValueError, match=r"P >= 1 and K >= 1, got 2 x -1"):
        PKSampler([1, 1, 2], identities=2, images=-1)
    with pytest.raises(ValueError, match=r"labels must be \[N\], got \[1, 3\]"):
        PKSampler([[1, 1, 2]], identities=2, images=2)
    with pytest.raises(ValueError, match=r"the set has only 0"):
        PKSampler([], identities=1, images=1)
