"""Multi-query: all pictures that one camera took of a person, asked with at once."""

import numpy as np

from tripletlib.embedding import EmbeddingTable


def pool_queries(queries: EmbeddingTable, images: EmbeddingTable | None = None) -> EmbeddingTable:
    """Multi-query: one query for each identity and camera, the mean of all its images there.

    `evaluate_embeddings(pool_queries(queries, images), gallery)` is the multi-query score.

    Args:
        queries: the single queries; they say which identities and cameras are asked for.
        images: what is pooled: all images of these identities, as in Market-1501's folder
            `gt_bbox` (the official queries hold only one image for each identity and camera, so
            that pooling them changes nothing). The queries themselves when left out. Images of
            other identities or cameras are not used.

    Returns:
        A table with one row for each identity and camera in `queries`, sorted by both; `paths` has
        the first query's of each. Step and augmentation are those of `images`.

    Raises:
        ValueError: a query without an image, or tables of different dimension, step or
            augmentation.

    Source:
        Zheng et al. 2015, Scalable Person Re-identification: A Benchmark (ICCV), "Multiple
        queries", average pooling.

    Example:
        >>> table = EmbeddingTable(np.array([[0.0], [1.0], [5.0]], np.float32),
        ...                        pids=np.array([4, 4, 4]), camids=np.array([1, 1, 2]),
        ...                        paths=np.array(["a", "b", "c"]), step=0, tta="none")
        >>> pool_queries(table).embeddings.tolist()
        [[0.5], [5.0]]
    """
    pool = queries if images is None else images
    _check_same_network(queries, pool)
    pairs = np.stack([queries.pids, queries.camids], axis=1)
    asked, first = np.unique(pairs, axis=0, return_index=True)  # [P, 2], [P]
    means = np.empty((len(asked), pool.embeddings.shape[1]), pool.embeddings.dtype)
    for row, (pid, camid) in enumerate(asked):
        members = (pool.pids == pid) & (pool.camids == camid)
        if not members.any():
            raise ValueError(f"none of the {len(pool)} images shows pid {pid} in camera {camid}")
        means[row] = pool.embeddings[members].mean(0)
    return EmbeddingTable(
        means, asked[:, 0], asked[:, 1], queries.paths[first], step=pool.step, tta=pool.tta
    )


def _check_same_network(queries: EmbeddingTable, images: EmbeddingTable) -> None:
    ours, theirs = (
        (table.embeddings.shape[1:], table.step, table.tta) for table in (queries, images)
    )
    if ours != theirs:
        raise ValueError(
            f"queries and images must come from one network: shape, step and tta are {ours} and "
            f"{theirs}; embed both anew"
        )
