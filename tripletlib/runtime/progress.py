"""Shows how far long work is: a bar where somebody watches, else a line per epoch."""

import os
import sys
from pathlib import Path
from typing import Any, Literal, get_args

from tqdm.auto import tqdm

from tripletlib.runtime.optional import optional_package

Progress = Literal["auto", "bar", "lines", "off"]

# Set for the kernels of JupyterLab and Notebook, VS Code (not tried), Colab (not tried) and Voila
_FRONT_ENDS = ("JPY_SESSION_NAME", "VSCODE_CWD", "COLAB_RELEASE_TAG", "VOILA_BASE_URL")
# These start kernels that nobody watches; inside an open notebook they inherit its environment.
_EXECUTORS = {"ipykernel_launcher", "papermill", "jupyter-nbconvert", "nbconvert", "pytest"}
_EXECUTORS |= {"jupyter-execute", "jupyter-run", "tripletlib"}


def in_live_notebook() -> bool:
    """Whether this process is the kernel of a notebook or a Voila page that somebody has open.

    In the kernels of papermill, nbval and nbconvert, bars and widgets would only fill the outputs.
    """
    if "ipykernel" not in sys.modules or not any(name in os.environ for name in _FRONT_ENDS):
        return False
    psutil = optional_package("psutil", "every kernel of a front end counts as a live notebook's")
    if psutil is None:
        return True
    try:
        parent = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:  # ended, or of another user
        return True
    return _EXECUTORS.isdisjoint(Path(word).stem for word in parent[:4])


def resolve_progress(progress: Progress) -> Progress:
    """Turns `"auto"` into `"bar"` (open notebook or terminal) or `"lines"` (anything else).

    A ValueError for a word that is not one of the four.
    """
    if progress not in get_args(Progress):
        raise ValueError(f"progress must be 'auto', 'bar', 'lines' or 'off', got {progress!r}")
    if progress != "auto":
        return progress
    return "bar" if in_live_notebook() or sys.stderr.isatty() else "lines"


def progress_bar(total: int, unit: str, progress: Progress, **options: Any) -> tqdm:
    """A tqdm bar that stays silent unless `progress` resolves to `"bar"`."""
    return tqdm(total=total, unit=unit, disable=resolve_progress(progress) != "bar", **options)
