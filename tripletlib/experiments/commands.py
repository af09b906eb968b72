"""The commands `tripletlib train`, `score` and `ship`: what is done with one parameter file."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch

from tripletlib.embedding import TestTimeAugmentation
from tripletlib.experiments.evaluate_run import score_run, write_scores
from tripletlib.experiments.experiment import Experiment
from tripletlib.experiments.retrieval import WEIGHTS, save_pretrained
from tripletlib.models import LuNet
from tripletlib.reranking import RERANKING
from tripletlib.runtime import Progress, process_group


def train(arguments: Sequence[str] | None = None) -> int:
    """Trains without Jupyter; returns the exit status."""
    parser = _parser("train", "Train for person re-identification without Jupyter.")
    parser.add_argument("--embed", action="store_true", help="embed query and gallery afterwards")
    options = parser.parse_args(arguments)
    experiment = Experiment.from_file(options.params)
    with process_group():
        experiment.run(options.embed)
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
    return 0


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
