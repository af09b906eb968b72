"""Keeps runs worth quoting in `notebooks/results/`, and renews the page that shows them."""

import argparse
import shutil
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tripletlib.plots import BLUE, ORANGE, SERIES, use_notebook_style
from tripletlib.publishing.sweep import read_grid
from tripletlib.runtime import REPOSITORY, run_folder
from tripletlib.training import MEAN_LOSS_EVERY

FOLDER = REPOSITORY / "notebooks" / "results"
TITLES = {
    "digits": "Handwritten digits",
    "drawn": "Drawn pedestrians (synthetic)",
    "market1501": "Market-1501",
}
# By the name of its file: the panel's title, and the score in it
LOSS_TABLES = {
    "01_losses": ("Digits in 8 dimensions, 5-NN accuracy", "k-NN accuracy"),
    "03_losses": ("Drawn pedestrians, mAP (trapezoid)", "map_market"),
    "paper_losses": ("Hermans et al. 2017: MARS, mAP", "map"),
}
MEASURED = "measured"  # the source of a row that was measured here
_RETRIEVAL_SCORES = ("map", "map_market", "rank1", "rank5")
_COLUMNS = [
    *("section", "run", "what", "step", "tta", "reranking", "accuracy"),
    *(*_RETRIEVAL_SCORES, "minutes", "command", "source"),
]
_EARLY = 5620  # steps: 10 of the original's 50 epochs on digits


def read_results(folder: Path = FOLDER) -> pd.DataFrame:
    """The rows of `results.csv`; every cell is text, so that a number stays as it was written."""
    table = _read_text(folder / "results.csv")
    if list(table.columns) != _COLUMNS:
        raise ValueError(f"{folder / 'results.csv'} must have the columns {', '.join(_COLUMNS)}")
    return table


def keep_run(source: Path, folder: Path, **about: str | int) -> int:
    """Copies a finished run's settings, log and scores into the results; returns how many rows.

    The run has `scores.csv`, which `tripletlib score` writes, or `accuracy.csv` (digits); `about`
    fills cells of its rows: section, what, minutes, command. An earlier run of its name goes.
    """
    log, steps = pd.read_csv(source / "history.csv"), _read_config(source)["training"]["steps"]
    if len(log) != steps:
        held = f"{source} holds {len(log):,} of {steps:,} steps"
        raise ValueError(f"{held}: finish the training first")
    is_retrieval = (source / "scores.csv").is_file()
    rows = _read_text(source / ("scores.csv" if is_retrieval else "accuracy.csv"))
    rows = rows if is_retrieval else rows.tail(1)
    rows = rows.reindex(columns=_COLUMNS, fill_value="")
    rows = rows.assign(run=source.name, source=MEASURED, **about)
    table = read_results(folder)
    table = pd.concat([table[table["run"] != source.name], rows])
    order = list(TITLES).index
    table = table.sort_values("section", key=lambda names: names.map(order), kind="stable")
    kept = folder / "runs" / source.name
    kept.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "experiment.yaml", "scores.csv", "accuracy.csv"):
        if (source / name).is_file():
            shutil.copyfile(source / name, kept / name)
    _write(_thinned(log), kept / "history.csv")
    _write(table, folder / "results.csv")
    return len(rows)


def keep_sweep(source: Path, folder: Path) -> int:
    """Copies the table of a finished sweep of losses into the results; returns how many rows.

    Raises:
        ValueError: a cell of the grid failed or is missing.
        OSError: there is no such table, or the results cannot be written.
    """
    table, cells = _read_text(source / "sweep.csv"), len(read_grid(f"{source.name}.yaml"))
    good = int((table["error"] == "").sum())
    if good < cells:
        raise ValueError(f"{source} holds {good} of {cells} cells: finish the sweep first")
    _write(table.drop(columns=["run", "error"]), folder / f"{source.name}.csv")
    return good


