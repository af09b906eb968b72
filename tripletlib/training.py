"""Trains any embedding network with a triplet loss."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from tripletlib import progress as progress_display
from tripletlib.embedding import to_unit_interval
from tripletlib.hardware import choose_device, choose_layout, choose_precision
from tripletlib.history import History
from tripletlib.sampling import PKSampler
from tripletlib.settings import LOSSES, TrainingSettings


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


class NonFiniteLossError(FloatingPointError):
    """The loss became NaN or infinite; the message names the step and the learning rate."""


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
) -> History:
    """Trains a network in place; it ends in evaluation mode.

    Args:
        model: network from float images `[B, C, H, W]` to embeddings `[B, D]`.
        images: uint8 `[N, C, H, W]`.
        labels: identity of each image, `[N]`.
        settings: see `TrainingSettings`.
        run_folder: gets `config.yaml`, `history.csv` and `tensorboard/`; those of an earlier run
            are replaced. None writes nothing.
        callbacks: called with an `EpochReport` after each epoch.
        progress: `"auto"`, `"bar"`, `"lines"` (one per epoch) or `"off"`.

    Returns:
        The `History`.

    Raises:
        NonFiniteLossError: the loss became NaN or infinite.
        ValueError: images that do not fit the labels, too few identities, no valid triplet.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), section 4.2.
    """
    _check(images, labels)
    device = choose_device(settings.device)
    dtype = choose_precision(settings.precision, device)
    layout = choose_layout(device, dtype)
    model.to(device=device, memory_format=layout).train()  # type: ignore[call-overload]
    sampler = PKSampler(labels, settings.identities, settings.images_per_identity, settings.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    if run_folder is not None:
        write_config(settings, run_folder)
    pixels, identities = torch.as_tensor(images), torch.as_tensor(labels)
    reporter = _Reporter(model, settings, len(labels), callbacks, progress)
    with History(run_folder) as history, reporter:
        for step, indices in zip(range(1, settings.steps + 1), _endless(sampler), strict=False):
            batch = to_unit_interval(pixels[indices], device).contiguous(memory_format=layout)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                embeddings = model(batch)
            result = LOSSES[settings.loss](
                embeddings, identities[indices].to(device), settings.margin, settings.metric
            )
            loss = result.loss.item()
            _check_finite(loss, step, settings)
            _update(optimizer, result.loss, settings, step)
            history.record(
                step=step,
                learning_rate=settings.learning_rate_at(step),
                loss=loss,
                active_fraction=result.active_fraction.item(),
                embeddings=embeddings,
                metric=settings.metric,
            )
            reporter.step_done(step, history)
    model.eval()
    return history


def write_config(settings: TrainingSettings, run_folder: Path) -> None:
    """Writes the settings and the versions they ran with to `config.yaml` of a run folder."""
    run_folder.mkdir(parents=True, exist_ok=True)
    versions = {"torch": str(torch.__version__), "numpy": np.__version__}
    text = yaml.safe_dump({"training": asdict(settings), "versions": versions}, sort_keys=False)
    (run_folder / "config.yaml").write_text(text, encoding="utf-8")


class _Reporter:
    """Drives the bar, the epoch lines and the callbacks."""

    def __init__(
        self,
        model: nn.Module,
        settings: TrainingSettings,
        images: int,
        callbacks: Sequence[Callable[[EpochReport], None]],
        progress: progress_display.Progress,
    ) -> None:
        batch_size = settings.identities * settings.images_per_identity
        self._model, self._callbacks = model, callbacks
        self._steps = settings.steps
        self._per_epoch = settings.steps_per_epoch or math.ceil(images / batch_size)
        self._lines = progress_display.resolve(progress) == "lines"
        self._bar = progress_display.bar(settings.steps, "step", progress, desc="training")
        self._start = time.perf_counter()

    def __enter__(self) -> "_Reporter":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def step_done(self, step: int, history: History) -> None:
        self._bar.update()
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


def _endless(sampler: PKSampler) -> Iterator[list[int]]:
    while True:
        yield from sampler


def _update(
    optimizer: torch.optim.Optimizer, loss: Tensor, settings: TrainingSettings, step: int
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate_at(step)
        group["betas"] = (settings.beta1_at(step), 0.999)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def _check(images: np.ndarray, labels: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(
            f"images must be uint8 [N, C, H, W], got {images.dtype} {list(images.shape)}"
        )
    if labels.shape != (len(images),):
        raise ValueError(f"{len(images)} images need labels [{len(images)}], got {labels.shape}")


def _check_finite(loss: float, step: int, settings: TrainingSettings) -> None:
    if not math.isfinite(loss):
        raise NonFiniteLossError(
            f"the loss is {loss} at step {step} (learning rate "
            f"{settings.learning_rate_at(step):.2e}); lower learning_rate, or look for NaN and "
            "infinite values in the network's output"
        )
