"""Slides: the chosen figures with few sentences, and nothing fetched from the net."""

import re

import nbformat
import pytest

from tripletlib.__main__ import main as program
from tripletlib.publishing.runner import clean, find_notebooks
from tripletlib.publishing.slides import deck, main

LESSONS = find_notebooks()


@pytest.fixture(scope="module")
def decks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    assert main(["--output", str(folder)]) == 0
    return folder


def test_a_folder_with_other_files_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    assert program(["slides", "--output", str(tmp_path)]) == 2
    assert "holds files that this command did not write" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def path(request):
    return request.param


def chosen(lesson):
    return [c for c in lesson.cells if c.metadata.get("slideshow", {}).get("slide_type") == "slide"]


def test_a_deck_shows_the_chosen_figures_and_their_sentences(path, decks):
    lesson = nbformat.read(path, as_version=4)
    page = (decks / f"{path.stem}.html").read_text(encoding="utf-8")
    cells = chosen(lesson)
    assert 4 <= len(cells) <= 10
    assert page.count("<img") == len(cells)
    for cell in cells:
        assert 3 <= len(cell.metadata.lecture.say) <= 4
        (data,) = (out.data for out in cell.outputs if "data" in out)
        kind = next(kind for kind in data if kind.startswith("image/"))
        assert data[kind].replace("\n", "")[:200] in page
        assert cell.source.splitlines()[0] not in page  # the code stays in the lesson


def test_a_deck_fetches_nothing_but_what_lies_beside_it(path, decks):
    page = (decks / f"{path.stem}.html").read_text(encoding="utf-8")
    sources = re.findall(r"<(?:script|link|img)[^>]*?(?:src|href)=\"([^\"]+)\"", page)
    beside = {source for source in sources if not source.startswith("data:")}
    assert len(beside) == 4
    assert all((decks / source).is_file() for source in beside)
    assert not re.search(r"(@import|url\()\s*['\"]?https?:|import .* from ['\"]http", page)
    licence = (decks / "reveal" / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("Copyright (C) 2011")


def test_what_the_lesson_says_becomes_the_speakers_notes(path):
    lesson = nbformat.read(path, as_version=4)
    notes = [c for c in deck(lesson).cells if c.metadata.get("slideshow", {}).get("slide_type") ==
             "notes"]  # fmt: skip
    assert len(notes) == len(chosen(lesson))
    texts = {cell.source for cell in lesson.cells}
    assert all(cell.source in texts for cell in notes)


def test_a_slide_without_a_figure_is_refused():
    about = nbformat.v4.new_markdown_cell("# Lesson\n\nAbout it. More.")
    cell = nbformat.v4.new_code_cell("1", metadata={"slideshow": {"slide_type": "slide"}})
    with pytest.raises(ValueError, match="needs a figure"):
        deck(nbformat.v4.new_notebook(cells=[about, cell]))


def test_renewed_notebooks_keep_their_choice_of_slides(path):
    lesson = nbformat.read(path, as_version=4)
    before = [dict(cell.metadata) for cell in lesson.cells]
    assert [dict(cell.metadata) for cell in clean(lesson).cells] == before
