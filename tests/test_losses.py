"""The losses against a naive triple loop and against pytorch-metric-learning."""

from collections.abc import Callable
from functools import partial
from typing import Any

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import (
    BATCHES,
    CASES,
    DEGENERATE,
    LOSSES,
    METRICS,
    SMOOTH,
    Batch,
    draw,
    each_case,
    each_loss,
    gradient,
    loss_of,
    oracle,
    p_by_k,
    unequal,
)
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.losses import GeneralizedLiftedStructureLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner
from pytorch_metric_learning.reducers import AvgNonZeroReducer, MeanReducer
from torch import Tensor
from torch.testing import assert_close

from tripletlib.distances import Metric
from tripletlib.losses import Margin, batch_all, batch_hard, batch_sample
from tripletlib.mining import mine_hardest

# --- Values and gradients -----------------------------------------------------------------------


@pytest.mark.parametrize("batch", BATCHES)
@each_case
def test_loss_is_that_of_the_triple_loop(
    name: str, margin: Margin, metric: Metric, batch: str
) -> None:
    embeddings, labels = BATCHES[batch]
    expected, expected_active = oracle(name, embeddings, labels, margin, metric)
    result = LOSSES[name](embeddings, labels, margin, metric)
    assert result.loss.shape == result.active_fraction.shape == ()
    assert_close(result.loss.item(), expected, rtol=1e-6, atol=1e-8)
    single = LOSSES[name](embeddings.float(), labels, margin, metric)
    expected_single, _ = oracle(name, embeddings.float().double(), labels, margin, metric)
    if not name.endswith("_nonzero"):  # rounding at the hinge's kink changes what it divides by
        assert_close(single.loss.item(), expected_single, rtol=1e-4, atol=1e-5)
    if batch in SMOOTH:  # elsewhere rounding decides which side of a tie a triplet is on
        assert_close(result.active_fraction.item(), expected_active)
        assert_close(single.active_fraction.item(), expected_active)


@pytest.mark.parametrize("batch", BATCHES)
def test_chosen_distances_are_the_hardest(batch: str) -> None:
    embeddings, labels = BATCHES[batch]
    for metric in METRICS:
        *_, positives, negatives = oracles.batch_hard(
            embeddings.tolist(), labels.tolist(), 0.5, metric
        )
        result = batch_hard(embeddings.clone().requires_grad_(), labels, metric=metric)
        assert_close(result.positive_distances.tolist(), positives, rtol=1e-6, atol=1e-8)
        assert_close(result.negative_distances.tolist(), negatives, rtol=1e-6, atol=1e-8)
        assert result.loss.requires_grad
        assert not result.positive_distances.requires_grad
        assert not result.negative_distances.requires_grad


@each_case
def test_gradient_is_that_of_the_values(name: str, margin: Margin, metric: Metric) -> None:
    embeddings, labels = unequal()
    function = loss_of(name, labels, margin, metric)
    assert torch.autograd.gradcheck(function, (embeddings.requires_grad_(),))


# --- Against pytorch-metric-learning ------------------------------------------------------------


def reference(
    name: str, embeddings: Tensor, labels: Tensor, margin: Margin, metric: Metric
) -> Tensor:
    if metric == "cosine":
        distance = CosineSimilarity()  # its "distance" s gives the same differences as 1 - s
    else:
        distance = LpDistance(normalize_embeddings=False, power=2 if metric == "sqeuclidean" else 1)
    loss = TripletMarginLoss(
        margin=0 if margin == "soft" else margin,
        smooth_loss=margin == "soft",  # softplus(d_pos - d_neg + margin): ours at margin 0
        distance=distance,
        reducer=AvgNonZeroReducer() if name.endswith("_nonzero") else MeanReducer(),
    )
    mine = BatchHardMiner(distance=distance) if name.startswith("batch_hard") else None
    return loss(embeddings, labels, mine and mine(embeddings, labels))


OTHER_DEFINITION = "semi_hard", "lifted"  # of theirs: all semi-hard triplets; a hinge only


