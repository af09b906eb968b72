"""Executes the notebooks headless (`make run`), and renews their outputs (`make notebooks`)."""

import argparse
import ast
import base64
import io
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import papermill
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from PIL import Image

from tripletlib.experiments import Experiment
from tripletlib.publishing.pages import write_page
from tripletlib.runtime import (
    HEADLINES,
    REPOSITORY,
    AnyPath,
    ParameterError,
    from_repository,
    run_folder,
    runs_root,
)
from tripletlib.training import find_parameter_file, no_such_parameter, read_parameter_file, spelled

NOTEBOOKS = REPOSITORY / "notebooks"
# The kernel's note that it talks unencrypted over loopback would stand between the progress lines.
_QUIET_KERNEL = ["--IPKernelApp.log_level=40"]


@dataclass(frozen=True)
class Outcome:
    """How one notebook went."""

    path: Path  # the executed notebook; its HTML page lies beside it
    seconds: float  # from start to end
    error: str | None  # the cell and what it raised
    headlines: Mapping[str, str]  # what `show_headlines` displayed


def find_notebooks(folder: AnyPath = NOTEBOOKS) -> list[Path]:
    """The notebooks of a folder in the order of their numbers."""
    return sorted(from_repository(folder).glob("[0-9][0-9]_*.ipynb"))


def read_parameters(file: AnyPath, folder: AnyPath = NOTEBOOKS) -> tuple[Path, dict[str, Any]]:
    """The notebook that the number of a parameter file names, and the parameters in it.

    Raises:
        ParameterError: no such file or notebook, or a parameter is missing, unknown or of another
            kind; one line says which.
    """
    file = find_parameter_file(file)
    parameters = read_parameter_file(file)
    notebook = notebook_of(file, folder)
    check_parameters(file, notebook, [parameters])
    return notebook, parameters


def notebook_of(file: Path, folder: AnyPath = NOTEBOOKS) -> Path:
    """The notebook that a parameter file's number names; a ParameterError if there is none."""
    for notebook in find_notebooks(folder):
        if notebook.name[:3] == file.name[:3]:
            return notebook
    raise ParameterError(f"{file}: its name must begin with a notebook's number, such as 01_")


def takes_experiment(notebook: Path) -> bool:
    """Whether a notebook takes whatever an `Experiment` has, more than its first cell shows."""
    return "Experiment.from_notebook" in notebook.read_text(encoding="utf-8")


def check_parameters(file: Path, notebook: Path, runs: Sequence[Mapping[str, Any]]) -> None:
    """Raises a ParameterError if the notebook cannot take the parameters of a file's runs."""
    if takes_experiment(notebook):
        for parameters in runs:
            try:
                Experiment(**parameters)
            except ParameterError as error:
                raise ParameterError(f"{file}, {error}") from None
        return
    known = papermill.inspect_notebook(str(notebook))
    given = [item for parameters in runs for item in parameters.items()]
    problems = [_problem(name, value, known) for name, value in given]
    if "run_name" in known and "run_name" not in dict(given):
        problems.append(f"run_name is missing; add it, for example run_name: {file.stem}")
    if any(problems):
        raise ParameterError(f"{file}, {'; '.join(dict.fromkeys(filter(None, problems)))}")


def _problem(name: str, value: object, known: Mapping[str, Any]) -> str:
    """What is wrong with a parameter, or nothing; papermill itself would only warn."""
    if name not in known:
        return no_such_parameter(name, known)
    default = ast.literal_eval(known[name]["default"])
    alike = type(value) is type(default) or (type(value) is int and isinstance(default, float))
    if alike or (isinstance(value, str) and f'"{value}"' in known[name]["help"]):
        return ""  # of the default's type, or a word that the parameter's comment offers
    return f"{name}: {spelled(value)} should be of the kind of {spelled(default)}, its default"


