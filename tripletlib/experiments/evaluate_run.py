"""Scores a finished training as papers do: mAP and CMC, before and after re-ranking."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import pandas as pd

from tripletlib.embedding import EmbeddingTable, TestTimeAugmentation
from tripletlib.evaluation import RetrievalScores, evaluate_blocks, evaluate_embeddings
from tripletlib.experiments.experiment import Experiment
from tripletlib.reranking import k_reciprocal_blocks
from tripletlib.runtime import (
    Progress,
    atomic_write,
    choose_device,
    current_processes,
    explained_writing,
    is_first_on_machine,
    process_group,
)
from tripletlib.training import CheckpointError

FILE_NAME = "scores.csv"
_RERANKING = 20, 6, 0.3  # k1, k2 and lambda of Zhong et al.


@dataclass(frozen=True)
class ScoredRun:
    """What one checkpoint reaches with one kind of embedding and one kind of distance.

    Attributes:
        step: training step of the checkpoint.
        tta: test-time augmentation, see `embed`.
        reranking: `"none"`, or k1, k2 and lambda, such as `"20/6/0.3"`.
        queries: queries that have a right answer.
        gallery: gallery images, junk left out.
        map: mean average precision by the rectangle rule, in [0, 1].
        map_market: the same by the trapezoid rule of Market-1501's own code.
        rank1: share of queries with a right answer in the first place; `rank5` and `rank10` among
            the first 5 and 10.
    """

    step: int
    tta: str
    reranking: str
    queries: int
    gallery: int
    map: float
    map_market: float
    rank1: float
    rank5: float
    rank10: float

    def __str__(self) -> str:
        return (
            f"step {self.step:,} · {self.tta} · re-ranking {self.reranking} · "
            f"mAP {self.map:.1%} (rectangle) {self.map_market:.1%} (trapezoid) · "
            f"rank-1 {self.rank1:.1%} · rank-5 {self.rank5:.1%} · rank-10 {self.rank10:.1%}"
        )


def score_run(
    experiment: Experiment,
    augmentations: Sequence[TestTimeAugmentation] = (),
    reranking: tuple[int, int, float] = _RERANKING,
    progress: Progress = "auto",
) -> Iterator[ScoredRun]:
    """Embeds queries and gallery of a finished training; scores them with and without re-ranking.

    In a process group all processes call it: they share the embedding and the ranking by distance,
    the first one re-ranks, and each yields the scores.

    Args:
        experiment: what was trained; its run folder holds the checkpoints.
        augmentations: kinds of test-time augmentation; by default the experiment's own. The tables
            of the last one stay in the run folder.
        reranking: k1, k2 and lambda.
        progress: see `tripletlib.progress`.

    Yields:
        Two `ScoredRun`s for each augmentation, the second re-ranked.

    Raises:
        CheckpointError: there is no usable checkpoint, or not the one asked for.
        ValueError: no query has a right answer, parameters out of range, or no data set.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), section 4.2, for the augmentations; Zhong et al.
        2017 (arXiv 1701.08398) for re-ranking.
    """
    processes = current_processes()
    model = experiment.make_model()
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


def write_scores(scores: Sequence[ScoredRun], folder: Path) -> Path:
    """Writes `scores.csv` of a run folder, one line for each; an earlier file is replaced.

    Raises:
        OSError: it cannot be written; the message names the file and the way out.
    """
    file = folder / FILE_NAME
    with explained_writing(file), atomic_write(file) as unfinished:
        pd.DataFrame(list(scores)).to_csv(unfinished, index=False, float_format="%.6f")
    return file


def _re_ranked(
    query: EmbeddingTable, gallery: EmbeddingTable, reranking: tuple[int, int, float]
) -> RetrievalScores:
    device = choose_device("auto")
    blocks = k_reciprocal_blocks(query.embeddings, gallery.embeddings, *reranking, device=device)
    return evaluate_blocks(blocks, query.pids, gallery.pids, query.camids, gallery.camids)


def _scored(
    scores: RetrievalScores, query: EmbeddingTable, gallery: EmbeddingTable, reranking: str
) -> ScoredRun:
    ranks = (float(scores.cmc[min(places, len(scores.cmc)) - 1]) for places in (1, 5, 10))
    counts = scores.valid_count, len(gallery)
    return ScoredRun(
        query.step, query.tta, reranking, *counts, scores.map, scores.map_market, *ranks
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `tripletlib score`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="tripletlib score",
        description="Score a finished training, before and after re-ranking.",
    )
    parser.add_argument("params", help="the training's parameter file")
    parser.add_argument(
        "--tta",
        nargs="+",
        default=[],
        choices=get_args(TestTimeAugmentation),
        help="kinds of test-time augmentation; the file's own by default",
    )
    parser.add_argument("--checkpoint-step", help="0 for the newest; the file's own by default")
    for name, value in zip(("--k1", "--k2", "--lambda-value"), _RERANKING, strict=True):
        parser.add_argument(name, type=type(value), default=value)
    options = parser.parse_args(arguments)
    try:
        experiment = Experiment.from_file(options.params)
        if options.checkpoint_step is not None:
            experiment = experiment.replace(checkpoint_step=options.checkpoint_step)
        reranking = options.k1, options.k2, options.lambda_value
        with process_group() as processes:
            progress: Progress = "auto" if processes.is_first else "off"
            scores = []
            for score in score_run(experiment, options.tta, reranking, progress):
                if processes.is_first:
                    print(score, flush=True)
                scores.append(score)
            file = processes.from_first(lambda: write_scores(scores, experiment.folder))
            if processes.is_first:
                print(file)
    except (OSError, ValueError, CheckpointError) as error:
        if is_first_on_machine():
            print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
