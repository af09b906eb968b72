"""Checkpoints: written atomically, checked when they are read, free of code that could run."""

import logging
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tripletlib.runtime import (
    AnyPath,
    OneLineError,
    atomic_write,
    explained_writing,
    from_repository,
)

_LOG = logging.getLogger("tripletlib")
_KINDS = {"step": int, "model": dict, "settings": dict}  # what every checkpoint holds
_NAME = re.compile(r"step_([0-9]{8}|[1-9][0-9]{8,})\.pt")


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
