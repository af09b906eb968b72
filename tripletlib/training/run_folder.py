"""Keeps a run's folder: the settings, and the checkpoints that a stopped training goes on from."""

import platform
from collections.abc import Mapping
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from torch import Tensor

from tripletlib.runtime import atomic_write, describe_machine, explained_writing
from tripletlib.training.checkpoints import (
    CheckpointError,
    checkpoint_steps,
    load_checkpoint,
    save_checkpoint,
)
from tripletlib.training.history import History
from tripletlib.training.step import Trainer

Resume = bool | Literal["unfinished"]


class RunKeeper:
    """Writes a run's settings and checkpoints, and brings a stopped run back.

    Args:
        trainer: what is saved and brought back.
        run_folder: the run's folder; None writes nothing.
        every: steps between two checkpoints; None saves none.
        parameters: what else decided the run, for `config.yaml`.

    Raises:
        ValueError: checkpoints without a run folder, or `every` < 1.
    """

    def __init__(
        self,
        trainer: Trainer,
        run_folder: Path | None,
        every: int | None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        if every is not None and (run_folder is None or every < 1):
            raise ValueError(
                f"checkpoint_every must be at least 1 and needs a run_folder, got {every} and "
                f"{run_folder}"
            )
        self._trainer, self._run_folder, self._every = trainer, run_folder, every
        self._parameters = dict(parameters or {})
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
        state = self._trainer.processes.from_first(lambda: self._open(run_folder, folder))
        if state is None:
            return None
        self._trainer.load_state_dict(state)
        return state["history"]

    def _open(self, run_folder: Path, folder: Path) -> dict[str, Any] | None:
        processes = self._trainer.processes
        # What torchrun starts again after a process died goes on, whatever was asked for.
        resume: Resume = True if processes.begun_before(run_folder) else self._resume
        state = load_checkpoint(folder) if resume and checkpoint_steps(folder) else None
        if state is not None and resume == "unfinished" and _is_finished(state):
            state = None
        if state is not None:
            self._check_settings(state["settings"])
        else:
            # Otherwise an earlier run's checkpoints and embeddings could be taken for this run's.
            for file in (*folder.glob("step_*"), *run_folder.glob("embeddings/*.npz")):
                file.unlink()
        for file in folder.glob(".step_*"):  # left by a process that was killed as it wrote
            file.unlink()
        if state is None or not (run_folder / "config.yaml").is_file():
            write_config(self._trainer, run_folder, self._parameters)
        processes.note_begun(run_folder)
        return state

    def _check_settings(self, saved: dict[str, Any]) -> None:
        differing = _differences(saved, self._trainer.description())
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
        step = self._trainer.steps_taken
        if stopping or step % self._every == 0 or step == self._trainer.settings.steps:
            folder = self._folder
            self._trainer.processes.from_first(lambda: self._save(folder, step, history))

    def _save(self, folder: Path, step: int, history: History) -> None:
        state = {**self._trainer.state_dict(), "history": history.rows()}
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


def write_config(trainer: Trainer, run_folder: Path, parameters: Mapping[str, Any]) -> None:
    """Writes to `config.yaml` of a run folder what the run's numbers rest on.

    Settings, network, data, machine, versions, and the day on which it began.

    Args:
        trainer: the training as it begins.
        run_folder: the folder; it is made when missing.
        parameters: written as `experiment`, unless empty.

    Raises:
        OSError: it cannot be written; the message names the file and the way out.
    """
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
        **({"experiment": dict(parameters)} if parameters else {}),
    }
    file = run_folder / "config.yaml"
    with (
        explained_writing(file),
        atomic_write(file) as unfinished,
        unfinished.open("w", encoding="utf-8") as stream,
    ):
        yaml.safe_dump(description, stream, sort_keys=False)


def _first_other_layer(saved: dict[str, Any], wanted: dict[str, Any]) -> str:
    names = [name for name in {**saved, **wanted} if saved.get(name) != wanted.get(name)]
    was, now = (layers.get(names[0], "not there") for layers in (saved, wanted))
    return f"the network has other layers, first {names[0]}: its shape was {was}, is {now}"


def _own_version() -> str:
    try:
        return version("tripletlib")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "not installed"


def _is_finished(state: dict[str, Any]) -> bool:
    return state["step"] >= state["settings"]["steps"]


def _differences(saved: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    if saved["model"] != wanted["model"]:
        return [_first_other_layer(saved["model"], wanted["model"])]
    return [
        f"{key} was {saved.get(key)!r}, is {wanted.get(key)!r}"
        for key in sorted({*saved, *wanted} - {"model"})
        if saved.get(key) != wanted.get(key)
    ]
