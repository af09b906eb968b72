"""Hard mining: each anchor's farthest positive and nearest negative in a batch.

An index of the hardest needs no gradient, and only the order of the distances, not their values:
products of matrices, in blocks of anchors, are enough.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tripletlib.distances import Metric, check_metric, full_precision, is_zero, middle, unit_rows
from tripletlib.runtime import in_one_thread

Labels = Tensor | ArrayLike


def mine_hardest(
    embeddings: Tensor, labels: Labels, metric: Metric = "euclidean", block: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Finds each anchor's farthest positive and nearest negative, in blocks of anchors.

    Above 2 x `block` images about 2 x `block` x B numbers are held, below there are two tables of
    B x B. By default a block has 256 anchors on a CPU, which computes in one thread, and 2,048 on
    a GPU. Other arguments are those of `losses.batch_hard`.

    Returns:
        Indices `[B']` of the anchors that have a positive and a negative, of their hardest
        positives and of their hardest negatives. Among equals any may be chosen.

    Raises:
        ValueError: an unknown metric.

    Example:
        >>> mine_hardest(torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([0, 0, 1, 1]))
        (tensor([0, 1, 2, 3]), tensor([1, 0, 3, 2]), tensor([2, 2, 1, 1]))
    """
    labels = as_tensor(labels, embeddings.device)
    if block is None:
        block = 256 if embeddings.is_cpu else 2048  # what fits a processor's cache, and a GPU
    positive, negative, size = _hardest(embeddings, labels, metric, block)
    fewest, most = map(int, size.aminmax())
    if fewest > 1 and most < len(size):  # as nearly always, and quicker than to look for them
        return torch.arange(len(size), device=size.device), positive, negative
    anchors = ((size > 1) & (size < len(size))).nonzero().squeeze(1)  # [B']
    return anchors, positive[anchors], negative[anchors]


@in_one_thread
def _hardest(
    embeddings: Tensor, labels: Tensor, metric: Metric, block: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Farthest positive, nearest negative and number of images of its identity, of all anchors."""
    points, offsets = _points_and_offsets(embeddings, metric)
    if len(points) > 2 * block:
        return _hardest_in_blocks(points, offsets, labels, block)
    # A batch of the usual size: nothing to divide.
    score = points.new_empty(len(points), len(points))
    # Autocast leaves calls with `out` alone, and is slow to switch off.
    torch.addmm(offsets, points, points.T, alpha=-2, out=score)
    same = labels[:, None] == labels
    positive = _farthest_positives(score, same, 0)
    return positive, _place("argmin", score.masked_fill_(same, torch.inf)), same.sum(1)


def _hardest_in_blocks(
    points: Tensor, offsets: Tensor, labels: Tensor, block: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for a large batch, in which each pair is measured once."""
    _, labels, counts = labels.unique(return_inverse=True, return_counts=True)
    size = counts[labels]
    labels, order = labels.sort()
    batch = _SortedBatch(points[order], offsets[order], labels, block)
    blocks, bands = batch.blocks_and_bands()
    found = zip(*map(batch.search, blocks, bands), strict=True)
    positives, negatives, own, to_those_behind = found
    # What orders the nearest negatives that each block knows of. Of those behind it a block knows
    # that there is one, not which: it is asked again where none is nearer.
    nearest = points.new_full((len(blocks), len(points)), torch.inf)
    for row, rows, *values in zip(nearest, blocks, own, to_those_behind, strict=True):
        row[rows], row[rows.stop :] = values
    nearest_in = _place("argmin", nearest.T)  # [B], numbers of blocks
    asking = [
        (nearest_in[rows.stop :] == number).nonzero().squeeze(1) + rows.stop
        for number, rows in enumerate(blocks)
    ]
    negative = _joined(negatives, bands)
    negative[torch.cat(asking)] = _joined(map(batch.look_up, blocks, bands, asking), blocks)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return order[_joined(positives, bands)][back], order[negative][back], size


@dataclass
class _SortedBatch:
    """Images in the order of their identities, met in blocks of anchors.

    A block's positives stand in a band of a few columns. As distances are symmetric, a block leaves
    out what stands before its band: the blocks there measured it.
    """

    points: Tensor  # [B, D]
    offsets: Tensor  # [B]
    labels: Tensor  # [B]
    block: int

    def __post_init__(self) -> None:
        self.doubled = -2 * self.points
        # New memory would be cleared for every block.
        self.memory = self.points.new_empty(2, self.block * len(self.points))

    def blocks_and_bands(self) -> tuple[list[slice], list[slice]]:
        """The anchors of each block, and the columns that hold all images of their identities."""
        b, labels = len(self.labels), self.labels
        blocks = [slice(at, min(at + self.block, b)) for at in range(0, b, self.block)]
        begin = torch.searchsorted(labels, labels[[rows.start for rows in blocks]])
        end = torch.searchsorted(labels, labels[[rows.stop - 1 for rows in blocks]], right=True)
        return blocks, list(map(slice, begin.tolist(), end.tolist()))

    def search(self, rows: slice, band: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Farthest positives and nearest negatives among the columns from the band's start on.

        Returns:
            Both as places from the band's start on, `[block]`, what orders the negatives, and the
            same for the images behind the block, `[images behind]`, among its anchors.
        """
        first, offsets = band.start, self.offsets
        shape = rows.stop - rows.start, len(offsets) - first
        score, products = self.memory[:, : math.prod(shape)].view(2, *shape)
        torch.mm(self.doubled[rows], self.points[first:].T, out=products)
        torch.add(products, offsets[first:], out=score)
        same = self.labels[rows, None] == self.labels[band]  # [block, band]
        in_band = score[:, : same.shape[1]]
        positive = _farthest_positives(in_band, same, rows.start - first)
        in_band.masked_fill_(same, torch.inf)
        negative = _place("argmin", score)
        if band.stop > rows.stop:  # the last identity goes on behind the block
            products[:, : same.shape[1]].masked_fill_(same, torch.inf)
        behind = products[:, rows.stop - first :].add_(offsets[rows, None]).amin(0)
        return positive, negative, score.gather(1, negative[:, None]).squeeze(1), behind

    def look_up(self, rows: slice, band: slice, anchors: Tensor) -> Tensor:
        """Nearest negatives of anchors behind a block, as places in the block, `[anchors]`."""
        score = self.points.new_empty(len(anchors), rows.stop - rows.start)
        torch.addmm(self.offsets[rows], self.doubled[anchors], self.points[rows].T, out=score)
        if band.stop > rows.stop:
            score.masked_fill_(self.labels[anchors, None] == self.labels[rows], torch.inf)
        return _place("argmin", score)


def _joined(places: Iterable[Tensor], parts: Iterable[slice]) -> Tensor:
    """Places in parts of the images as places among all of them."""
    return torch.cat([place + part.start for place, part in zip(places, parts, strict=True)])


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
