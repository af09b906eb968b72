"""Distances between embeddings, with gradients that stay finite where two of them coincide."""

from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from tripletlib.runtime import in_one_thread

Metric = Literal["euclidean", "sqeuclidean", "cosine"]


def pairwise_distances(a: Tensor, b: Tensor | None = None, metric: Metric = "euclidean") -> Tensor:
    """Distance of every row of `a` to every row of `b`.

    The squared distance is expanded into |a|^2 + |b|^2 - 2ab, so that one matrix product does the
    work; see `Frame` for how the three terms are kept small. The cosine distance is half of it for
    rows of length 1.

    Args:
        a: embeddings, `[N, D]`. Half precision is computed in float32.
        b: embeddings, `[M, D]`; `a` itself when left out.
        metric: `"euclidean"`, `"sqeuclidean"` (its square) or `"cosine"` (1 - cosine similarity;
            a zero vector is at distance 1 from everything).

    Returns:
        Distances `[N, M]`, never negative; float64 where both inputs are float64, else float32.
        Entries may be of any size, such as 1e19 or 1e-23 in float32; only a distance (or square)
        that the type cannot hold becomes infinite or 0. Without `b` the diagonal is exactly zero.
        At distance 0 the gradient is 0.

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
    x, y = full_precision(a, other)
    if not x.numel() or not y.numel():
        return x.new_zeros(len(x), len(y))
    if metric == "cosine":
        x, y = unit_rows(x), unit_rows(y)
        no_angle = is_zero(x)[:, None] | is_zero(y)  # [N, M]
    frame = Frame.around(y, x)
    x, y = frame.points(x), frame.points(y)
    # In place: fresh memory for a large block costs more than its arithmetic, and autocast, which
    # would lower the precision of a product, leaves such calls alone.
    distances = x.square().sum(1)[:, None] + y.square().sum(1)  # [N, M]
    distances.addmm_(x, y.T, alpha=-2).clamp_min_(0)
    if metric == "euclidean":
        distances = _sqrt(distances).mul_(frame.scale)
    else:
        distances.mul_(frame.scale).mul_(frame.scale)
    if metric == "cosine":
        distances.div_(2).masked_fill_(no_angle, 1)
    return distances if b is not None else distances.fill_diagonal_(0)


def triplet_distances(
    embeddings: Tensor, anchors: Tensor, positives: Tensor, negatives: Tensor, metric: Metric
) -> tuple[Tensor, Tensor, Tensor]:
    """d_pos - d_neg of triplets, and both distances without a gradient: `[M]` each.

    Distances are those of `pairwise_distances`, from the difference itself: the type must hold its
    square. The indices are of embeddings `[B, D]`, anchors in ascending order, each once. On a CPU
    both passes take one thread, but for scaling rows to length 1 for the cosine. The gradient
    cannot be differentiated once more.
    """
    (points,) = full_precision(embeddings)
    points = unit_rows(points) if metric == "cosine" else points
    triplets = anchors, positives, negatives
    offsets, distances, divisors = _to_partners(points.detach(), *triplets, metric)
    d_pos, d_neg = distances
    return _Differences.apply(points, *triplets, offsets, distances, divisors), d_pos, d_neg


@in_one_thread
def _to_partners(
    points: Tensor, anchors: Tensor, positives: Tensor, negatives: Tensor, metric: Metric
) -> tuple[Tensor, Tensor, Tensor]:
    """Anchors' offsets from their partners `[2, M, D]`, distances and divisors `[2, M]`.

    An offset by its divisor is the gradient of the distance.
    """
    # Nearly every batch keeps all its anchors: picking them out would only cost time.
    kept = points if len(anchors) == len(points) else points.index_select(0, anchors)  # [M, D]
    partners = torch.stack([positives, negatives])  # [2, M]
    offsets = kept - F.embedding(partners, points)  # faster than points[partners]
    if metric == "euclidean":
        distances = torch.linalg.vector_norm(offsets, dim=-1)
        return offsets, distances, distances.masked_fill(distances == 0, torch.inf)
    distances = offsets.square().sum(-1)
    if metric == "sqeuclidean":
        return offsets, distances, torch.full_like(distances, 0.5)
    no_angle = is_zero(kept) | is_zero(points)[partners]
    divisors = torch.ones_like(distances).masked_fill(no_angle, torch.inf)
    return offsets, (distances / 2).masked_fill(no_angle, 1), divisors


class _Differences(torch.autograd.Function):
    # PyTorch would share each operation of its own backward pass between threads.
    @staticmethod
    def forward(
        ctx: Any,
        points: Tensor,
        anchors: Tensor,
        positives: Tensor,
        negatives: Tensor,
        offsets: Tensor,
        distances: Tensor,
        divisors: Tensor,
    ) -> Tensor:
        ctx.images = len(points)
        ctx.save_for_backward(anchors, positives, negatives, offsets, divisors)
        return distances[0] - distances[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
        return _slopes_of_points(slopes, ctx.images, *ctx.saved_tensors), *[None] * 6


@in_one_thread
def _slopes_of_points(
    slopes: Tensor,
    images: int,
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    offsets: Tensor,
    divisors: Tensor,
) -> Tensor:
    """The gradient of all points, `[images, D]`, from that of the differences, `[M]`."""
    to_anchors, from_negatives = (slopes / divisors)[..., None] * offsets  # [M, D] each
    gradient = to_anchors - from_negatives
    if len(anchors) < images:
        others = gradient.new_zeros(images, gradient.shape[1])
        gradient = others.index_add_(0, anchors, gradient)
    gradient.index_add_(0, negatives, from_negatives)
    return gradient.index_add_(0, positives, to_anchors, alpha=-1)


def unit_rows(x: Tensor) -> Tensor:
    """Rows scaled to length 1, `[..., D]`; a zero row stays zero."""
    x = x / _power_of_two(x.detach().abs().amax(-1, keepdim=True))
    norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norms.masked_fill(norms == 0, 1)


def is_zero(x: Tensor) -> Tensor:
    """Which rows have no direction: bool `[...]` of `[..., D]`."""
    return ~x.any(-1)


@dataclass(frozen=True)
class Frame:
    """Moves and scales embeddings so that |a|^2 + |b|^2 - 2ab keeps its digits.

    Rounding grows with the three terms, not with their sum; so the origin is moved among the
    embeddings. It becomes the median of some of them, which one far embedding cannot pull away. A
    common scale keeps the squares within the type's range, and a power of two changes no digit.
    """

    scale: Tensor  # what embeddings are divided by, a scalar
    centre: Tensor  # what is then subtracted from them, [D]

    @classmethod
    def around(cls, embeddings: Tensor, *others: Tensor) -> Self:
        """The frame in the middle of one set, `[N, D]`, scaled for it and for others."""
        scale = _power_of_two(_largest(embeddings, *others))
        return cls(scale, middle(embeddings) / scale)

    def points(self, embeddings: Tensor) -> Tensor:
        """Embeddings as seen from this frame, `[N, D]`."""
        return (embeddings / self.scale).sub_(self.centre)


def middle(embeddings: Tensor) -> Tensor:
    """The median of each dimension over about ten of the embeddings, `[D]` of `[N, D]`."""
    some = embeddings.detach()[:: max(1, len(embeddings) // 8)]
    return some.topk(len(some) // 2 + 1, 0).values[-1]


def _largest(*sets: Tensor) -> Tensor:
    """The largest absolute entry of some sets, a scalar."""
    return torch.stack([torch.stack(torch.aminmax(one.detach())) for one in sets]).abs().amax()


def _power_of_two(x: Tensor) -> Tensor:
    """The power of two at or below x > 0; 1 for 0, NaN and infinity."""
    return (x / (2 * torch.frexp(x).mantissa)).nan_to_num(nan=1)


def _sqrt(squared: Tensor) -> Tensor:
    if not squared.requires_grad:
        return squared.sqrt_()
    # The slope of sqrt at 0 is infinite, and infinity times zero is NaN in the backward pass.
    # Taking the root of 1 there instead, and masking it out, gives the subgradient 0.
    at_zero = squared == 0
    return squared.masked_fill(at_zero, 1).sqrt().masked_fill(at_zero, 0)


def full_precision(*sets: Tensor) -> tuple[Tensor, ...]:
    """The same in float64 if all are float64, else in float32."""
    all_double = all(one.dtype == torch.float64 for one in sets)
    return tuple(one.to(torch.float64 if all_double else torch.float32) for one in sets)


def check_metric(metric: str) -> None:
    """Raises a ValueError unless the metric is one of `Metric`."""
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {get_args(Metric)}, got {metric!r}")


def _check(a: Tensor, b: Tensor, metric: str) -> None:
    check_metric(metric)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"embeddings must be [N, D] and [M, D] with one D, got {[*a.shape]} and {[*b.shape]}"
        )
