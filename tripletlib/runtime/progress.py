"""Shows how far long work is: a bar where somebody watches, else a line per epoch."""

import os
import sys
from typing import Any, Literal

from tqdm.auto import tqdm

Progress = Literal["auto", "bar", "lines", "off"]

# Set for the kernels that these front ends start, and by nothing that runs a notebook headless.
_LIVE_FRONT_ENDS = ("JPY_SESSION_NAME", "VSCODE_CWD", "COLAB_RELEASE_TAG")


def in_live_notebook() -> bool:
    """Whether this process is the kernel of a notebook that somebody has open.

    papermill and nbval start kernels too, but nobody sees those, and bars and live plots would
    only fill the saved outputs.
    """
    return "ipykernel" in sys.modules and any(name in os.environ for name in _LIVE_FRONT_ENDS)


def resolve_progress(progress: Progress) -> Progress:
    """Turns `"auto"` into `"bar"` (open notebook or terminal) or `"lines"` (anything else).

    Raises:
        ValueError: a word that is not one of the four.
    """
    if progress not in ("auto", "bar", "lines", "off"):
        raise ValueError(f"progress must be 'auto', 'bar', 'lines' or 'off', got {progress!r}")
    if progress != "auto":
        return progress
    return "bar" if in_live_notebook() or sys.stderr.isatty() else "lines"


def progress_bar(total: int, unit: str, progress: Progress, **options: Any) -> tqdm:
    """A tqdm bar that stays silent unless `progress` resolves to `"bar"`."""
    return tqdm(total=total, unit=unit, disable=resolve_progress(progress) != "bar", **options)
