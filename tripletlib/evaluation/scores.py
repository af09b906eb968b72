"""Scores of a whole ranking: CMC, both mAPs and mINP under the Market-1501 protocol, in blocks."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from tripletlib.distances import Metric, pairwise_distances
from tripletlib.embedding import EmbeddingTable
from tripletlib.evaluation.protocol import Answers, Numbers, row_blocks, to_distances
from tripletlib.evaluation.ranking import Rule, precision_terms
from tripletlib.runtime import choose_device, current_processes

# Up to this share of the gallery, images are placed by counting what is nearer; beyond, by sorting.
COUNTED_SHARE = 0.01
BLOCK = 128  # queries whose distances to the gallery are held at once


@dataclass(frozen=True)
class RetrievalScores:
    """How well the galleries are ranked. Queries without a right answer are left out of the means.

    Attributes:
        cmc: share of queries with a right answer within the first 1, 2, ... places (rank-1 is
            `cmc[0]`), float64 `[min(max_rank, G)]`, in [0, 1].
        map: mean average precision by the rectangle rule, in [0, 1].
        map_market: the same by the trapezoid rule of Market-1501's own evaluation code.
        minp: right answers / place of the last, mean over queries (Ye et al., arXiv 2001.04193).
        average_precision: of each query, by the rectangle rule, float64 `[Q]`; NaN without a right
            answer.
        average_precision_market: the same by the trapezoid rule.
        first_right: place of each query's first right answer, from 1, int64 `[Q]`; 0 if none.
        valid_queries: which queries have a right answer, bool `[Q]`.
    """

    cmc: np.ndarray
    map: float
    map_market: float
    minp: float
    average_precision: np.ndarray
    average_precision_market: np.ndarray
    first_right: np.ndarray
    valid_queries: np.ndarray

    @property
    def valid_count(self) -> int:
        """Number of queries that have a right answer."""
        return int(self.valid_queries.sum())


def evaluate(
    distances: Numbers | Iterator[tuple[int, Numbers]],
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
        distances: `[Q, G]`, lower is nearer; array or tensor of any floating type, on any device.
            Or an iterator of blocks, so that `[Q, G]` is never held: the index of a block's first
            query and its distances `[b, G]`; in any order, each query once.
        query_pids: identity of each query, integers `[Q]`.
        gallery_pids: identity of each gallery image, integers `[G]`.
        query_camids: camera of each query, integers `[Q]`.
        gallery_camids: camera of each gallery image, integers `[G]`.
        max_rank: length of the CMC curve.
        camera_filter: whether a query's own camera is skipped; without it no camids are needed.

    Raises:
        ValueError: sizes that do not fit, an empty gallery, NaN, missing camids, `max_rank` < 1, a
            query with a pid below 1, no query has a right answer, or one is in two blocks or none.

    Source:
        Zheng et al. 2015, Scalable Person Re-identification: A Benchmark (ICCV), and the evaluation
        code that comes with Market-1501.

    Example:
        >>> scores = evaluate(np.array([[0.1, 0.2, 0.3]]), np.array([7]), np.array([8, 7, 7]),
        ...                   camera_filter=False)
        >>> scores.cmc, round(scores.map, 3), round(scores.map_market, 3)
        (array([0., 1., 1.]), 0.583, 0.417)
        >>> rows = [(0, np.array([[0.1, 0.2]])), (1, np.array([[0.3, 0.4]]))]
        >>> evaluate(iter(rows), np.array([7, 8]), np.array([7, 8]), camera_filter=False).map
        0.75
    """
    answers = Answers(query_pids, gallery_pids, query_camids, gallery_camids, camera_filter)
    counts = answers.count_right(max_rank)  # [Q]
    if not isinstance(distances, Iterator):
        distances = row_blocks(distances, answers.queries)
    ranks = _rank_blocks(distances, answers, counts, slice(0, len(counts)))
    return _summarize(ranks, counts, min(max_rank, answers.gallery))


def evaluate_embeddings(
    query: EmbeddingTable,
    gallery: EmbeddingTable,
    metric: Metric = "euclidean",
    max_rank: int = 50,
    device: str = "auto",
    camera_filter: bool = True,
) -> RetrievalScores:
    """Scores of two embedding tables; see `evaluate`.

    In a process group each process ranks its share of the queries and returns the scores of all.

    Args:
        query: Q embeddings.
        gallery: G embeddings of the same dimension.
        metric: distance, see `pairwise_distances`.
        max_rank: length of the CMC curve.
        device: where distances are computed; ranks are counted on the CPU.
        camera_filter: whether a query's own camera is skipped.

    Raises:
        ValueError: see `evaluate`; an unknown metric, or tables of two networks.

    Warns:
        UserWarning: without a camera filter, queries that lie in the gallery too: they find
            themselves.

    Example:
        >>> table = EmbeddingTable(np.array([[0.0], [1.0], [5.0]], np.float32),
        ...                        pids=np.array([1, 1, 2]), camids=np.array([1, 2, 1]),
        ...                        paths=np.array(["a", "b", "c"]), step=0, tta="none")
        >>> scores = evaluate_embeddings(table, table)
        >>> scores.map, scores.valid_queries
        (1.0, array([ True,  True, False]))
    """
    query.check_same_network(gallery)
    if not camera_filter:
        _tell_shared_pictures(query, gallery)
    labels = query.pids, gallery.pids, query.camids, gallery.camids
    answers = Answers(*labels, camera_filter)
    counts = answers.count_right(max_rank)  # [Q]
    processes = current_processes()
    share = processes.share(len(counts))

    def distance_blocks() -> Iterator[tuple[int, Tensor]]:
        to = choose_device(device)
        on_device = torch.as_tensor(gallery.embeddings, device=to)
        for start in range(share.start, share.stop, BLOCK):
            some = query.embeddings[start : min(start + BLOCK, share.stop)]
            yield start, pairwise_distances(torch.as_tensor(some, device=to), on_device, metric)

    ranks = processes.from_all(lambda: _rank_blocks(distance_blocks(), answers, counts, share))
    return _summarize(np.concatenate(ranks), counts, min(max_rank, answers.gallery))


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


