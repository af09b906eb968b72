"""The k nearest images of every image, by brute force in bounded memory, on CPU or GPU."""

import math
from dataclasses import dataclass
from queue import Empty, LifoQueue

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tripletlib.distances import Frame
from tripletlib.runtime import single_threaded_workers

_BLOCK_ENTRIES = 2**23  # distances that a worker holds at once: 32 MB
_BLOCK_ROWS = 256  # but never fewer rows: each block reads all points from memory once
_WHOLE_BLOCKS = 4  # held at once by all workers together; more of them have smaller ones


@dataclass(frozen=True)
class Neighbours:
    """A set of N images and the nearest of each."""

    frame: Frame  # what made points of the embeddings
    points: np.ndarray  # the embeddings in that frame, float32 [N, D]
    norms: np.ndarray  # squared lengths of the points, float32 [N]
    nearest: np.ndarray  # of each image the nearest ones, the image itself first, int32 [N, k]
    distances: np.ndarray  # squared distances of the points to those, float32 [N, k]
    farthest: np.ndarray  # squared distance of each point to the farthest one, float32 [N]

    def __len__(self) -> int:
        return len(self.points)

    def squared_distances(self, points: np.ndarray, images: slice = slice(None)) -> np.ndarray:
        """Squared distances of points of this frame, `[n, D]`, to some images, `[n, m]`."""
        squared = (-2 * points) @ self.points[images].T
        squared += np.square(points).sum(1)[:, None]
        squared += self.norms[images]
        return np.maximum(squared, 0, out=squared)

    def as_shares(self, squared: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Divides squared distances by those of the images to their farthest; all 0 stay 0."""
        farthest = self.farthest[images]
        squared /= np.where(farthest > 0, farthest, 1).reshape(-1, *[1] * (squared.ndim - 1))
        return squared


@torch.no_grad()
def find_neighbours(
    embeddings: Tensor, k: int, device: torch.device | str = "cpu", block: int | None = None
) -> Neighbours:
    """Compares every image with every image, on the device, a block of rows at a time.

    Args:
        embeddings: float32 `[N, D]`, finite.
        k: neighbours of each image, itself included; at most N are found.
        device: where the distances are computed.
        block: rows; by default as many as fill 32 MB, and at least 256, and some for every worker.

    Returns:
        The `Neighbours`. An image is its own nearest one, even where others coincide with it;
        among other images at equal distance any may come first.

    Example:
        >>> find_neighbours(torch.tensor([[0.0], [1.0], [3.0], [7.0]]), k=2).nearest
        array([[0, 1],
               [1, 0],
               [2, 1],
               [3, 2]], dtype=int32)
    """
    frame = Frame.around(embeddings)
    points = frame.points(embeddings).to(device)
    size, k = len(points), min(k, len(points))
    norms = points.square().sum(1)  # [N]
    depth = max(1, math.isqrt(size // k))  # see _smallest; this depth is the least work
    padding = -size % depth
    # |b|^2 - 2ab orders a row as |a - b|^2 does, and is one product: [-2a, 1] times [b, |b|^2].
    left = torch.cat([-2 * points, torch.ones_like(points[:, :1])], 1)  # [N, D + 1]
    right = torch.cat([points, norms[:, None]], 1)
    right = F.pad(right, (0, 0, 0, padding))  # [N + padding, D + 1]
    right[size:, -1] = torch.finfo(torch.float32).max  # nobody's neighbour
    workers = torch.get_num_threads() if points.device.type == "cpu" else 1
    share = min(1, _WHOLE_BLOCKS / workers) * max(_BLOCK_ROWS, _BLOCK_ENTRIES // size)
    block = block or max(1, min(int(share), math.ceil(size / workers)))
    buffers: LifoQueue[Tensor] = LifoQueue()  # fresh memory for each block would cost more
    nearest, distances = np.empty((size, k), np.int32), np.empty((size, k), np.float32)
    farthest = np.empty(size, np.float32)

    def search(start: int) -> None:
        rows = slice(start, min(start + block, size))
        try:
            held = buffers.get_nowait()
        except Empty:
            held = points.new_empty(min(block, size), size + padding)
        scores = _product(left[rows], right.T, held[: rows.stop - start])  # [block, N + padding]
        farthest[rows] = (scores[:, :size].amax(1) + norms[rows]).clamp_min_(0).cpu()
        scores.diagonal(start).fill_(-torch.inf)  # itself first
        values, columns = _smallest(scores, k, depth)
        nearest[rows] = columns.cpu()
        distances[rows] = (values + norms[rows, None]).clamp_min_(0).cpu()
        buffers.put(held)

    with single_threaded_workers(points.device) as spread:
        list(spread(search, range(0, size, block)))
    return Neighbours(
        frame, points.cpu().numpy(), norms.cpu().numpy(), nearest, distances, farthest
    )


def with_extra_image(old: Neighbours, embedding: Tensor, k: int) -> Neighbours:
    """The neighbours of N images that one more has joined as image N, without a new search.

    Its `embedding` is float32 `[D]`; k is what `find_neighbours` was asked for.
    """
    size, kept = old.nearest.shape
    width = min(k, size + 1)
    point = old.frame.points(embedding[None]).numpy()  # [1, D]
    squared = old.squared_distances(point)[0]  # [N]
    nearest = np.empty((size + 1, width), np.int32)
    distances = np.zeros((size + 1, width), np.float32)
    nearest[:size, :kept], distances[:size, :kept] = old.nearest, old.distances
    changed = np.arange(size) if width > kept else (squared < old.distances[:, -1]).nonzero()[0]
    ids = np.column_stack([old.nearest[changed], np.full(len(changed), size, np.int32)])
    values = np.column_stack([old.distances[changed], squared[changed]])
    order = np.argsort(values, axis=1, kind="stable")[:, :width]  # the image itself stays first
    nearest[changed] = np.take_along_axis(ids, order, 1)
    distances[changed] = np.take_along_axis(values, order, 1)
    own = np.argsort(squared, kind="stable")[: width - 1]
    nearest[size], distances[size, 1:] = [size, *own], squared[own]
    return Neighbours(
        old.frame,
        np.vstack([old.points, point]),
        np.append(old.norms, np.square(point).sum()),
        nearest,
        distances,
        np.append(np.maximum(old.farthest, squared), squared.max()),
    )


def _product(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    if a.device.type != "cpu":
        return torch.matmul(a, b, out=out)
    # On AMD processors NumPy's OpenBLAS is much faster than torch's MKL.
    np.matmul(a.numpy(), b.numpy(), out=out.numpy())
    return out


def _smallest(scores: Tensor, k: int, depth: int) -> tuple[Tensor, Tensor]:
    """The k smallest of each row, in order, and their columns; exact.

    A column's group is its remainder by the number of groups. One of the k smallest lies in one
    of the k groups with the smallest minima: any other group stands behind k smaller numbers.
    """
    if depth == 1:
        smallest = scores.topk(k, largest=False)
        return smallest.values, smallest.indices
    groups = scores.shape[1] // depth
    minima = scores.view(-1, depth, groups).amin(1)  # [b, groups]
    best = minima.topk(k, largest=False, sorted=False).indices  # [b, k]
    steps = torch.arange(0, depth * groups, groups, device=scores.device)
    columns = (best[:, None, :] + steps[:, None]).flatten(1)  # [b, depth * k]
    smallest = scores.gather(1, columns).topk(k, largest=False)
    return smallest.values, columns.gather(1, smallest.indices)
