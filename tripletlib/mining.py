"""Hard mining: each anchor's farthest positive and nearest negative in a batch.

An index of the hardest needs no gradient, and only the order of the distances, not their values:
one product of matrices, in blocks of anchors, is enough.
"""

from collections import defaultdict
from contextlib import nullcontext
from functools import partial
from threading import get_ident

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tripletlib.distances import Metric, check_metric, full_precision, is_zero, middle, unit_rows
from tripletlib.runtime import single_threaded_workers

Labels = Tensor | ArrayLike


def mine_hardest(
    embeddings: Tensor, labels: Labels, metric: Metric = "euclidean", block: int = 256
) -> tuple[Tensor, Tensor, Tensor]:
    """Finds each anchor's farthest positive and nearest negative, in blocks of anchors.

    Each thread holds `block` x B numbers at once. Other arguments are those of `losses.batch_hard`.

    Returns:
        Indices `[B']` of the anchors that have a positive and a negative, of their hardest
        positives and of their hardest negatives. Among equals any may be chosen.

    Raises:
        ValueError: an unknown metric.

    Example:
        >>> mine_hardest(torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([0, 0, 1, 1]))
        (tensor([0, 1, 2, 3]), tensor([1, 0, 3, 2]), tensor([2, 2, 1, 1]))
    """
    points, offsets = _points_and_offsets(embeddings, metric)
    labels = as_tensor(labels, embeddings.device)
    if len(points) <= 2 * block:  # a batch of the usual size: nothing to divide
        score = points.new_empty(len(points), len(points))
        found = _hardest_of_rows(points, offsets, labels, score, slice(None), slice(None))
    else:
        found = _hardest_in_blocks(points, offsets, labels, block)
    positive, negative, size = found  # [B] each
    anchors = ((size > 1) & (size < len(points))).nonzero().squeeze(1)  # [B']
    if len(anchors) == len(points):
        return anchors, positive, negative
    return anchors, positive[anchors], negative[anchors]


def _hardest_in_blocks(
    points: Tensor, offsets: Tensor, labels: Tensor, block: int
) -> tuple[Tensor, Tensor, Tensor]:
    """As `_hardest_of_rows`, of all anchors.

    In the order of the identities, a block's positives stand in a band of a few columns.
    """
    labels, order = labels.unique(return_inverse=True)[1].sort()
    points, offsets = points[order], offsets[order]
    starts = range(0, len(points), block)
    rows = [slice(start, min(start + block, len(points))) for start in starts]
    begin = torch.searchsorted(labels, labels[[part.start for part in rows]]).tolist()
    end = torch.searchsorted(labels, labels[[part.stop - 1 for part in rows]], right=True).tolist()
    # New memory would be cleared for every block: each thread keeps its own.
    scores: defaultdict[int, Tensor] = defaultdict(partial(points.new_empty, block, len(points)))

    def search(rows: slice, band: slice) -> tuple[Tensor, Tensor, Tensor]:
        return _hardest_of_rows(points, offsets, labels, scores[get_ident()], rows, band)

    few = len(rows) <= 4  # workers would take longer to wake than they save
    with nullcontext(map) if few else single_threaded_workers(points.device) as spread:
        blocks = spread(search, rows, map(slice, begin, end))
        positive, negative, size = map(torch.cat, zip(*blocks, strict=True))
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return order[positive][back], order[negative][back], size[back]


def _hardest_of_rows(
    points: Tensor, offsets: Tensor, labels: Tensor, score: Tensor, rows: slice, band: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each anchor in a block: farthest positive, nearest negative, images of its identity.

    All positives of the block's anchors, and the anchors, lie in the band of columns. `score` is
    memory for at least block x B numbers.
    """
    score = score[: len(points[rows])]  # [block, B]
    # Autocast leaves calls with `out` alone, and is slow to switch off.
    torch.addmm(offsets, points[rows], points.T, alpha=-2, out=score)
    same = labels[rows, None] == labels[band]  # [block, band]
    first = band.start or 0
    nearness = torch.where(same, -score[:, band], torch.inf)  # of positives
    nearness.diagonal((rows.start or 0) - first).fill_(torch.inf)  # no anchor is its own positive
    farthest_positive = _argmin(nearness) + first
    score[:, band].masked_fill_(same, torch.inf)
    nearest_negative = _argmin(score)
    return farthest_positive, nearest_negative, same.sum(1)


def _argmin(rows: Tensor) -> Tensor:
    """The place of each row's smallest entry, `[block]`."""
    if rows.device.type != "cpu":
        return rows.argmin(1)
    return torch.from_numpy(rows.numpy().argmin(1))  # over ten times as fast as PyTorch's


def _points_and_offsets(embeddings: Tensor, metric: Metric) -> tuple[Tensor, Tensor]:
    """Points p and offsets o such that o_j - 2 p_i p_j orders each row i as the distance does.

    It lacks |a|^2, the same along a row. Moved as in `Frame`, terms and rounding are small.
    """
    check_metric(metric)
    (points,) = full_precision(embeddings.detach())
    if metric == "cosine":
        points = unit_rows(points)
        no_direction = is_zero(points)
    points = points - middle(points)
    offsets = points.square().sum(1)
    # Half the squared distance of unit rows is their cosine distance; where one is zero, that is 1.
    return points, offsets + no_direction if metric == "cosine" else offsets


def as_tensor(labels: Labels, device: torch.device) -> Tensor:
    """Labels of any kind as a tensor `[B]` in which equal ones are equal numbers."""
    if not isinstance(labels, Tensor):
        names = np.asarray(labels)  # numbers or text: only which are equal matters
        labels = torch.from_numpy(np.unique(names, return_inverse=True)[1].reshape(names.shape))
    return labels.to(device)
