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

from tripletlib.reranking.index import Embeddings, NeighbourIndex, check_parameters


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
        block: queries in a block, >= 1; by default as many as give about a million distances, and
            at least 8.
        device: where the neighbours are searched.

    Returns:
        Iterator over the index of a block's first query and its distances, float32 `[b, G]`.

    Raises:
        ValueError: see `k_reciprocal`.
    """
    check_parameters(k1, k2, lambda_value)
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


def _first_places(row: np.ndarray, top: int) -> np.ndarray:
    # All that reach the last place's distance are sorted: which of the equal ones come first must
    # not depend on how the partition happened to leave them.
    last = np.partition(row, top - 1)[top - 1]
    columns = (row <= last).nonzero()[0]
    return columns[np.argsort(row[columns], kind="stable")[:top]]
