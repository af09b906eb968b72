"""Verification: do two images show one person? Error rates of pairs over a threshold."""

from dataclasses import dataclass

import numpy as np

from tripletlib.evaluation.protocol import Answers, Numbers, row_blocks, to_distances


@dataclass(frozen=True)
class PairCurve:
    """The receiver operating characteristic (ROC) of the question "same person?".

    A pair is accepted when its distance is at most the threshold. The `R` thresholds are the
    distances of the genuine pairs: only there does the true match rate rise.

    Attributes:
        thresholds: ascending, each once, float64 `[R]`.
        false_match_rate: share of the impostor pairs (two identities) accepted at each threshold,
            float64 `[R]`; NaN without an impostor pair.
        true_match_rate: share of the genuine pairs (one identity) accepted, float64 `[R]`.
        genuine: number of genuine pairs.
        impostors: number of impostor pairs.
    """

    thresholds: np.ndarray
    false_match_rate: np.ndarray
    true_match_rate: np.ndarray
    genuine: int
    impostors: int

    def threshold_at(self, false_match_rate: float) -> float:
        """The largest threshold with at most this false match rate; -inf where none has."""
        allowed = self.thresholds[self.false_match_rate <= false_match_rate]
        return float(allowed.max(initial=-np.inf))


def pair_curve(
    distances: Numbers,
    query_pids: Numbers,
    gallery_pids: Numbers,
    query_camids: Numbers | None = None,
    gallery_camids: Numbers | None = None,
    camera_filter: bool = True,
) -> PairCurve:
    """False and true match rates over the threshold, of all pairs of a query and a gallery image.

    What `evaluate` skips is no pair: one identity in one camera, and gallery images with pid -1.
    A distractor (pid 0) makes an impostor pair. Distances are read block by block, twice; of all
    pairs, only the genuine ones' are held. The arguments are those of `evaluate`; no iterator.

    Raises:
        ValueError: sizes that do not fit, nothing to compare, NaN, missing camids, or a query with
            a pid below 1.

    Example:
        >>> curve = pair_curve(np.array([[0.1, 0.2, 0.3, 0.4]]), np.array([7]),
        ...                    np.array([7, 8, 7, 8]), camera_filter=False)
        >>> curve.thresholds, curve.false_match_rate, curve.true_match_rate
        (array([0.1, 0.3]), array([0. , 0.5]), array([0.5, 1. ]))
        >>> curve.threshold_at(0.01)
        0.1
    """
    answers = Answers(query_pids, gallery_pids, query_camids, gallery_camids, camera_filter)
    near = []
    for start, block in row_blocks(distances, answers.queries):
        for query, row in answers.rows(start, to_distances(block)):
            own, junk = answers.of(query)
            near.append(row[own[~junk]])
    genuine = np.sort(np.concatenate(near))
    thresholds = np.unique(genuine)
    accepted, impostors = np.zeros(len(thresholds), np.int64), 0
    for start, block in row_blocks(distances, answers.queries):
        rows = answers.rows(start, to_distances(block))
        apart = np.concatenate([np.delete(row, answers.of(query)[0]) for query, row in rows])
        accepted += np.searchsorted(np.sort(apart), thresholds, side="right")
        impostors += len(apart)
    return PairCurve(
        thresholds=thresholds.astype(np.float64),
        false_match_rate=accepted / (impostors or np.nan),
        true_match_rate=np.searchsorted(genuine, thresholds, side="right") / len(genuine),
        genuine=len(genuine),
        impostors=impostors,
    )
