"""Runs a grid of experiments (`make sweep`): a list in a parameter file is one of its axes."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import papermill
import yaml

from tripletlib.experiments import Experiment
from tripletlib.publishing.runner import (
    NOTEBOOKS,
    check_parameters,
    find_headlines,
    notebook_of,
    takes_experiment,
)
from tripletlib.runtime import AnyPath, ParameterError, atomic_write, progress_bar, run_folder
from tripletlib.training import find_parameter_file, read_parameter_file

Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    A notebook that takes an `Experiment` is not executed: `tripletlib train --score` gives the same
    numbers without its figures and comparisons. Any other is, as by `make run PARAMS=`.
    """

    notebook: Path
    is_experiment: bool
    place: dict[str, Any]  # its value on each axis, and its seed
    parameters: dict[str, Any]  # of the run; `run_name` is its folder below the runs root

    @property
    def folder(self) -> Path:
        """The run folder; `log.txt` in it holds what the run printed."""
        return run_folder(self.parameters["run_name"])

    @property
    def file(self) -> Path:
        """The run's own parameter file, which `make run PARAMS=` takes too."""
        return self.folder / f"{self.notebook.name[:3]}cell.yaml"

    def scores(self) -> Row:
        """Scores before re-ranking, or the executed notebook's headlines; percentages as shares."""
        if not self.is_experiment:
            executed = nbformat.read(self.folder / self.notebook.name, as_version=4)
            return {name: _as_number(text) for name, text in find_headlines(executed).items()}
        table = pd.read_csv(self.folder / "scores.csv")
        (plain,) = table[table["reranking"] == "none"].loc[:, "map":].to_dict("records")
        return {str(name): score for name, score in plain.items()}


def _as_number(text: str) -> float | str:
    number = re.fullmatch(r"(-?\d+(?:\.\d+)?(?:e[+-]\d+)?)(%?)", text)
    return float(number[1]) / (100 if number[2] else 1) if number else text


def read_grid(file: AnyPath, folder: AnyPath = NOTEBOOKS) -> list[Cell]:
    """Reads a parameter file in which lists are the axes of a grid, and checks every cell.

    What is a list in the notebook itself, such as `seeds`, is an axis where it is a list of lists.
    The last axis varies fastest; the cells' folders lie in that of the file's `run_name`.

    Raises:
        ParameterError: see `read_parameters`; or there is no axis, or one says a value twice.
    """
    file, parameters = find_parameter_file(file), read_parameter_file(file)
    notebook = notebook_of(file, folder)
    known = papermill.inspect_notebook(str(notebook))
    lists = {name for name, parameter in known.items() if parameter["default"].startswith("[")}
    axes = {
        name: value
        for name, value in parameters.items()
        if isinstance(value, list)
        and (name not in lists or all(isinstance(one, list) for one in value))
    }
    is_experiment, cells = takes_experiment(notebook), []
    for values in product(*axes.values()):
        place = dict(zip(axes, values, strict=True))
        words = [re.sub(r"[^\w.-]", "_", f"{name}-{value}") for name, value in place.items()]
        run_name = f"{parameters.get('run_name', file.stem)}/{'_'.join(words)}"
        own = parameters | place | {"run_name": run_name}
        place |= {name: own[name] for name in ["seed"] if name in own}
        cells.append(Cell(notebook, is_experiment, place, own))
    if not axes or not cells:
        raise ParameterError(f"{file}: a grid needs a parameter whose value is a list of values")
    if len({cell.folder for cell in cells}) < len(cells):
        raise ParameterError(f"{file}: a list has the same value twice; remove one of the two")
    check_parameters(file, notebook, [cell.parameters for cell in cells])
    return cells


class Stopped(Exception):
    """A cell was not begun, or not finished, because the whole sweep is being stopped."""


