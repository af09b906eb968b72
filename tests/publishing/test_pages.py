"""Pages of executed notebooks, read as a browser reads them."""

import base64

import nbformat
import pytest
from bs4 import BeautifulSoup

from tripletlib.publishing.pages import WITHOUT, write_page

PIXEL = base64.b64encode(b"a picture").decode()


def figure():
    output = nbformat.v4.new_output("display_data", data={"image/png": PIXEL})
    return nbformat.v4.new_code_cell("draw()", outputs=[output])


def page_of(cells, folder):
    path = folder / "07_lesson.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    write_page(path, folder)
    return BeautifulSoup(path.with_suffix(".html").read_text(encoding="utf-8"), "html.parser")


@pytest.fixture
def page(tmp_path):
    texts = (
        "# 7 · A lesson\n\nAnd its text.",
        "*The picture: a dot of $x^2$ in `red`.* It shows little, says $y$.",
        "$$\\max(0,\\; d_\\text{pos} - d_\\text{neg})$$",
    )
    title, below, formula = map(nbformat.v4.new_markdown_cell, texts)
    return page_of([title, figure(), below, formula, figure()], tmp_path)


def test_a_page_has_the_lessons_title_and_its_language(page):
    assert page.title.text == "7 · A lesson – tripletlib"
    assert page.html["lang"] == "en"


def test_a_figure_is_described_by_the_text_below_it(page):
    described, without = (image["alt"] for image in page.find_all("img"))
    assert described == "The picture: a dot of x^2 in red."
    assert without == WITHOUT


def test_formulas_are_mathml(page):
    assert [formula["display"] for formula in page.find_all("math")] == ["inline"] * 2 + ["block"]
    assert page.find_all("math")[2].find("msub").text == "dpos"
    assert "$" not in page.body.text


def test_nothing_is_fetched(page):
    assert not page.find_all("script", src=True)
    assert not page.find_all("link", href=lambda target: target and "://" in target)


def test_a_notebook_without_a_headline_is_called_by_its_file(tmp_path):
    cell = nbformat.v4.new_code_cell("number = 1  # no headline")
    assert page_of([cell], tmp_path).title.text == "07_lesson"


def test_a_picture_in_the_text_is_inside_the_page(tmp_path):
    (tmp_path / "dot.png").write_bytes(b"dot")
    cell = nbformat.v4.new_markdown_cell("![a dot](dot.png)")
    image = page_of([cell], tmp_path).find("img")
    assert image["alt"] == "a dot"
    assert image["src"].startswith("data:image/png")


def test_links_beside_the_notebook_lead_there_from_the_page_too(tmp_path):
    folder, page = tmp_path / "notebooks", tmp_path / "runs" / "default"
    page.mkdir(parents=True)
    folder.mkdir()
    (folder / "GLOSSARY.md").write_text("# Words", encoding="utf-8")
    text = "[words](../notebooks/GLOSSARY.md#hub) [far](https://example.org/a#b) [here](#top)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    nbformat.write(notebook, page / "07_lesson.ipynb")
    write_page(page / "07_lesson.ipynb", folder)
    html = (page / "07_lesson.html").read_text(encoding="utf-8")
    links = [a["href"] for a in BeautifulSoup(html, "html.parser").find_all("a")]
    assert links[:3] == ["../../notebooks/GLOSSARY.md#hub", "https://example.org/a#b", "#top"]


def test_a_formula_that_cannot_be_read_is_shown_as_it_was_written(tmp_path):
    page = page_of([nbformat.v4.new_markdown_cell("# A\n\n$x_$ and $y$")], tmp_path)
    assert page.find("code", string="x_")
    assert page.find("math")
