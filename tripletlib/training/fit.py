"""Trains any embedding network with a triplet loss, and goes on where it was stopped."""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from tripletlib.losses import Margin, triplet_losses
from tripletlib.runtime import (
    AnyPath,
    Progress,
    StopRequest,
    current_processes,
    from_repository,
    progress_bar,
    resolve_progress,
)
from tripletlib.training.history import MEAN_LOSS_EVERY, History
from tripletlib.training.run_folder import Resume, RunKeeper, fingerprint_of
from tripletlib.training.settings import TrainingSettings
from tripletlib.training.step import Trainer

LOOK_EVERY = 5.0  # seconds between two calls of a callback that does not wait for epochs to end
_COLLAPSE_STEPS = 200
_COLLAPSE_DISTANCE = 1e-4  # embeddings packed less densely than this were seen to spread again


class TrainingInterrupted(KeyboardInterrupt):
    """Somebody stopped the training; the message says where it stands and how to go on."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]  # IPython shows this in place of the frames: stopping is no failure


class NonFiniteLossError(FloatingPointError):
    """The loss became NaN or infinite; the message names step, rate and last checkpoint."""


@dataclass(frozen=True)
class EpochReport:
    """What a callback is told after an epoch, and some between two; its text is what is printed."""

    epoch: int  # from 1
    epochs: int  # in all; the last may be short
    step: int  # steps taken so far
    model: nn.Module  # as it is now, in training mode
    history: History  # so far
    seconds: float  # since training began, callbacks included

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch} of {self.epochs} · step {self.step:,} · "
            f"loss {self.history.recent('loss'):.4f} · "
            f"active {self.history.recent('active_fraction'):.0%} · {self.seconds:.0f} s"
        )


@dataclass
class _EpochReporter:
    """Drives the bar, the epoch lines and the callbacks."""

    trainer: Trainer
    callbacks: Sequence[Callable[[EpochReport], None]]
    lines: bool
    bar: tqdm
    start: float = field(default_factory=time.perf_counter)
    collapse_noted: bool = False
    last_look: float = field(default_factory=time.perf_counter)

    def step_done(self, step: int, history: History) -> None:
        settings = self.trainer.settings
        self.bar.update()
        if step % MEAN_LOSS_EVERY == 0 and not self.collapse_noted:
            said = _collapse(history, settings.margin)
            self.collapse_noted = bool(said)
            if said:
                self.bar.write(said)
        ends = step % self._steps_per_epoch == 0 or step == settings.steps
        if ends or time.perf_counter() - self.last_look > LOOK_EVERY:
            self.look(step, history, ends)

    @property
    def _steps_per_epoch(self) -> int:
        settings = self.trainer.settings
        return settings.steps_per_epoch or math.ceil(len(self.trainer.labels) / settings.batch_size)

    def look(self, step: int, history: History, ends: bool = False) -> None:
        """Tells the callbacks, and prints a line where an epoch ends."""
        steps = step, self.trainer.settings.steps
        epoch, epochs = (math.ceil(count / self._steps_per_epoch) for count in steps)
        seconds = time.perf_counter() - self.start
        report = EpochReport(epoch, epochs, step, self.trainer.model, history, seconds)
        if ends:
            self.bar.set_postfix_str(f"loss {history.recent('loss'):.4f}")
        if ends and self.lines:
            with suppress(BrokenPipeError):  # the reading process has died
                print(report, flush=True)
        for callback in self.callbacks:
            if ends or getattr(callback, "between_epochs", False):
                callback(report)
        self.last_look = time.perf_counter()


def _collapse(history: History, margin: Margin) -> str:
    """What to say if all embeddings have been nearly one point for 200 steps, otherwise nothing.

    All distances are then 0, so the loss is the margin (ln 2 for the soft margin) and every triplet
    is active (Hermans et al. 2017, appendix D): here within 1 % at each of these steps.
    """
    losses, active = (history[name][-_COLLAPSE_STEPS:] for name in ("loss", "active_fraction"))
    packed = triplet_losses(torch.zeros(()), margin)[0].item()
    if len(losses) < _COLLAPSE_STEPS or active.min() <= 0.999:
        return ""
    if (abs(losses - packed) > 0.01 * packed).any():
        return ""
    distance = history.recent("distance_p50")
    state = "have collapsed into" if distance < _COLLAPSE_DISTANCE else "are packed around"
    return (
        f"step {len(history):,}: the embeddings {state} one point (loss {losses[-1]:.4f}, every "
        f"triplet active, for {_COLLAPSE_STEPS} steps; median distance {distance:.2g}); try "
        "batch-normalisation, a lower learning_rate, or to begin with loss='batch_all_nonzero'. "
        "Notebook 02 explains it"
    )


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
    run_folder: AnyPath | None = None,
    callbacks: Sequence[Callable[[EpochReport], None]] = (),
    progress: Progress = "auto",
    checkpoint_every: int | None = None,
    resume: Resume = False,
    parameters: Mapping[str, Any] | None = None,
    first_weights: Callable[[], object] | None = None,
    fingerprint: str = "",
) -> History:
    """Trains a network in place; it ends in evaluation mode.

    In a process group all processes call it alike and train one network: P x K is the batch of all
    of them together. Only the first writes, reports and calls the callbacks.

    On a CPU a resumed run of one process or two ends with the same bits as one that was never
    stopped; other sums, and those on a GPU, are rounded in another order. What torchrun starts
    again after a death goes on, whatever `resume` is.

    Args:
        model: network from float images `[B, C, H, W]` to embeddings `[B, D]`. If it has a layer
            `neck`, that stands between these and the classifier of an identity loss.
        images: uint8 `[N, C, H, W]`.
        labels: identity of each image, `[N]`.
        settings: see `TrainingSettings`.
        run_folder: gets `config.yaml`, `history.csv`, `tensorboard/` and `checkpoints/`; those of
            an earlier run are replaced unless it is resumed. A relative path is meant from the
            repository. None writes nothing.
        callbacks: called with an `EpochReport` after each epoch, by the first process only: what
            all must do together, such as `evaluate_embeddings`, has no place in one. A callback
            whose `between_epochs` is true is called every few seconds too, and when a run resumes.
        progress: `"auto"`, `"bar"`, `"lines"` (one per epoch) or `"off"`.
        checkpoint_every: steps between two checkpoints, None for none; the last step has one too.
        resume: go on from the newest good checkpoint, if there is one; a finished run comes back at
            once. `"unfinished"`: replace a finished run by a new one. False: always begin anew.
        parameters: what else decided the run; noted in `config.yaml`.
        first_weights: gives the network other weights to begin with; not called when a run is
            resumed.
        fingerprint: of images and labels, as a `Split` has it; a run is only resumed with the same.
            Computed where it is left out.

    Raises:
        CheckpointError: a checkpoint cannot be written, or belongs to a run with other settings or
            data; another process is writing the run folder.
        OSError: another file of the run folder cannot be written.
        NonFiniteLossError: the loss became NaN or infinite.
        TrainingInterrupted: Ctrl-C, the notebook's stop button or SIGTERM; a `KeyboardInterrupt`.
            With checkpoints on, the steps taken are saved and `resume` goes on behind them.
        ValueError: images that do not fit the labels, too few identities, no valid triplet,
            checkpoints without a run folder, a batch that the processes cannot share evenly.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), section 4.2.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != (len(images),):
        raise ValueError(
            "images must be uint8 [N, C, H, W] with labels [N], got "
            f"{images.dtype} {list(images.shape)} with {list(labels.shape)}"
        )
    processes = current_processes()
    folder = None if run_folder is None else from_repository(run_folder)
    if folder is not None and not fingerprint and processes.is_first:
        fingerprint = fingerprint_of(images, labels)
    trainer = Trainer(model, images, labels, settings, processes, fingerprint)
    with RunKeeper(trainer, folder, checkpoint_every, resume, parameters) as keeper:
        rows = keeper.prepare()
        if rows is None and first_weights is not None:
            first_weights()
        if not processes.is_first:
            folder, progress = None, "off"
        done = trainer.steps_taken
        bar = progress_bar(settings.steps, "step", progress, desc="training", initial=done)
        reporter = _EpochReporter(trainer, callbacks, resolve_progress(progress) == "lines", bar)
        with History(folder, rows=rows) as history, bar, StopRequest() as stop:
            if done and processes.is_first:
                reporter.look(done, history)
            for step in range(done + 1, settings.steps + 1):
                rate, result = settings.learning_rate_at(step), trainer.take_step()
                if not math.isfinite(result["loss"]):
                    raise NonFiniteLossError(
                        f"the loss is {result['loss']} at step {step} (learning rate {rate:.2e}); "
                        f"{keeper.last_checkpoint()}. Lower learning_rate, or look for NaN and "
                        "infinite values in the network's output"
                    )
                history.record(step=step, learning_rate=rate, metric=settings.metric, **result)
                if processes.is_first:
                    reporter.step_done(step, history)
                # Read once, and agreed on: a Ctrl-C behind this line waits for a step.
                stopping = processes.any(stop.requested)
                keeper.step_done(history, stopping)
                if stopping:
                    raise TrainingInterrupted(keeper.stopped(step))
    model.eval()
    return history
