"""The whole course: its folder, the lessons' editions, and marking by nbgrader."""

import ast
import os
import re
import sqlite3
import subprocess
import symtable
import sys
from pathlib import Path

import nbformat
import pytest

from tripletlib.checks import WrongAnswer
from tripletlib.publishing.course import (
    COURSE,
    SOURCES,
    build,
    course_lesson,
    exercise_titles,
    main,
    without_teachers_cells,
)
from tripletlib.publishing.runner import find_notebooks

LESSONS = find_notebooks()
MARKED = "02_hard_mining"  # the sheet that is handed in


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    build(folder)
    return folder


def test_every_edition_is_there_and_the_table_counts(course, capsys):
    assert main(["--output", str(course)]) == 0
    table = capsys.readouterr().out
    for path in find_notebooks(SOURCES):
        name = path.stem
        for place in ("student", "teacher", f"nbgrader/source/{name}", f"nbgrader/release/{name}"):
            nbformat.validate(nbformat.read(course / place / path.name, as_version=4))
        titles = exercise_titles(nbformat.read(path, as_version=4))
        row = next(line for line in table.splitlines() if line.startswith(name)).split()
        assert row[1:3] == [str(len(titles)), str(sum(title.points for title in titles))]
    projects = {path.name for path in SOURCES.parent.glob("project_*.md")}
    assert len(projects) == 2
    assert projects < {path.name for path in (course / "student").iterdir()}
    for lesson in LESSONS:
        nbformat.validate(nbformat.read(course / "lessons" / lesson.name, as_version=4))


def test_building_again_keeps_the_gradebook_and_what_was_handed_in(tmp_path):
    build(tmp_path)
    kept = tmp_path / "nbgrader" / "submitted" / "ada" / MARKED / f"{MARKED}.ipynb"
    kept.parent.mkdir(parents=True)
    kept.write_text("handed in", encoding="utf-8")
    stale = tmp_path / "student" / "09_old.ipynb"
    stale.write_text("old", encoding="utf-8")
    build(tmp_path)
    assert kept.read_text(encoding="utf-8") == "handed in"
    assert not stale.exists()


def marked_source():
    return nbformat.read(SOURCES / f"{MARKED}.ipynb", as_version=4)


def solved():
    """Exercises that the student solved: every other one."""
    return {title.number for title in exercise_titles(marked_source())[::2]}


def hand_in(course):
    """A submission in which some exercises are solved, and the others are as handed out."""
    source = without_teachers_cells(marked_source())
    answers = {cell.id: cell.source for cell in source.cells}
    handed_out = course / "nbgrader" / "release" / MARKED / f"{MARKED}.ipynb"
    sheet = nbformat.read(handed_out, as_version=4)
    for cell in sheet.cells:
        marks = cell.metadata.get("nbgrader", {})
        if marks.get("solution") and ".".join(marks["grade_id"].split("-")[1:]) in solved():
            cell.source = answers[cell.id]
    folder = course / "nbgrader" / "submitted" / "ada" / MARKED
    folder.mkdir(parents=True)
    nbformat.write(sheet, folder / f"{MARKED}.ipynb")


@pytest.fixture(scope="module")
def marked(course):
    """Points by cell, as nbgrader's gradebook has them."""
    hand_in(course)
    folder = course / "nbgrader"
    home = course / "home"
    home.mkdir()
    # nbgrader starts `alembic`, which lies beside this Python.
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {"HOME": str(home), "PATH": programs, "JUPYTER_NO_CONFIG": "1"}
    for command in (["generate_assignment", MARKED, "--force"], ["autograde", MARKED]):
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", *command],
            cwd=folder,
            env=os.environ | settings,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    with sqlite3.connect(folder / "gradebook.db") as gradebook:
        rows = gradebook.execute(
            "select base_cell.name, grade.auto_score from grade "
            "join base_cell on grade.cell_id = base_cell.id"
        ).fetchall()
    gradebook.close()
    assert len(rows) == len(dict(rows))
    return dict(rows)


def test_nbgrader_gives_an_exercise_its_points_or_none(marked):
    titles = exercise_titles(marked_source())
    assert len(titles) > 1
    assert marked == {
        f"check-{t.number.replace('.', '-')}": t.points if t.number in solved() else 0
        for t in titles
    }


