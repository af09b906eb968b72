"""One query's ranked gallery under the Market-1501 protocol, and the precision of a ranked list."""

from typing import Literal, NamedTuple, get_args

import numpy as np
from torch import Tensor

from tripletlib.evaluation.protocol import DISTRACTOR, JUNK, Numbers, to_distances, to_labels

Rule = Literal["rectangle", "trapezoid"]


class RankedGallery(NamedTuple):
    """One query's gallery, nearest first.

    Without junk, as the protocol counts, the list is `right[~junk]`.

    Attributes:
        order: the gallery's indices, nearest first, junk included, int64 `[G]`.
        right: whether the image at that place is a right answer, bool `[G]`.
        junk: whether it is skipped, neither right nor wrong, bool `[G]`.
    """

    order: np.ndarray
    right: np.ndarray
    junk: np.ndarray


def rank_gallery(
    distances: Numbers,
    query_pid: int,
    gallery_pids: Numbers,
    query_camid: int | None = None,
    gallery_camids: Numbers | None = None,
    camera_filter: bool = True,
) -> RankedGallery:
    """Sorts the gallery for one query and says what is right and what is junk.

    Junk is every image with pid -1, and every image of the query's identity from the query's own
    camera. A distractor (pid 0) stays in the list and is never right. Equal distances keep the
    gallery's order.

    Args:
        distances: of the query to each gallery image, `[G]`, lower is nearer, any number type.
        query_pid: the query's identity.
        gallery_pids: identity of each gallery image, integers `[G]`.
        query_camid: the query's camera.
        gallery_camids: camera of each gallery image, integers `[G]`.
        camera_filter: whether the query's own camera is skipped; without it no camera is needed.

    Returns:
        A `RankedGallery`, which unpacks into `order, right, junk`.

    Raises:
        ValueError: wrong shapes, an empty gallery, NaN, or cameras missing that are needed.

    Source:
        Zheng et al. 2015, Scalable Person Re-identification: A Benchmark (ICCV), and the evaluation
        code that comes with Market-1501.

    Example:
        >>> ranked = rank_gallery(np.array([0.3, 0.1, 0.2]), 7, np.array([7, 7, 8]), 1,
        ...                       np.array([2, 1, 2]))
        >>> ranked.order, ranked.right, ranked.junk
        (array([1, 2, 0]), array([False, False,  True]), array([ True, False, False]))
    """
    pids = to_labels(gallery_pids, "gallery_pids")
    row = to_distances(distances)
    if row.shape != pids.shape or not len(pids):
        raise ValueError(
            f"distances must be [G], G > 0, one for each gallery image: got {list(row.shape)} and "
            f"{len(pids)} gallery_pids"
        )
    same = pids == query_pid
    junk = pids == JUNK
    if camera_filter:
        if query_camid is None or gallery_camids is None:
            raise ValueError("pass query_camid and gallery_camids, or camera_filter=False")
        junk |= same & (to_labels(gallery_camids, "gallery_camids", len(pids)) == query_camid)
    if query_pid == DISTRACTOR:  # no identity: nothing is its own image
        same, junk = np.zeros_like(same), pids == JUNK
    order = np.argsort(row, kind="stable")
    return RankedGallery(order, (same & ~junk)[order], junk[order])


def precision_recall(right: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall after each place of a ranked list.

    The first point is the one before the list begins: recall 0, precision 1. With it, the area
    under the straight lines between the points, `np.trapezoid(precision, recall)`, is the AP by the
    trapezoid rule, and `np.sum(precision[1:] * np.diff(recall))` the one by the rectangle rule.

    Args:
        right: whether the image at each place is right, nearest first, junk removed, bool `[G]`.

    Returns:
        Precision and recall, float64 `[G + 1]` each.

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

    Args:
        ranks: place of each right answer, from 1, `[R]`.
        found: how many right answers lie up to that place, `[R]`.
        rule: see `average_precision`.

    Returns:
        float64 `[R]`, in [0, 1].
    """
    precision = found / ranks
    if rule == "rectangle":
        return precision
    before = np.where(ranks == 1, 1.0, (found - 1) / np.maximum(ranks - 1, 1))
    return (precision + before) / 2


def _to_truth(right: Numbers) -> np.ndarray:
    truth = right.detach().cpu().numpy() if isinstance(right, Tensor) else np.asarray(right)
    if truth.ndim != 1 or truth.dtype != bool:
        raise ValueError(
            f"right must be truth values [G], got {truth.dtype} of shape {list(truth.shape)}"
        )
    return truth
