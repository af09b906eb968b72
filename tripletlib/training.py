"""Trains any embedding network with a triplet loss, and goes on where it was stopped.

`python -m tripletlib.training notebooks/params/03_market1501_original.yaml` trains for person
re-identification without Jupyter, from the file that notebook 03 reads.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from tripletlib import distributed
from tripletlib import progress as progress_display
from tripletlib.augmentation import random_crop_flip
from tripletlib.checkpoints import (
    CheckpointError,
    checkpoint_steps,
    load_checkpoint,
    save_checkpoint,
)
from tripletlib.embedding import to_unit_interval
from tripletlib.hardware import (
    choose_device,
    choose_layout,
    choose_precision,
    keep_freed_memory,
)
from tripletlib.history import History
from tripletlib.interruption import StopRequest, TrainingInterrupted
from tripletlib.paths import explained_writing
from tripletlib.reporting import EpochReport, EpochReporter
from tripletlib.sampling import PKSampler
from tripletlib.settings import LOSSES, TrainingSettings

Resume = bool | Literal["unfinished"]


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
        callbacks: called with an `EpochReport` after each epoch.
        progress: `"auto"`, `"bar"`, `"lines"` (one per epoch) or `"off"`.
        checkpoint_every: steps between two checkpoints; the last step gets one too. None saves
            none.
        resume: go on from the newest good checkpoint in the run folder, if there is one. On a CPU
            the run then ends with the same weights and history, bit for bit, as one that was never
            stopped, provided that one process or two began it and as many go on. Any number may
            go on, but sums are then rounded in another order. A finished run comes back at once;
            with `"unfinished"` it is replaced by a new one, for experiments that are short and
            repeated with other settings.

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
    training = _Training(model, images, labels, settings, processes)
    keeper = _Keeper(training, run_folder, checkpoint_every)
    rows = keeper.prepare(resume)
    first = training.steps_taken + 1
    if not processes.is_first:
        run_folder, progress = None, "off"
    reporter = EpochReporter(model, settings, len(labels), callbacks, progress, first)
    stop_request = StopRequest(processes.stop_signals)
    with History(run_folder, rows=rows) as history, reporter, stop_request as stop:
        for step in range(first, settings.steps + 1):
            result = training.take_step()
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
            if processes.is_first:
                reporter.step_done(step, history)
            # Read once, and agreed on: a Ctrl-C behind this line waits for a step.
            stopping = processes.any(stop.requested)
            keeper.step_done(history, stopping)
            if stopping:
                raise TrainingInterrupted(keeper.farewell(step))
    model.eval()
    return history


@dataclass(frozen=True)
class _StepResult:
    loss: float
    active_fraction: float
    embeddings: Tensor


class _Training:
    """One run's model, optimiser and random sequences: all that a checkpoint must hold."""

    def __init__(
        self,
        model: nn.Module,
        images: np.ndarray,
        labels: np.ndarray,
        settings: TrainingSettings,
        processes: distributed.Processes,
    ) -> None:
        self.settings, self.model, self.steps_taken = settings, model, 0
        self.processes = processes
        self.share = processes.equal_share(settings.identities, settings.images_per_identity)
        self.device = choose_device(settings.device)
        self.dtype = choose_precision(settings.precision, self.device)
        self.layout = choose_layout(self.device, self.dtype)
        if self.device.type == "cpu":
            keep_freed_memory()
        model.to(device=self.device, memory_format=self.layout)  # type: ignore[call-overload]
        model.train()
        self.network = processes.replica(model)
        # On a GPU the whole set lies there as bytes: a batch is then cut out without the CPU.
        self.images = torch.as_tensor(images).to(self.device)
        self.labels = torch.as_tensor(labels).to(self.device)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
        self.sampler = PKSampler(
            labels, settings.identities, settings.images_per_identity, settings.seed
        )
        self.batches = _endless(self.sampler)
        self.augmentation = torch.Generator().manual_seed(settings.seed)

    def take_step(self) -> _StepResult:
        """Draws a batch and follows its gradient; a loss that is not finite changes nothing."""
        indices = torch.tensor(next(self.batches), device=self.device)  # [B], alike everywhere
        batch = to_unit_interval(self.images[indices[self.share]], self.device)
        if self.settings.augment:
            batch = random_crop_flip(batch, self.augmentation, self.share.start, len(indices))
        batch = batch.contiguous(memory_format=self.layout)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            embeddings = self.network(batch)
        embeddings = self.processes.gather(embeddings)  # [B, D]
        result = LOSSES[self.settings.loss](
            embeddings, self.labels[indices], self.settings.margin, self.settings.metric
        )
        loss = result.loss.item()
        if math.isfinite(loss):
            self._update(result.loss)
        return _StepResult(loss, result.active_fraction.item(), embeddings.detach())

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "augmentation": self.augmentation.get_state(),
            "random": torch.get_rng_state(),
            "settings": self.description(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state_dict(state["sampler"])
        self.augmentation.set_state(state["augmentation"])
        torch.set_rng_state(state["random"])
        self.steps_taken = state["step"]

    def description(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed."""
        shapes = {name: list(value.shape) for name, value in self.model.state_dict().items()}
        data = {"images": list(self.images.shape), "identities": int(self.labels.unique().numel())}
        return {**asdict(self.settings), "data": data, "model": shapes}

    def _update(self, loss: Tensor) -> None:
        self.steps_taken += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate_at(self.steps_taken)
            group["betas"] = (self.settings.beta1_at(self.steps_taken), 0.999)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


class _Keeper:
    """Keeps a run's folder: the settings, and a checkpoint every so many steps."""

    def __init__(self, training: _Training, run_folder: Path | None, every: int | None) -> None:
        if every is not None and (run_folder is None or every < 1):
            raise ValueError(
                f"checkpoint_every must be at least 1 and needs a run_folder, got {every} and "
                f"{run_folder}"
            )
        self._training, self._run_folder, self._every = training, run_folder, every
        self._resume: Resume = False

    @property
    def _folder(self) -> Path | None:
        return None if self._run_folder is None else self._run_folder / "checkpoints"

    def prepare(self, resume: Resume) -> Tensor | None:
        """Brings back the newest good checkpoint or clears the folder; returns the history."""
        if resume not in (True, False, "unfinished"):
            raise ValueError(f"resume must be True, False or 'unfinished', got {resume!r}")
        self._resume = resume
        if self._folder is None or self._run_folder is None:
            return None
        run_folder, folder = self._run_folder, self._folder
        # The other processes may not even see the first one's disk.
        state = self._training.processes.from_first(lambda: self._open(run_folder, folder))
        if state is None:
            return None
        self._training.load_state_dict(state)
        return state["history"]

    def _open(self, run_folder: Path, folder: Path) -> dict[str, Any] | None:
        state = load_checkpoint(folder) if self._resume and checkpoint_steps(folder) else None
        if state is not None and self._resume == "unfinished" and _is_finished(state):
            state = None
        if state is not None:
            self._check_settings(state["settings"])
        else:
            # Otherwise an earlier run's checkpoints and embeddings could be taken for this run's.
            for file in (*folder.glob("step_*"), *run_folder.glob("embeddings/*.npz")):
                file.unlink()
        write_config(self._training.settings, run_folder)
        return state

    def _check_settings(self, saved: dict[str, Any]) -> None:
        differing = _differences(saved, self._training.description())
        if differing:
            raise CheckpointError(
                f"the run in {self._run_folder} was made with other settings: "
                f"{'; '.join(differing)}. Use the same, start over with resume=False, or choose "
                "another run folder"
            )

    def step_done(self, history: History, stopping: bool) -> None:
        """Saves a checkpoint when one is due, and before training stops."""
        if self._every is None or self._folder is None:
            return
        step = self._training.steps_taken
        if stopping or step % self._every == 0 or step == self._training.settings.steps:
            folder = self._folder
            self._training.processes.from_first(lambda: self._save(folder, step, history))

    def _save(self, folder: Path, step: int, history: History) -> None:
        state = {**self._training.state_dict(), "history": history.rows()}
        save_checkpoint(folder, step, state)

    def last(self) -> str:
        """Names the newest checkpoint for a message."""
        steps = [] if self._folder is None else checkpoint_steps(self._folder)
        return (
            f"the last checkpoint is of step {steps[-1]:,}" if steps else "there is no checkpoint"
        )

    def farewell(self, step: int) -> str:
        """What to tell whoever interrupted."""
        if self._every is None:
            return f"stopped after step {step:,}; nothing was saved (checkpoint_every is None)"
        how = "" if self._resume else " with resume=True"
        return f"stopped after step {step:,}, which is saved; run it again{how} to go on"


def write_config(settings: TrainingSettings, run_folder: Path) -> None:
    """Writes the settings and the versions they ran with to `config.yaml` of a run folder."""
    versions = {"torch": str(torch.__version__), "numpy": np.__version__}
    text = yaml.safe_dump({"training": asdict(settings), "versions": versions}, sort_keys=False)
    file = run_folder / "config.yaml"
    with explained_writing(file):
        run_folder.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _is_finished(state: dict[str, Any]) -> bool:
    return state["step"] >= state["settings"]["steps"]


def _differences(saved: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    if saved["model"] != wanted["model"]:
        return ["the network has other layers"]
    return [
        f"{key} was {saved.get(key)!r}, is {wanted.get(key)!r}"
        for key in sorted({*saved, *wanted} - {"model"})
        if saved.get(key) != wanted.get(key)
    ]


def _endless(sampler: PKSampler) -> Iterator[list[int]]:
    while True:
        yield from sampler


def _advice(loss: float, step: int, settings: TrainingSettings, keeper: _Keeper) -> str:
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
