"""Keeps a run's folder: the settings, and the checkpoints that a stopped training goes on from.

Checkpoints are written atomically, checked when they are read, and free of code that could run.
"""

import hashlib
import logging
import os
import platform
import re
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

import numpy as np
import torch
import yaml
from torch import Tensor

from tripletlib.runtime import (
    AnyPath,
    OneLineError,
    atomic_write,
    describe_machine,
    exclusive_lock,
    explained_writing,
    from_repository,
)
from tripletlib.training.history import COLUMNS, History
from tripletlib.training.settings import TrainingSettings
from tripletlib.training.step import Trainer

Resume = bool | Literal["unfinished"]
_LOG = logging.getLogger("tripletlib")
_KINDS = {"step": int, "model": dict, "settings": dict}  # what every checkpoint holds
_NAME = re.compile(r"step_([0-9]{8}|[1-9][0-9]{8,})\.pt")
_OF_TRINET = "weights", "last_stride"


class CheckpointError(OneLineError, RuntimeError):
    """A run cannot be written, read or gone on with; the message names the file and the way out."""


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any]) -> None:
    """Writes a checkpoint such as `step_00000100.pt` atomically, and waits until it is on the disk.

    The folder, the run's `checkpoints/`, is made when missing; the state may hold tensors, numbers,
    strings, and lists and dictionaries of them. A CheckpointError if the disk is full or cannot be
    written; earlier checkpoints stay whole.
    """
    file = checkpoint_file(folder, step)
    try:
        with (
            explained_writing(file),
            atomic_write(file, sync=True) as unfinished,
            unfinished.open("wb") as stream,
        ):
            torch.save({"step": step, **state}, stream)
    except (OSError, RuntimeError) as error:  # torch makes RuntimeErrors of some failed writes
        raise CheckpointError(
            f"checkpoint {file} could not be written ({error}); earlier checkpoints are untouched"
        ) from error


def load_checkpoint(folder: AnyPath, step: int | None = None) -> dict[str, Any]:
    """Reads what one checkpoint holds and its `step`, by default of the newest that is whole.

    Only tensors and plain values are read (`weights_only=True`): a file from a stranger can hold
    wrong weights but cannot run code. Without a `step`, damaged newer ones are passed over with a
    notice. The folder is the run's `checkpoints/`, a relative path is meant from the repository.

    Raises:
        CheckpointError: there is none, or the one asked for is missing or damaged.
    """
    if step is not None:
        return _read(checkpoint_file(folder, step), step)
    steps = checkpoint_steps(folder)
    for candidate in reversed(steps):
        try:
            return _read(checkpoint_file(folder, candidate), candidate)
        except CheckpointError as error:
            _LOG.warning("%s; it is passed over", error)
    folder = from_repository(folder)
    if steps:
        raise CheckpointError(
            f"none of the {len(steps)} checkpoints in {folder} can be used; begin anew with "
            "resume: false, which replaces them, or name another run"
        )
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; move it away, or name another run")
    raise CheckpointError(f"no usable checkpoint in {folder}; train first, or check the run's name")


def checkpoint_steps(folder: AnyPath) -> list[int]:
    """Steps of a folder's checkpoint files, ascending; copies and other names are none of them."""
    files = from_repository(folder).glob("step_*.pt")
    named = ((_NAME.fullmatch(file.name), file) for file in files)
    return sorted(int(name[1]) for name, file in named if name and file.is_file())


def checkpoint_file(folder: AnyPath, step: int) -> Path:
    """The file of one step."""
    return from_repository(folder) / f"step_{step:08d}.pt"


