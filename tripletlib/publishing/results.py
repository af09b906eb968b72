"""Keeps runs that are worth quoting in `notebooks/results/`, and all their scores in one table.

python -m tripletlib results RUN --section market1501 --what "..." --minutes 80 --command "..."

copies what a finished run's numbers rest on and puts its scores into `results.csv`;
`python -m tripletlib results-page` then renews the page that shows them.
"""

import argparse
import csv
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tripletlib.runtime import REPOSITORY, run_folder
from tripletlib.training import COLUMNS as HISTORY_COLUMNS
from tripletlib.training import MEAN_LOSS_EVERY, History

FOLDER = REPOSITORY / "notebooks" / "results"
SECTIONS = ("digits", "drawn", "market1501")
SCORES = ("accuracy", "map", "map_market", "rank1", "rank5")
COLUMNS = (
    "section",
    "run",
    "what",
    "step",
    "tta",
    "reranking",
    *SCORES,
    "minutes",
    "command",
    "source",
)
MEASURED = "measured"
Row = Mapping[str, str]


def read_results(folder: Path = FOLDER) -> list[dict[str, str]]:
    """The rows of `results.csv` as text, in its order.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it has other columns.
    """
    file = folder / "results.csv"
    with file.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{file} must have the columns {', '.join(COLUMNS)}")
        return list(reader)


def read_config(run: str, folder: Path = FOLDER) -> dict[str, Any]:
    """The `config.yaml` of a kept run."""
    return yaml.safe_load((folder / "runs" / run / "config.yaml").read_text(encoding="utf-8"))


def pair_rows(rows: Iterable[Row]) -> dict[tuple[str, ...], dict[bool, Row]]:
    """Joins what differs in re-ranking only.

    Returns:
        By (what, source, step, tta, minutes) the row before re-ranking, under True, and the one
        after it, under False; one of them may be missing.
    """
    pairs: dict[tuple[str, ...], dict[bool, Row]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("what", "source", "step", "tta", "minutes"))
        pairs.setdefault(key, {})[row["reranking"] == "none"] = row
    return pairs


def read_accuracy(run: str, folder: Path = FOLDER) -> tuple[np.ndarray, np.ndarray] | None:
    """Training steps and k-NN accuracies of a kept run on digits, `[E]` each; None of another."""
    file = folder / "runs" / run / "accuracy.csv"
    if not file.is_file():
        return None
    table = np.atleast_1d(np.genfromtxt(file, delimiter=",", names=True))
    return table["step"], table["accuracy"]


def keep_run(
    source: Path, section: str, what: str, minutes: float, command: str, folder: Path = FOLDER
) -> list[dict[str, str]]:
    """Copies a finished run into the results, and its scores into `results.csv`.

    Args:
        source: the run folder, with `config.yaml`, `history.csv`, and `scores.csv` (see
            `tripletlib.scoring`) or `accuracy.csv` (see `EmbeddingFilm`).
        section: table of the page, one of `SECTIONS`.
        what: the run in a few words, for the page.
        minutes: how long the training took by the clock.
        command: what repeats it.
        folder: the results; rows of an earlier run of the same name are replaced.

    Returns:
        The rows that were added.

    Raises:
        FileNotFoundError: the run lacks one of those files.
        ValueError: an unknown section, or a run that did not come to its end.
    """
    if section not in SECTIONS:
        raise ValueError(f"section must be one of {SECTIONS}, got {section!r}")
    history = History.load(source)
    config = yaml.safe_load((source / "config.yaml").read_text(encoding="utf-8"))
    if len(history) != config["training"]["steps"]:
        raise ValueError(
            f"{source} holds {len(history):,} of {config['training']['steps']:,} steps: finish the "
            "training first"
        )
    about = {
        "section": section,
        "run": source.name,
        "what": what,
        "minutes": f"{minutes:.0f}",
        "command": command,
        "source": MEASURED,
    }
    rows = [{**dict.fromkeys(COLUMNS, ""), **about, **scores} for scores in _read_scores(source)]
    kept = folder / "runs" / source.name
    kept.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "experiment.yaml", "scores.csv", "accuracy.csv"):
        if (source / name).is_file():
            shutil.copyfile(source / name, kept / name)
    write_thinned(history, kept / "history.csv")
    others = [row for row in read_results(folder) if row["run"] != source.name]
    _write_results([*others, *rows], folder)
    return rows


def write_thinned(history: History, file: Path) -> None:
    """Writes every 100th row of a log, small enough for a repository.

    `loss` and `active_fraction` are means of the 100 steps that end there, all other columns are of
    that step; five significant digits.

    Args:
        history: a whole log.
        file: the CSV file to write; `History.load` reads it.
    """
    means = ("loss", "active_fraction")
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(HISTORY_COLUMNS)
        for end in range(MEAN_LOSS_EVERY, len(history) + 1, MEAN_LOSS_EVERY):
            hundred = slice(end - MEAN_LOSS_EVERY, end)
            cells = [
                np.mean(history[name][hundred]) if name in means else history[name][end - 1]
                for name in HISTORY_COLUMNS
            ]
            writer.writerow("" if np.isnan(cell) else f"{cell:.5g}" for cell in cells)


def _read_scores(source: Path) -> Iterator[dict[str, str]]:
    """The scores of a retrieval run, or the last accuracy of a run on digits."""
    if (source / "scores.csv").is_file():
        for row in _read(source / "scores.csv"):
            yield {name: row[name] for name in COLUMNS if name in row}
    else:
        *_, last = _read(source / "accuracy.csv")
        yield {"step": last["step"], "accuracy": last["accuracy"]}


def _read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _write_results(rows: Sequence[Row], folder: Path) -> None:
    rows = sorted(rows, key=lambda row: SECTIONS.index(row["section"]))  # stable within a section
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `python -m tripletlib results`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tripletlib results",
        description="Keep a finished run's settings, log and scores in notebooks/results/.",
    )
    parser.add_argument("run", help="name of a run folder below the runs root")
    parser.add_argument("--section", required=True, choices=SECTIONS)
    parser.add_argument("--what", required=True, help="the run in a few words")
    parser.add_argument("--minutes", required=True, type=float, help="how long it trained")
    parser.add_argument("--command", required=True, help="what repeats it")
    options = parser.parse_args(arguments)
    about = options.section, options.what, options.minutes, options.command
    try:
        rows = keep_run(run_folder(options.run), *about)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.run}: {len(rows)} rows in {FOLDER / 'results.csv'}")
    return 0
