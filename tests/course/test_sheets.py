"""Exercise sheets: solutions pass, stubs fail, and every wrong answer hears its own sentence."""

import json
import re
from functools import partial

import nbformat
import pytest

from tripletlib.publishing.course import (
    EXERCISES,
    NOT_FOR_STUDENTS,
    SOURCES,
    course_lesson,
    exercise_titles,
    student_sheet,
)
from tripletlib.publishing.runner import find_notebooks

SHEETS = find_notebooks(SOURCES)
read = partial(nbformat.read, as_version=4)
LINE = 12  # characters from which a line of a solution counts as its text
# 02.5, 03.2 and 04.1 ask to write anew what a lesson shows, as docs/teaching.md says; two idioms.
SHOWN_IN_A_LESSON = {
    "if isinstance(layer, nn.ReLU | nn.LeakyReLU):",
    "ranks = np.flatnonzero(right)",
    "ranks = np.flatnonzero(right) + 1",
    "hits = np.arange(1, len(ranks) + 1)",
    "return np.nan",
    "with torch.no_grad():",
    "for _ in range(steps):",
}


@pytest.fixture(scope="module", params=SHEETS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture(scope="module")
def source(path):
    return read(path)


@pytest.fixture(scope="module")
def student(source):
    return student_sheet(source)


def tags(cell):
    return set(cell.metadata.get("tags", []))


def errors(outputs):
    """What each cell raised, as (name, sentence)."""
    return {
        name: (output.ename, output.evalue)
        for name, shown in outputs.items()
        for output in shown
        if output.output_type == "error"
    }


@pytest.fixture(scope="module")
def teachers_outputs(source, execute):
    """The teacher's edition has exactly the cells of the source."""
    return execute(source)


@pytest.fixture(scope="module")
def teachers_errors(teachers_outputs):
    return errors(teachers_outputs)


def test_the_teachers_sheet_runs_and_solutions_pass(source, teachers_errors):
    wrong = {cell.id for cell in source.cells if "wrong-answer" in tags(cell)}
    assert not {name: error for name, error in teachers_errors.items() if name not in wrong}


def test_checks_of_solutions_write_nothing_that_nbgrader_takes_for_a_failure(
    source, teachers_outputs
):
    code = [cell for cell in source.cells if cell.cell_type == "code"]
    graded = [cell.id for cell in code if cell.metadata.get("nbgrader", {}).get("grade")]
    assert graded
    for name in graded:
        kinds = {(told.output_type, told.get("name")) for told in teachers_outputs[name]}
        assert kinds == {("stream", "stdout")}, name


def test_every_wrong_answer_hears_its_own_sentence(source, teachers_errors):
    for cell in source.cells:
        if "wrong-answer" in tags(cell):
            first, _, rest = cell.source.partition("\n")
            assert first.startswith("# says: ")
            name, sentence = teachers_errors[cell.id]
            assert name == "WrongAnswer", (cell.id, sentence)
            assert first.removeprefix("# says: ") in sentence, cell.id
            assert rest.count("check(") == 1


def test_wrong_answers_to_an_exercise_hear_different_sentences(source, teachers_errors):
    sentences = [teachers_errors[c.id] for c in source.cells if "wrong-answer" in tags(c)]
    assert len(sentences) == len(set(sentences))


def test_the_students_sheet_runs_and_no_stub_passes(student, execute):
    outputs = execute(student)
    raised, checks = errors(outputs), {name for name in outputs if name.startswith("check-")}
    assert checks
    for name in checks:
        assert raised[name][0] == "WrongAnswer", name
        assert "not written yet" in raised[name][1], name
    pictures = {cell.id for cell in student.cells if "picture" in tags(cell)}
    assert raised.keys() - checks <= pictures
    assert {raised[name][0] for name in raised.keys() - checks} == {"NotImplementedError"}


def strings(value):
    """Every text in a notebook: cells, outputs, metadata and attachments."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (key, *strings(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def is_solution(cell):
    return cell.metadata.get("nbgrader", {}).get("solution", False)


def long_lines(cell):
    return {line.strip() for line in cell.source.splitlines() if len(line.strip()) >= LINE}


def secret_lines(source, student):
    """Lines of solutions that the stub lacks, and what else only the teacher's edition has."""
    stubs = {cell.id: long_lines(cell) for cell in student.cells}
    secrets, public, teachers = set(), set(), set()
    for cell in source.cells:
        if is_solution(cell):
            secrets |= long_lines(cell) - stubs[cell.id]
        elif tags(cell) & NOT_FOR_STUDENTS:
            teachers |= long_lines(cell)
        else:
            public |= long_lines(cell)  # a wrong answer may share a line with a picture's cell
    return secrets | (teachers - public - set().union(*stubs.values()))


def leaked(secrets, sheet):
    everything = "\n".join(strings(sheet))
    return sorted(line for line in secrets if line in everything)


def test_no_students_sheet_holds_a_line_of_a_solution(source, student):
    secrets = secret_lines(source, student)
    assert len(secrets) > 10
    assert not leaked(secrets, student)


@pytest.fixture(scope="module")
def lessons():
    return {path.name: course_lesson(read(path))[0] for path in find_notebooks()}


def test_no_students_lesson_holds_more_of_a_solution_than_is_known(source, student, lessons):
    secrets = secret_lines(source, student) - SHOWN_IN_A_LESSON
    assert not {name: found for name, sheet in lessons.items() if (found := leaked(secrets, sheet))}


@pytest.mark.parametrize("place", ["metadata", "outputs", "attachments", "source"])
def test_a_line_left_in_a_students_sheet_is_found(source, student, place):
    secrets = secret_lines(source, student)
    line = max(secrets, key=len)
    spoiled = json.loads(json.dumps(student))
    spoiled["cells"][1][place] = (
        line if place == "source" else {"kept": {"text/plain": f"x {line}"}}
    )
    assert line in leaked(secrets, spoiled)


def test_what_git_holds_is_what_the_source_gives(path, student):
    assert read(EXERCISES / path.name) == student, "run: tripletlib course --commit"


def test_headlines_and_marks_agree(source):
    titles = exercise_titles(source)
    assert 4 <= len(titles) <= 5
    points = {}
    for cell in source.cells:
        marks = cell.metadata.get("nbgrader", {})
        if marks.get("grade"):
            number = ".".join(marks["grade_id"].split("-")[1:])
            points[number] = points.get(number, 0) + marks["points"]
    assert points == {title.number: title.points for title in titles}
    for title in titles:
        assert 5 <= title.minutes <= 60


def test_every_exercise_has_what_it_needs(source):
    """Goal, task, a folded hint, and wrong answers with a note on them."""
    text = "\n".join(cell.source for cell in source.cells)
    sections = re.split(r"^## (?=\d\d\.\d)", text, flags=re.MULTILINE)[1:]
    for section in sections:
        number = section[:4]
        for part in ("**Goal.**", "**Task.**", "<details><summary>Hint</summary>"):
            assert part in section, (number, part)
        assert f'check("{number}",' in section
        assert section.count("# says: ") >= 1, number
        assert f"**Typical wrong answers to {number}.**" in section


def test_every_exercise_names_a_part_of_a_lesson(source):
    text = "\n".join(cell.source for cell in source.cells)
    sections = re.split(r"^## (?=\d\d\.\d)", text, flags=re.MULTILINE)[1:]
    for section in sections:
        number, part = re.search(r"In notebook (\d\d): \*([^*]+)\*", section).groups()
        (lesson,) = (path for path in find_notebooks() if path.name.startswith(number))
        assert f"## {part}\n" in "\n".join(c.source + "\n" for c in read(lesson).cells), part


def test_pictures_that_a_sheet_shows_are_there(source):
    text = "\n".join(cell.source for cell in source.cells)
    shown = re.findall(r"!\[[^\]]{20,}\]\((images/[^)]+)\)", text)
    assert len(shown) == text.count("](images/")  # each with a text for who cannot see it
    for name in shown:
        assert (EXERCISES / name).stat().st_size < 60_000


def test_there_are_five_sheets_with_enough_exercises():
    assert [path.name[:2] for path in SHEETS] == ["01", "02", "03", "04", "05"]
    assert sum(len(exercise_titles(read(path))) for path in SHEETS) >= 22