def _read(file: Path, step: int) -> dict[str, Any]:
    if not file.is_file():
        there = ", ".join(map(str, checkpoint_steps(file.parent))) or "none"
        raise CheckpointError(f"no checkpoint {file}; steps there: {there}")
    try:
        # PyTorch reads its zip archives without looking at the checksums that it writes into them.
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"checksum of {damaged} is wrong")
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive fails in many ways, none of them documented
        raise CheckpointError(f"checkpoint {file} is damaged ({error})") from error
    held = state if isinstance(state, dict) else {}
    fits = all(isinstance(held.get(name), kind) for name, kind in _KINDS.items())
    if not fits or held["step"] != step:
        raise CheckpointError(f"{file} is no checkpoint of step {step:,} of a training")
    return held


@dataclass
class RunKeeper(ExitStack):
    """Writes a run's settings and checkpoints, and brings a stopped run back.

    From `prepare` to the end of its `with` block nobody else can write the run's folder.
    """

    trainer: Trainer
    run_folder: Path | None
    every: int | None  # the `checkpoint_every` of `fit`, where the others are explained too
    resume: Resume
    parameters: Mapping[str, Any] | None

    def __post_init__(self) -> None:
        super().__init__()
        if self.every is not None and (self.run_folder is None or self.every < 1):
            raise ValueError(
                "checkpoint_every must be at least 1 and needs a run_folder, got "
                f"{self.every} and {self.run_folder}"
            )
        if self.resume not in (True, False, "unfinished"):
            raise ValueError(f"resume must be True, False or 'unfinished', got {self.resume!r}")

    def prepare(self) -> Tensor | None:
        """Brings back the newest good checkpoint or clears the folder; returns the history."""
        run_folder = self.run_folder
        if run_folder is None:
            return None
        # The other processes may not even see the first one's disk.
        state = self.trainer.processes.from_first(lambda: self._open(run_folder))
        if state is None:
            return None
        try:
            self.trainer.load_state_dict(state)
            log, steps = state["history"], range(1, state["step"] + 1)
            if log.shape != (len(steps), len(COLUMNS)) or log[:, 0].tolist() != [*steps]:
                raise ValueError(f"its log, of the shape {list(log.shape)}, is not of these steps")
            return log
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            file = checkpoint_file(run_folder / "checkpoints", state["step"])
            reason = shorten(f"{type(error).__name__}: {error}", 300)
            raise CheckpointError(
                f"{file} does not fit this training ({reason}); begin anew with resume: false"
            ) from error

    def _open(self, run_folder: Path) -> dict[str, Any] | None:
        processes, folder = self.trainer.processes, run_folder / "checkpoints"
        self._lock(run_folder / ".writer")
        if self.every is not None:
            with explained_writing(folder):  # rather now than at the first checkpoint
                folder.mkdir(exist_ok=True)
        # What torchrun starts again after a process died goes on, whatever was asked for.
        resume: Resume = True if processes.begun_before(run_folder) else self.resume
        state = load_checkpoint(folder) if resume and checkpoint_steps(folder) else None
        if state and resume == "unfinished" and state["step"] == state["settings"].get("steps"):
            state = None
        stale = [*folder.glob(".step_????????-????????.pt")]  # of a process killed as it wrote
        if state:
            differing = _differences(state["settings"], self._identity())
            if differing:
                raise CheckpointError(
                    f"the run in {run_folder} was made with other settings or data: {differing}. "
                    "Use the same, start over with resume=False, or choose another run folder"
                )
        else:  # an earlier run's files must not be taken for this run's
            stale += [checkpoint_file(folder, step) for step in checkpoint_steps(folder)]
            stale += [run_folder / "embeddings" / f"{part}.npz" for part in ("query", "gallery")]
            stale += [run_folder / "scores.csv"]
        for file in stale:
            with explained_writing(file):
                file.unlink(missing_ok=True)
        if not state or not (run_folder / "config.yaml").is_file():
            self._write_config(run_folder / "config.yaml")
        processes.note_begun(run_folder)
        return state

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on."""
        # Those of the parameters that the shapes of the weights do not tell.
        parameters = self.parameters or {}
        decisive = _OF_TRINET if parameters.get("network") == "trinet" else ()
        named = {name: parameters.get(name) for name in ("start_from", *decisive)}
        return self.trainer.description() | {name: it for name, it in named.items() if it}

    def _lock(self, file: Path) -> None:
        """Keeps other writers away; the lock ends with this process, however that ends."""
        try:
            with explained_writing(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                self.enter_context(exclusive_lock(file))
                file.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        except BlockingIOError:
            holder = file.read_text(encoding="utf-8", errors="replace") or "another process"
            raise CheckpointError(
                f"the run in {file.parent} is being written by {holder}; wait for its end, stop "
                "it, or choose another run name"
            ) from None

    def step_done(self, history: History, stopping: bool) -> None:
        """Saves a checkpoint when one is due, and before training stops."""
        trainer, run_folder = self.trainer, self.run_folder
        step, last = trainer.steps_taken, trainer.settings.steps
        if self.every is None or run_folder is None:
            return
        if not stopping and step % self.every and step != last:
            return
        folder = run_folder / "checkpoints"
        more = {"settings": self._identity(), "history": history.rows()}
        trainer.processes.from_first(
            lambda: save_checkpoint(folder, step, trainer.state_dict() | more)
        )

    def last_checkpoint(self) -> str:
        """Names the newest checkpoint for a message."""
        folder = self.run_folder
        steps = [] if folder is None else checkpoint_steps(folder / "checkpoints")
        return f"the last checkpoint is of step {steps[-1]:,}" if steps else "nothing was saved"

    def stopped(self, step: int) -> str:
        """Says to whoever stopped the training where it stands, and how to go on."""
        if self.every is None:
            return (
                f"stopped after step {step:,}; nothing was saved (checkpoint_every is None): make "
                "the network anew before you train again"
            )
        how = "" if self.resume else " with resume=True"
        return f"stopped after step {step:,}, which is saved; run it again{how} to go on"

    def _write_config(self, file: Path) -> None:
        """Writes what the run's numbers rest on, and the day on which it began."""
        trainer = self.trainer
        try:
            own_version = version("tripletlib")
        except PackageNotFoundError:  # run from a checkout that was never installed
            own_version = "not installed"
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
                "tripletlib": own_version,
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "numpy": np.__version__,
            },
            "started": date.today(),
            **({"experiment": dict(self.parameters)} if self.parameters else {}),
        }
        with explained_writing(file), atomic_write(file) as unfinished:
            unfinished.write_text(yaml.safe_dump(description, sort_keys=False), encoding="utf-8")


