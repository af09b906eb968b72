"""Reports a training: a bar or lines while it runs, callbacks after each epoch."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from torch import nn

from tripletlib import progress as progress_display
from tripletlib.history import MEAN_LOSS_EVERY, History
from tripletlib.losses import Margin
from tripletlib.settings import TrainingSettings

COLLAPSE_STEPS = 200
COLLAPSE_DISTANCE = 1e-4  # packed embeddings farther apart than this were seen to come out again


@dataclass(frozen=True)
class EpochReport:
    """What a callback is told after each epoch.

    Attributes:
        epoch: number of the epoch, from 1.
        epochs: epochs in all; the last may be short.
        step: steps taken so far.
        model: the network as it is now, in training mode.
        history: the log so far.
        seconds: time since training began, callbacks included.
    """

    epoch: int
    epochs: int
    step: int
    model: nn.Module
    history: History
    seconds: float

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch} of {self.epochs} · step {self.step:,} · "
            f"loss {self.history.recent('loss'):.4f} · "
            f"active {self.history.recent('active_fraction'):.0%} · {self.seconds:.0f} s"
        )


def has_collapsed(history: History, margin: Margin) -> bool:
    """Whether the embeddings have long lain in one point.

    All distances are then 0, so the loss is the margin (ln 2 for the soft margin), every triplet is
    active, and no gradient says which way is out.

    Args:
        history: the log so far.
        margin: the loss's margin.

    Returns:
        True if for the last 200 steps the loss was within 1 % of that value with all triplets
        active.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), appendix D.
    """
    if len(history) < COLLAPSE_STEPS:
        return False
    packed = math.log(2) if margin == "soft" else float(margin)
    losses = history["loss"][-COLLAPSE_STEPS:]
    all_active = history["active_fraction"][-COLLAPSE_STEPS:].min() > 0.999
    return bool(all_active and (abs(losses - packed) <= 0.01 * packed).all())


class EpochReporter:
    """Drives the bar, the epoch lines and the callbacks.

    Args:
        model: handed on to the callbacks.
        settings: its `steps` and `steps_per_epoch` say when an epoch ends.
        images: N, size of the training set.
        callbacks: called with an `EpochReport` after each epoch.
        progress: see `tripletlib.progress`.
        first_step: the step that training begins with, above 1 when it is resumed.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainingSettings,
        images: int,
        callbacks: Sequence[Callable[[EpochReport], None]],
        progress: progress_display.Progress,
        first_step: int = 1,
    ) -> None:
        batch_size = settings.identities * settings.images_per_identity
        self._model, self._callbacks = model, callbacks
        self._steps, self._margin = settings.steps, settings.margin
        self._collapse_noted = False
        self._per_epoch = settings.steps_per_epoch or math.ceil(images / batch_size)
        self._lines = progress_display.resolve(progress) == "lines"
        self._bar = progress_display.bar(
            settings.steps, "step", progress, desc="training", initial=first_step - 1
        )
        self._start = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def step_done(self, step: int, history: History) -> None:
        """Notes a finished step; reports if an epoch ends with it."""
        self._bar.update()
        if step % MEAN_LOSS_EVERY == 0:
            self._note_collapse(step, history)
        if step % self._per_epoch and step != self._steps:
            return
        report = EpochReport(
            epoch=math.ceil(step / self._per_epoch),
            epochs=math.ceil(self._steps / self._per_epoch),
            step=step,
            model=self._model,
            history=history,
            seconds=time.perf_counter() - self._start,
        )
        self._bar.set_postfix_str(f"loss {history.recent('loss'):.4f}")
        if self._lines:
            print(report, flush=True)
        for callback in self._callbacks:
            callback(report)

    def _note_collapse(self, step: int, history: History) -> None:
        if self._collapse_noted or not has_collapsed(history, self._margin):
            return
        self._collapse_noted = True
        distance = history.recent("distance_p50")
        state = "have collapsed into" if distance < COLLAPSE_DISTANCE else "are packed around"
        self._bar.write(
            f"step {step:,}: the embeddings {state} one point (loss "
            f"{history['loss'][-1]:.4f}, every triplet active, for {COLLAPSE_STEPS} steps; median "
            f"distance {distance:.2g}); try batch-normalisation, a lower learning_rate, or to "
            "begin with loss='batch_all_nonzero'. Notebook 02 explains it"
        )