@pytest.mark.parametrize("size", ["unequal counts", "large"])
@pytest.mark.parametrize(
    ("name", "margin", "metric"), [case for case in CASES if case[0] not in OTHER_DEFINITION]
)
def test_agrees_with_pytorch_metric_learning(
    name: str, margin: Margin, metric: Metric, size: str
) -> None:
    embeddings, labels = p_by_k(24, 4, 32) if size == "large" else SMOOTH[size]
    for dtype, tolerance in ((torch.float64, 1e-7), (torch.float32, 2e-4)):
        points = embeddings.to(dtype)
        ours = loss_of(name, labels, margin, metric)
        theirs = partial(reference, name, labels=labels, margin=margin, metric=metric)
        assert_close(ours(points), theirs(points), rtol=tolerance, atol=tolerance)
        assert_close(
            gradient(ours, points), gradient(theirs, points), rtol=tolerance, atol=tolerance
        )


def test_lifted_agrees_with_pytorch_metric_learning() -> None:
    embeddings, labels = p_by_k(24, 4, 32)
    for metric, distance, margin in (
        ("euclidean", LpDistance(normalize_embeddings=False), 1),
        ("cosine", CosineSimilarity(), -1),  # of similarities, which grow the other way
    ):
        loss = GeneralizedLiftedStructureLoss(neg_margin=margin, pos_margin=0, distance=distance)
        theirs = partial(loss, labels=labels)
        ours = loss_of("lifted", labels, 1.0, metric)
        assert ours(embeddings) > 1
        assert_close(ours(embeddings), theirs(embeddings))
        assert_close(gradient(ours, embeddings), gradient(theirs, embeddings))


def test_semi_hard_takes_the_hardest_of_the_semi_hard_triplets() -> None:
    embeddings, labels = p_by_k(24, 4, 3)
    distance = LpDistance(normalize_embeddings=False)
    mined = TripletMarginMiner(margin=0.2, distance=distance, type_of_triplets="semihard")
    anchors, positives, negatives = mined(embeddings, labels)
    d = distance(embeddings)
    assert len(anchors) > len(labels)
    losses = torch.zeros_like(d)  # of each pair: its hardest, or 0 where all farther ones are easy
    for a, p, n in zip(anchors, positives, negatives, strict=True):
        losses[a, p] = torch.maximum(losses[a, p], d[a, p] - d[a, n] + 0.2)
    pairs = (labels[:, None] == labels).fill_diagonal_(False)
    other = d.masked_fill(labels[:, None] == labels, -torch.inf).amax(1)[:, None]
    fallback = pairs & (d >= other)  # no negative is farther: the farthest is taken
    losses = torch.where(fallback, d - other + 0.2, losses)
    assert_close(loss_of("semi_hard", labels, 0.2)(embeddings), losses[pairs].mean())


# --- Batch sample: what it draws ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("margin", "metric", "weighted"),
    [
        (0.5, "euclidean", True),
        (0.1, "cosine", True),
        ("soft", "sqeuclidean", False),
    ],
)
def test_batch_sample_draws_as_often_as_it_says(
    margin: Margin, metric: Metric, weighted: bool
) -> None:
    embeddings, labels = unequal()
    more = torch.Generator().manual_seed(0), weighted
    draws = [batch_sample(embeddings, labels, margin, metric, *more) for _ in range(4000)]
    losses = torch.stack([result.loss for result in draws])
    active = torch.stack([result.active_fraction for result in draws]).double()
    assert losses.std() > 0
    points = embeddings.tolist()
    expected = oracles.batch_sample(points, labels.tolist(), margin, metric, weighted)
    for values, mean in zip((losses, active), expected, strict=True):
        assert abs(values.mean() - mean) < 4 * values.std() / len(values) ** 0.5


def test_batch_sample_without_a_choice_is_batch_all() -> None:
    labels = torch.tensor([0, 0, 1])
    embeddings = draw(3, 4)
    ours, theirs = (partial(f, labels=labels, margin=0.5) for f in (batch_sample, batch_all))
    assert_close(ours(embeddings), theirs(embeddings))
    losses = (lambda points, f=f: f(points).loss for f in (ours, theirs))
    assert_close(*(gradient(loss, embeddings) for loss in losses))


