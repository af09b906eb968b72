"""Scores of a whole ranking: CMC and both mAPs under the Market-1501 protocol, in blocks."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from tripletlib import distributed
from tripletlib.distances import Metric, pairwise_distances
from tripletlib.embedding import EmbeddingTable
from tripletlib.hardware import choose_device
from tripletlib.multi_query import pool_queries
from tripletlib.protocol import Answers, Numbers, to_labels
from tripletlib.ranking import RankedGallery, average_precision, precision_recall, rank_gallery
from tripletlib.scores import RetrievalScores, rank_blocks, summarize

# One way in: the scores, what looks at one ranked list, and multi-query are imported from here.
__all__ = [
    "RankedGallery",
    "RetrievalScores",
    "average_precision",
    "evaluate",
    "evaluate_blocks",
    "evaluate_embeddings",
    "pool_queries",
    "precision_recall",
    "rank_gallery",
]
_ROWS = 64  # queries whose distances are converted and checked at once


def evaluate(
    distances: Numbers,
    query_pids: Numbers,
    gallery_pids: Numbers,
    query_camids: Numbers | None = None,
    gallery_camids: Numbers | None = None,
    max_rank: int = 50,
    camera_filter: bool = True,
) -> RetrievalScores:
    """CMC, AP and mAP of a distance matrix under the Market-1501 protocol.

    For each query, gallery images of its identity from its own camera are skipped, and so is every
    gallery image with pid -1. Distractors (pid 0) stay and are never right. Equal distances rank in
    the gallery's order (a stable sort).

    Args:
        distances: `[Q, G]`, lower is nearer; an array or a tensor of any floating type, on any
            device.
        query_pids: identity of each query, integers `[Q]`.
        gallery_pids: identity of each gallery image, integers `[G]`.
        query_camids: camera of each query, integers `[Q]`.
        gallery_camids: camera of each gallery image, integers `[G]`.
        max_rank: length of the CMC curve.
        camera_filter: whether a query's own camera is skipped; without it no camids are needed.

    Returns:
        A `RetrievalScores`.

    Raises:
        ValueError: sizes that do not fit, an empty gallery, NaN, missing camids, `max_rank` < 1, or
            no query has a right answer.

    Source:
        Zheng et al. 2015, Scalable Person Re-identification: A Benchmark (ICCV), and the evaluation
        code that comes with Market-1501.

    Example:
        >>> scores = evaluate(np.array([[0.1, 0.2, 0.3]]), np.array([7]), np.array([8, 7, 7]),
        ...                   camera_filter=False)
        >>> scores.cmc, round(scores.map, 3), round(scores.map_market, 3)
        (array([0., 1., 1.]), 0.583, 0.417)
    """
    matrix = distances if isinstance(distances, Tensor) else np.asarray(distances)
    if matrix.ndim != 2:
        raise ValueError(f"distances must be [Q, G], got {list(matrix.shape)}")
    queries = len(to_labels(query_pids, "query_pids"))
    if len(matrix) != queries:
        raise ValueError(
            f"distances {list(matrix.shape)} has not one row for each of {queries} query_pids"
        )
    blocks = ((start, matrix[start : start + _ROWS]) for start in range(0, len(matrix), _ROWS))
    labels = query_pids, gallery_pids, query_camids, gallery_camids
    return evaluate_blocks(blocks, *labels, max_rank=max_rank, camera_filter=camera_filter)


def evaluate_blocks(
    blocks: Iterable[tuple[int | slice, Numbers]],
    query_pids: Numbers,
    gallery_pids: Numbers,
    query_camids: Numbers | None = None,
    gallery_camids: Numbers | None = None,
    max_rank: int = 50,
    camera_filter: bool = True,
) -> RetrievalScores:
    """Like `evaluate`, with the distances handed over block by block: `[Q, G]` is never held.

    Args:
        blocks: pairs of the block's first query, or the slice of its queries, and its distances
            `[b, G]`; in any order, each query once.
        query_pids: see `evaluate`, and so the others.
        gallery_pids: integers `[G]`.
        query_camids: integers `[Q]`.
        gallery_camids: integers `[G]`.
        max_rank: length of the CMC curve.
        camera_filter: whether a query's own camera is skipped.

    Returns:
        A `RetrievalScores`.

    Raises:
        ValueError: see `evaluate`; or a query that comes twice, or never.

    Example:
        >>> rows = [(0, np.array([[0.1, 0.2]])), (1, np.array([[0.3, 0.4]]))]
        >>> evaluate_blocks(rows, np.array([7, 8]), np.array([7, 8]), camera_filter=False).map
        0.75
    """
    answers = Answers(query_pids, gallery_pids, query_camids, gallery_camids, camera_filter)
    counts = _count_right(answers, max_rank)  # [Q]
    ranks = rank_blocks(blocks, answers, counts, slice(0, len(counts)))
    return summarize(ranks, counts, min(max_rank, answers.gallery))


def evaluate_embeddings(
    query: EmbeddingTable,
    gallery: EmbeddingTable,
    metric: Metric = "euclidean",
    max_rank: int = 50,
    block: int = 128,
    device: str = "auto",
    camera_filter: bool = True,
) -> RetrievalScores:
    """Scores of two embedding tables, in memory for `block` queries at a time.

    The distances are computed on the device; the ranks are counted on the CPU. In a process group,
    such as torchrun's, each process does so for its share of the queries, and each returns the
    scores of all; so all of them must call it, and a callback of `fit`, which runs in the first
    only, must not.

    Args:
        query: Q embeddings.
        gallery: G embeddings of the same dimension.
        metric: distance, see `pairwise_distances`.
        max_rank: length of the CMC curve.
        block: queries whose distances to the gallery, `[block, G]`, are held at once.
        device: where distances are computed; `"auto"` is a GPU when there is one.
        camera_filter: whether a query's own camera is skipped.

    Returns:
        A `RetrievalScores`, see there and `evaluate`.

    Raises:
        ValueError: see `evaluate`; `block` < 1, an unknown metric, or different dimensions.

    Example:
        >>> table = EmbeddingTable(np.array([[0.0], [1.0], [5.0]], np.float32),
        ...                        pids=np.array([1, 1, 2]), camids=np.array([1, 2, 1]),
        ...                        paths=np.array(["a", "b", "c"]), step=0, tta="none")
        >>> scores = evaluate_embeddings(table, table)
        >>> scores.map, scores.valid_queries
        (1.0, array([ True,  True, False]))
    """
    if block < 1:
        raise ValueError(f"block must be at least 1 query, got {block}")
    labels = query.pids, gallery.pids, query.camids, gallery.camids
    answers = Answers(*labels, camera_filter)
    counts = _count_right(answers, max_rank)  # [Q]
    processes = distributed.current()
    tables, share = (query.embeddings, gallery.embeddings), processes.share(len(counts))
    blocks = _distance_blocks(*tables, metric, block, choose_device(device), share)
    ranks = processes.from_all(lambda: rank_blocks(blocks, answers, counts, share))
    return summarize(np.concatenate(ranks), counts, min(max_rank, answers.gallery))


def _count_right(answers: Answers, max_rank: int) -> np.ndarray:
    if max_rank < 1:
        raise ValueError(f"max_rank must be at least 1, got {max_rank}")
    counts = answers.count_right()
    if not counts.any():
        camera_filter = answers.camids is not None
        raise ValueError(
            f"none of {answers.queries} queries has a right answer among {answers.gallery} gallery "
            f"images (camera_filter={camera_filter}): compare the pids and camids of both"
        )
    return counts


def _distance_blocks(
    query: np.ndarray,
    gallery: np.ndarray,
    metric: Metric,
    block: int,
    device: torch.device,
    share: slice,
) -> Iterator[tuple[int, Tensor]]:
    on_device = torch.as_tensor(gallery, device=device)
    for start in range(share.start, share.stop, block):
        some = torch.as_tensor(query[start : min(start + block, share.stop)], device=device)
        yield start, pairwise_distances(some, on_device, metric)
