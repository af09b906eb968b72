"""k-reciprocal re-ranking: images that count each other among their nearest move closer.

The final distance of query and gallery image is

    (1 - lambda) * Jaccard distance of their encodings + lambda * original distance,

where the encoding of an image weighs its k-reciprocal neighbours (see `tripletlib.reranking.
encoding`). Each has some dozens of them, so encodings are sparse: memory grows with the number of
images, not with its square.
"""

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from tripletlib.reranking.encoding import (
    encode,
    expand_query,
    expanded_neighbours,
    images_that_may_contain,
    jaccard_distances,
)
from tripletlib.reranking.neighbours import Neighbours, find_neighbours, with_extra_image

RERANKING = K1, K2, LAMBDA = 20, 6, 0.3  # of Zhong et al.
Embeddings = np.ndarray | Tensor
_BLOCK_ENTRIES = 2**20  # re-ranked distances computed at once
_BLOCK_ROWS = 8  # but never fewer queries: each block reads all points from memory once
_FAR_OUT = 300  # times the median: original distances between the others lose their digits


def k_reciprocal(
    query_embeddings: Embeddings,
    gallery_embeddings: Embeddings,
    k1: int = K1,
    k2: int = K2,
    lambda_value: float = LAMBDA,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Re-ranked distances of all queries to all gallery images.

    With d2 the squared Euclidean distance, the original distance of i and j is d2(i, j) divided by
    the largest d2(i, k), k over queries and gallery together (0 where all images coincide).

    Args:
        query_embeddings: `[Q, D]`, array or tensor of any floating type; computed in float32.
        gallery_embeddings: `[G, D]`.
        k1: others that an image counts among its nearest, >= 1; it may exceed the set.
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
    _check_parameters(k1, k2, lambda_value)
    index = NeighbourIndex(query_embeddings, gallery_embeddings, max(k1, k2 - 1), device)
    result = np.empty((index.queries, index.gallery), np.float32)
    for start, block in index.blocks(k1, k2, lambda_value):
        result[start : start + len(block)] = block
    return result


class NeighbourIndex:
    """The neighbours of all images, searched once; then any ranking with any parameters at once.

    Args:
        query_embeddings: `[Q, D]`, see `k_reciprocal`, and so k1, k2 and lambda_value below; Q may
            be 0 where only gallery or new images are looked up.
        gallery_embeddings: `[G, D]`.
        k_max: largest k1 that will be asked for, >= 1; k2 may be one more.
        device: where the neighbours are searched.

    Raises:
        ValueError: see `k_reciprocal`; every method, where k1 or k2 exceed `k_max`.

    Example:
        >>> index = NeighbourIndex(np.array([[0.0]]), np.array([[1.0], [3.0], [7.0]]), k_max=2)
        >>> index.rerank(0, k1=1, k2=1, lambda_value=0.3).round(3)
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
        query = _as_tensor("query_embeddings", query_embeddings, least=0)
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
        self._warn_of_one_far_out()

    def rerank(
        self, image: int, k1: int, k2: int, lambda_value: float, kind: str = "query"
    ) -> np.ndarray:
        """A query's row of `k_reciprocal`, or a gallery image's, looked up like one: float32 `[G]`.

        A gallery image's own place is at infinity: nobody looks for the image at hand. A ValueError
        if `kind` is neither `"query"` nor `"gallery"`, or there is no such image.
        """
        parts = {"query": (0, self.queries), "gallery": (self.queries, self.gallery)}
        if kind not in parts:
            raise ValueError(f"kind must be one of {', '.join(parts)}, got {kind!r}")
        first, size = parts[kind]
        if not 0 <= image < size:
            raise ValueError(f"{kind} must be in 0 ... {size - 1}, got {image}")
        row = self._row(self._neighbours, first + image, k1, k2, lambda_value)
        if kind == "gallery":
            row[image] = np.inf
        return row

    def rerank_embedding(
        self, embedding: Embeddings, k1: int, k2: int, lambda_value: float
    ) -> np.ndarray:
        """The row of a new image, `[D]`, that joins the queries for this one call, float32 `[G]`.

        It is what `k_reciprocal` gives for the enlarged set: images near to the new one have it
        among their neighbours, and farthest distances count it. The index does not change.

        Raises:
            ValueError: another D, an entry that is not finite or 1e15 times as large as all others.
        """
        dim = self._neighbours.points.shape[1]
        if tuple(embedding.shape) != (dim,):
            raise ValueError(f"embedding must be [D] = [{dim}], got {list(embedding.shape)}")
        image = _as_tensor("embedding", embedding[None])[0]
        if image.abs().max() / 1e15 > self._neighbours.frame.scale:
            raise ValueError("embedding has entries 1e15 times as large as those of the index")
        enlarged = with_extra_image(self._neighbours, image, self.k_max + 1)
        return self._row(enlarged, len(enlarged) - 1, k1, k2, lambda_value)

    def blocks(self, k1: int, k2: int, lambda_value: float) -> Iterator[tuple[int, np.ndarray]]:
        """The distances of `k_reciprocal` block by block, where `[Q, G]` does not fit in memory.

        Yields the index of a block's first query and its distances, float32 `[b, G]`: as many
        queries as give about a million distances, and at least 8.
        """
        self._check(k1, k2, lambda_value)
        if not self.queries:
            dim = self._neighbours.points.shape[1]
            raise ValueError(f"query_embeddings must be [Q, D] with Q >= 1, got [0, {dim}]")
        return self._blocks(self._neighbours, np.arange(self.queries), k1, k2, lambda_value)

    def _row(
        self, neighbours: Neighbours, image: int, k1: int, k2: int, lambda_value: float
    ) -> np.ndarray:
        self._check(k1, k2, lambda_value)
        _, block = next(self._blocks(neighbours, np.array([image]), k1, k2, lambda_value))
        return block[0]

    def _blocks(
        self, neighbours: Neighbours, rows: np.ndarray, k1: int, k2: int, lambda_value: float
    ) -> Iterator[tuple[int, np.ndarray]]:
        block = max(_BLOCK_ROWS, _BLOCK_ENTRIES // self.gallery)
        encodings, of_gallery = self._encode(neighbours, rows, k1, k2)  # [n, N] and [N, G]
        for start in range(0, len(rows), block):
            part = slice(start, start + block)
            final = jaccard_distances(encodings[part], of_gallery)  # [b, G]
            final *= 1 - lambda_value
            points = neighbours.points[rows[part]]
            original = neighbours.squared_distances(points, self._gallery)  # [b, G]
            final += lambda_value * neighbours.as_shares(original, rows[part])
            yield start, final.clip(0, 1, out=final)  # rounding may step over either end

    def _encode(
        self, neighbours: Neighbours, rows: np.ndarray, k1: int, k2: int
    ) -> tuple[csr_array, csr_array]:
        """Expanded encodings of `rows`, and those of the gallery, transposed.

        Only images that may share a member with `rows` are encoded, for a single query a few of
        thousands. All others keep no weights: they are at Jaccard distance 1.
        """
        nearest = neighbours.nearest
        averaged = np.unique(nearest[rows, :k2])
        is_member = np.zeros(len(neighbours), bool)
        is_member[expanded_neighbours(nearest, k1, averaged).indices] = True
        encoded = images_that_may_contain(nearest, k1, is_member.nonzero()[0])
        sets = expanded_neighbours(nearest, k1, encoded)
        shares = np.logical_or.reduceat(is_member[sets.indices], sets.indptr[:-1])
        encoded, sets = encoded[shares], sets[shares]
        encodings = encode(neighbours, encoded, sets)  # [m, N]
        encodings.data *= is_member[encodings.indices]  # no row has the others
        encodings.eliminate_zeros()
        is_encoded = np.zeros(len(neighbours), bool)
        is_encoded[encoded] = True
        sharing = is_encoded[nearest[self._gallery, :k2]].any(1).nonzero()[0]
        own, theirs = (
            expand_query(nearest, k2, images, encoded, encodings)
            for images in (rows, self.queries + sharing)
        )
        transposed = theirs.T.tocsr()  # [N, sharing]
        columns = sharing[transposed.indices]
        shape = (len(neighbours), self.gallery)
        return own, csr_array((transposed.data, columns, transposed.indptr), shape)

    def _check(self, k1: int, k2: int, lambda_value: float) -> None:
        _check_parameters(k1, k2, lambda_value)
        if k1 > self.k_max or k2 > self.k_max + 1:
            raise ValueError(
                f"k1 must be at most {self.k_max} and k2 at most {self.k_max + 1}, got {k1} and "
                f"{k2}; open the index with a larger k_max"
            )

    def _warn_of_one_far_out(self) -> None:
        lengths = np.sqrt(self._neighbours.norms)
        image, usual = int(lengths.argmax()), float(np.median(lengths))
        if 0 < usual * _FAR_OUT < lengths[image]:
            of_query = image < self.queries
            name = "query_embeddings" if of_query else "gallery_embeddings"
            warnings.warn(
                f"row {image if of_query else image - self.queries} of {name} lies "
                f"{lengths[image] / usual:,.0f} times as far out as the median. Original distances "
                "are shares of the distance to it, and between all others so small that they no "
                "longer count beside the Jaccard distance; leave it out",
                stacklevel=3,
            )


def _check_parameters(k1: int, k2: int, lambda_value: float) -> None:
    for name, value in {"k1": k1, "k2": k2}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not 0 <= lambda_value <= 1:
        raise ValueError(f"lambda_value must be in [0, 1], got {lambda_value}")


def _as_tensor(name: str, embeddings: Embeddings, least: int = 1) -> Tensor:
    if isinstance(embeddings, Tensor):
        tensor = embeddings.detach().to("cpu", torch.float32)
    else:
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite, see below
            tensor = torch.from_numpy(np.array(embeddings, dtype=np.float32))
    if tensor.ndim != 2 or len(tensor) < least or not tensor.shape[1]:
        raise ValueError(
            f"{name} must be [N, D] with N >= {least}, D >= 1, got {list(tensor.shape)}"
        )
    finite = tensor.isfinite().all(1)
    if not finite.all():
        raise ValueError(
            f"{name} {list(tensor.shape)} has {int((~finite).sum())} rows that are not finite in "
            f"float32, the first is row {int((~finite).nonzero()[0])}"
        )
    return tensor
