"""Where data and runs live, whatever folder the program was started in.

papermill, nbval, JupyterLab and a terminal start in different working directories: paths hang on
the repository root or on two environment variables.
"""

import os
from os import PathLike
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
AnyPath = str | PathLike[str]


class OneLineError(Exception):
    """What a user can mend: told in one line, in a notebook too."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())

    def _render_traceback_(self) -> list[str]:
        return [f"error: {self}"]  # IPython shows this in place of the frames


class ParameterError(OneLineError, ValueError):
    """A parameter that cannot be used; one line names it, its value and what to write instead."""


def from_repository(path: AnyPath) -> Path:
    """The path with `~` expanded; a relative one is meant from the repository."""
    return REPOSITORY / Path(path).expanduser()  # an absolute path stays what it is


def data_root() -> Path:
    """Folder of downloaded or generated data: `TRIPLETLIB_DATA`, else `data/` in the repository."""
    return from_repository(os.environ.get("TRIPLETLIB_DATA") or "data")


def runs_root() -> Path:
    """Folder that collects the run folders: `TRIPLETLIB_RUNS`, else `runs/` in the repository."""
    return from_repository(os.environ.get("TRIPLETLIB_RUNS") or "runs")


def run_folder(name: str) -> Path:
    """Folder of one run, such as `"01_mnist_quick"`, below the runs root; not created here.

    A ParameterError if the name is no text, is empty or absolute, or leads out of the runs root.
    """
    relative = Path(name) if isinstance(name, str) and name.isprintable() else Path()
    if relative.anchor or not relative.parts or ".." in relative.parts or name[0] == "~":
        raise ParameterError(
            f"run name {name!r} must name a folder below {runs_root()}, such as 'my_run'"
        )
    return runs_root() / relative
