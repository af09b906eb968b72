"""Scores under the Market-1501 protocol: of ranked galleries (CMC, AP, mAP), and of pairs (ROC)."""

from tripletlib.evaluation.pairs import PairCurve, pair_curve
from tripletlib.evaluation.protocol import DISTRACTOR, JUNK
from tripletlib.evaluation.ranking import (
    Place,
    RankedGallery,
    Rule,
    Verdict,
    average_precision,
    precision_recall,
    rank_gallery,
)
from tripletlib.evaluation.scores import (
    RetrievalScores,
    evaluate,
    evaluate_embeddings,
    pool_queries,
)

__all__ = [
    "DISTRACTOR",
    "JUNK",
    "PairCurve",
    "Place",
    "RankedGallery",
    "RetrievalScores",
    "Rule",
    "Verdict",
    "average_precision",
    "evaluate",
    "evaluate_embeddings",
    "pair_curve",
    "pool_queries",
    "precision_recall",
    "rank_gallery",
]
