"""One query's ranked gallery under the Market-1501 protocol, and its average precision (AP)."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from tripletlib.evaluation.protocol import DISTRACTOR, JUNK, Numbers, to_distances, to_labels

Rule = Literal["rectangle", "trapezoid"]


class Verdict(StrEnum):
    """What a gallery image is to a query."""

    RIGHT = "right"
    WRONG = "wrong"
    DISTRACTOR = "distractor"  # pid 0: ranked, and never right
    JUNK = "junk"  # not ranked, neither right nor wrong
    UNKNOWN = "unknown"  # ranked, but nobody knows whom the query shows


@dataclass(frozen=True)
class Place:
    """A gallery image in a ranked list.

    Attributes:
        index: which gallery image.
        rank: from 1, junk not counted; 0 for junk itself.
        distance: to the query.
        verdict: see `Verdict`.
    """

    index: int
    rank: int
    distance: float
    verdict: Verdict


@dataclass(frozen=True)
class RankedGallery:
    """One query's gallery, nearest first, junk included.

    Attributes:
        order: gallery indices, int64 `[n]`; n is G, or G - 1 if the query itself was left out.
        distances: to the query, in that order, `[n]`.
        verdicts: `Verdict` values as text, in that order, `[n]`.
        ranks: from 1, in that order, int64 `[n]`; junk is not counted and has 0.
    """

    order: np.ndarray
    distances: np.ndarray
    verdicts: np.ndarray
    ranks: np.ndarray

    def __getitem__(self, position: int) -> Place:
        return Place(
            int(self.order[position]),
            int(self.ranks[position]),
            float(self.distances[position]),
            Verdict(self.verdicts[position]),
        )

    @cached_property
    def right(self) -> np.ndarray:
        """Whether the image at each rank is right, so without junk, bool `[n - junk]`."""
        return (self.verdicts == Verdict.RIGHT)[self.ranks > 0]

    @cached_property
    def average_precision(self) -> float:
        """AP by the rectangle rule; NaN when nothing is right."""
        return average_precision(self.right)

    @property
    def first_right(self) -> int:
        """Rank of the first right answer; 0 when there is none."""
        return int(self.right.argmax()) + 1 if self.right.any() else 0

    def curve(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Recall and precision up to the last right answer, see `precision_recall`; or None."""
        if not self.right.any():
            return None
        precision, recall = precision_recall(self.right)
        end = int(np.flatnonzero(self.right)[-1]) + 2  # from there on precision only falls
        return recall[:end], precision[:end]

    def top(self, k: int, with_junk: bool = False) -> list[Place]:
        """The places down to rank `k`, and on the way, if asked for, the junk."""
        last = int(np.searchsorted(np.maximum.accumulate(self.ranks), k + 1))
        kept = np.arange(last) if with_junk else np.flatnonzero(self.ranks[:last])
        return [self[int(position)] for position in kept]

    def nearest_wrong(self) -> Place | None:
        """The nearest wrong answer or distractor; None without one."""
        wrong = np.isin(self.verdicts, (Verdict.WRONG, Verdict.DISTRACTOR))
        return self[int(wrong.argmax())] if wrong.any() else None

    def farthest_right(self) -> Place | None:
        """The right answer that comes last; None without one."""
        right = np.flatnonzero(self.verdicts == Verdict.RIGHT)
        return self[int(right[-1])] if len(right) else None

    def rank_by_index(self, size: int) -> np.ndarray:
        """Rank of each of the gallery's `size` images, int64 `[G]`; 0 for those without."""
        ranks = np.zeros(size, np.int64)
        ranks[self.order] = self.ranks
        return ranks