def test_batch_sample_repeats_its_draws_with_the_seed() -> None:
    embeddings, labels = p_by_k(6, 4, 3)

    def losses() -> list[float]:
        return [batch_sample(embeddings, labels).loss.item() for _ in range(5)]

    torch.manual_seed(3)
    first, other = losses(), losses()
    torch.manual_seed(3)
    assert losses() == first != other


def test_batch_sample_where_points_coincide_or_are_broken() -> None:
    for embeddings, labels in DEGENERATE.values():
        slope = gradient(
            lambda points, labels=labels: batch_sample(points, labels).loss, embeddings
        )
        assert slope.isfinite().all()
    embeddings, labels = DEGENERATE["all equal"]
    assert_close(batch_sample(embeddings, labels, 0.3).loss.item(), 0.3)
    for row in range(6):
        broken = embeddings.index_fill(0, torch.tensor([row]), torch.nan)
        assert not batch_sample(broken, labels).loss.isfinite()


# --- Mining ------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_size_of_the_block_does_not_matter(metric: Metric) -> None:
    embeddings, labels = unequal()
    expected = mine_hardest(embeddings, labels, metric, block=len(labels))
    for block in (1, 7, 30, 512):
        assert_close(mine_hardest(embeddings, labels, metric, block), expected)
        with torch.inference_mode():
            assert_close(mine_hardest(embeddings.clone(), labels, metric, block), expected)