def test_nbgraders_release_is_the_sheet_that_git_holds(course, marked):
    """`generate_assignment` made it anew: the same cells as ours."""
    released = nbformat.read(
        course / "nbgrader" / "release" / MARKED / f"{MARKED}.ipynb", as_version=4
    )
    ours = nbformat.read(course / "student" / f"{MARKED}.ipynb", as_version=4)
    assert [c.source for c in released.cells] == [c.source for c in ours.cells]


@pytest.fixture(scope="module", params=LESSONS, ids=lambda path: path.stem)
def lesson(request):
    return nbformat.read(request.param, as_version=4)


def test_a_lesson_asks_for_each_prediction_before_its_result(lesson):
    edition, count = course_lesson(lesson)
    asking = sum("**Predict" in c.source for c in lesson.cells if c.cell_type == "markdown")
    assert count == asking > 0
    numbers = []
    for place, cell in enumerate(edition.cells):
        if "prediction" in cell.metadata.get("tags", []):
            number = cell.id.removeprefix("prediction-")
            numbers.append(number)
            assert "**Predict" in edition.cells[place - 1].source
            later = edition.cells[place + 1 :]
            result = next(other for other in later if other.cell_type == "code")
            assert result.source.startswith(f"predicted(prediction_{number})\n")
    assert numbers == [str(number + 1) for number in range(count)]


def test_a_lessons_edition_is_the_lesson_but_for_gates_and_folds(lesson):
    edition, _ = course_lesson(lesson)
    code = [c for c in edition.cells if c.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    kept = [c for c in edition.cells if "prediction" not in c.metadata.get("tags", [])]
    assert len(kept) == len(lesson.cells)
    for ours, theirs in zip(kept, lesson.cells, strict=True):
        if ours.cell_type == "code":
            ast.parse(ours.source)
            lines = [x for x in ours.source.splitlines() if not x.startswith("predicted(")]
            assert lines == theirs.source.removeprefix("# NBVAL_CHECK_OUTPUT\n").splitlines()
        elif ours.source != theirs.source and "<details>" in ours.source:
            opened = ours.source.partition("</summary>")[2].replace("</details>", "")
            assert opened.replace("](../../", "](../").split() == theirs.source.split()
            assert "**Predict" not in ours.source.partition("</details>")[0]
        else:
            assert ours.source.replace("](../../", "](../") == theirs.source


def test_links_of_a_lessons_edition_lead_somewhere(lesson):
    edition, _ = course_lesson(lesson)
    text = "\n".join(cell.source for cell in edition.cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        assert (COURSE / "lessons" / link).resolve().is_file(), link


def test_a_lesson_leaves_the_names_of_its_gates_alone(lesson):
    """Or a result that is run again would call something else; tests/notebooks runs 03 to 05."""
    _, count = course_lesson(lesson)
    gates = {"predicted", *(f"prediction_{number + 1}" for number in range(count))}
    own = "\n".join(c.source for c in lesson.cells if c.cell_type == "code")
    names = set(symtable.symtable(own, "lesson", "exec").get_identifiers())
    assert "plt" in names  # imported ones, too
    assert not names & gates


def test_a_result_waits_for_its_prediction():
    cells = [
        nbformat.v4.new_markdown_cell("**Predict, then run.** What is 1 + 1?"),
        nbformat.v4.new_code_cell("shown = 1 + 1"),
        nbformat.v4.new_markdown_cell("Two.\n\n## Next"),
        nbformat.v4.new_code_cell("after = 3"),
    ]
    edition, _ = course_lesson(nbformat.v4.new_notebook(cells=cells))
    code = [cell.source for cell in edition.cells if cell.cell_type == "code"]
    empty, filled = {}, {}
    exec(code[0], empty)
    with pytest.raises(WrongAnswer):
        exec(code[1], empty)
    assert "shown" not in empty
    exec(code[0].replace('""', '"two"'), filled)
    exec(code[1], filled)
    assert filled["shown"] == 2
    folded = [cell.source for cell in edition.cells if cell.cell_type == "markdown"][1]
    assert folded.startswith("<details>")
    assert folded.endswith("</details>\n\n## Next")
