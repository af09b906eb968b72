"""Checkpoints: written atomically, checked when they are read, free of code that could run."""

import logging
import re
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from tripletlib.runtime import atomic_write, explained_writing, from_repository

_LOG = logging.getLogger("tripletlib")


class CheckpointError(RuntimeError):
    """A run cannot be written, read or gone on with; the message names the file and the way out."""

    def _render_traceback_(self) -> list[str]:
        return [f"error: {self}"]  # IPython shows this in place of the frames


_KINDS = {"step": int, "model": dict, "settings": dict}  # what every checkpoint holds
_NAME = re.compile(r"step_([0-9]{8,})\.pt")


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Writes a checkpoint such as `step_00000100.pt` atomically, and waits until it is on the disk.

    Args:
        folder: the run's `checkpoints/`, made when missing.
        step: steps taken.
        state: tensors, numbers, strings, and lists and dictionaries of them.

    Returns:
        The file.

    Raises:
        CheckpointError: the disk is full or cannot be written. Earlier checkpoints stay whole.
    """
    file = checkpoint_file(folder, step)
    try:
        with (
            explained_writing(file),
            atomic_write(file, sync=True) as unfinished,
            unfinished.open("wb") as stream,
        ):
            torch.save({"step": step, **state}, stream)
    # torch turns some failures of the stream into RuntimeError.
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"checkpoint {file} could not be written ({error}); earlier checkpoints are untouched"
        ) from error
    return file


def load_checkpoint(folder: str | PathLike[str], step: int | None = None) -> dict[str, Any]:
    """Reads one checkpoint, by default the newest that is whole.

    Only tensors and plain values are read (`weights_only=True`): a file from a stranger can hold
    wrong weights but cannot run code.

    Args:
        folder: the run's `checkpoints/`; a relative path is meant from the repository.
        step: the one to load; None for the newest good one. Damaged newer ones are skipped with a
            notice.

    Returns:
        What was saved, and `step`.

    Raises:
        CheckpointError: there is none, or the one asked for is missing or damaged.
    """
    folder = from_repository(folder)
    if step is not None:
        return _read(folder, step)
    steps = checkpoint_steps(folder)
    for candidate in reversed(steps):
        try:
            return _read(folder, candidate)
        except CheckpointError as error:
            _LOG.warning("%s; it is passed over", error)
    if steps:
        raise CheckpointError(
            f"none of the {len(steps)} checkpoints in {folder} can be used; begin anew with "
            "resume: false, which replaces them, or name another run"
        )
    raise CheckpointError(f"no usable checkpoint in {folder}; train first, or check the run's name")


def checkpoint_steps(folder: str | PathLike[str]) -> list[int]:
    """Steps of all finished checkpoint files of a folder, ascending; not yet checked for damage.

    Files of other names, such as copies, are none.
    """
    folder = from_repository(folder)
    named = {int(match[1]): file for file in folder.glob("step_*.pt")
             if (match := _NAME.fullmatch(file.name))}  # fmt: skip
    return sorted(
        step
        for step, file in named.items()
        if file == checkpoint_file(folder, step) and file.is_file()
    )


def checkpoint_file(folder: str | PathLike[str], step: int) -> Path:
    """The file of one step."""
    return from_repository(folder) / f"step_{step:08d}.pt"


def _read(folder: Path, step: int) -> dict[str, Any]:
    file = checkpoint_file(folder, step)
    try:
        if not file.is_file():
            raise FileNotFoundError(file)
        # PyTorch reads its zip archives without looking at the checksums that it writes into them.
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"checksum of {damaged} is wrong")
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        there = ", ".join(map(str, checkpoint_steps(folder))) or "none"
        raise CheckpointError(f"no checkpoint {file}; steps there: {there}") from error
    except Exception as error:  # a damaged archive fails in many ways, none of them documented
        raise CheckpointError(f"checkpoint {file} is damaged ({error})") from error
    known = isinstance(state, dict) and all(
        isinstance(state.get(name), kind) for name, kind in _KINDS.items()
    )
    if not known or state["step"] != step:
        raise CheckpointError(f"{file} is no checkpoint of step {step:,} of a training")
    return state