@pytest.mark.parametrize("size", [513, 1100])
def test_batches_beyond_one_block(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    labels = torch.randint(0, size // 4, (size,), generator=generator)
    embeddings = draw(size, 16, dtype=torch.float32)
    theirs = partial(reference, "batch_hard", labels=labels, margin=0.5, metric="euclidean")
    ours = loss_of("batch_hard", labels)
    assert_close(ours(embeddings), theirs(embeddings), rtol=1e-4, atol=1e-5)
    assert_close(gradient(ours, embeddings), gradient(theirs, embeddings), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("size", [16, 17])
def test_a_batch_is_mined_and_differentiated_in_one_thread(
    size: int, set_threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def watch(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def look(*args: Any, **options: Any) -> Tensor:
            seen[name] = torch.get_num_threads()
            return function(*args, **options)

        monkeypatch.setattr(owner, name, look)

    set_threads(2)
    product = "mm" if size > 16 else "addmm"
    watch(torch, product)
    watch(torch.linalg, "vector_norm")
    watch(Tensor, "index_add_")
    monkeypatch.setattr("tripletlib.losses.mine_hardest", partial(mine_hardest, block=8))
    batch_hard(draw(size, 2).requires_grad_(), torch.arange(size) // 2).loss.backward()
    assert seen == {product: 1, "vector_norm": 1, "index_add_": 1}
    assert torch.get_num_threads() == 2


def test_an_image_is_never_its_own_positive() -> None:
    labels = torch.tensor([0, 1, 0, 2, 1])
    for block in (512, 2):
        anchors, positives, negatives = mine_hardest(torch.zeros(5, 2), labels, block=block)
        assert anchors.tolist() == [0, 1, 2, 4], "identity 2 has one image, so no positive"
        assert positives.tolist() == [2, 4, 0, 1]
        assert (labels[negatives] != labels[anchors]).all()
        assert anchors.dtype == positives.dtype == negatives.dtype == torch.int64


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_autocast_does_not_blur_the_mining(metric: Metric) -> None:
    # bfloat16 tells only 256 steps apart: among 128 images it would pick other neighbours.
    embeddings, labels = p_by_k(32, 4, 64)
    expected = mine_hardest(embeddings, labels, metric)
    assert_close(mine_hardest(embeddings.float(), labels, metric), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for block in (40, 512):
            assert_close(mine_hardest(embeddings.float(), labels, metric, block), expected)


def test_cosine_mining_sees_a_zero_vector_at_distance_one() -> None:
    # Seen from image 0, the other positive is at 0.7 and the zero vector at 1: that one is harder.
    embeddings = torch.tensor([[1.0, 0.0], [0.3, 0.954], [0.0, 0.0], [-1.0, 0.0]])
    labels = torch.tensor([0, 0, 0, 1])
    assert mine_hardest(embeddings, labels, "cosine")[1][0] == 2


@pytest.mark.parametrize("where", [0, 5, 63])
def test_one_embedding_far_out_does_not_change_what_the_others_choose(where: int) -> None:
    embeddings, labels = p_by_k(16, 4, 32)
    embeddings[where] *= 1e6
    embeddings = embeddings.float()
    expected = mine_hardest(embeddings.double(), labels)
    for block in (10, 512):
        assert_close(mine_hardest(embeddings, labels, block=block), expected)


def test_packed_directions_are_told_apart_by_cosine() -> None:
    embeddings, labels = p_by_k(16, 4, 32)
    packed = (1 + 1e-4 * embeddings).float()
    expected = mine_hardest(packed.double(), labels, "cosine")
    assert_close(mine_hardest(packed, labels, "cosine"), expected)


# --- Properties --------------------------------------------------------------------------------


@st.composite
def batches(draw_from: st.DrawFn) -> Batch:
    """Any batch with a valid triplet: 2 to 5 identities of 1 to 4 images."""
    counts = draw_from(
        st.lists(st.integers(1, 4), min_size=2, max_size=5).filter(lambda c: max(c) > 1)
    )
    dim, seed = draw_from(st.integers(1, 5)), draw_from(st.integers(0, 2**31))
    return draw(sum(counts), dim, seed=seed), torch.arange(len(counts)).repeat_interleave(
        torch.tensor(counts)
    )


properties = settings(max_examples=25, deadline=None)


@each_case
@properties
@given(batch=batches())
def test_random_batches_equal_the_triple_loop(
    name: str, margin: Margin, metric: Metric, batch: Batch
) -> None:
    expected, active = oracle(name, *batch, margin, metric)
    result = LOSSES[name](*batch, margin, metric)
    assert_close(result.loss.item(), expected, rtol=1e-6, atol=1e-9)
    assert_close(result.active_fraction.item(), active)
    assert result.loss >= 0


@each_loss
@properties
@given(batch=batches(), seed=st.integers(0, 2**31))
def test_order_and_names_do_not_matter(name: str, batch: Batch, seed: int) -> None:
    embeddings, labels = batch
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    names = torch.randperm(1000, generator=generator) - 500
    renamed, slope = (
        loss_of(name, names[labels][order]),
        gradient(loss_of(name, labels), embeddings),
    )
    assert_close(renamed(embeddings[order]), loss_of(name, labels)(embeddings))
    assert_close(gradient(renamed, embeddings[order]), slope[order], rtol=1e-6, atol=1e-8)


@each_loss
@properties
@given(batch=batches(), shift=st.floats(-1e3, 1e3))
def test_translation_changes_nothing_and_the_pulls_cancel(
    name: str, batch: Batch, shift: float
) -> None:
    embeddings, labels = batch
    for metric in ("euclidean", "sqeuclidean"):
        loss = loss_of(name, labels, 0.5, metric)
        assert_close(loss(embeddings + shift), loss(embeddings), rtol=1e-6, atol=1e-8)
        total = gradient(loss, embeddings).sum(0)
        assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"lifted"}))  # a sum of exponentials
@properties
@given(batch=batches(), scale=st.floats(0.01, 100))
def test_scaling_distances_and_margin_together_scales_the_hinge(
    name: str, batch: Batch, scale: float
) -> None:
    embeddings, labels = batch
    for metric, factor in (("euclidean", scale), ("sqeuclidean", scale**2), ("cosine", 1.0)):
        before = LOSSES[name](embeddings, labels, 0.5, metric)
        after = LOSSES[name](embeddings * scale, labels, 0.5 * factor, metric)
        assert_close(after.loss, before.loss * factor, rtol=1e-6, atol=1e-8)


@properties
@given(batch=batches())
def test_loss_and_share_follow_from_the_chosen_distances(batch: Batch) -> None:
    result = batch_hard(*batch, margin=0.5)
    hinge = (result.positive_distances - result.negative_distances + 0.5).clamp_min(0)
    assert_close(result.loss, hinge.mean())
    assert_close(result.active_fraction.item(), (hinge > 0).double().mean().item())
