"""One query's ranked gallery under the Market-1501 protocol, and the precision of a ranked list."""

from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from tripletlib.splits import DISTRACTOR, JUNK

Numbers = np.ndarray | Tensor
Rule = Literal["rectangle", "trapezoid"]
# Up to this many right answers, counting what lies before each was measured to be faster than
# sorting the gallery; both grow with its size.
COUNTED_ANSWERS = 400


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


def right_ranks(row: np.ndarray, right: np.ndarray, junk: np.ndarray) -> np.ndarray:
    """Places of the right answers in the ranked list, found without sorting the gallery.

    A right answer's rank is 1 + how many images come before it: the nearer ones, and of the equally
    near ones those that stand earlier in the gallery.

    Args:
        row: distances to the gallery, `[G]`.
        right: indices of the right answers, ascending, `[R]`.
        junk: indices of what is skipped, ascending, none of them right, `[J]`.

    Returns:
        Ranks from 1, ascending, int64 `[R]`.
    """
    kept = np.delete(row, junk)  # [G - J]
    places = right - np.searchsorted(junk, right)  # where the right answers went, [R]
    if len(places) > COUNTED_ANSWERS:
        is_right = np.zeros(len(kept), dtype=bool)
        is_right[places] = True
        return np.flatnonzero(is_right[np.argsort(kept, kind="stable")]) + 1
    before = [
        np.count_nonzero(kept[:place] <= kept[place]) + np.count_nonzero(kept[place:] < kept[place])
        for place in places
    ]
    return np.sort(np.array(before, dtype=np.int64)) + 1


def to_distances(values: Numbers) -> np.ndarray:
    """Distances as a NumPy array of float32 or float64, rows contiguous.

    Raises:
        ValueError: no real numbers, or NaN among them.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        # NumPy has no bfloat16.
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    distances = np.asarray(values)
    if distances.dtype.kind not in "fiu":
        raise ValueError(f"distances must be real numbers, got {distances.dtype}")
    if distances.dtype not in (np.float32, np.float64):
        distances = distances.astype(np.float32 if distances.dtype == np.float16 else np.float64)
    missing = np.argwhere(np.isnan(distances))
    if len(missing):
        raise ValueError(
            f"{len(missing)} of the {distances.size} distances of shape {list(distances.shape)} "
            f"are NaN, the first at {missing[0].tolist()}; check the embeddings"
        )
    return np.ascontiguousarray(distances)


def to_labels(values: Numbers, name: str, length: int | None = None) -> np.ndarray:
    """Identities or cameras as int64 `[N]`.

    Raises:
        ValueError: no integers, not one list of them, or not `length` of them.
    """
    labels = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if labels.ndim != 1 or (labels.dtype.kind not in "iu" and labels.size):
        raise ValueError(
            f"{name} must be integers [N], got {labels.dtype} of shape {list(labels.shape)}"
        )
    if length is not None and len(labels) != length:
        raise ValueError(f"{name} has {len(labels)} entries for {length} images")
    return labels.astype(np.int64)


def _to_truth(right: Numbers) -> np.ndarray:
    truth = right.detach().cpu().numpy() if isinstance(right, Tensor) else np.asarray(right)
    if truth.ndim != 1 or truth.dtype != bool:
        raise ValueError(
            f"right must be truth values [G], got {truth.dtype} of shape {list(truth.shape)}"
        )
    return truth
