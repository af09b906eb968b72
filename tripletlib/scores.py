"""What ranks are worth: CMC and both mAPs, from the places of the right answers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import numpy as np

from tripletlib.protocol import Answers, Numbers, right_ranks, to_distances
from tripletlib.ranking import Rule, precision_terms


@dataclass(frozen=True)
class RetrievalScores:
    """How well the galleries are ranked. Queries without a right answer are left out of the means.

    Attributes:
        cmc: share of queries with a right answer within the first 1, 2, ... places (rank-1 is
            `cmc[0]`), float64 `[min(max_rank, G)]`, in [0, 1].
        map: mean average precision by the rectangle rule, in [0, 1].
        map_market: the same by the trapezoid rule of Market-1501's own evaluation code.
        average_precision: of each query, by the rectangle rule, float64 `[Q]`; NaN without a right
            answer.
        average_precision_market: the same by the trapezoid rule.
        first_right: place of each query's first right answer, from 1, int64 `[Q]`; 0 if none.
        valid_queries: which queries have a right answer, bool `[Q]`.
    """

    cmc: np.ndarray
    map: float
    map_market: float
    average_precision: np.ndarray
    average_precision_market: np.ndarray
    first_right: np.ndarray
    valid_queries: np.ndarray

    @property
    def valid_count(self) -> int:
        """Number of queries that have a right answer."""
        return int(np.count_nonzero(self.valid_queries))


def rank_blocks(
    blocks: Iterable[tuple[int | slice, Numbers]],
    answers: Answers,
    counts: np.ndarray,
    share: slice,
) -> np.ndarray:
    """Ranks of the right answers of a share of the queries, one query after the other.

    Args:
        blocks: distances of those queries, see `evaluate_blocks`.
        answers: which gallery images are right for each of the Q queries.
        counts: number of right answers of each query, int64 `[Q]`.
        share: the queries whose ranks are wanted.

    Returns:
        Places from 1, ascending within each query, int64 `[counts[share].sum()]`.

    Raises:
        ValueError: distances of the wrong shape, NaN, or a query that comes twice, or never.

    Example:
        >>> answers = Answers(np.array([7, 8]), np.array([7, 8, 7]), None, None, False)
        >>> rows = [(0, np.array([[0.1, 0.2, 0.3], [0.4, 0.1, 0.2]]))]
        >>> rank_blocks(rows, answers, answers.count_right(), slice(0, 2))
        array([1, 3, 1])
    """
    # One array for all ranks, made beforehand: thousands of small ones between the large blocks
    # tore the memory to pieces, which grew by more than [Q, G] would have taken.
    starts = np.cumsum(counts) - counts - counts[: share.start].sum()
    ranks = np.empty(counts[share].sum(), dtype=np.int64)
    seen = np.zeros(answers.queries, dtype=bool)
    for where, block in blocks:
        for query, row in answers.rows(where, to_distances(block)):
            if seen[query]:
                raise ValueError(f"query {query} of {answers.queries} comes in two blocks")
            own = slice(starts[query], starts[query] + counts[query])
            ranks[own] = right_ranks(row, *answers.of(query))
            seen[query] = True
    if not seen[share].all():
        raise ValueError(
            f"{np.count_nonzero(~seen[share])} of {answers.queries} queries are in no block, first "
            f"query {share.start + np.argmin(seen[share])}"
        )
    return ranks


def summarize(ranks: np.ndarray, counts: np.ndarray, max_rank: int) -> RetrievalScores:
    """CMC, AP and mAP of all queries, from the ranks of their right answers.

    Args:
        ranks: places from 1, ascending within each query, one query after the other, int64 `[R]`.
        counts: how many of them belong to each query, int64 `[Q]`, not all of them 0.
        max_rank: length of the CMC curve.

    Returns:
        A `RetrievalScores`.

    Example:
        >>> scores = summarize(np.array([2, 3]), np.array([2, 0]), max_rank=3)
        >>> scores.cmc, round(scores.map, 3), scores.first_right
        (array([0., 1., 1.]), 0.583, array([2, 0]))
    """
    valid = counts > 0
    starts = np.cumsum(counts) - counts
    query = np.repeat(np.arange(len(counts)), counts)  # of each rank, [R]
    found = np.arange(1, len(ranks) + 1) - starts[query]  # 1, 2, ... within each query
    precisions = {}
    for rule in get_args(Rule):
        terms = precision_terms(ranks, found, rule)
        sums = np.bincount(query, weights=terms, minlength=len(counts))
        precisions[rule] = np.where(valid, sums / np.maximum(counts, 1), np.nan)
    first_right = np.zeros(len(counts), dtype=np.int64)
    first_right[valid] = ranks[starts[valid]]
    places = np.arange(1, max_rank + 1)
    return RetrievalScores(
        cmc=np.searchsorted(np.sort(first_right[valid]), places, side="right") / valid.sum(),
        map=float(precisions["rectangle"][valid].mean()),
        map_market=float(precisions["trapezoid"][valid].mean()),
        average_precision=precisions["rectangle"],
        average_precision_market=precisions["trapezoid"],
        first_right=first_right,
        valid_queries=valid,
    )
