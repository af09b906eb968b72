"""Checkpoints: written atomically, checked when they are read, free of code that could run."""

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tripletlib.runtime import atomic_write

_LOG = logging.getLogger("tripletlib")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, read or used; the message names the file and the way out."""


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
        with atomic_write(file, sync=True) as unfinished, unfinished.open("wb") as stream:
            torch.save({"step": step, **state}, stream)
    # torch turns some failures of the stream into RuntimeError.
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"checkpoint {file} could not be written ({error}); earlier checkpoints are untouched. "
            "Free disk space or name another runs folder with TRIPLETLIB_RUNS, then resume"
        ) from error
    return file


def load_checkpoint(folder: Path, step: int | None = None) -> dict[str, Any]:
    """Reads one checkpoint, by default the newest that is whole.

    Only tensors and plain values are read (`weights_only=True`): a file from a stranger can hold
    wrong weights but cannot run code.

    Args:
        folder: the run's `checkpoints/`.
        step: the one to load; None for the newest good one. Damaged newer ones are skipped with a
            notice.

    Returns:
        What was saved, and `step`.

    Raises:
        CheckpointError: there is none, or the one asked for is missing or damaged.
    """
    if step is not None:
        return _read(checkpoint_file(folder, step), folder)
    for candidate in reversed(checkpoint_steps(folder)):
        try:
            return _read(checkpoint_file(folder, candidate), folder)
        except CheckpointError as error:
            _LOG.warning("%s; trying the one before", error)
    raise CheckpointError(f"no usable checkpoint in {folder}; train first, or check the run's name")


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps of all finished checkpoint files of a folder, ascending; not yet checked for damage."""
    return sorted(int(file.stem.removeprefix("step_")) for file in folder.glob("step_*.pt"))


def checkpoint_file(folder: Path, step: int) -> Path:
    """The file of one step."""
    return folder / f"step_{step:08d}.pt"


def _read(file: Path, folder: Path) -> dict[str, Any]:
    try:
        # PyTorch reads its zip archives without looking at the checksums that it writes into them.
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"checksum of {damaged} is wrong")
        return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        there = ", ".join(map(str, checkpoint_steps(folder))) or "none"
        raise CheckpointError(f"no checkpoint {file}; steps there: {there}") from error
    except Exception as error:  # a damaged archive fails in many ways, none of them documented
        raise CheckpointError(f"checkpoint {file} is damaged ({error})") from error
