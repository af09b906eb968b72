"""Chromium and JupyterLab for the tests of this folder; without Chromium they are skipped."""

import os
import shutil

import pytest
from lab_driver import CHROMIUM_ARGUMENTS, LabPage, find_chromium, lab_server
from playwright.sync_api import sync_playwright
from small_cells import write_cell

from tripletlib.runtime.paths import REPOSITORY

ABSENT = (
    "no Chromium found: install one (Debian: apt-get install chromium) or name it in "
    "TRIPLETLIB_CHROMIUM"
)


@pytest.fixture(scope="session")
def chromium():
    path = find_chromium()
    if path is None:
        # Continuous integration sets the variable: there, nothing is left out in silence.
        refuse = pytest.fail if os.environ.get("TRIPLETLIB_REQUIRE_BROWSER") else pytest.skip
        refuse(ABSENT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def lab(chromium, lab_folder):
    """Address and token of a running JupyterLab."""
    with lab_server(lab_folder) as address_and_token:
        yield address_and_token


@pytest.fixture
def open_notebook(chromium, lab, request):
    """Opens notebooks; afterwards no error may have come up in any of them."""
    pages = []
    folder = REPOSITORY / "runs" / "browser-tests" / request.node.name
    shutil.rmtree(folder, ignore_errors=True)

    def open_one(name, **size):
        page = LabPage(chromium, folder, **size)
        pages.append(page)
        page.open(*lab, name)
        return page

    yield open_one
    problems = [problem for page in pages for problem in page.errors()]
    for page in pages:
        page.page.close()
    assert not problems


@pytest.fixture
def run_cell(open_notebook, lab_folder):
    """Opens a new notebook with one cell and runs it."""

    def run(source, **size):
        write_cell(source, lab_folder / "notebooks" / "one_cell.ipynb")
        page = open_notebook("one_cell.ipynb", **size)
        page.run_all()
        page.page.locator(".tripletlib-widget").first.wait_for()
        return page

    return run


def pytest_terminal_summary(terminalreporter):
    if any(ABSENT in str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())):
        terminalreporter.write_line(f"skipped tests/browser: {ABSENT}")
