"""Trains any embedding network with a triplet loss, and goes on where it was stopped.

`python -m tripletlib.training notebooks/params/03_market1501_original.yaml` trains for person
re-identification without Jupyter, from the file that notebook 03 reads.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tripletlib import distributed
from tripletlib import progress as progress_display
from tripletlib.history import History
from tripletlib.interruption import StopRequest, TrainingInterrupted
from tripletlib.reporting import EpochReport, EpochReporter
from tripletlib.run_keeper import Resume, RunKeeper
from tripletlib.settings import TrainingSettings
from tripletlib.trainer import StepResult, Trainer

__all__ = ["NonFiniteLossError", "TrainingSettings", "fit", "seed_everything"]


class NonFiniteLossError(FloatingPointError):
    """The loss became NaN or infinite; the message names step, rate and last checkpoint."""


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and PyTorch (all devices). Call it before the network is made."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for libraries that draw from the global state
    torch.manual_seed(seed)


def fit(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    settings: TrainingSettings,
    run_folder: Path | None = None,
    callbacks: Sequence[Callable[[EpochReport], None]] = (),
    progress: progress_display.Progress = "auto",
    checkpoint_every: int | None = None,
    resume: Resume = False,
    parameters: Mapping[str, Any] | None = None,
    first_weights: Callable[[], object] | None = None,
) -> History:
    """Trains a network in place; it ends in evaluation mode.

    In a process group, such as torchrun's, all processes call it alike and train one network: P x K
    is the batch of all of them together. Only the first writes, reports and calls the callbacks.

    Args:
        model: network from float images `[B, C, H, W]` to embeddings `[B, D]`.
        images: uint8 `[N, C, H, W]`.
        labels: identity of each image, `[N]`.
        settings: see `TrainingSettings`.
        run_folder: gets `config.yaml`, `history.csv`, `tensorboard/` and `checkpoints/`; those of
            an earlier run are replaced unless it is resumed. None writes nothing.
        callbacks: called with an `EpochReport` after each epoch, by the first process only: what
            all processes must do together, such as `evaluate_embeddings`, has no place in one.
        progress: `"auto"`, `"bar"`, `"lines"` (one per epoch) or `"off"`.
        checkpoint_every: steps between two checkpoints; the last step gets one too. None saves
            none.
        resume: go on from the newest good checkpoint in the run folder, if there is one. On a CPU
            the run then ends with the same weights and history, bit for bit, as one that was never
            stopped, provided that one process or two began it and as many go on. Any number may
            go on, but sums are then rounded in another order, as they are on a GPU: the test asks
            for losses within 1 % over the next ten steps there. A finished run comes back at once;
            with `"unfinished"` it is replaced by a new one, for experiments that are short and
            repeated with other settings. What torchrun starts again after a process died always
            goes on.
        parameters: what else decided the run, such as its data; noted in `config.yaml`.
        first_weights: gives the network other weights to begin with; called by all processes, and
            not when a run is resumed.

    Returns:
        The `History`.

    Raises:
        CheckpointError: a checkpoint cannot be written, or belongs to a run with other settings.
        OSError: another file of the run folder cannot be written.
        NonFiniteLossError: the loss became NaN or infinite.
        TrainingInterrupted: Ctrl-C, or the notebook's stop button; a `KeyboardInterrupt`. With
            checkpoints on, the steps taken are saved and `resume` goes on behind them.
        ValueError: images that do not fit the labels, too few identities, no valid triplet,
            checkpoints without a run folder, another word for `resume`, a batch that cannot be
            dealt out evenly to the processes.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), section 4.2.
    """
    _check(images, labels)
    processes = distributed.current()
    trainer = Trainer(model, images, labels, settings, processes)
    keeper = RunKeeper(trainer, run_folder, checkpoint_every, parameters)
    rows = keeper.prepare(resume)
    if rows is None and first_weights is not None:
        first_weights()
    if not processes.is_first:
        run_folder, progress = None, "off"
    first = trainer.steps_taken + 1
    reporter = EpochReporter(model, settings, len(labels), callbacks, progress, first)
    stop_request = StopRequest(processes.stop_signals)
    with History(run_folder, rows=rows) as history, reporter, stop_request as stop:
        for step in range(first, settings.steps + 1):
            _record(trainer.take_step(), step, settings, keeper, history)
            if processes.is_first:
                reporter.step_done(step, history)
            # Read once, and agreed on: a Ctrl-C behind this line waits for a step.
            stopping = processes.any(stop.requested)
            keeper.step_done(history, stopping)
            if stopping:
                raise TrainingInterrupted(keeper.farewell(step))
    model.eval()
    return history


def _record(
    result: StepResult,
    step: int,
    settings: TrainingSettings,
    keeper: RunKeeper,
    history: History,
) -> None:
    if not math.isfinite(result.loss):
        raise NonFiniteLossError(_advice(result.loss, step, settings, keeper))
    history.record(
        step=step,
        learning_rate=settings.learning_rate_at(step),
        loss=result.loss,
        active_fraction=result.active_fraction,
        embeddings=result.embeddings,
        metric=settings.metric,
    )


def _advice(loss: float, step: int, settings: TrainingSettings, keeper: RunKeeper) -> str:
    return (
        f"the loss is {loss} at step {step} (learning rate {settings.learning_rate_at(step):.2e}); "
        f"{keeper.last()}. Lower learning_rate, or look for NaN and infinite values in the "
        "network's output"
    )


def _check(images: np.ndarray, labels: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(
            f"images must be uint8 [N, C, H, W], got {images.dtype} {list(images.shape)}"
        )
    if labels.shape != (len(images),):
        raise ValueError(f"{len(images)} images need labels [{len(images)}], got {labels.shape}")


if __name__ == "__main__":
    from tripletlib.command_line import main

    raise SystemExit(main())
