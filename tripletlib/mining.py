"""Hard mining: each anchor's farthest positive and nearest negative in a batch.

An index of the hardest needs no gradient, and only the order of the distances, not their values:
one product of matrices, in blocks of anchors, is enough.
"""

import math
from collections import defaultdict
from contextlib import nullcontext
from functools import partial
from threading import get_ident
from typing import Literal

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

    Each thread holds 2 x `block` x B numbers at once. Other arguments are those of
    `losses.batch_hard`.

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
        # Autocast leaves calls with `out` alone, and is slow to switch off.
        torch.addmm(offsets, points, points.T, alpha=-2, out=score)
        same = labels[:, None] == labels
        positive = _farthest_positives(score, same, 0)
        negative, size = _place("argmin", torch.where(same, torch.inf, score)), same.sum(1)
    else:
        positive, negative, size = _hardest_in_blocks(points, offsets, labels, block)
    anchors = ((size > 1) & (size < len(points))).nonzero().squeeze(1)  # [B']
    if len(anchors) == len(points):
        return anchors, positive, negative
    return anchors, positive[anchors], negative[anchors]


def _hardest_in_blocks(
    points: Tensor, offsets: Tensor, labels: Tensor, block: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Farthest positive, nearest negative and number of images of its identity, of all anchors.

    In the order of the identities, a block's positives stand in a band of a few columns. Distances
    are symmetric: a block leaves out what stands before its band, which the blocks there measured.
    """
    _, labels, counts = labels.unique(return_inverse=True, return_counts=True)
    size = counts[labels]
    labels, order = labels.sort()
    points, offsets = points[order], offsets[order]
    doubled = -2 * points
    starts = range(0, len(points), block)
    blocks = [slice(start, min(start + block, len(points))) for start in starts]
    begin = torch.searchsorted(labels, labels[[rows.start for rows in blocks]]).tolist()
    end = torch.searchsorted(labels, labels[[rows.stop - 1 for rows in blocks]], right=True)
    bands = list(map(slice, begin, end.tolist()))
    # New memory would be cleared for every block: each thread keeps its own.
    memory: defaultdict[int, Tensor] = defaultdict(
        partial(points.new_empty, 2, block * len(points))
    )

    # Calls are few in the next two: on their return, workers wait for each other's turn in Python.
    def search(rows: slice, band: slice) -> tuple[Tensor, ...]:
        first, behind = band.start, rows.stop - band.start
        shape = rows.stop - rows.start, len(points) - first
        score, products = memory[get_ident()][:, : math.prod(shape)].view(2, *shape)
        torch.mm(doubled[rows], points[first:].T, out=products)
        torch.add(products, offsets[first:], out=score)
        same = labels[rows, None] == labels[band]  # [block, band]
        in_band = score[:, : same.shape[1]]
        positive = _farthest_positives(in_band, same, rows.start - first)
        in_band.masked_fill_(same, torch.inf)
        negative = _place("argmin", score)
        if band.stop > rows.stop:  # the last identity goes on behind the block
            products[:, : same.shape[1]].masked_fill_(same, torch.inf)
        to_those_behind = products[:, behind:].add_(offsets[rows, None]).amin(0)
        return positive, negative, score.gather(1, negative[:, None]), to_those_behind

    def look_up(rows: slice, band: slice, anchors: Tensor) -> Tensor:
        score = points.new_empty(len(anchors), rows.stop - rows.start)
        torch.addmm(offsets[rows], doubled[anchors], points[rows].T, out=score)
        if band.stop > rows.stop:
            score.masked_fill_(labels[anchors, None] == labels[rows], torch.inf)
        return _place("argmin", score)

    few = len(blocks) <= 4  # workers would take longer to wake than they save
    with nullcontext(map) if few else single_threaded_workers(points.device) as spread:
        positives, negatives, to_nearest, to_those_behind = zip(
            *spread(search, blocks, bands), strict=True
        )
        positive, negative = (
            torch.cat([columns + band.start for columns, band in zip(found, bands, strict=True)])
            for found in (positives, negatives)
        )
        # What orders the nearest negatives that a block knows of: its anchors', and of those behind
        # it, where it knows that there is one, not which.
        nearest = points.new_full((len(blocks), len(points)), torch.inf)
        for row, rows, own, others in zip(
            nearest, blocks, to_nearest, to_those_behind, strict=True
        ):
            row[rows], row[rows.stop :] = own.squeeze(1), others
        found_in = _place("argmin", nearest.T)  # [B], numbers of blocks
        asking = [
            (found_in[rows.stop :] == number).nonzero().squeeze(1) + rows.stop
            for number, rows in enumerate(blocks)
        ]
        answers = spread(look_up, blocks, bands, asking)
        for anchors, rows, columns in zip(asking, blocks, answers, strict=True):
            negative[anchors] = columns + rows.start
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return order[positive][back], order[negative][back], size


def _farthest_positives(score: Tensor, same: Tensor, itself: int) -> Tensor:
    """The column of each row's largest score at the same identity, `[block]` of `[block, band]`.

    Row 0 is the image of column `itself`, and so on: no anchor is its own positive.
    """
    score = torch.where(same, score, -torch.inf)
    score.diagonal(itself).fill_(-torch.inf)
    return _place("argmax", score)


def _place(of: Literal["argmin", "argmax"], rows: Tensor) -> Tensor:
    """The place of each row's smallest or largest entry, `[block]`."""
    if rows.device.type != "cpu":
        return getattr(rows, of)(1)
    return torch.from_numpy(getattr(rows.numpy(), of)(1))  # over ten times as fast as PyTorch's


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
