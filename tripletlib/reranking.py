"""k-reciprocal re-ranking: images that count each other among their nearest move closer.

The final distance of query and gallery image is

    (1 - lambda) * Jaccard distance of their encodings + lambda * original distance,

where the encoding of an image weighs its k-reciprocal neighbours (see `tripletlib.reciprocal`).
Each has some dozens of them, so encodings are sparse: memory grows with the number of images, not
with its square.
"""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from tripletlib.neighbours import Neighbours, find_neighbours, with_extra_image
from tripletlib.reciprocal import (
    encode_with_friends,
    images_within_reach,
    positive,
    shared_weight,
)

Embeddings = np.ndarray | Tensor
_BLOCK_ENTRIES = 2**21  # re-ranked distances computed at once


def k_reciprocal(
    query_embeddings: Embeddings,
    gallery_embeddings: Embeddings,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Re-ranked distances of all queries to all gallery images.

    With d2 the squared Euclidean distance, the original distance of i and j is d2(i, j) divided by
    the largest d2(i, k), k over queries and gallery together (0 where all images coincide). As in
    every public implementation, the windows of neighbours hold the image itself and k1 others.

    Args:
        query_embeddings: `[Q, D]`, array or tensor of any floating type; computed in float32.
        gallery_embeddings: `[G, D]`.
        k1: neighbours in a window, besides the image itself, >= 1; a window may exceed the set.
        k2: images whose encodings are averaged, the image itself included, >= 1; 1 averages none.
        lambda_value: share of the original distance, in [0, 1].
        device: where the neighbours are searched; the rest is done on the CPU.

    Returns:
        Distances in [0, 1], float32 `[Q, G]`; apart from them, memory grows linearly with Q + G.

    Raises:
        ValueError: parameters out of range, an empty set, other shapes, or entries that are not
            finite.

    Source:
        Zhong et al. 2017, Re-ranking Person Re-identification with k-reciprocal Encoding
        (arXiv 1701.08398), sections 3.2 to 3.5.

    Example:
        >>> k_reciprocal(np.array([[0.0]]), np.array([[1.0], [3.0], [7.0]]), k1=1, k2=1).round(3)
        array([[0.023, 0.755, 1.   ]], dtype=float32)
    """
    blocks = k_reciprocal_blocks(
        query_embeddings, gallery_embeddings, k1, k2, lambda_value, device=device
    )
    result = np.empty((len(query_embeddings), len(gallery_embeddings)), np.float32)
    for start, block in blocks:
        result[start : start + len(block)] = block
    return result


def k_reciprocal_blocks(
    query_embeddings: Embeddings,
    gallery_embeddings: Embeddings,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    block: int | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[int, np.ndarray]]:
    """The same distances block by block, for a gallery whose `[Q, G]` does not fit in memory.

    Args:
        query_embeddings: see `k_reciprocal`, and so the others.
        gallery_embeddings: `[G, D]`.
        k1: neighbours in a window.
        k2: images whose encodings are averaged.
        lambda_value: share of the original distance.
        block: queries in a block, >= 1; by default as many as give about two million distances.
        device: where the neighbours are searched.

    Returns:
        Iterator over the index of a block's first query and its distances, float32 `[b, G]`.

    Raises:
        ValueError: see `k_reciprocal`.
    """
    _check_parameters(k1, k2, lambda_value)
    index = NeighbourIndex(query_embeddings, gallery_embeddings, max(k1, k2 - 1), device)
    return index.blocks(k1, k2, lambda_value, block)


def k_reciprocal_top(
    query_embeddings: Embeddings,
    gallery_embeddings: Embeddings,
    top: int = 100,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Only the first `top` places of each query's re-ranked gallery.

    Args:
        query_embeddings: see `k_reciprocal`, and so the others.
        gallery_embeddings: `[G, D]`.
        top: places, >= 1; at most G are there.
        k1: neighbours in a window.
        k2: images whose encodings are averaged.
        lambda_value: share of the original distance.
        device: where the neighbours are searched.

    Returns:
        Gallery indices, int64 `[Q, top]`, and their distances, float32 `[Q, top]`, nearest first;
        equal distances stand in the gallery's order, as a stable sort has them.

    Raises:
        ValueError: see `k_reciprocal`.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    size = (len(query_embeddings), min(top, len(gallery_embeddings)))
    blocks = k_reciprocal_blocks(
        query_embeddings, gallery_embeddings, k1, k2, lambda_value, device=device
    )
    indices, distances = np.empty(size, np.int64), np.empty(size, np.float32)
    for start, block in blocks:
        for query, row in enumerate(block, start):
            indices[query] = _first_places(row, size[1])
            distances[query] = row[indices[query]]
    return indices, distances


class NeighbourIndex:
    """The neighbours of all images, searched once; then any ranking with any parameters at once.

    Args:
        query_embeddings: `[Q, D]`, see `k_reciprocal`.
        gallery_embeddings: `[G, D]`.
        k_max: largest k1 that will be asked for; k2 may be one more.
        device: where the neighbours are searched.

    Raises:
        ValueError: `k_max` < 1, an empty set, other shapes, or entries that are not finite.

    Example:
        >>> index = NeighbourIndex(np.array([[0.0]]), np.array([[1.0], [3.0], [7.0]]), k_max=2)
        >>> index.rerank(0, k1=1, k2=1).round(3)
        array([0.023, 0.755, 1.   ], dtype=float32)
    """

    def __init__(
        self,
        query_embeddings: Embeddings,
        gallery_embeddings: Embeddings,
        k_max: int = 40,
        device: torch.device | str = "cpu",
    ) -> None:
        if k_max < 1:
            raise ValueError(f"k_max must be at least 1, got {k_max}")
        query = _as_tensor("query_embeddings", query_embeddings)
        gallery = _as_tensor("gallery_embeddings", gallery_embeddings)
        if query.shape[1] != gallery.shape[1]:
            raise ValueError(
                "query_embeddings and gallery_embeddings must have one D, got "
                f"{list(query.shape)} and {list(gallery.shape)}"
            )
        self.k_max = k_max
        self.queries, self.gallery = len(query), len(gallery)
        self._neighbours = find_neighbours(torch.cat([query, gallery]), k_max + 1, device)

    def rerank(
        self, query: int, k1: int = 20, k2: int = 6, lambda_value: float = 0.3
    ) -> np.ndarray:
        """One query's row of `k_reciprocal`, float32 `[G]`.

        Raises:
            ValueError: no such query, or parameters out of range.
        """
        _check_position("query", query, self.queries)
        return self._row(self._neighbours, query, k1, k2, lambda_value)

    def rerank_gallery(
        self, gallery: int, k1: int = 20, k2: int = 6, lambda_value: float = 0.3
    ) -> np.ndarray:
        """The row of a gallery image that is looked up as if it were a query, float32 `[G]`.

        Its own place is at infinity: nobody looks for the image at hand.

        Raises:
            ValueError: no such gallery image, or parameters out of range.
        """
        _check_position("gallery", gallery, self.gallery)
        row = self._row(self._neighbours, self.queries + gallery, k1, k2, lambda_value)
        row[gallery] = np.inf
        return row

    def rerank_embedding(
        self, embedding: Embeddings, k1: int = 20, k2: int = 6, lambda_value: float = 0.3
    ) -> np.ndarray:
        """The row of a new image, `[D]`, that joins the queries for this one call, float32 `[G]`.

        It is what `k_reciprocal` gives for the enlarged set: images near to the new one have it
        among their neighbours, and farthest distances count it. The index does not change.

        Raises:
            ValueError: another D, an entry that is not finite, or parameters out of range.
        """
        image = _as_tensor("embedding", embedding[None])[0]
        dim = self._neighbours.points.shape[1]
        if image.shape != (dim,):
            raise ValueError(f"embedding must be [D] = [{dim}], got {list(image.shape)}")
        enlarged = with_extra_image(self._neighbours, image, self.k_max + 1)
        return self._row(enlarged, len(enlarged) - 1, k1, k2, lambda_value)

    def blocks(
        self,
        k1: int = 20,
        k2: int = 6,
        lambda_value: float = 0.3,
        block: int | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """All queries' rows, see `k_reciprocal_blocks`.

        Raises:
            ValueError: parameters out of range.
        """
        self._check(k1, k2, lambda_value)
        if block is not None and block < 1:
            raise ValueError(f"block must be at least 1, got {block}")
        block = block or max(1, _BLOCK_ENTRIES // self.gallery)
        return self._blocks(self._neighbours, np.arange(self.queries), k1, k2, lambda_value, block)

    def _blocks(
        self,
        neighbours: Neighbours,
        rows: np.ndarray,
        k1: int,
        k2: int,
        lambda_value: float,
        block: int,
    ) -> Iterator[tuple[int, np.ndarray]]:
        encodings = encode_with_friends(neighbours, k1, k2, rows)  # [n, N]
        members = self._members(neighbours, k1, k2, encodings.indices)  # [N, G]
        for start in range(0, len(rows), block):
            part = slice(start, start + block)
            shared = shared_weight(encodings[part], members)  # [b, G]
            jaccard = 1 - shared / (2 - shared)
            original = self._original(neighbours, rows[part])
            final = (1 - lambda_value) * jaccard + lambda_value * original
            yield start, final.astype(np.float32)

    def _row(
        self, neighbours: Neighbours, image: int, k1: int, k2: int, lambda_value: float
    ) -> np.ndarray:
        self._check(k1, k2, lambda_value)
        rows = np.array([image])
        return next(self._blocks(neighbours, rows, k1, k2, lambda_value, 1))[1][0]

    def _members(self, neighbours: Neighbours, k1: int, k2: int, support: np.ndarray) -> csr_array:
        """For each image the gallery images that hold it as a member, and their weights."""
        reached = images_within_reach(neighbours, k1, k2, support)
        first, last = np.searchsorted(reached, [self.queries, self.queries + self.gallery])
        holders = reached[first:last]
        encodings = encode_with_friends(neighbours, k1, k2, holders).T.tocsr()  # [N, holders]
        return csr_array(
            (encodings.data, holders[encodings.indices] - self.queries, encodings.indptr),
            shape=(len(neighbours), self.gallery),
        )

    def _original(self, neighbours: Neighbours, rows: np.ndarray) -> np.ndarray:
        """Squared distances to the gallery, as shares of the largest to any image, `[b, G]`."""
        gallery = slice(self.queries, self.queries + self.gallery)
        squared = -2 * neighbours.points[rows] @ neighbours.points[gallery].T
        squared += neighbours.norms[rows, None]
        squared += neighbours.norms[gallery]
        return squared.clip(0) / positive(neighbours.farthest[rows])[:, None]

    def _check(self, k1: int, k2: int, lambda_value: float) -> None:
        _check_parameters(k1, k2, lambda_value)
        if k1 > self.k_max or k2 > self.k_max + 1:
            raise ValueError(
                f"k1 must be at most {self.k_max} and k2 at most {self.k_max + 1}, got {k1} and "
                f"{k2}; open the index with a larger k_max"
            )


def _as_tensor(name: str, embeddings: Embeddings) -> Tensor:
    if isinstance(embeddings, Tensor):
        tensor = embeddings.detach().to("cpu", torch.float32)
    else:
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite, see below
            tensor = torch.from_numpy(np.array(embeddings, dtype=np.float32))
    if tensor.ndim != 2 or not tensor.numel():
        raise ValueError(f"{name} must be [N, D] with N, D >= 1, got {list(tensor.shape)}")
    finite = tensor.isfinite().all(1)
    if not finite.all():
        raise ValueError(
            f"{name} {list(tensor.shape)} has {int((~finite).sum())} rows that are not finite in "
            f"float32, the first is row {int((~finite).nonzero()[0])}"
        )
    return tensor


def _first_places(row: np.ndarray, top: int) -> np.ndarray:
    # All that reach the last place's distance are sorted: which of the equal ones come first must
    # not depend on how the partition happened to leave them.
    last = np.partition(row, top - 1)[top - 1]
    columns = (row <= last).nonzero()[0]
    return columns[np.argsort(row[columns], kind="stable")[:top]]


def _check_parameters(k1: int, k2: int, lambda_value: float) -> None:
    if k1 < 1:
        raise ValueError(f"k1 must be at least 1, got {k1}")
    if k2 < 1:
        raise ValueError(f"k2 must be at least 1, got {k2}")
    if not 0 <= lambda_value <= 1:
        raise ValueError(f"lambda_value must be in [0, 1], got {lambda_value}")


def _check_position(name: str, position: int, size: int) -> None:
    if not 0 <= position < size:
        raise ValueError(f"{name} must be in 0 ... {size - 1}, got {position}")