def read_losses(folder: Path = FOLDER) -> dict[str, pd.DataFrame]:
    """The kept tables by their titles: by loss and margin mean, min and max over the seeds, in %.

    The first has a row for each loss and margin that another has.
    """
    tables = {}
    for name, (title, score) in LOSS_TABLES.items():
        if (file := folder / f"{name}.csv").is_file():
            rows = _read_text(file)
            scores, by = 100 * pd.to_numeric(rows[score]), [rows["loss"], rows["margin"]]
            tables[title] = scores.groupby(by, sort=False).agg(["mean", "min", "max"])
    return tables


def _thinned(log: pd.DataFrame) -> pd.DataFrame:
    """Every 100th row of a log; loss and active fraction are means of the steps since the last."""
    rows = log.iloc[MEAN_LOSS_EVERY - 1 :: MEAN_LOSS_EVERY]
    means = log[["loss", "active_fraction"]].rolling(MEAN_LOSS_EVERY).mean()
    return rows.assign(**means.loc[rows.index])


def filled_page(page: str, table: pd.DataFrame, folder: Path = FOLDER) -> str:
    """The Markdown page with all that stands between `<!-- NAME -->` and `<!-- end -->` renewed."""
    sections = {section: table[table["section"] == section] for section in TITLES}
    parts = {"runs": _runs_list(table, folder), "losses": _losses_table(read_losses(folder))}
    for section, rows in sections.items():
        is_digits = section == "digits"
        parts[section] = _digits_table(rows, folder) if is_digits else _retrieval_table(rows)
    for name, part in parts.items():
        head, mark, rest = page.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition("<!-- end -->")
        if not end:
            raise ValueError(f"the page needs `<!-- {name} -->` with an `<!-- end -->` behind it")
        page = f"{head}{mark}{part}\n{end}{tail}"
    return page


def _digits_table(rows: pd.DataFrame, folder: Path) -> str:
    """k-NN accuracies, one run a line: early, after as many steps for all, and at the end."""
    accuracies = f"5-NN accuracy after {_EARLY:,} steps", "5-NN accuracy at the end"
    lines = [["run", "seed", "steps", "precision", *accuracies, "last mean loss", "minutes"]]
    for row in rows.to_dict("records"):
        run = folder / "runs" / row["run"]
        config, loss = _read_config(run), pd.read_csv(run / "history.csv")["loss"].iloc[-1]
        seed, precision = str(config["training"]["seed"]), config["machine"]["precision"]
        scores = map(_percent, (_accuracies(run).get(_EARLY, ""), row["accuracy"]))
        about = [row["what"], seed, f"{int(row['step']):,}", precision]
        lines.append([*about, *scores, f"{loss:.3f}", row["minutes"]])
    return _markdown(lines)


def _losses_table(tables: dict[str, pd.DataFrame]) -> str:
    """Scores by loss and margin, one column a table of `read_losses`; ranges in brackets."""
    texts = {title: table.apply(_mean_and_range, axis=1) for title, table in tables.items()}
    index = next((table.index for table in tables.values()), None)
    rows = pd.DataFrame(texts, index).fillna("").itertuples()
    lines = [[loss.replace("_", " "), margin, *cells] for (loss, margin), *cells in rows]
    alone = len(tables) < 2  # there is a figure where the paper's is not
    figure = "" if alone else "\n\n![Scores by loss and margin, one panel a column](losses.png)"
    return _markdown([["loss", "margin", *tables], *lines]) + figure


def _mean_and_range(score: pd.Series) -> str:
    mean, low, high = score[["mean", "min", "max"]]
    return f"{mean:.1f}" if low == high else f"{mean:.1f} ({low:.1f} to {high:.1f})"


def _retrieval_table(rows: pd.DataFrame) -> str:
    """Retrieval scores, before and after re-ranking in one line."""
    names = "mAP", "mAP, trapezoid", "rank-1", "rank-5"
    after = [f"re-ranked {name}" for name in names]
    lines = [["run", "steps", "views", *names, *after, "minutes"]]
    columns = [f"{score}{end}" for end in ("", "_after") for score in _RETRIEVAL_SCORES]
    for row in _paired(rows).to_dict("records"):
        what, source = row["what"], row["source"]
        name = what if source == MEASURED else f"*{what}* ({source})"
        scores = [_percent(row[column]) for column in columns]
        lines.append([name, f"{int(row['step']):,}", row["tta"], *scores, row["minutes"]])
    return _markdown(lines)


