"""The commands `tripletlib train`, `score` and `ship`: what is done with one parameter file."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import pandas as pd
import torch

from tripletlib.embedding import EmbeddingTable, TestTimeAugmentation
from tripletlib.evaluation import RetrievalScores, evaluate, evaluate_embeddings
from tripletlib.experiments.experiment import Experiment
from tripletlib.experiments.retrieval import WEIGHTS, save_pretrained
from tripletlib.models import LuNet
from tripletlib.reranking import RERANKING, NeighbourIndex
from tripletlib.runtime import (
    AnyPath,
    Progress,
    atomic_write,
    choose_device,
    current_processes,
    explained_writing,
    from_repository,
    process_group,
)


def train(arguments: Sequence[str] | None = None) -> int:
    """Trains without Jupyter; returns the exit status."""
    parser = _parser("train", "Train for person re-identification without Jupyter.")
    parser.add_argument("--embed", action="store_true", help="embed query and gallery afterwards")
    parser.add_argument("--score", action="store_true", help="score it afterwards, see `score`")
    options = parser.parse_args(arguments)
    experiment = Experiment.from_file(options.params)
    with process_group():
        experiment.run(options.embed)
        if options.score:
            _score(experiment)
    return 0


def score(arguments: Sequence[str] | None = None) -> int:
    """Scores a finished training, prints and writes the scores; returns the exit status."""
    parser = _parser("score", "Score a finished training, before and after re-ranking.")
    parser.add_argument(
        "--tta",
        nargs="+",
        default=[],
        choices=get_args(TestTimeAugmentation),
        help="kinds of test-time augmentation; the file's own by default",
    )
    parser.add_argument("--checkpoint-step", help="0 for the newest; the file's own by default")
    for name, value in zip(("--k1", "--k2", "--lambda-value"), RERANKING, strict=True):
        parser.add_argument(name, type=type(value), default=value)
    options = parser.parse_args(arguments)
    experiment = Experiment.from_file(options.params)
    if options.checkpoint_step is not None:
        experiment = experiment.replace(checkpoint_step=options.checkpoint_step)
    reranking = options.k1, options.k2, options.lambda_value
    with process_group():
        _score(experiment, options.tta, reranking)
    return 0


def _score(
    experiment: Experiment,
    augmentations: Sequence[TestTimeAugmentation] = (),
    reranking: tuple[int, int, float] = RERANKING,
) -> None:
    """Prints and writes the scores; of several processes the first one does."""
    processes = current_processes()
    progress: Progress = "auto" if processes.is_first else "off"
    scores = []
    for score in score_run(experiment, augmentations, reranking, progress):
        if processes.is_first:
            print(score, flush=True)
        scores.append(score)
    file = processes.from_first(lambda: write_scores(scores, experiment.folder))
    if processes.is_first:
        print(file)


def ship(arguments: Sequence[str] | None = None) -> int:
    """Makes the weights that ship from a finished training; returns the exit status."""
    parser = _parser("ship", "Make the weights that ship from a finished training.")
    parser.add_argument("--output", default=WEIGHTS, help="the file to write")
    options = parser.parse_args(arguments)
    experiment = Experiment.from_file(options.params)
    model = experiment.make_model(pretrained=False)
    if not isinstance(model, LuNet):
        raise ValueError(f"network: {experiment.network} cannot ship; a lunet can")
    step = experiment.load_weights(model)
    description = {
        "embedding_dim": experiment.embedding_dim,
        "width": experiment.width,
        "image_size": experiment.image_size,
        "original": experiment.original_network,
        "step": step,
        "trained_with": Path(options.params).name,
        "torch": str(torch.__version__),
    }
    size = save_pretrained(model, description, options.output).stat().st_size
    print(f"{options.output}: step {step:,}, {size / 1e6:.2f} MB")
    return 0


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"tripletlib {command}", description=description)
    parser.add_argument("params", help="a parameter file, such as 03_market1501_original.yaml")
    return parser


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
    return evaluate(blocks, query.pids, gallery.pids, query.camids, gallery.camids)


def _scored(
    scores: RetrievalScores, query: EmbeddingTable, gallery: EmbeddingTable, reranking: str
) -> ScoredRun:
    ranks = (float(scores.cmc[min(places, len(scores.cmc)) - 1]) for places in (1, 5, 10))
    counts = scores.valid_count, len(gallery)
    means = scores.map, scores.map_market, scores.minp
    return ScoredRun(query.step, query.tta, reranking, *counts, *means, *ranks)
