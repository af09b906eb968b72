"""Distances of all pairs and of single ones against their definition."""

import itertools
from typing import get_args

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from tripletlib.distances import Metric, pairwise_distances, triplet_distances, unit_rows

METRICS = get_args(Metric)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_definition(a: Tensor, b: Tensor, metric: str) -> Tensor:
    rows = [[oracles.distance(x, y, metric) for y in b.tolist()] for x in a.tolist()]
    return torch.tensor(rows, dtype=torch.float64)


def row_distances(a: Tensor, b: Tensor, metric: Metric) -> Tensor:
    """Of rows to rows, as triplets of a row, its partner and itself have them."""
    own = torch.arange(len(a))
    triplets = own, own + len(a), own
    differences, _, to_itself = triplet_distances(torch.cat([a, b]), *triplets, metric)
    return differences + to_itself


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("n", "m", "dim"), [(1, 1, 1), (5, 7, 3), (30, 40, 16), (1, 60, 128)], ids=str
)
def test_every_pair_is_at_its_defined_distance(metric: Metric, n: int, m: int, dim: int) -> None:
    a, b = draw(n, dim), draw(m, dim, seed=1)
    assert_close(pairwise_distances(a, b, metric), by_definition(a, b, metric))
    single = pairwise_distances(a.float(), b.float(), metric)
    assert single.dtype == torch.float32
    assert_close(single.double(), by_definition(a, b, metric), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_are_at_the_distances_of_the_diagonal(metric: Metric) -> None:
    a, b = draw(9, 5), draw(9, 5, seed=1)
    expected = by_definition(a, b, metric).diagonal()
    assert_close(row_distances(a, b, metric), expected)
    assert_close(pairwise_distances(a, b, metric).diagonal(), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_diagonal_is_exactly_zero_and_the_matrix_symmetric(metric: Metric) -> None:
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        distances = pairwise_distances((100 + draw(40, 8)).to(dtype), metric=metric)
        assert torch.equal(distances.diagonal(), torch.zeros(40, dtype=distances.dtype))
        assert_close(distances, distances.T)


@pytest.mark.parametrize("metric", METRICS)
def test_duplicates_given_as_two_sets_are_at_distance_zero(metric: Metric) -> None:
    a = draw(6, 4)
    diagonal = pairwise_distances(a, a.clone(), metric).diagonal()
    assert_close(diagonal, torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-6)
    rows = row_distances(a, a.clone(), metric)
    assert_close(rows, torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_never_negative_however_packed(metric: Metric) -> None:
    for offset, scale in itertools.product((0, 1e3), (1e-3, 1, 1e3)):
        embeddings = (offset + scale * draw(60, 32)).float()
        assert (pairwise_distances(embeddings, metric=metric) >= 0).all()


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_far_from_the_origin_keeps_its_digits(metric: Metric) -> None:
    # Without centring, |a|^2 is 3e7 here, and float32 would leave a distance of 1 no digit at all.
    embeddings = (1e3 + draw(30, 32)).float()
    expected = by_definition(embeddings.double(), embeddings.double(), metric)
    actual = pairwise_distances(embeddings, metric=metric).double()
    assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("packing", [3e-4, 1e-4])
def test_cosine_of_packed_embeddings_keeps_its_digits(packing: float) -> None:
    # 1 - cos would leave float32 no digit at all: the distances are below 1e-7.
    embeddings = (draw(1, 64, seed=1) + packing * draw(40, 64)).float()
    expected = by_definition(embeddings.double(), embeddings.double(), "cosine")
    off_diagonal = ~torch.eye(40, dtype=torch.bool)
    actual = pairwise_distances(embeddings, metric="cosine").double()
    assert_close(actual[off_diagonal], expected[off_diagonal], rtol=2e-2, atol=0)
    rows = row_distances(embeddings, embeddings.flip(0), "cosine").double()
    assert_close(rows, expected.flip(1).diagonal(), rtol=2e-2, atol=0)


@pytest.mark.parametrize("size", [1e-42, 1e-23, 1e20, 3e38])
def test_float32_of_any_size(size: float) -> None:
    points = draw(20, 8)
    points = (points * (size / points.abs().max() / 2)).float()  # differences stay finite
    expected = torch.cdist(points.double(), points.double())
    # Entries near 1e-42 have three digits; a point is at 0 from itself but for rounding.
    tolerance = {"rtol": 1e-5, "atol": 1e-44 if size < 1e-40 else size * 1e-3}
    assert_close(pairwise_distances(points).double(), expected, **tolerance)
    assert_close(pairwise_distances(points[:9], points[9:]).double(), expected[:9, 9:], **tolerance)
    if size > 1e-40:
        angles = pairwise_distances(points, metric="cosine").double()
        assert_close(
            angles, pairwise_distances(points.double(), metric="cosine"), atol=1e-6, rtol=0
        )
    square = pairwise_distances(points, metric="sqeuclidean")[0, 1]
    assert square == (torch.inf if size > 1 else 0), "float32 holds no such square"


@pytest.mark.parametrize("where", [0, 7, 19])
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_one_embedding_far_out_leaves_the_others_their_digits(metric: Metric, where: int) -> None:
    points = draw(20, 8).float()
    points[where] *= 1e6
    others = torch.arange(20) != where
    expected = by_definition(points[others].double(), points[others].double(), metric)
    actual = pairwise_distances(points, metric=metric)[others][:, others]
    assert_close(actual.double(), expected, rtol=1e-4, atol=1e-4)
    across = pairwise_distances(points, points[others], metric)[others]
    assert_close(across.double(), expected, rtol=1e-4, atol=2e-3)


def test_empty_sets() -> None:
    assert pairwise_distances(torch.zeros(0, 3), torch.zeros(4, 3)).shape == (0, 4)
    assert pairwise_distances(torch.zeros(4, 3), torch.zeros(0, 3)).shape == (4, 0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(metric: Metric, dtype: torch.dtype) -> None:
    # Compared with the same rounded values in float32: only the arithmetic is looked at.
    a, b = draw(20, 64).to(dtype), draw(30, 64, seed=1).to(dtype)
    half = pairwise_distances(a, b, metric)
    assert half.dtype == torch.float32
    assert_close(half, pairwise_distances(a.float(), b.float(), metric))


@pytest.mark.parametrize("metric", METRICS)
def test_autocast_does_not_lower_the_precision(metric: Metric) -> None:
    a, b = draw(20, 64).float(), draw(20, 64, seed=1).float()
    expected = pairwise_distances(a, b, metric), row_distances(a, b, metric)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = pairwise_distances(a, b, metric), row_distances(a, b, metric)
    assert_close(actual, expected)
    assert actual[0].dtype == actual[1].dtype == torch.float32


def test_float64_only_where_both_are() -> None:
    a = draw(2, 3)
    assert pairwise_distances(a).dtype == torch.float64
    assert pairwise_distances(a, a.float()).dtype == torch.float32


@pytest.mark.parametrize("metric", METRICS)
def test_gradient_at_distance_zero_is_finite(metric: Metric) -> None:
    dtypes = torch.float64, torch.float32, torch.float16
    for dtype, value in itertools.product(dtypes, (0.0, 1.0, 1000.0)):
        one, a, b = (torch.full((4, 3), value, dtype=dtype, requires_grad=True) for _ in range(3))
        pairwise_distances(one, metric=metric).sum().backward()
        (row_distances(a, b, metric).sum() + pairwise_distances(a, b, metric).sum()).backward()
        assert all(points.grad.isfinite().all() for points in (one, a, b))


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_gradient_at_distance_zero_is_zero(metric: Metric) -> None:
    a, b = (torch.ones(4, 3, requires_grad=True) for _ in range(2))
    (row_distances(a, b, metric).sum() + pairwise_distances(a, b, metric).sum()).backward()
    assert_close(a.grad, torch.zeros(4, 3))
    assert_close(b.grad, torch.zeros(4, 3))


@pytest.mark.parametrize("metric", METRICS)
def test_gradients_are_those_of_the_values(metric: Metric) -> None:
    a, b = draw(5, 3).requires_grad_(), draw(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: pairwise_distances(x, y, metric), (a, b))
    assert torch.autograd.gradcheck(lambda x: pairwise_distances(x, metric=metric), (a,))
    assert torch.autograd.gradcheck(lambda x, y: row_distances(x[:4], y, metric), (a, b))


def test_a_zero_vector_is_at_cosine_distance_one_from_everything() -> None:
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [-1.0, 0.0]])
    assert_close(pairwise_distances(points, metric="cosine")[0, 1:], torch.ones(2))
    assert_close(pairwise_distances(points[:1], points, metric="cosine"), torch.ones(1, 3))
    assert_close(row_distances(points[[0, 0]], points[[0, 1]], "cosine"), torch.ones(2))
    assert_close(unit_rows(points)[0], torch.zeros(2))


@pytest.mark.parametrize("metric", METRICS)
def test_nan_stays_nan(metric: Metric) -> None:
    a = draw(3, 2)
    a[1, 0] = torch.nan
    assert pairwise_distances(a, draw(2, 2), metric)[1].isnan().all()
    assert pairwise_distances(a, metric=metric)[1, [0, 2]].isnan().all()
    assert row_distances(a, draw(3, 2), metric)[1].isnan()


def test_memory_order_does_not_matter() -> None:
    a = draw(6, 8).T  # [8, 6], columns of the memory
    assert_close(pairwise_distances(a), pairwise_distances(a.contiguous()))
    assert_close(pairwise_distances(a[::2]), pairwise_distances(a)[::2, ::2])


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 8),
    dim=st.integers(1, 6),
    scale=st.floats(0.01, 100),
    shift=st.floats(-100, 100),
)
def test_moving_turning_and_scaling(
    metric: Metric, seed: int, n: int, dim: int, scale: float, shift: float
) -> None:
    a = draw(n, dim, seed=seed)
    distances = pairwise_distances(a, metric=metric)
    factor = {"euclidean": scale, "sqeuclidean": scale**2, "cosine": 1.0}[metric]
    assert_close(
        pairwise_distances(a * scale, metric=metric), distances * factor, rtol=1e-6, atol=1e-6
    )
    turn = torch.linalg.qr(draw(dim, dim, seed=seed + 1)).Q
    assert_close(pairwise_distances(a @ turn, metric=metric), distances, rtol=1e-6, atol=1e-6)
    if metric != "cosine":
        moved = pairwise_distances(a + shift, metric=metric)
        assert_close(moved, distances, rtol=1e-6, atol=1e-6)


def test_errors_say_what_was_given() -> None:
    with pytest.raises(ValueError, match=r"metric must be one of .*'cosine'.*got 'manhattan'"):
        pairwise_distances(draw(2, 2), metric="manhattan")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"with one D, got \[2, 3\] and \[2, 4\]"):
        pairwise_distances(draw(2, 3), draw(2, 4))
    with pytest.raises(ValueError, match=r"got \[6\] and \[6\]"):
        pairwise_distances(draw(6))
