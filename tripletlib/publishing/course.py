"""Derives the course from its sources: sheets for students and teachers, lessons with answer cells.

A sheet's source holds solutions and typical wrong answers, in nbgrader's own marks; nbgrader's
preprocessors make the student's sheet of it.
"""

import base64
import io
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbgrader import preprocessors as steps
from PIL import Image

from tripletlib.publishing.runner import NOTEBOOKS, find_notebooks, folder_parser, table
from tripletlib.runtime import REPOSITORY, renew_folder

EXERCISES = NOTEBOOKS / "exercises"
SOURCES = EXERCISES / "source"
COURSE = REPOSITORY / "course"
NOT_FOR_STUDENTS = {"wrong-answer", "teacher"}  # tags of a source's cells
# What `nbgrader generate_assignment` does, but for the gradebook.
_STUDENT = (steps.LockCells, steps.ClearSolutions, steps.ClearOutput, steps.CheckCellMetadata,
            steps.ClearHiddenTests, steps.ClearMarkScheme, steps.ComputeChecksums,
            steps.CheckCellMetadata)  # fmt: skip
_TITLE = re.compile(r"^## (\d\d\.\d) (.+?) · (\d+) points · (\d+) minutes$", re.MULTILINE)
_COLOURS = 64  # of an expected picture: it shall stay small in git
_CONFIG = """\
# Settings of this nbgrader course; see docs/teaching.md.
c = get_config()
c.CourseDirectory.course_id = "tripletlib"
c.ExecutePreprocessor.timeout = 300  # seconds for a cell
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\\nraise NotImplementedError()"}
"""


class ExerciseTitle(NamedTuple):
    """What an exercise's headline says: `"02.3"`, its name, points, and minutes that it takes."""

    number: str
    name: str
    points: int
    minutes: int


def exercise_titles(sheet: NotebookNode) -> list[ExerciseTitle]:
    """The exercises of a sheet, as its headlines announce them."""
    found = [match for cell in sheet.cells for match in _TITLE.findall(cell.source)]
    return [ExerciseTitle(n, name, int(points), int(minutes)) for n, name, points, minutes in found]


def without_teachers_cells(source: NotebookNode) -> NotebookNode:
    """A copy without wrong answers and what is written for the teacher."""
    sheet = nbformat.from_dict(source)
    sheet.cells = [c for c in sheet.cells if not NOT_FOR_STUDENTS & set(c.metadata.get("tags", []))]
    return sheet


def student_sheet(source: NotebookNode) -> NotebookNode:
    """The sheet that students get: no solutions, no wrong answers, nothing for the teacher.

    A RuntimeError if a solution is not between its marks.
    """
    sheet = without_teachers_cells(source)
    for step in _STUDENT:
        sheet, _ = step().preprocess(sheet, {})
    return sheet


def course_lesson(lesson: NotebookNode) -> tuple[NotebookNode, int]:
    """A lesson whose results wait for a prediction, without outputs; and how many there are.

    Behind every "Predict, then run" comes a cell for the answer. The code cell that follows asks
    for it first, and the text behind the result is folded up to the next headline.
    """
    cells: list[NotebookNode] = []
    count, waiting, revealed = 0, False, False
    for cell in nbformat.from_dict(lesson).cells:
        asks = cell.cell_type == "markdown" and "**Predict" in cell.source
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = cell.source.removeprefix("# NBVAL_CHECK_OUTPUT\n")
            if waiting:
                cell.source = f"predicted(prediction_{count})\n{cell.source}"
                waiting, revealed = False, True
        else:  # links are seen from course/lessons/, one folder deeper
            cell.source = cell.source.replace("](../", "](../../")
            if revealed:
                cell.source, revealed = _fold(cell.source), False
        cells.append(cell)
        if asks:
            count, waiting = count + 1, True
            cells.append(_answer_cell(count))
    return nbformat.v4.new_notebook(cells=cells, metadata=lesson.metadata), count


def _answer_cell(number: int) -> NotebookNode:
    answer = f'prediction_{number} = ""  # your prediction: a sentence or a number'
    code = f"from tripletlib.checks import predicted\n\n{answer}"
    tags = {"tags": ["prediction"]}
    return nbformat.v4.new_code_cell(code, id=f"prediction-{number}", metadata=tags)


