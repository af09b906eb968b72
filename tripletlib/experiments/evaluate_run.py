"""Scores a finished training as papers do: mAP and CMC, before and after re-ranking."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from tripletlib.embedding import EmbeddingTable, TestTimeAugmentation
from tripletlib.evaluation import RetrievalScores, evaluate_blocks, evaluate_embeddings
from tripletlib.experiments.experiment import Experiment
from tripletlib.reranking import RERANKING, NeighbourIndex
from tripletlib.runtime import (
    AnyPath,
    Progress,
    atomic_write,
    choose_device,
    current_processes,
    explained_writing,
    from_repository,
)


@dataclass(frozen=True)
class ScoredRun:
    """What one checkpoint reaches with one kind of embedding and one kind of distance."""

    step: int  # training step of the checkpoint
    tta: str  # test-time augmentation, see `embed`
    reranking: str  # "none", or k1, k2 and lambda, such as "20/6/0.3"
    queries: int  # queries that have a right answer
    gallery: int  # gallery images, junk left out
    map: float  # mean average precision by the rectangle rule, in [0, 1]
    map_market: float  # the same by the trapezoid rule of Market-1501's own code
    minp: float  # mean inverse negative penalty, see `RetrievalScores`
    rank1: float  # share of queries whose first place is right; then of those with one in 5 and 10
    rank5: float
    rank10: float

    def __str__(self) -> str:
        return (
            f"step {self.step:,} · {self.tta} · re-ranking {self.reranking} · "
            f"mAP {self.map:.1%} (rectangle) {self.map_market:.1%} (trapezoid) · "
            f"mINP {self.minp:.1%} · "
            f"rank-1 {self.rank1:.1%} · rank-5 {self.rank5:.1%} · rank-10 {self.rank10:.1%}"
        )


def score_run(
    experiment: Experiment,
    augmentations: Sequence[TestTimeAugmentation] = (),
    reranking: tuple[int, int, float] = RERANKING,
    progress: Progress = "auto",
) -> Iterator[ScoredRun]:
    """Embeds queries and gallery of a finished training; yields scores without and with re-ranking.

    The experiment's own test-time augmentation is taken where none is given; the tables of the last
    stay in the run folder. In a process group all processes call it: they share the embedding and
    the ranking by distance, the first one re-ranks (k1, k2 and lambda), and each yields the scores.
    """
    processes = current_processes()
    model = experiment.make_model(pretrained=False)
    step = experiment.load_weights(model)
    model.to(choose_device(experiment.device))
    data = processes.in_turn(lambda: experiment.open_dataset(progress))
    for tta in augmentations or (experiment.tta,):
        seen = experiment.replace(tta=tta)
        query, gallery = (
            seen.embedding_table(model, split, data.root, step, progress)
            for split in (data.query, data.gallery)
        )
        yield _scored(evaluate_embeddings(query, gallery), query, gallery, "none")
        scores = processes.from_first(partial(_re_ranked, query, gallery, reranking))
        yield _scored(scores, query, gallery, "/".join(map(str, reranking)))


def write_scores(scores: Sequence[ScoredRun], folder: AnyPath) -> Path:
    """Writes `scores.csv` of a run folder, one line for each; an earlier file is replaced."""
    file = from_repository(folder) / "scores.csv"
    with explained_writing(file), atomic_write(file) as unfinished:
        pd.DataFrame(list(scores)).to_csv(unfinished, index=False, float_format="%.6f")
    return file


def _re_ranked(
    query: EmbeddingTable, gallery: EmbeddingTable, reranking: tuple[int, int, float]
) -> RetrievalScores:
    device = choose_device("auto")
    k1, k2, lambda_value = reranking
    index = NeighbourIndex(query.embeddings, gallery.embeddings, max(k1, k2 - 1), device)
    blocks = index.blocks(k1, k2, lambda_value)
    return evaluate_blocks(blocks, query.pids, gallery.pids, query.camids, gallery.camids)


def _scored(
    scores: RetrievalScores, query: EmbeddingTable, gallery: EmbeddingTable, reranking: str
) -> ScoredRun:
    ranks = (float(scores.cmc[min(places, len(scores.cmc)) - 1]) for places in (1, 5, 10))
    counts = scores.valid_count, len(gallery)
    means = scores.map, scores.map_market, scores.minp
    return ScoredRun(query.step, query.tta, reranking, *counts, *means, *ranks)