def rank_gallery(
    distances: Numbers,
    query_pid: int | None,
    gallery_pids: Numbers,
    query_camid: int | None = None,
    gallery_camids: Numbers | None = None,
    camera_filter: bool = True,
    rank_distractors: bool = True,
    leave_out: int | None = None,
) -> RankedGallery:
    """Sorts the gallery for one query and says what each image is to it.

    Junk is every image with pid -1, and every image of the query's identity from the query's own
    camera. Equal distances keep the gallery's order.

    Args:
        distances: of the query to each gallery image, `[G]`, lower is nearer, any number type.
        query_pid: the query's identity; None or a distractor's 0 if nobody knows it: then no image
            is right or wrong.
        gallery_pids: identity of each gallery image, integers `[G]`.
        query_camid: the query's camera; not needed where its identity is unknown.
        gallery_camids: camera of each gallery image, integers `[G]`.
        camera_filter: whether the query's own camera is junk; without it no camera is needed.
        rank_distractors: whether distractors (pid 0) are ranked; otherwise they are junk.
        leave_out: the query's own place in the gallery, if it is one of its images.

    Raises:
        ValueError: wrong shapes, an empty gallery, NaN, or cameras missing that are needed.

    Source:
        Zheng et al. 2015, Scalable Person Re-identification: A Benchmark (ICCV), and the evaluation
        code that comes with Market-1501.

    Example:
        >>> pids, camids = np.array([7, 7, 0]), np.array([2, 1, 2])
        >>> ranked = rank_gallery(np.array([0.3, 0.1, 0.2]), 7, pids, 1, camids)
        >>> ranked.order, ranked.ranks, ranked.verdicts.tolist()
        (array([1, 2, 0]), array([0, 1, 2]), ['junk', 'distractor', 'right'])
    """
    pids = to_labels(gallery_pids, "gallery_pids")
    row = to_distances(distances)
    if row.shape != pids.shape or not len(pids):
        raise ValueError(
            f"distances must be [G], G > 0, one for each gallery image: got {list(row.shape)} and "
            f"{len(pids)} gallery_pids"
        )
    known = query_pid is not None and query_pid != DISTRACTOR
    same = (pids == query_pid) & known
    junk = pids == JUNK
    if camera_filter and known:
        if query_camid is None or gallery_camids is None:
            raise ValueError("pass query_camid and gallery_camids, or camera_filter=False")
        junk |= same & (to_labels(gallery_camids, "gallery_camids", len(pids)) == query_camid)
    if not rank_distractors:
        junk |= pids == DISTRACTOR
    verdicts = np.select(
        [junk, np.full(len(pids), not known), same, pids == DISTRACTOR],
        [Verdict.JUNK, Verdict.UNKNOWN, Verdict.RIGHT, Verdict.DISTRACTOR],
        Verdict.WRONG,
    )
    order = np.argsort(row, kind="stable")
    order = order[order != leave_out] if leave_out is not None else order
    ranked = ~junk[order]
    ranks = np.where(ranked, np.cumsum(ranked), 0)
    return RankedGallery(order, row[order], verdicts[order], ranks)


def average_precision(right: Numbers, rule: Rule = "rectangle") -> float:
    """Average precision (AP) of one ranked list.

    For right answer number i (1, 2, ...) at rank r, the rectangle rule takes i / r, the precision
    there. The trapezoid rule takes the mean of that and of the precision one place before,
    (i - 1) / (r - 1), which counts as 1 before the list begins. AP is the mean over the right
    answers.

    Args:
        right: whether the image at each place is right, nearest first, junk removed, bool `[G]`.
        rule: `"rectangle"` (scikit-learn's, and that of most projects) or `"trapezoid"` (that of
            the evaluation code that comes with Market-1501).

    Returns:
        AP in [0, 1]; NaN if nothing in the list is right.

    Raises:
        ValueError: not a list of truth values, or an unknown rule.

    Source:
        Market-1501's evaluation code (Zheng et al. 2015) for the trapezoid rule.

    Example:
        >>> right = np.isin(np.arange(1, 10), [1, 5, 9])
        >>> round(average_precision(right), 3), round(average_precision(right, "trapezoid"), 3)
        (0.578, 0.539)
    """
    if rule not in get_args(Rule):
        raise ValueError(f"rule must be one of {get_args(Rule)}, got {rule!r}")
    ranks = np.flatnonzero(_to_truth(right)) + 1
    if not len(ranks):
        return float("nan")
    return float(precision_terms(ranks, np.arange(1, len(ranks) + 1), rule).mean())


def precision_terms(ranks: np.ndarray, found: np.ndarray, rule: Rule) -> np.ndarray:
    """What each right answer adds to its query's AP, before the mean over the right answers.

    Of the places of the right answers, from 1, `[R]`, and how many of them lie up to there, `[R]`.
    """
    precision = found / ranks
    if rule == "rectangle":
        return precision
    before = np.where(ranks == 1, 1.0, (found - 1) / np.maximum(ranks - 1, 1))
    return (precision + before) / 2


def precision_recall(right: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall after each place of a ranked list.

    The first point is the one before the list begins: recall 0, precision 1. With it, the area
    under the straight lines between the points, `np.trapezoid(precision, recall)`, is the AP by the
    trapezoid rule, and `np.sum(precision[1:] * np.diff(recall))` the one by the rectangle rule.

    Both are float64 `[G + 1]`; `right` is the list, nearest first, junk removed, bool `[G]`.

    Raises:
        ValueError: not a list of truth values, or none is true: recall has no meaning then.

    Example:
        >>> precision, recall = precision_recall(np.array([True, False, True]))
        >>> precision.round(3), recall
        (array([1.   , 1.   , 0.5  , 0.667]), array([0. , 0.5, 0.5, 1. ]))
    """
    found = np.cumsum(_to_truth(right))
    if not len(found) or not found[-1]:
        raise ValueError(f"none of the {len(found)} places is right, so recall is not defined")
    precision = np.concatenate([[1.0], found / np.arange(1, len(found) + 1)])
    return precision, np.concatenate([[0.0], found / found[-1]])


def _to_truth(right: Numbers) -> np.ndarray:
    truth = right.detach().cpu().numpy() if isinstance(right, Tensor) else np.asarray(right)
    if truth.ndim != 1 or truth.dtype != bool:
        raise ValueError(
            f"right must be truth values [G], got {truth.dtype} of shape {list(truth.shape)}"
        )
    return truth
