"""The lessons as pages: a browser shows them without a network, and code fits a narrow window."""

import shutil

import pytest

from tripletlib.publishing import find_notebooks
from tripletlib.publishing.pages import WITHOUT, write_page

WIDE_CODE = """
[...document.querySelectorAll(".jp-InputArea pre")]
  .filter(code => code.scrollWidth > code.clientWidth).map(code => code.textContent)
"""
WIDE_PAGE = "document.documentElement.scrollWidth > window.innerWidth"
ALTS = "[...document.images].map(image => image.alt)"


@pytest.mark.parametrize("lesson", find_notebooks(), ids=lambda path: path.stem)
def test_a_lesson_needs_no_network_and_fits_800_pixels(lesson, new_page, tmp_path):
    copy = tmp_path / lesson.name
    shutil.copy(lesson, copy)
    write_page(copy, lesson.parent)
    page = new_page(viewport={"width": 800, "height": 900})
    asked = []
    page.on("request", lambda request: asked.append(request.url.partition(":")[0]))
    page.goto(copy.with_suffix(".html").as_uri(), wait_until="networkidle")
    assert set(asked) <= {"file", "data"}
    assert page.evaluate(WIDE_CODE) == []
    assert not page.evaluate(WIDE_PAGE)
    assert not {"", WITHOUT} & set(page.evaluate(ALTS))