def _differences(saved: dict[str, Any], wanted: dict[str, Any]) -> str:
    """What keeps a checkpoint's run from going on as the wanted one; empty where nothing does."""
    was, now = saved.get("model"), wanted["model"]
    was = was if isinstance(was, dict) else {}
    for name in {**was, **now}:
        if was.get(name) != now.get(name):
            shapes = f"was {was.get(name, 'not there')}, is {now.get(name, 'not there')}"
            return f"the network has other layers, first {name}: its shape {shapes}"
    data = saved.get("data")
    if not isinstance(data, dict) or "fingerprint" not in data:
        return "it does not say on which pictures (an earlier version made it)"
    if data != wanted["data"]:
        return f"its training pictures or their labels were {data}, are {wanted['data']}"
    # Whatever a run did not say yet when it began, it had as it is by default.
    saved = TrainingSettings().model_dump() | saved | {"compiled": wanted["compiled"]}
    return "; ".join(
        f"{key} was {saved.get(key)!r}, is {wanted.get(key)!r}"
        for key in sorted({*saved, *wanted})
        if saved.get(key) != wanted.get(key)
    )


def fingerprint_of(images: np.ndarray, labels: np.ndarray) -> str:
    """16 hexadecimal digits that stand for the content of images and labels."""
    digest = hashlib.sha256(f"{images.shape}".encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.asarray(labels).astype("<i8").tobytes())
    return digest.hexdigest()[:16]
