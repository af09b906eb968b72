"""What a text cell says in numbers: it must stand in something that a run or a test keeps true."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest

from tripletlib.publishing import NOTEBOOKS
from tripletlib.widgets import example_scene, gradient_step, scene_loss

LESSONS = sorted(NOTEBOOKS.glob("0*.ipynb"))
TRAINED = "01", "02", "03"  # their numbers change with the seed; 04 and 05 judge what ships
# Decimals such as 0.5 and .578, and percentages.
NUMBER = re.compile(r"(?<![\w.,])\d*\.\d+|(?<![\w.,])\d+(?= ?%)")
NO_PROSE = re.compile(r"```.*?```|`[^`]*`|\$[^$]*\$|\]\([^)]*\)|arXiv [\d.]+", re.DOTALL)
CITED = re.compile(r"\bpaper\b|et al\.|arXiv|[Aa]ppendix|TensorFlow original")
SENTENCE_END = re.compile(r"(?<=[.!?*])\s+(?=[A-Z*(«\"-])|\n")


def sentences(text: str) -> list[str]:
    prose = NO_PROSE.sub(" ", text.split("**References**")[0])
    return [sentence for sentence in SENTENCE_END.split(prose) if sentence.strip()]


def measured() -> str:
    """Every score of notebooks/results, as a share and in per cent."""
    with (NOTEBOOKS / "results" / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = "accuracy", "map", "map_market", "rank1", "rank5"
    scores = [float(row[column]) for row in rows for column in columns if row[column]]
    with (NOTEBOOKS / "results" / "reranking_scale.csv").open(encoding="utf-8") as file:
        gigabytes = [float(row["peak_megabytes"]) / 1000 for row in csv.DictReader(file)]
    shown = [f"{s:.2f} {s:.3f} {100 * s:.0f} {100 * s:.1f} {100 * s:.2f}" for s in scores]
    return " ".join([*shown, *(f"{size:.1f}" for size in gigabytes)])


def outputs(cell: nbformat.NotebookNode) -> str:
    texts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.outputs]
    return "\n".join(texts)


def known_numbers(path: Path) -> set[str]:
    """What may be typed: settings in the code, results, and outputs that nbval compares.

    Notebooks that judge the network that ships may quote any of their outputs.
    """
    any_output = not path.name.startswith(TRAINED)
    paths = [other for other in LESSONS if not other.name.startswith(TRAINED)]
    cells = [
        cell
        for read in (paths if any_output else [path])
        for cell in nbformat.read(read, as_version=4).cells
        if cell.cell_type == "code"
    ]
    texts = [measured(), *(cell.source for cell in cells)]
    texts += [outputs(cell) for cell in cells if any_output or "NBVAL_CHECK" in cell.source]
    return set(re.findall(r"\d*\.\d+|\d+", " ".join(texts)))


def toy_numbers() -> set[str]:
    """The answers of notebook 02's playground, computed anew."""
    scene = example_scene()  # A1 A2 A3 B1 B2 B3 C1 C2 C3; the anchor is A3

    def apart(points: np.ndarray, i: int, j: int) -> str:
        return f"{np.linalg.norm(points[i] - points[j]):.2f}"

    away = scene.points.copy()
    away[8] = 50, 0  # C3, dragged far away
    small = scene_loss(replace(scene, margin=0.3))
    c2 = scene_loss(replace(scene, anchor=7))
    return {
        f"{np.linalg.norm(scene_loss(scene).gradient[0]):.3f}",
        apart(scene.points, 2, 4),
        apart(scene.points, 2, 8),
        apart(gradient_step(scene).points, 2, 4),
        f"{scene_loss(scene).anchor_loss:.3f}",
        f"{scene_loss(replace(scene, points=away)).anchor_loss:.3f}",
        f"{small.active_fraction:.0%}".rstrip("%"),
        f"{c2.negative_distance - c2.positive_distance:.2f}",
        f"{np.ceil(10 * (c2.negative_distance - c2.positive_distance)) / 10:.1f}",
    }


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_numbers_in_the_text_are_kept_true(path: Path) -> None:
    known = known_numbers(path) | toy_numbers()
    cells = nbformat.read(path, as_version=4).cells
    stray = [
        f"cell {index}: {number} in {sentence.strip()[:120]!r}"
        for index, cell in enumerate(cells)
        if cell.cell_type == "markdown"
        for sentence in sentences(cell.source)
        if not CITED.search(sentence)
        for number in NUMBER.findall(sentence)
        if number not in known
    ]
    assert not stray, "\n".join(stray)


def test_a_number_of_one_run_is_found() -> None:
    text = "The loss fell to 0.4321, or 87 % (`0.111`, $x = 0.222$). The paper has mAP 60.71 %."
    found = [NUMBER.findall(s) for s in sentences(text) if not CITED.search(s)]
    assert found == [["0.4321", "87"]]
