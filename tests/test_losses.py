"""The losses against a naive triple loop and against pytorch-metric-learning."""

from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import AvgNonZeroReducer, MeanReducer
from torch import Tensor
from torch.testing import assert_close

from tripletlib.distances import Metric
from tripletlib.losses import Margin, TripletResult, batch_all, batch_hard, mine_hardest

METRICS = get_args(Metric)
LOSSES: dict[str, Callable[..., TripletResult]] = {
    "batch_hard": batch_hard,
    "batch_all": batch_all,
    "batch_all_nonzero": partial(batch_all, average="nonzero"),
}
# Every loss meets every metric, and both kinds of margin meet every loss and every metric.
CASES: list[tuple[str, Margin, Metric]] = [
    ("batch_hard", 0.5, "euclidean"),
    ("batch_hard", "soft", "sqeuclidean"),
    ("batch_hard", 0.0, "cosine"),
    ("batch_all", "soft", "euclidean"),
    ("batch_all", 2.0, "sqeuclidean"),
    ("batch_all", 0.5, "cosine"),
    ("batch_all_nonzero", 0.5, "euclidean"),
    ("batch_all_nonzero", 0.0, "sqeuclidean"),
    ("batch_all_nonzero", "soft", "cosine"),
]
each_case = pytest.mark.parametrize(("name", "margin", "metric"), CASES)
each_loss = pytest.mark.parametrize("name", LOSSES)
Batch = tuple[Tensor, Tensor]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def shuffled(embeddings: Tensor, labels: Tensor) -> Batch:
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    return embeddings[order], labels[order]


def p_by_k(p: int, k: int, dim: int, seed: int = 0) -> Batch:
    return shuffled(draw(p * k, dim, seed=seed), torch.arange(p).repeat_interleave(k))


def unequal() -> Batch:
    counts = torch.tensor([1, 5, 2, 1, 3])
    return shuffled(draw(12, 4, seed=2), torch.arange(5).repeat_interleave(counts))


def with_duplicates() -> Batch:
    embeddings, labels = p_by_k(4, 3, 5)
    embeddings[3] = embeddings[7]
    embeddings[labels == 2] = embeddings[labels == 2][0].clone()
    return embeddings, labels


def with_zero_vectors() -> Batch:
    embeddings, labels = unequal()
    embeddings[[0, 5]] = 0
    return embeddings, labels


def two_clusters() -> Batch:
    embeddings, labels = p_by_k(2, 4, 3)
    return 0.1 * embeddings + 50 * torch.nn.functional.one_hot(labels, 3), labels


SMOOTH: dict[str, Batch] = {
    "P x K": p_by_k(4, 3, 4),
    "one dimension": p_by_k(3, 3, 1),
    "unequal counts": unequal(),
    "two identities": p_by_k(2, 4, 5),
    "well apart": two_clusters(),
}
DEGENERATE: dict[str, Batch] = {
    "all equal": (torch.full((6, 3), 0.7, dtype=torch.float64), torch.arange(3).repeat(2)),
    "all zero": (torch.zeros(6, 3, dtype=torch.float64), torch.arange(3).repeat(2)),
    "duplicates": with_duplicates(),
    "zero vectors": with_zero_vectors(),
    "far from the origin": (unequal()[0] + 1e3, unequal()[1]),
}
BATCHES = SMOOTH | DEGENERATE


def oracle(
    name: str, embeddings: Any, labels: Tensor, margin: Margin, metric: Metric
) -> tuple[float, ...]:
    points = embeddings.tolist() if isinstance(embeddings, Tensor) else embeddings
    if name == "batch_hard":
        return oracles.batch_hard(points, labels.tolist(), margin, metric)[:2]
    average = "nonzero" if name == "batch_all_nonzero" else "all"
    return oracles.batch_all(points, labels.tolist(), margin, metric, average)


def loss_of(
    name: str, labels: Tensor, margin: Margin = 0.5, metric: Metric = "euclidean"
) -> Callable[[Tensor], Tensor]:
    return lambda embeddings: LOSSES[name](embeddings, labels, margin, metric).loss


def gradient(loss: Callable[[Tensor], Tensor], embeddings: Tensor) -> Tensor:
    embeddings = embeddings.detach().clone().requires_grad_()
    (result,) = torch.autograd.grad(loss(embeddings), embeddings)
    return result


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
    if name != "batch_all_nonzero":  # rounding at the hinge's kink changes what it divides by
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
        reducer=AvgNonZeroReducer() if name == "batch_all_nonzero" else MeanReducer(),
    )
    mined = BatchHardMiner(distance=distance)(embeddings, labels) if name == "batch_hard" else None
    return loss(embeddings, labels, mined)