@dataclass
class Running:
    """The processes of a sweep, and whether it is being stopped."""

    processes: set[subprocess.Popen[bytes]] = field(default_factory=set)
    stopping: bool = False

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """The exit status of a process; one that is started as the sweep stops is stopped, too."""
        self.processes.add(process)
        if self.stopping:
            process.terminate()
        status = process.wait()
        self.processes.discard(process)
        if self.stopping:
            raise Stopped
        return status

    def stop(self) -> None:
        """Stops all, also those that a cell is about to start."""
        self.stopping = True
        for process in [*self.processes]:
            process.terminate()


def run_cell(cell: Cell, running: Running) -> Row:
    """Runs one cell in a process of its own, with one thread; returns its row of the table.

    A cell that an earlier call finished is not run again, unless its parameters have changed. Where
    it failed, `error` has the last line that the run printed.
    """
    kept, file, start = cell.folder / "row.json", str(cell.file), time.perf_counter()
    if kept.is_file():
        earlier = json.loads(kept.read_text(encoding="utf-8"))
        if earlier["parameters"] == cell.parameters:
            return earlier["row"]
    cell.folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(cell.file) as unfinished:
        unfinished.write_text(yaml.safe_dump(cell.parameters, sort_keys=False), encoding="utf-8")
    command = ["train", "--score"] if cell.is_experiment else ["notebooks", "run", "--params"]
    call = [sys.executable, "-m", "tripletlib", *command, file]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with (cell.folder / "log.txt").open("w+b") as log:
        with subprocess.Popen(call, stdout=log, stderr=log, env=environment) as process:
            status = running.wait(process)
        log.seek(0)
        _, _, last = log.read().decode(errors="replace").strip().rpartition("\n")
    # A headline may bear an axis's name, as the loss of notebook 01 does.
    scores = {} if status else cell.scores()
    row = {"run": cell.folder.name, **cell.place, **scores, **cell.place}
    row["seconds"] = round(time.perf_counter() - start, 1)
    row["error"] = f"status {status}: {last}" if status else ""
    if not status:
        with atomic_write(kept) as unfinished:
            unfinished.write_text(json.dumps({"parameters": cell.parameters, "row": row}))
    return row


def run_grid(cells: Sequence[Cell], table: Path) -> list[Row]:
    """Runs all cells, as many at once as there are cores; returns their rows in the grid's order.

    `table`, a CSV file, is written anew behind each cell. Ctrl-C and SIGTERM stop those that are
    running; with checkpoints they go on from there next time.
    """
    running = Running()
    is_linux = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if is_linux else os.cpu_count()
    rows: list[Row] = []
    with (
        progress_bar(len(cells), "cell", "auto", desc=table.parent.name) as bar,
        ThreadPoolExecutor(cores) as pool,
    ):
        futures = [pool.submit(run_cell, cell, running) for cell in cells]
        try:
            for future in as_completed(futures):
                row, rows = future.result(), [each.result() for each in futures if each.done()]
                with atomic_write(table) as unfinished:
                    pd.DataFrame(rows)[_columns(rows)].to_csv(unfinished, index=False)
                bar.write(f"{row['run']}: {row['error'] or 'done'}, {row['seconds']:.0f} s")
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            running.stop()
            raise
    return rows


def _columns(rows: Sequence[Row]) -> list[str]:
    """All that a row has; how long it took and what went wrong at the end."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if name not in ("seconds", "error")] + ["seconds", "error"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status: 1 if a cell failed."""
    parser = argparse.ArgumentParser(
        prog="tripletlib sweep", description="Run a grid of experiments: each list is an axis."
    )
    parser.add_argument("params", help="a parameter file, such as 03_losses.yaml")
    options = parser.parse_args(arguments)
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cells = read_grid(options.params)
        if cells[0].is_experiment:  # what is drawn now, several cells need not draw at once
            Experiment(**cells[0].parameters).open_dataset()
        table = cells[0].folder.parent / "sweep.csv"
        rows = run_grid(cells, table)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; the same command goes on") from None
    finally:
        signal.signal(signal.SIGTERM, earlier)
    failed = sum(bool(row["error"]) for row in rows)
    print(f"{table}: {len(rows)} cells, {failed} of them failed")
    return 1 if failed else 0