def _runs_list(table: pd.DataFrame, folder: Path) -> str:
    """The measured runs: what each rests on, and how to repeat it."""
    lines = []
    for row in _measured_runs(table).to_dict("records"):
        config, run = _read_config(folder / "runs" / row["run"]), f"runs/{row['run']}"
        machine = config["machine"]
        where = machine.get("gpu", f"{machine['threads']} thread(s) of {machine['processor']}")
        lines.append(
            f"- **{row['run']}**: [settings]({run}/config.yaml), [log]({run}/history.csv); begun "
            f"{config['started']}, {where}, torch {config['versions']['torch']}; `{row['command']}`"
        )
    return "\n".join(lines)


def draw_curves(rows: pd.DataFrame, title: str, folder: Path = FOLDER) -> Figure:
    """Draws loss, active triplets and progress of the measured runs among rows of `results.csv`.

    Progress is the k-NN accuracy of runs that have one, else the median distance in the batch.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.4))
    for row, (colour, marker, line) in zip(
        _measured_runs(rows).to_dict("records"), cycle(SERIES), strict=False
    ):
        run = folder / "runs" / row["run"]
        log, accuracies = pd.read_csv(run / "history.csv", index_col="step"), _accuracies(run)
        look = {"color": colour, "marker": marker, "ls": line, "ms": 4, "markevery": 0.1}
        left.plot(log["loss"], label=row["what"], **look)
        middle.plot(log["active_fraction"], **look)
        right.plot(log["distance_p50"] if accuracies.empty else accuracies, **look)
        right.set_title("Median distance in the batch")
        if not accuracies.empty:
            right.set(title="5-NN accuracy on held-out digits", ylim=(0.9, 1))
            right.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    left.set(title="Loss, mean of 100 steps", ylabel="loss", ylim=(0, None))
    middle.set(title="Active triplets, mean of 100 steps", ylim=(0, 1.02))
    middle.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    for ax in (left, middle, right):
        ax.set(xlabel="training step")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(title)
    return figure


def draw_retrieval_scores(rows: pd.DataFrame, title: str) -> Figure:
    """Draws mAP by the trapezoid rule and rank-1, each before and after re-ranking, best on top.

    An asterisk marks those rows of `results.csv` that others report.
    """
    pairs = _paired(rows).sort_values("map_market", key=pd.to_numeric, kind="stable")
    stars = np.where(pairs["source"] == MEASURED, "", " *")
    pairs.index = pairs["what"] + stars + "\nviews: " + pairs["tta"]
    figure, axes = plt.subplots(1, 2, figsize=(11, 1.4 + 0.6 * len(pairs)), sharey=True)
    labels = ("map_market", "mAP, trapezoid rule"), ("rank1", "rank-1")
    for ax, (score, label) in zip(axes, labels, strict=True):
        bars = pairs[[f"{score}_after", score]].apply(pd.to_numeric)  # the first is the lower one
        bars.columns = ["re-ranked", "ranked by distance"]
        bars.plot.barh(ax=ax, color=[ORANGE, BLUE], width=0.8, legend=False)
        for container, column in zip(ax.containers, bars.columns, strict=True):
            texts = ["" if np.isnan(value) else f"{value:.1%}" for value in bars[column]]
            ax.bar_label(container, texts, padding=2, fontsize=8)
        ax.set(title=label, xlim=(0, 1), ylabel="")
        ax.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    all_measured = (rows["source"] == MEASURED).all()
    figure.suptitle(title if all_measured else f"{title}\n* as its authors report it")
    return figure


def draw_losses(tables: dict[str, pd.DataFrame]) -> Figure:
    """Draws scores by loss and margin, one panel a table of `read_losses`; bars are the ranges."""
    losses, margins = (next(iter(tables.values())).index.unique(level) for level in (0, 1))
    size = 4 * len(tables) + 1.5, 0.7 * len(losses) + 1.2
    figure, axes = plt.subplots(1, len(tables), figsize=size, sharey=True, squeeze=False)
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        for place, (margin, (colour, marker, _)) in enumerate(zip(margins, SERIES, strict=False)):
            rows = table.xs(margin, level="margin").reindex(losses)
            heights = np.arange(len(losses)) + 0.15 * (place - (len(margins) - 1) / 2)
            # Of equal scores, rounding may put the mean outside.
            spread = [(rows["mean"] - rows[end]).abs() for end in ("min", "max")]
            look = {"fmt": marker, "color": colour, "ms": 5, "capsize": 2, "label": margin}
            ax.errorbar(rows["mean"], heights, xerr=spread, **look)
        ax.set(title=title, xlabel="%")
    axes[0, 0].set_yticks(range(len(losses)), [loss.replace("_", " ") for loss in losses])
    axes[0, 0].invert_yaxis()
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, title="margin", loc="outside lower center", ncols=len(margins))
    figure.suptitle("Losses and margins: mean and range over the seeds")
    return figure


def _measured_runs(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each run that was measured here."""
    return rows[rows["source"] == MEASURED].drop_duplicates("run")


