"""Renews the page `notebooks/results/README.md`: tables of scores, and curves, from the kept runs.

`python -m tripletlib results-page` fills what stands between `<!-- NAME -->` and `<!-- end -->`;
all else on the page is written by hand.
"""

from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tripletlib.plots import BLUE, ORANGE, SERIES, use_notebook_style
from tripletlib.publishing.results import (
    FOLDER,
    MEASURED,
    SECTIONS,
    Row,
    pair_rows,
    read_accuracy,
    read_config,
    read_results,
)
from tripletlib.training import History

TITLES = {
    "digits": "Handwritten digits",
    "drawn": "Drawn pedestrians (synthetic)",
    "market1501": "Market-1501",
}
_EARLY = 5620  # steps: 10 of the original's 50 epochs on digits
_RETRIEVAL_SCORES = ("map", "map_market", "rank1", "rank5")


def digits_table(rows: Iterable[Row], folder: Path = FOLDER) -> str:
    """Markdown table of k-NN accuracies, one run a line: early, after as many steps, and last."""
    lines = []
    for row in rows:
        config, history = read_config(row["run"], folder), History.load(_run_folder(row, folder))
        lines.append(
            [
                row["what"],
                str(config["training"]["seed"]),
                f"{int(row['step']):,}",
                config["machine"]["precision"],
                _early_accuracy(row, folder),
                _percent(row["accuracy"]),
                f"{history['loss'][-1]:.3f}",
                row["minutes"],
            ]
        )
    accuracies = f"5-NN accuracy after {_EARLY:,} steps", "5-NN accuracy at the end"
    header = "run", "seed", "steps", "precision", *accuracies, "last mean loss", "minutes"
    return _table(header, lines)


def retrieval_table(rows: Iterable[Row]) -> str:
    """Markdown table of retrieval scores; a line holds them before and after re-ranking."""
    lines = []
    for (what, source, step, tta, minutes), both in pair_rows(rows).items():
        name = what if source == MEASURED else f"*{what}* ({source})"
        steps = f"{int(step):,}" if step else ""
        scores = [
            _percent(both[plain][score]) if plain in both else ""
            for plain in (True, False)
            for score in _RETRIEVAL_SCORES
        ]
        lines.append([name, steps, tta, *scores, minutes])
    names = "mAP", "mAP, trapezoid", "rank-1", "rank-5"
    header = "run", "steps", "views", *names, *(f"re-ranked {name}" for name in names), "minutes"
    return _table(header, lines)


def runs_list(rows: Iterable[Row], folder: Path = FOLDER) -> str:
    """Markdown list of the measured runs: what each rests on, and how to repeat it."""
    lines = []
    for row in {row["run"]: row for row in rows if row["source"] == MEASURED}.values():
        config, run = read_config(row["run"], folder), f"runs/{row['run']}"
        machine = config["machine"]
        where = machine.get("gpu", f"{machine['threads']} thread(s) of {machine['processor']}")
        lines.append(
            f"- **{row['run']}**: [settings]({run}/config.yaml), [log]({run}/history.csv); begun "
            f"{config['started']}, {where}, torch {config['versions']['torch']}; "
            f"`{row['command']}`"
        )
    return "\n".join(lines)


def filled_page(page: str, rows: Sequence[Row], folder: Path = FOLDER) -> str:
    """The page with every table and list between its marks renewed.

    Raises:
        ValueError: a mark is missing.
    """
    parts = {"runs": runs_list(rows, folder)}
    for section in SECTIONS:
        own = [row for row in rows if row["section"] == section]
        parts[section] = digits_table(own, folder) if section == "digits" else retrieval_table(own)
    for name, part in parts.items():
        head, mark, rest = page.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition("<!-- end -->")
        if not end:
            raise ValueError(f"the page needs `<!-- {name} -->` with an `<!-- end -->` behind it")
        page = f"{head}{mark}{part}\n{end}{tail}"
    return page


def main() -> int:
    """Renews page and curves; returns the exit status."""
    use_notebook_style()
    rows = read_results()
    page = FOLDER / "README.md"
    page.write_text(filled_page(page.read_text(encoding="utf-8"), rows), encoding="utf-8")
    for section in SECTIONS:
        own = [row for row in rows if row["section"] == section]
        figures = {"curves": draw_curves(own, TITLES[section])}
        if section != "digits":
            figures["scores"] = draw_retrieval_scores(own, TITLES[section])
        for name, figure in figures.items():
            figure.savefig(FOLDER / f"{name}_{section}.png", dpi=96)
            plt.close(figure)
    print(page)
    return 0


def _run_folder(row: Row, folder: Path) -> Path:
    return folder / "runs" / row["run"]


