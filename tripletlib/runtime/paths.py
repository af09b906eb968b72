"""Where data and runs live, whatever folder the program was started in.

papermill, nbval, JupyterLab and a terminal all start in different working directories, so
nothing here looks at it: paths hang on the repository root or on two environment variables.
"""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def data_root() -> Path:
    """Folder of downloaded or generated data: `TRIPLETLIB_DATA`, else `data/` in the repository."""
    return _from_environment("TRIPLETLIB_DATA", "data")


def runs_root() -> Path:
    """Folder that collects the run folders: `TRIPLETLIB_RUNS`, else `runs/` in the repository."""
    return _from_environment("TRIPLETLIB_RUNS", "runs")


def run_folder(name: str) -> Path:
    """Folder of one run.

    Args:
        name: the run's name, a relative path below the runs root such as `"01_mnist_quick"`.

    Returns:
        `runs_root() / name`; it is not created here.

    Raises:
        ValueError: the name is empty, absolute or leads out of the runs root.
    """
    relative = Path(name)
    if relative.anchor or not relative.parts or ".." in relative.parts:
        raise ValueError(f"run name {name!r} must name a folder below {runs_root()}")
    return runs_root() / relative


def _from_environment(variable: str, default: str) -> Path:
    # A relative value is meant from the repository too: "never the working directory" has no
    # exceptions. `REPOSITORY / absolute_path` is the absolute path itself.
    return REPOSITORY / Path(os.environ.get(variable) or default).expanduser()
