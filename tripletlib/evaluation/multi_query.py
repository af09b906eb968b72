"""Multi-query: all pictures that one camera took of a person, asked with at once."""

from dataclasses import replace

import numpy as np

from tripletlib.embedding import EmbeddingTable


def pool_queries(queries: EmbeddingTable, images: EmbeddingTable | None = None) -> EmbeddingTable:
    """Multi-query: one query for each identity and camera, the mean of all its images there.

    `evaluate_embeddings(pool_queries(queries, gallery), gallery)` is a multi-query score: gallery
    images of a query's identity and camera are junk for it, so none that is looked for is used.

    Args:
        queries: the single queries; they say which identities and cameras are asked for.
        images: a table whose images of these identities and cameras are pooled with the queries;
            Market-1501 has its own folder of them, `gt_bbox`.

    Returns:
        A table with one row for each identity and camera in `queries`, sorted by both; `paths` has
        the first query's of each.

    Raises:
        ValueError: tables of two networks.

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
    tables = [queries] if images is None else [queries, images]
    queries.check_same_network(tables[-1])
    embeddings, pids, camids = (
        np.concatenate([getattr(table, name) for table in tables])
        for name in ("embeddings", "pids", "camids")
    )
    pairs = np.stack([queries.pids, queries.camids], axis=1)
    asked, first = np.unique(pairs, axis=0, return_index=True)  # [P, 2], [P]
    means = [embeddings[(pids == pid) & (camids == camid)].mean(0) for pid, camid in asked]
    return replace(
        queries,
        embeddings=np.stack(means),
        pids=asked[:, 0],
        camids=asked[:, 1],
        paths=queries.paths[first],
        content="",  # a mean is of no split
    )