def _paired(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows without re-ranking, with the scores after it in columns that end in `_after`."""
    plain, same = rows["reranking"] == "none", ["what", "source", "step", "tta", "minutes"]
    return rows[plain].merge(rows[~plain], "left", same, suffixes=("", "_after")).fillna("")


def _accuracies(run: Path) -> pd.Series:
    """The k-NN accuracy by training step of a kept run on digits; empty for another run."""
    file = run / "accuracy.csv"
    if not file.is_file():
        return pd.Series(dtype=float)
    return pd.read_csv(file, index_col="step")["accuracy"]


def _read_config(run: Path) -> dict[str, Any]:
    return yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))


def _read_text(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, dtype=str, keep_default_na=False)


def _write(table: pd.DataFrame, file: Path) -> None:
    line_end = "\r\n"  # as RFC 4180 has it
    table.to_csv(file, index=False, float_format="%.5g", lineterminator=line_end)


def _percent(score: str | float) -> str:
    return "" if score == "" else f"{100 * float(score):.1f}"


def _markdown(lines: list[list[str]]) -> str:
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_page(folder: Path = FOLDER) -> None:
    """Renews the page of results and its figures."""
    use_notebook_style()
    table, page = read_results(folder), folder / "README.md"
    page.write_text(filled_page(page.read_text(encoding="utf-8"), table, folder), encoding="utf-8")
    for section, title in TITLES.items():
        rows = table[table["section"] == section]
        figures = {"curves": draw_curves(rows, title, folder)}
        if section != "digits":
            figures["scores"] = draw_retrieval_scores(rows, title)
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}_{section}.png", dpi=96)
            plt.close(figure)
    if len(losses := read_losses(folder)) > 1:
        figure = draw_losses(losses)
        figure.savefig(folder / "losses.png", dpi=96)
        plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `tripletlib results`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="tripletlib results", description="Keep finished runs, and the page that shows them."
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("page", help="renew the page and its figures")
    keep = actions.add_parser("keep", help="keep a run's settings, log and scores")
    keep.add_argument("run", help="name of a run folder below the runs root")
    keep.add_argument("--section", required=True, choices=TITLES)
    keep.add_argument("--what", required=True, help="the run in a few words")
    keep.add_argument("--minutes", required=True, type=int, help="how long it trained")
    keep.add_argument("--command", required=True, help="what repeats it")
    sweep = actions.add_parser("sweep", help="keep the table of a sweep of losses and margins")
    sweep.add_argument("run", choices=[*LOSS_TABLES][:-1])
    options = vars(parser.parse_args(arguments))
    action = options.pop("action")
    if action == "page":
        write_page(FOLDER)
        print(FOLDER / "README.md")
        return 0
    run = options.pop("run")
    keep_it = keep_sweep if action == "sweep" else keep_run
    added = keep_it(run_folder(run), FOLDER, **options)
    print(f"{run}: {added} rows in {FOLDER}")
    return 0