def _rank_blocks(
    blocks: Iterator[tuple[int, Numbers]], answers: Answers, counts: np.ndarray, share: slice
) -> np.ndarray:
    """Ranks of the right answers of a share of the queries, from 1, one query after the other."""
    # One array for all: thousands of small ones between large blocks would keep their memory.
    starts = np.cumsum(counts) - counts - counts[: share.start].sum()
    ranks = np.empty(counts[share].sum(), dtype=np.int64)
    seen = np.zeros(answers.queries, dtype=bool)
    for start, block in blocks:
        for query, row in answers.rows(start, to_distances(block)):
            if seen[query]:
                raise ValueError(f"query {query} of {answers.queries} comes in two blocks")
            own = slice(starts[query], starts[query] + counts[query])
            ranks[own] = _right_ranks(row, *answers.of(query))
            seen[query] = True
    if not seen[share].all():
        raise ValueError(
            f"{np.count_nonzero(~seen[share])} of {answers.queries} queries are in no block, first "
            f"query {share.start + np.argmin(seen[share])}"
        )
    return ranks


def _right_ranks(row: np.ndarray, own: np.ndarray, junk: np.ndarray) -> np.ndarray:
    """Ranks of one query's right answers, from 1, ascending, without sorting the gallery."""
    places = _places(row, own)
    by_place = np.argsort(places)
    places, junk = places[by_place], junk[by_place]
    return (places - np.cumsum(junk))[~junk] + 1  # junk before an answer does not count


def _places(row: np.ndarray, images: np.ndarray) -> np.ndarray:
    """How many images come before each of `images`: nearer ones, and equally near earlier ones."""
    if len(images) > COUNTED_SHARE * len(row):
        places = np.empty(len(row), dtype=np.int64)
        places[np.argsort(row, kind="stable")] = np.arange(len(row))
        return places[images]
    count = np.count_nonzero
    before = [
        count(row[:image] <= distance) + count(row[image:] < distance)
        for image, distance in zip(images.tolist(), row[images], strict=True)
    ]
    return np.array(before, dtype=np.int64)


def _summarize(ranks: np.ndarray, counts: np.ndarray, max_rank: int) -> RetrievalScores:
    """CMC, AP and mAP of all queries at once, from the ranks of the `counts[q]` right answers."""
    valid = counts > 0
    starts = np.cumsum(counts) - counts
    query = np.repeat(np.arange(len(counts)), counts)  # of each rank, [R]
    found = np.arange(1, len(ranks) + 1) - starts[query]  # 1, 2, ... within each query
    precisions = {}
    for rule in get_args(Rule):
        terms = precision_terms(ranks, found, rule)
        sums = np.bincount(query, weights=terms, minlength=len(counts))
        precisions[rule] = np.where(valid, sums / np.maximum(counts, 1), np.nan)  # AP, [Q]
    first_right = np.zeros(len(counts), dtype=np.int64)
    first_right[valid] = ranks[starts[valid]]
    last_right = ranks[(starts + counts - 1)[valid]]
    places = np.arange(1, max_rank + 1)
    return RetrievalScores(
        cmc=np.searchsorted(np.sort(first_right[valid]), places, side="right") / valid.sum(),
        map=float(precisions["rectangle"][valid].mean()),
        map_market=float(precisions["trapezoid"][valid].mean()),
        minp=float((counts[valid] / last_right).mean()),
        average_precision=precisions["rectangle"],
        average_precision_market=precisions["trapezoid"],
        first_right=first_right,
        valid_queries=valid,
    )


def _tell_shared_pictures(query: EmbeddingTable, gallery: EmbeddingTable) -> None:
    """Warns of pictures that are in both tables, by their names or by what was made of them."""
    shared = np.isin(query.paths, gallery.paths) & (query.paths != "")
    there = {row.tobytes() for row in gallery.embeddings}
    if len(there) > len(gallery) // 2:  # else collapsed: all are equal, whatever the picture
        shared |= np.array([row.tobytes() in there for row in query.embeddings])
    if shared.any():
        warnings.warn(
            f"{np.count_nonzero(shared)} of {len(query)} queries lie in the gallery too, first "
            f"{query.paths[shared.argmax()]}: without a camera filter they find themselves. Leave "
            "them out of the gallery, or pass camera_filter=True",
            stacklevel=3,
        )
