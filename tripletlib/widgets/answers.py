"""One query's ranked gallery with a verdict for each picture: what the query browser shows."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from tripletlib.evaluation import DISTRACTOR, average_precision, precision_recall, rank_gallery


class Verdict(StrEnum):
    """What a gallery picture is to a query."""

    RIGHT = "right"
    WRONG = "wrong"
    DISTRACTOR = "distractor"  # pid 0: in the list, and never right
    JUNK = "junk"  # the query's identity in the query's own camera: skipped
    UNKNOWN = "unknown"  # nobody knows whom the query shows


@dataclass(frozen=True)
class Place:
    """A gallery picture in a ranked list.

    Attributes:
        index: which gallery picture.
        rank: from 1, junk not counted; 0 for junk itself.
        distance: to the query.
        verdict: see `Verdict`.
    """

    index: int
    rank: int
    distance: float
    verdict: Verdict


@dataclass(frozen=True)
class Answers:
    """A query's gallery, nearest first, junk included.

    Attributes:
        order: gallery indices, int64 `[n]`: all of the gallery, or all but the query itself.
        distances: to the query, in that order, `[n]`.
        verdicts: of each, in that order, `Verdict` values as text, `[n]`.
        ranks: from 1, in that order, junk not counted and marked with 0, int64 `[n]`.
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
        """Whether each ranked picture is right, junk left out, bool `[n - junk]`."""
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
        """Recall and precision after each place up to the last right answer; None without one.

        The first point is the one before the list begins, see `precision_recall`.
        """
        if not self.right.any():
            return None
        precision, recall = precision_recall(self.right)
        end = int(np.flatnonzero(self.right)[-1]) + 2  # from there on precision only falls
        return recall[:end], precision[:end]

    def top(self, k: int, with_junk: bool) -> list[Place]:
        """The places down to rank `k`, and on the way, if asked for, the junk."""
        last = int(np.searchsorted(np.maximum.accumulate(self.ranks), k + 1))
        kept = np.arange(last) if with_junk else np.flatnonzero(self.ranks[:last])
        return [self[int(position)] for position in kept]

    def nearest_wrong(self) -> Place | None:
        """The nearest picture that is no right answer though it is ranked; None without one."""
        wrong = np.isin(self.verdicts, (Verdict.WRONG, Verdict.DISTRACTOR))
        return self[int(wrong.argmax())] if wrong.any() else None

    def farthest_right(self) -> Place | None:
        """The right answer that comes last; None without one."""
        right = np.flatnonzero(self.verdicts == Verdict.RIGHT)
        return self[int(right[-1])] if len(right) else None

    def rank_by_index(self, size: int) -> np.ndarray:
        """Rank of each of the gallery's `size` pictures, int64 `[G]`; 0 for those without."""
        ranks = np.zeros(size, np.int64)
        ranks[self.order] = self.ranks
        return ranks


def judge(
    distances: np.ndarray,
    gallery_pids: np.ndarray,
    gallery_camids: np.ndarray,
    pid: int | None,
    camid: int = 0,
    itself: int | None = None,
) -> Answers:
    """Ranks the gallery for one query and says what each picture is to it.

    Args:
        distances: query to gallery, `[G]`, lower is nearer.
        gallery_pids: integers `[G]`.
        gallery_camids: integers `[G]`.
        pid: whom the query shows; None, or a distractor's 0, if nobody knows: then no answer is
            right or wrong, and none is junk.
        camid: the query's camera; means nothing without a pid.
        itself: the query's own place in the gallery, which leaves the list.

    Returns:
        The `Answers`; equal distances stay in the gallery's order.

    Raises:
        ValueError: wrong shapes or NaN, see `rank_gallery`.

    Source:
        Zheng et al. 2015, Scalable Person Re-identification: A Benchmark (ICCV), for the protocol.

    Example:
        >>> pids, camids = np.array([7, 7, 0]), np.array([2, 1, 2])
        >>> answers = judge(np.array([0.3, 0.1, 0.2]), pids, camids, pid=7, camid=1)
        >>> answers.order, answers.ranks, answers.verdicts.tolist()
        (array([1, 2, 0]), array([0, 1, 2]), ['junk', 'distractor', 'right'])
    """
    asked_pid = DISTRACTOR if pid is None else pid
    known = asked_pid != DISTRACTOR
    ranked = rank_gallery(distances, asked_pid, gallery_pids, camid, gallery_camids)
    in_order = gallery_pids[ranked.order]
    verdicts = np.select(
        [ranked.junk, np.full(len(in_order), not known), ranked.right, in_order == DISTRACTOR],
        [Verdict.JUNK, Verdict.UNKNOWN, Verdict.RIGHT, Verdict.DISTRACTOR],
        Verdict.WRONG,
    )
    keep = ranked.order != (-1 if itself is None else itself)
    counted = ~ranked.junk[keep]
    return Answers(
        order=ranked.order[keep],
        distances=np.asarray(distances)[ranked.order][keep],
        verdicts=verdicts[keep],
        ranks=np.where(counted, np.cumsum(counted), 0),
    )
