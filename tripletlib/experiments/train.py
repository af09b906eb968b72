"""Command line of `python -m tripletlib train`: an experiment from a parameter file."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tripletlib.experiments.experiment import Experiment
from tripletlib.runtime import (
    ProcessesFailed,
    Progress,
    current_processes,
    is_first_on_machine,
    process_group,
)
from tripletlib.training import CheckpointError, NonFiniteLossError, TrainingInterrupted


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `python -m tripletlib train`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tripletlib train",
        description="Train for person re-identification without Jupyter.",
    )
    parser.add_argument("params", type=Path, help="a file such as 03_market1501_original.yaml")
    parser.add_argument("--embed", action="store_true", help="embed query and gallery afterwards")
    options = parser.parse_args(arguments)
    try:
        experiment = Experiment.from_file(options.params)
        if experiment.needs_launch:
            experiment.launch(*(["--embed"] if options.embed else []))
        else:
            with process_group():
                run(experiment, options.embed)
    except (OSError, ValueError, CheckpointError) as error:
        return _fail(f"error: {error}", 2)
    except (TrainingInterrupted, NonFiniteLossError, ProcessesFailed) as error:
        return _fail(str(error), 1)
    return 0


def run(experiment: Experiment, embed_afterwards: bool) -> None:
    """Trains, and embeds query and gallery if asked to; only the first process says so."""
    processes = current_processes()
    progress: Progress = "auto" if processes.is_first else "off"
    say = print if processes.is_first else _ignore
    dataset = processes.in_turn(lambda: experiment.open_dataset(progress))
    say(dataset)
    model = experiment.make_model()
    experiment.train(model, dataset.train, progress=progress)
    if embed_afterwards:
        for split in (dataset.query, dataset.gallery):
            table = experiment.embedding_table(
                model, split, dataset.root, experiment.steps, progress
            )
            say(f"{split.name}: {len(table):,} embeddings of step {table.step:,}")


def _fail(message: str, status: int) -> int:
    # What stops one process stops all of them, mostly with the same message. Not always: a file may
    # be missing on one machine only.
    if is_first_on_machine():
        print(message, file=sys.stderr)
    return status


def _ignore(*_: object) -> None:
    pass
