"""Renews the page `notebooks/results/README.md`: tables of scores, and curves, from the kept runs.

`python -m tripletlib.results_page` fills what stands between `<!-- NAME -->` and `<!-- end -->`;
all else on the page is written by hand.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from tripletlib.history import History
from tripletlib.plotting import use_notebook_style
from tripletlib.results import (
    FOLDER,
    MEASURED,
    SECTIONS,
    Row,
    pair_rows,
    read_accuracy,
    read_config,
    read_results,
)
from tripletlib.results_figures import draw_curves, draw_retrieval_scores

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


if __name__ == "__main__":
    raise SystemExit(main())