def execute(
    notebook: AnyPath,
    output: AnyPath,
    parameters: Mapping[str, Any] | None = None,
    *,
    echo: bool = False,
) -> Outcome:
    """Executes one notebook and writes an HTML page beside the result.

    Args:
        notebook: the notebook.
        output: where the executed copy goes; it is written even when a cell fails.
        parameters: replace the defaults of the cell tagged `parameters`.
        echo: pass on what the cells print, for long experiments.

    Returns:
        The `Outcome`; an error is in it, not raised.
    """
    notebook, output = from_repository(notebook), from_repository(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    start, error, headlines = time.perf_counter(), None, {}
    try:
        papermill.execute_notebook(
            notebook,
            output,
            parameters=dict(parameters or {}),
            progress_bar=sys.stderr.isatty() and not echo,
            stdout_file=sys.stdout if echo else None,
            extra_arguments=_QUIET_KERNEL,
        )
    except PapermillExecutionError as failure:
        error = f"cell [{failure.exec_count}]: {failure.ename}: {failure.evalue}"
    except Exception as failure:  # a dead kernel, say: the other notebooks still run
        error = f"{type(failure).__name__}: {failure}"
    seconds = time.perf_counter() - start
    if output.is_file():
        executed = nbformat.read(output, as_version=4)
        headlines = find_headlines(executed)
        write_page(output, notebook.parent)
    return Outcome(output, seconds, error, headlines)


def find_headlines(notebook: NotebookNode) -> dict[str, str]:
    """The numbers that `show_headlines` displayed in an executed notebook, by name."""
    return {
        name: value
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for name, value in output.get("data", {}).get(HEADLINES, [])
    }


def run_all(notebooks: Sequence[Path], folder: Path) -> list[Outcome]:
    """Executes notebooks at their committed parameters into a folder."""
    outcomes = []
    for number, notebook in enumerate(notebooks, start=1):
        print(f"[{number}/{len(notebooks)}] {notebook.name} ...", flush=True)
        outcome = execute(notebook, folder / notebook.name)
        said = f"FAILED, {outcome.error}" if outcome.error else f"done in {outcome.seconds:.0f} s"
        print(f"      {said}", flush=True)
        outcomes.append(outcome)
    return outcomes


def refresh(notebooks: Sequence[Path]) -> list[Outcome]:
    """Executes notebooks and puts the results in their place; one that fails stays as it was."""
    outcomes = run_all(notebooks, runs_root() / "refresh")
    for notebook, outcome in zip(notebooks, outcomes, strict=True):
        if outcome.error is None:
            nbformat.write(clean(nbformat.read(outcome.path, as_version=4)), notebook)
    return outcomes


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows of cells as text, in columns."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


def _summary(outcomes: Sequence[Outcome]) -> str:
    rows = [("notebook", "seconds", "headline numbers", "executed notebook (page: .html)")]
    for outcome in outcomes:
        numbers = ", ".join(f"{name} {value}" for name, value in outcome.headlines.items())
        said = "FAILED" if outcome.error else numbers
        rows.append((outcome.path.stem, f"{outcome.seconds:.0f}", said, str(outcome.path)))
    return table(rows)


def folder_parser(command: str, what: str, folder: Path) -> argparse.ArgumentParser:
    """Parses the options of a command that fills a folder."""
    parser = argparse.ArgumentParser(prog=f"tripletlib {command}", description=what)
    wanted = "the folder to write to"
    parser.add_argument("--output", type=from_repository, default=folder, help=wanted)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status, 1 if a notebook failed and 2 for bad parameters."""
    parser = argparse.ArgumentParser(
        prog="tripletlib notebooks", description="Execute the notebooks headless."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("refresh", help="renew the committed outputs")
    run = commands.add_parser("run", help="execute all into runs/default/, or one experiment")
    run.add_argument("--params", type=find_parameter_file, help="a file of notebooks/params/")
    options = parser.parse_args(arguments)
    # Inherited from a JupyterLab, it would make the kernels believe that somebody is watching.
    os.environ.pop("JPY_SESSION_NAME", None)
    if options.command == "refresh":
        outcomes = refresh(find_notebooks())
    elif options.params is None:
        outcomes = run_all(find_notebooks(), runs_root() / "default")
    else:
        notebook, parameters = read_parameters(options.params)
        output = run_folder(parameters.get("run_name", options.params.stem)) / notebook.name
        outcomes = [execute(notebook, output, parameters, echo=True)]
    print(f"\n{_summary(outcomes)}")
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        print(f"\nFAILED {outcome.path.stem}, {outcome.error}", file=sys.stderr)
    return 1 if failed else 0


_PALETTES = 32, 64, 128, 256  # numbers of colours to try
_VISIBLE = 0.5  # mean change of a pixel, of 255, from which a palette shows
_QUALITY = 60  # with full resolution of the colours, so that coloured text stays crisp


def clean(notebook: NotebookNode) -> NotebookNode:
    """Drops from an executed notebook what only this execution knows, and shrinks the pictures.

    Widget state and papermill's times go; pieces of printed text are joined; plots get a palette,
    photographs become JPEG. The notebook is changed in place and returned.
    """
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        kept = ("tags", "slideshow", "lecture")  # the last two choose what slides show
        cell.metadata = {key: cell.metadata[key] for key in kept if cell.metadata.get(key)}
        CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, number)
        for output in cell.get("outputs", []):
            _clean_output(output)
    return notebook


def shrink_png(data: bytes) -> tuple[str, bytes]:
    """Reduces a PNG to a palette if that does not show, or to a JPEG if that is smaller.

    A plot has few colours and stays a PNG; a figure with photographs or drawn people has thousands
    and becomes a JPEG. An animated PNG is left as it is. Returns MIME type and bytes.
    """
    picture = Image.open(io.BytesIO(data))
    if getattr(picture, "is_animated", False):
        return "image/png", data
    rgb = picture.convert("RGB")
    photo = io.BytesIO()
    rgb.save(photo, "JPEG", quality=_QUALITY, subsampling=0, progressive=True, optimize=True)
    png = min(data, _with_palette(rgb) or data, key=len)
    if len(photo.getvalue()) < len(png):
        return "image/jpeg", photo.getvalue()
    return "image/png", png


def _with_palette(rgb: Image.Image) -> bytes | None:
    """The picture as a PNG of few colours; None if that would show."""
    before = np.asarray(rgb, np.int16)  # [H, W, 3]
    for colours in _PALETTES:
        reduced = rgb.quantize(colours, kmeans=1, dither=Image.Dither.NONE)
        change = np.abs(np.asarray(reduced.convert("RGB"), np.int16) - before)
        if change.max(2).mean() < _VISIBLE:
            file = io.BytesIO()
            reduced.save(file, "PNG", optimize=True)
            return file.getvalue()
    return None


def _clean_output(output: dict[str, Any]) -> None:
    if "metadata" in output:
        output["metadata"] = {}
    data = output.get("data", {})
    # Without its state a saved widget shows as an error; the text beside it does not.
    data.pop("application/vnd.jupyter.widget-view+json", None)
    if "image/png" in data:
        kind, picture = shrink_png(base64.b64decode(data.pop("image/png")))
        data[kind] = base64.b64encode(picture).decode()