def _early_accuracy(row: Row, folder: Path) -> str:
    steps, accuracies = read_accuracy(row["run"], folder) or ((), ())
    return next((_percent(a) for s, a in zip(steps, accuracies, strict=True) if s == _EARLY), "")


def _percent(score: str | float) -> str:
    return "" if score == "" else f"{100 * float(score):.1f}"


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw_curves(rows: Iterable[Row], title: str, folder: Path = FOLDER) -> Figure:
    """Draws loss, active triplets and progress of the measured runs of one section.

    Args:
        rows: of `results.csv`.
        title: of the figure.
        folder: the results.

    Returns:
        Three plots side by side; the third is the k-NN accuracy of runs that have one, and the
        median distance in the batch of the others. Colours come round again behind seven runs.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.4))
    runs = {row["run"]: row for row in rows if row["source"] == MEASURED}.values()
    for row, (colour, marker, line) in zip(runs, cycle(SERIES), strict=False):
        history = History.load(folder / "runs" / row["run"])
        accuracy = read_accuracy(row["run"], folder)
        steps, progress = accuracy or (history["step"], history["distance_p50"])
        look = {"color": colour, "marker": marker, "ls": line, "ms": 4, "markevery": 0.1}
        left.plot(history["step"], history["loss"], label=row["what"], **look)
        middle.plot(history["step"], history["active_fraction"], **look)
        right.plot(steps, progress, **look)
        if accuracy:
            right.set(title="5-NN accuracy on held-out digits", ylim=(0.9, 1))
            right.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        else:
            right.set(title="Median distance in the batch")
    left.set(title="Loss, mean of 100 steps", ylabel="loss", ylim=(0, None))
    middle.set(title="Active triplets, mean of 100 steps", ylim=(0, 1.02))
    middle.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    for ax in (left, middle, right):
        ax.set(xlabel="training step")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(title)
    return figure


def draw_retrieval_scores(rows: Sequence[Row], title: str) -> Figure:
    """Draws mAP by the trapezoid rule and rank-1, each before and after re-ranking.

    Args:
        rows: of one section of `results.csv`, measured or reported elsewhere.
        title: of the figure.

    Returns:
        Two plots side by side with a line for each network and test-time augmentation, the best
        at the top. An asterisk marks what others report and this code did not measure.
    """
    pairs = sorted(pair_rows(rows).items(), key=lambda pair: _plain_map(pair[1]))
    names = [
        f"{what}{'' if source == MEASURED else ' *'}\nviews: {tta}"
        for (what, source, _, tta, _), _ in pairs
    ]
    figure, axes = plt.subplots(1, 2, figsize=(11, 1.4 + 0.5 * len(names)), sharey=True)
    for ax, score, label in zip(
        axes, ("map_market", "rank1"), ("mAP, trapezoid rule", "rank-1"), strict=True
    ):
        _draw_pairs(ax, [both for _, both in pairs], score)
        ax.set(title=label, xlim=(0, 1), ylim=(-0.7, len(names) - 0.3))
        ax.set_xticks(np.arange(0, 1, 0.2))
        ax.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes[0].set_yticks(range(len(names)), names, fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    note = "" if all(row["source"] == MEASURED for row in rows) else "\n* as its authors report it"
    figure.suptitle(f"{title}{note}")
    return figure


def _draw_pairs(ax: Axes, pairs: Sequence[dict[bool, Row]], score: str) -> None:
    """A dot for the plain ranking and one for the re-ranked, joined, on a line for each pair."""
    looks = (True, BLUE, "o", "ranked by distance"), (False, ORANGE, "D", "re-ranked")
    values = {
        plain: np.array([_score(pair.get(plain), score) for pair in pairs]) for plain, *_ in looks
    }
    places = np.arange(len(pairs))
    ax.hlines(places, values[True], values[False], color="0.7", lw=2, zorder=1)
    for plain, colour, marker, label in looks:
        ax.plot(values[plain], places, marker, color=colour, ms=7, label=label)
        for place, value in zip(places, values[plain], strict=True):
            if np.isfinite(value):
                side = -1 if plain else 1
                ax.annotate(
                    f"{100 * value:.1f}", (value, place), (9 * side, 0), fontsize=9,
                    textcoords="offset points", ha="right" if plain else "left", va="center",
                )  # fmt: skip


def _plain_map(pair: dict[bool, Row]) -> float:
    return _score(pair.get(True) or pair.get(False), "map_market")


def _score(row: Row | None, name: str) -> float:
    """A score, NaN where none was measured or reported."""
    return float(row[name]) if row is not None and row[name] else np.nan
