"""Keeps a run's folder: the settings, and the checkpoints that a stopped training goes on from."""

import hashlib
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
import yaml
from torch import Tensor

from tripletlib.runtime import atomic_write, describe_machine, exclusive_lock, explained_writing
from tripletlib.training.checkpoints import (
    CheckpointError,
    checkpoint_file,
    checkpoint_steps,
    load_checkpoint,
    save_checkpoint,
)
from tripletlib.training.history import History
from tripletlib.training.step import Trainer

Resume = bool | Literal["unfinished"]


class RunKeeper:
    """Writes a run's settings and checkpoints, and brings a stopped run back.

    Used in a `with` block: from `prepare` to its end nobody else can write the run's folder.

    Args:
        trainer: what is saved and brought back.
        run_folder: the run's folder; None writes nothing.
        every: steps between two checkpoints; None saves none.
        resume: see `fit`.
        parameters: what else decided the run, for `config.yaml`.

    Raises:
        ValueError: checkpoints without a run folder, `every` < 1, or another word for `resume`.
    """

    def __init__(
        self,
        trainer: Trainer,
        run_folder: Path | None,
        every: int | None,
        resume: Resume,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        if every is not None and (run_folder is None or every < 1):
            raise ValueError(
                f"checkpoint_every must be at least 1 and needs a run_folder, got {every} and "
                f"{run_folder}"
            )
        if resume not in (True, False, "unfinished"):
            raise ValueError(f"resume must be True, False or 'unfinished', got {resume!r}")
        self._trainer, self._run_folder, self._every = trainer, run_folder, every
        self._resume, self._parameters = resume, parameters
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def prepare(self) -> Tensor | None:
        """Brings back the newest good checkpoint or clears the folder; returns the history."""
        run_folder = self._run_folder
        if run_folder is None:
            return None
        # The other processes may not even see the first one's disk.
        state = self._trainer.processes.from_first(lambda: self._open(run_folder))
        if state is None:
            return None
        try:
            self._trainer.load_state_dict(state)
            return state["history"]
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            file = checkpoint_file(run_folder / "checkpoints", state["step"])
            raise CheckpointError(
                f"{file} does not fit this training ({type(error).__name__}: {error}); begin anew "
                "with resume: false"
            ) from error

    def _open(self, run_folder: Path) -> dict[str, Any] | None:
        processes, folder = self._trainer.processes, run_folder / "checkpoints"
        self._held.enter_context(_only_writer(run_folder))
        if self._every is not None:
            with explained_writing(folder):  # rather now than at the first checkpoint
                folder.mkdir(exist_ok=True)
        # What torchrun starts again after a process died goes on, whatever was asked for.
        resume: Resume = True if processes.begun_before(run_folder) else self._resume
        state = load_checkpoint(folder) if resume and checkpoint_steps(folder) else None
        if state and resume == "unfinished" and state["step"] >= state["settings"].get("steps", 0):
            state = None
        if state:
            self._check_settings(state["settings"])
        # Left by a process that was killed as it wrote
        stale = [*folder.glob(".step_????????-????????.pt")]
        if not state:  # an earlier run's files must not be taken for this run's
            stale += [checkpoint_file(folder, step) for step in checkpoint_steps(folder)]
            stale += [run_folder / "embeddings" / f"{part}.npz" for part in ("query", "gallery")]
        for file in stale:
            file.unlink(missing_ok=True)
        if not state or not (run_folder / "config.yaml").is_file():
            self._write_config(run_folder / "config.yaml")
        processes.note_begun(run_folder)
        return state

    def _check_settings(self, saved: dict[str, Any]) -> None:
        differing = _differences(saved, self._trainer.description())
        if differing:
            raise CheckpointError(
                f"the run in {self._run_folder} was made with other settings or data: "
                f"{'; '.join(differing)}. Use the same, start over with resume=False, or choose "
                "another run folder"
            )

    def step_done(self, history: History, stopping: bool) -> None:
        """Saves a checkpoint when one is due, and before training stops."""
        step, run_folder = self._trainer.steps_taken, self._run_folder
        if self._every is None or run_folder is None:
            return
        if stopping or step % self._every == 0 or step == self._trainer.settings.steps:
            self._trainer.processes.from_first(
                lambda: save_checkpoint(
                    run_folder / "checkpoints",
                    step,
                    {**self._trainer.state_dict(), "history": history.rows()},
                )
            )

    def last_checkpoint(self) -> str:
        """Names the newest checkpoint for a message."""
        folder = self._run_folder
        steps = [] if folder is None else checkpoint_steps(folder / "checkpoints")
        return f"the last checkpoint is of step {steps[-1]:,}" if steps else "nothing was saved"

    def stopped(self, step: int) -> str:
        """Says to whoever stopped the training where it stands, and how to go on."""
        if self._every is None:
            return f"stopped after step {step:,}; nothing was saved (checkpoint_every is None)"
        how = "" if self._resume else " with resume=True"
        return f"stopped after step {step:,}, which is saved; run it again{how} to go on"

    def _write_config(self, file: Path) -> None:
        """Writes what the run's numbers rest on, and the day on which it began."""
        trainer = self._trainer
        description = {
            "training": trainer.settings.model_dump(),
            "network": {
                "class": type(trainer.model).__name__,
                "parameters": sum(weights.numel() for weights in trainer.model.parameters()),
            },
            "data": trainer.data_description(),
            "machine": {
                **describe_machine(trainer.device),
                "precision": str(trainer.dtype).removeprefix("torch."),
                "processes": trainer.processes.count,
            },
            "versions": {
                "tripletlib": _own_version(),
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "numpy": np.__version__,
            },
            "started": date.today(),
            **({"experiment": dict(self._parameters)} if self._parameters else {}),
        }
        with (
            explained_writing(file),
            atomic_write(file) as unfinished,
            unfinished.open("w", encoding="utf-8") as stream,
        ):
            yaml.safe_dump(description, stream, sort_keys=False)


def _own_version() -> str:
    try:
        return version("tripletlib")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "not installed"


def _differences(saved: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    was, now = saved.get("model") or {}, wanted["model"]
    for name in {**was, **now}:
        if was.get(name) != now.get(name):
            shapes = f"was {was.get(name, 'not there')}, is {now.get(name, 'not there')}"
            return [f"the network has other layers, first {name}: its shape {shapes}"]
    data = saved.get("data")
    if not isinstance(data, dict) or "fingerprint" not in data:
        return ["it does not say on which pictures (an earlier version made it)"]
    if data != wanted["data"]:
        return [f"its training pictures or their labels were {data}, are {wanted['data']}"]
    return [
        f"{key} was {saved.get(key)!r}, is {wanted.get(key)!r}"
        for key in sorted({*saved, *wanted})
        if saved.get(key) != wanted.get(key)
    ]


def fingerprint_of(images: np.ndarray, labels: np.ndarray) -> str:
    """16 hexadecimal digits that stand for the content of images and labels."""
    digest = hashlib.sha256(f"{images.shape}".encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.asarray(labels).astype("<i8").tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def _only_writer(run_folder: Path) -> Iterator[None]:
    """Holds the lock of a run's folder; it ends with this process, however that ends.

    Raises:
        CheckpointError: another process holds it; the message says which, and on which machine.
    """
    file = run_folder / ".writer"
    with ExitStack() as held:
        try:
            with explained_writing(file):
                run_folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(exclusive_lock(file))
                file.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        except BlockingIOError:
            holder = file.read_text(encoding="utf-8") or "another process"
            raise CheckpointError(
                f"the run in {run_folder} is being written by {holder}; wait for its end, stop it, "
                "or choose another run name"
            ) from None
        yield
