"""Distances between embeddings, with gradients that stay finite where two of them coincide."""

from typing import Literal, get_args

import torch
from torch import Tensor

Metric = Literal["euclidean", "sqeuclidean", "cosine"]


def pairwise_distances(a: Tensor, b: Tensor | None = None, metric: Metric = "euclidean") -> Tensor:
    """Distance of every row of `a` to every row of `b`.

    The squared distance is expanded into |a|^2 + |b|^2 - 2ab, so that one matrix product does the
    work. Rounding can push that sum below zero, or away from zero for identical rows; rows are
    centred first, which keeps the three terms small, and the rest is clamped.

    Args:
        a: embeddings, `[N, D]`. Half precision is computed in float32.
        b: embeddings, `[M, D]`; `a` itself when left out.
        metric: `"euclidean"`, `"sqeuclidean"` (its square) or `"cosine"` (1 - cosine similarity;
            a zero vector is at distance 1 from everything).

    Returns:
        Distances `[N, M]`, never negative; float64 where both inputs are float64, else float32.
        Without `b` the diagonal is exactly zero. At distance 0 the gradient is 0.

    Raises:
        ValueError: wrong shapes or an unknown metric.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), section 3.2: the plain Euclidean distance trains
        more stably than its square.

    Example:
        >>> points = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
        >>> pairwise_distances(points)
        tensor([[0., 5.],
                [5., 0.]])
    """
    other = a if b is None else b
    _check(a, other, metric)
    with torch.autocast(a.device.type, enabled=False):
        x, y = _full_precision(a, other)
        if metric == "cosine":
            distances = (1 - unit_rows(x) @ unit_rows(y).T).clamp_min(0)
        else:
            distances = _squared(x, y)
        if b is None:
            distances = distances.masked_fill(_diagonal(distances), 0)
        return _sqrt(distances) if metric == "euclidean" else distances


def paired_distances(a: Tensor, b: Tensor, metric: Metric = "euclidean") -> Tensor:
    """Distance of row i of `a` to row i of `b`, from the difference itself.

    Args:
        a: embeddings, `[N, D]`. Half precision is computed in float32.
        b: embeddings, `[N, D]`.
        metric: as in `pairwise_distances`.

    Returns:
        Distances `[N]`, never negative. At distance 0 the gradient is 0.

    Raises:
        ValueError: wrong shapes or an unknown metric.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), section 3.2, for the plain Euclidean distance.

    Example:
        >>> paired_distances(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
        tensor([5.])
    """
    _check(a, b, metric)
    if a.shape != b.shape:
        raise ValueError(f"paired rows need equal shapes, got {_shape(a)} and {_shape(b)}")
    # No matrix product here, so autocast has nothing to lower and need not be switched off.
    x, y = _full_precision(a, b)
    if metric == "cosine":
        return (1 - (unit_rows(x) * unit_rows(y)).sum(1)).clamp_min(0)
    if metric == "sqeuclidean":
        return (x - y).square().sum(1)
    return torch.linalg.vector_norm(x - y, dim=1)  # PyTorch defines its gradient at 0 as 0


def unit_rows(x: Tensor) -> Tensor:
    """Rows scaled to length 1; a zero row stays zero.

    Args:
        x: `[N, D]`.

    Returns:
        `[N, D]`.

    Example:
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    norms = _sqrt(x.square().sum(1, keepdim=True))
    return x / norms.masked_fill(norms == 0, 1)


def _squared(x: Tensor, y: Tensor) -> Tensor:
    # Distances do not change when everything moves together, so the centre needs no gradient.
    centre = y.detach().mean(0)
    x, y = x - centre, y - centre
    norms = x.square().sum(1)[:, None] + y.square().sum(1)  # [N, M]
    return torch.addmm(norms, x, y.T, alpha=-2).clamp_min(0)


def _sqrt(squared: Tensor) -> Tensor:
    # The slope of sqrt at 0 is infinite, and infinity times zero is NaN in the backward pass.
    # Taking the root of 1 there instead, and masking it out, gives the subgradient 0.
    is_zero = squared == 0
    return squared.masked_fill(is_zero, 1).sqrt().masked_fill(is_zero, 0)


def _full_precision(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    both_double = a.dtype == b.dtype == torch.float64
    dtype = torch.float64 if both_double else torch.float32
    return a.to(dtype), b.to(dtype)


def _diagonal(square: Tensor) -> Tensor:
    return torch.eye(len(square), dtype=torch.bool, device=square.device)


def check_metric(metric: str) -> None:
    """Raises a ValueError unless the metric is one of `Metric`."""
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {get_args(Metric)}, got {metric!r}")


def _check(a: Tensor, b: Tensor, metric: str) -> None:
    check_metric(metric)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"embeddings must be [N, D] and [M, D] with one D, got {_shape(a)} and {_shape(b)}"
        )


def _shape(x: Tensor) -> list[int]:
    return list(x.shape)