def _fold(text: str) -> str:
    """Hides the answer that a text gives, up to its first headline or next question."""
    paragraphs = text.split("\n\n")
    goes_on = (i for i, part in enumerate(paragraphs) if part[:1] == "#" or "**Predict" in part)
    end = next(goes_on, len(paragraphs))
    if not end or "<details>" in text:
        return text
    opening = "<details><summary>Open after you have run it: what came out, and why</summary>"
    return "\n\n".join([opening, *paragraphs[:end], "</details>", *paragraphs[end:]])


def _write(notebook: NotebookNode, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def build(folder: Path = COURSE) -> str:
    """Writes every edition, and returns tables that say what there is.

    An earlier build in the folder is replaced, but for a gradebook and what students handed in. A
    FileExistsError if a folder of an edition holds other files.
    """
    sheets: list[tuple[object, ...]] = [
        ("sheet", "exercises", "points", "minutes", "wrong answers")
    ]
    lessons: list[tuple[object, ...]] = [("lesson", "predictions")]
    for part in ("student", "teacher", "lessons", "nbgrader/source", "nbgrader/release"):
        renew_folder(folder / part)
    for path in find_notebooks(SOURCES):
        source, name = nbformat.read(path, as_version=4), path.stem
        student = student_sheet(source)
        editions = {
            "student": student,
            "teacher": steps.ClearOutput().preprocess(nbformat.from_dict(source), {})[0],
            f"nbgrader/source/{name}": without_teachers_cells(source),
            f"nbgrader/release/{name}": student,
        }
        for place, edition in editions.items():
            _write(edition, folder / place / path.name)
            for picture in sorted((EXERCISES / "images").glob(f"{name[:2]}_*.png")):
                (folder / place / "images").mkdir(exist_ok=True)
                shutil.copyfile(picture, folder / place / "images" / picture.name)
        titles = exercise_titles(source)
        _, _, points, minutes = zip(*titles, strict=True)
        wrong = sum("wrong-answer" in cell.metadata.get("tags", []) for cell in source.cells)
        sheets.append((name, len(titles), sum(points), sum(minutes), wrong))
    for project in EXERCISES.glob("project_*.md"):
        shutil.copyfile(project, folder / "student" / project.name)
    (folder / "nbgrader" / "nbgrader_config.py").write_text(_CONFIG, encoding="utf-8")
    for path in find_notebooks():
        lesson, count = course_lesson(nbformat.read(path, as_version=4))
        _write(lesson, folder / "lessons" / path.name)
        lessons.append((path.stem, count))
    return f"{table(sheets)}\n\n{table(lessons)}"


def commit_sheets() -> Iterator[Path]:
    """Renews what git holds of the sheets, and yields the files written.

    These are the student's editions, and the expected pictures, which the solutions draw.
    """
    for path in find_notebooks(SOURCES):
        source = nbformat.read(path, as_version=4)
        _write(student_sheet(source), EXERCISES / path.name)
        yield EXERCISES / path.name
        yield from _draw_pictures(without_teachers_cells(source))


def _draw_pictures(sheet: NotebookNode) -> Iterator[Path]:
    NotebookClient(sheet, resources={"metadata": {"path": str(EXERCISES)}}).execute()
    for cell in sheet.cells:
        if "picture" not in cell.metadata.get("tags", []):
            continue
        number = cell.id.removeprefix("picture-").replace("-", "_")
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                file = EXERCISES / "images" / f"{number}.png"
                file.parent.mkdir(exist_ok=True)
                picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
                picture.convert("RGB").quantize(_COLOURS).save(file, optimize=True)
                yield file


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `tripletlib course`; returns the exit status."""
    what = "Build the exercise sheets and the lessons for a course."
    parser = folder_parser("course", what, COURSE)
    parser.add_argument("--commit", action="store_true", help="renew what lies in git as well")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    if options.commit:
        for file in commit_sheets():
            print(file)
    print(build(options.output))
    print(f"\n{options.output}: {time.perf_counter() - start:.1f} s")
    return 0
