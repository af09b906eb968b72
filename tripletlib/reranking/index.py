"""The neighbours of a set of queries and gallery images, kept for re-ranking them at once."""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from tripletlib.reranking.encoding import (
    average_over_friends,
    expanded_neighbours,
    holders,
    positive,
    shared_weight,
    weigh,
)
from tripletlib.reranking.neighbours import Neighbours, find_neighbours, with_extra_image

Embeddings = np.ndarray | Tensor
_BLOCK_ENTRIES = 2**20  # re-ranked distances computed at once
_BLOCK_ROWS = 8  # but never fewer queries: each block reads all points from memory once


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
        self._gallery = slice(self.queries, self.queries + self.gallery)
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
        dim = self._neighbours.points.shape[1]
        if tuple(embedding.shape) != (dim,):
            raise ValueError(f"embedding must be [D] = [{dim}], got {list(embedding.shape)}")
        image = _as_tensor("embedding", embedding[None])[0]
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
        block = block or max(_BLOCK_ROWS, _BLOCK_ENTRIES // self.gallery)
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
        encodings, members = self._encode(neighbours, rows, k1, k2)  # [n, N] and [N, G]
        for start in range(0, len(rows), block):
            part = slice(start, start + block)
            shared = shared_weight(encodings[part], members)  # [b, G]
            final = 1 - shared / (2 - shared)  # the Jaccard distance
            final *= 1 - lambda_value
            final += lambda_value * self._original(neighbours, rows[part])
            yield start, final.clip(0, 1, out=final)  # rounding may step over either end

    def _row(
        self, neighbours: Neighbours, image: int, k1: int, k2: int, lambda_value: float
    ) -> np.ndarray:
        self._check(k1, k2, lambda_value)
        rows = np.array([image])
        return next(self._blocks(neighbours, rows, k1, k2, lambda_value, 1))[1][0]

    def _encode(
        self, neighbours: Neighbours, rows: np.ndarray, k1: int, k2: int
    ) -> tuple[csr_array, csr_array]:
        """Encodings of `rows`, and for each of their members the gallery images that hold it.

        A gallery image which shares no member is at Jaccard distance 1. Only images that may
        share one are encoded: for a single query these are a few of thousands.
        """
        nearest = neighbours.nearest
        friends = np.unique(nearest[rows, :k2])
        is_member = np.zeros(len(neighbours), bool)
        is_member[expanded_neighbours(nearest, k1, friends).indices] = True
        encoded = holders(nearest, k1, is_member.nonzero()[0])
        sets = expanded_neighbours(nearest, k1, encoded)
        holds = np.logical_or.reduceat(is_member[sets.indices], sets.indptr[:-1])
        encoded, sets = encoded[holds], sets[holds]
        encodings = weigh(neighbours, encoded, sets)  # [m, N]
        encodings.data *= is_member[encodings.indices]  # nobody shares the others
        encodings.eliminate_zeros()
        is_encoded = np.zeros(len(neighbours), bool)
        is_encoded[encoded] = True
        sharing = is_encoded[nearest[self._gallery, :k2]].any(1).nonzero()[0]
        own, theirs = (
            average_over_friends(nearest, k2, images, encoded, encodings)
            for images in (rows, self.queries + sharing)
        )
        turned = theirs.T.tocsr()  # [N, sharing]
        shape = (len(neighbours), self.gallery)
        return own, csr_array((turned.data, sharing[turned.indices], turned.indptr), shape)

    def _original(self, neighbours: Neighbours, rows: np.ndarray) -> np.ndarray:
        """Squared distances to the gallery, as shares of the largest to any image, `[b, G]`."""
        points, norms = neighbours.points, neighbours.norms
        squared = (-2 * points[rows]) @ points[self._gallery].T
        squared += norms[rows, None]
        squared += norms[self._gallery]
        np.maximum(squared, 0, out=squared)
        squared /= positive(neighbours.farthest[rows])[:, None]
        return squared

    def _check(self, k1: int, k2: int, lambda_value: float) -> None:
        check_parameters(k1, k2, lambda_value)
        if k1 > self.k_max or k2 > self.k_max + 1:
            raise ValueError(
                f"k1 must be at most {self.k_max} and k2 at most {self.k_max + 1}, got {k1} and "
                f"{k2}; open the index with a larger k_max"
            )


def check_parameters(k1: int, k2: int, lambda_value: float) -> None:
    """Raises a ValueError if k1 < 1, k2 < 1 or lambda_value is outside [0, 1]."""
    if k1 < 1:
        raise ValueError(f"k1 must be at least 1, got {k1}")
    if k2 < 1:
        raise ValueError(f"k2 must be at least 1, got {k2}")
    if not 0 <= lambda_value <= 1:
        raise ValueError(f"lambda_value must be in [0, 1], got {lambda_value}")


def _check_position(name: str, position: int, size: int) -> None:
    if not 0 <= position < size:
        raise ValueError(f"{name} must be in 0 ... {size - 1}, got {position}")


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