@pytest.mark.parametrize("size", ["unequal counts", "large"])
@each_case
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


# --- Mining ------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_size_of_the_block_does_not_matter(metric: Metric) -> None:
    embeddings, labels = unequal()
    expected = mine_hardest(embeddings, labels, metric, block=len(labels))
    for block in (1, 7, 512):
        assert_close(mine_hardest(embeddings, labels, metric, block), expected)


@pytest.mark.parametrize("size", [513, 1100])
def test_batches_beyond_one_block(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    labels = torch.randint(0, size // 4, (size,), generator=generator)
    embeddings = draw(size, 16, dtype=torch.float32)
    theirs = partial(reference, "batch_hard", labels=labels, margin=0.5, metric="euclidean")
    ours = loss_of("batch_hard", labels)
    assert_close(ours(embeddings), theirs(embeddings), rtol=1e-4, atol=1e-5)
    assert_close(gradient(ours, embeddings), gradient(theirs, embeddings), rtol=1e-3, atol=1e-5)


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
        assert_close(mine_hardest(embeddings.float(), labels, metric), expected)


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
    assert_close(mine_hardest(embeddings, labels), expected)


def test_packed_directions_are_told_apart_by_cosine() -> None:
    embeddings, labels = p_by_k(16, 4, 32)
    packed = (1 + 1e-4 * embeddings).float()
    expected = mine_hardest(packed.double(), labels, "cosine")
    assert_close(mine_hardest(packed, labels, "cosine"), expected)


# --- Where others fall ---------------------------------------------------------------------------


@each_case
def test_gradients_are_finite_where_points_coincide(
    name: str, margin: Margin, metric: Metric
) -> None:
    for embeddings, labels in DEGENERATE.values():
        loss = loss_of(name, labels, margin, metric)
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            assert gradient(loss, embeddings.to(dtype)).isfinite().all()
            assert loss(embeddings.to(dtype)) >= 0


@each_loss
def test_collapsed_embeddings_cost_the_margin_or_ln_2(name: str) -> None:
    embeddings, labels = DEGENERATE["all equal"]
    assert_close(LOSSES[name](embeddings, labels, 0.3).loss.item(), 0.3)
    assert_close(LOSSES[name](embeddings, labels, "soft").loss.item(), 0.6931471805599453)
    assert LOSSES[name](embeddings, labels, 0.3).active_fraction == 1
    assert LOSSES[name](embeddings, labels, "soft").active_fraction == 1


@each_loss
def test_no_active_triplet_costs_nothing_and_moves_nothing(name: str) -> None:
    embeddings, labels = two_clusters()
    result = LOSSES[name](embeddings, labels, 0.5)
    assert result.loss == 0
    assert result.active_fraction == 0
    grad = gradient(loss_of(name, labels, 0.5), embeddings)
    assert_close(grad, torch.zeros_like(grad))


def test_the_two_averages_differ_by_the_share_of_active_triplets() -> None:
    embeddings, labels = unequal()
    mean = batch_all(embeddings, labels, 0.5)
    assert 0 < mean.active_fraction < 1
    nonzero = batch_all(embeddings, labels, 0.5, average="nonzero")
    assert_close(nonzero.loss * mean.active_fraction, mean.loss, check_dtype=False)
    soft = [batch_all(embeddings, labels, "soft", average=a).loss for a in ("all", "nonzero")]
    assert_close(*soft)


@each_case
def test_a_broken_embedding_never_gives_a_finite_loss(
    name: str, margin: Margin, metric: Metric
) -> None:
    labels = torch.tensor([0, 0, 1, 1, 2])  # row 4 is the only image of its identity
    for row in range(5):
        for bad in (torch.nan, torch.inf, -torch.inf):
            embeddings = draw(5, 3, dtype=torch.float32)
            embeddings[row, 1] = bad
            assert not LOSSES[name](embeddings, labels, margin, metric).loss.isfinite()


# --- Types, sizes and shapes of the input --------------------------------------------------------


@each_case
def test_half_precision_and_autocast_compute_in_float32(
    name: str, margin: Margin, metric: Metric
) -> None:
    embeddings, labels = p_by_k(8, 4, 32)
    loss = loss_of(name, labels, margin, metric)
    for dtype in (torch.float16, torch.bfloat16):
        half = embeddings.to(dtype)
        expected, slope = loss(half.float()), gradient(loss, half.float())
        assert loss(half).dtype == torch.float32
        assert_close(loss(half), expected)
        assert_close(gradient(loss, half).float(), slope, rtol=0.05, atol=1e-2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_close(loss(half), expected)


@each_loss
def test_float32_ends_as_documented(name: str) -> None:
    embeddings, labels = SMOOTH["P x K"]
    embeddings = embeddings.float()
    expected = LOSSES[name](embeddings, labels, 0.0).loss
    for scale in (1e-16, 1e17):
        assert_close(LOSSES[name](embeddings * scale, labels, 0.0).loss / scale, expected)
    tiny = gradient(loss_of(name, labels, 0.5), embeddings * 1e-25)
    assert tiny.isfinite().all()
    assert_close(LOSSES[name](embeddings * 1e-25, labels, 0.5).loss.item(), 0.5)
    assert not batch_hard(embeddings * 1e22, labels, 0.5).loss.isfinite()


@each_loss
def test_float64_stays_float64(name: str) -> None:
    assert LOSSES[name](*unequal()).loss.dtype == torch.float64


@pytest.mark.parametrize(
    "rename",
    [
        lambda labels: labels.to(torch.uint8),
        lambda labels: labels.to(torch.int16) - 3,
        lambda labels: labels + 2**60,
        lambda labels: labels.double(),
        lambda labels: labels.tolist(),
        lambda labels: labels.numpy()[::-1][::-1],
        lambda labels: labels.numpy().astype(np.uint16),
        lambda labels: [f"person {label}" for label in labels.tolist()],
    ],
    ids=["uint8", "negative", "huge", "float64", "list", "array", "uint16 array", "text"],
)
@pytest.mark.parametrize("name", ["batch_hard", "batch_all"])
def test_labels_are_only_names(name: str, rename: Callable[[Tensor], Any]) -> None:
    embeddings, labels = unequal()
    expected = LOSSES[name](embeddings, labels)
    assert_close(LOSSES[name](embeddings, rename(labels)).loss, expected.loss)
    assert_close(mine_hardest(embeddings, rename(labels)), mine_hardest(embeddings, labels))


@each_loss
def test_memory_order_does_not_matter(name: str) -> None:
    embeddings, labels = unequal()
    scattered = torch.stack([embeddings.T, embeddings.T])[0].T  # columns of the memory
    strided = labels.repeat_interleave(2)[::2]
    assert not scattered.is_contiguous()
    assert not strided.is_contiguous()
    loss = loss_of(name, strided)
    assert_close(loss(scattered), LOSSES[name](embeddings, labels).loss)
    assert_close(gradient(loss, scattered), gradient(loss_of(name, labels), embeddings))


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


@each_loss
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


# --- Errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["batch_hard", "batch_all"])
def test_no_valid_triplet_names_the_cause(name: str) -> None:
    loss, points = LOSSES[name], torch.zeros(4, 2)
    with pytest.raises(ValueError, match=r"batch of 4 holds fewer than two identities.*negative"):
        loss(points, torch.tensor([3, 3, 3, 3]))
    with pytest.raises(ValueError, match=r"each of the 4 identities appears once.*no positive"):
        loss(points, torch.arange(4))
    with pytest.raises(ValueError, match=r"each of the 2 identities appears once"):
        loss(points[:2], torch.arange(2))
    for size in (0, 1):
        with pytest.raises(ValueError, match=rf"batch of {size} holds fewer than two identities"):
            loss(points[:size], torch.zeros(size, dtype=torch.int64))


@pytest.mark.parametrize("name", ["batch_hard", "batch_all"])
def test_bad_arguments_are_named(name: str) -> None:
    loss = LOSSES[name]
    points, labels = torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"floating point \[B, D\], got torch.int64 \[4, 2\]"):
        loss(points.long(), labels)
    with pytest.raises(ValueError, match=r"floating point \[B, D\], got torch.float32 \[8\]"):
        loss(points.flatten(), labels)
    with pytest.raises(ValueError, match=r"labels must be \[B\] = \[4\], got \[3\]"):
        loss(points, labels[:3])
    with pytest.raises(ValueError, match=r"labels must be \[B\] = \[4\], got \[4, 1\]"):
        loss(points, labels[:, None])
    for margin in (-0.1, torch.inf, torch.nan, "hard"):
        with pytest.raises(ValueError, match=rf"finite number >= 0 or 'soft', got '?{margin}"):
            loss(points, labels, margin)
    with pytest.raises(ValueError, match=r"metric must be one of .* got 'manhattan'"):
        loss(points, labels, metric="manhattan")
    with pytest.raises(ValueError, match="metric must be one of"):
        mine_hardest(points, labels, metric="manhattan")


def test_batch_all_needs_a_known_average() -> None:
    with pytest.raises(ValueError, match=r"average must be 'all' or 'nonzero', got 'some'"):
        batch_all(torch.zeros(3, 2), torch.tensor([0, 0, 1]), average="some")  # type: ignore[arg-type]
