"""Chromium and JupyterLab for the tests of this folder; without Chromium they are skipped."""

import os
import shutil
from contextlib import ExitStack

import pytest
from lab_driver import (
    CHROMIUM_ARGUMENTS,
    PATIENCE,
    WIDGET_IS_DRAWN,
    LabPage,
    find_chromium,
    lab_server,
    patient_page,
    wait_until,
)
from playwright.sync_api import sync_playwright
from small_cells import write_cells

from tripletlib.runtime import REPOSITORY

VIEWPORT = {"width": 1400, "height": 1000}
ABSENT = (
    "no Chromium found: install one (Debian: apt-get install chromium) or name it in "
    "TRIPLETLIB_CHROMIUM"
)


def kept_alive(start, is_alive):
    """A function: what `start` returned, which is started again once it is no longer alive."""
    started = []

    def get():
        if not (started and is_alive(started[-1])):
            started.append(start())
        return started[-1]

    return get


@pytest.fixture(scope="session")
def get_chromium():
    """A function: the Chromium of this process; a crash costs one test and not those after it."""
    path = find_chromium()
    if path is None:
        # Continuous integration sets the variable: there, nothing is left out in silence.
        refuse = pytest.fail if os.environ.get("TRIPLETLIB_REQUIRE_BROWSER") else pytest.skip
        refuse(ABSENT)
    options = {"executable_path": path, "args": CHROMIUM_ARGUMENTS, "timeout": PATIENCE}
    with sync_playwright() as playwright:
        yield kept_alive(
            lambda: playwright.chromium.launch(**options), lambda browser: browser.is_connected()
        )


@pytest.fixture
def new_page(get_chromium):
    """Opens pages, which are closed after the test whatever becomes of it."""
    pages = []

    def open_one(**options):
        pages.append(patient_page(get_chromium(), **options))
        return pages[-1]

    yield open_one
    for page in pages:
        page.close()


@pytest.fixture(scope="session")
def get_lab(tmp_path_factory):
    """A function: the running JupyterLab of this process."""
    with ExitStack() as stack:
        yield kept_alive(
            lambda: stack.enter_context(lab_server(tmp_path_factory.mktemp("lab"))),
            lambda lab: lab.process.poll() is None,
        )


@pytest.fixture
def lab(get_chromium, get_lab):
    return get_lab()


@pytest.fixture
def screenshots(request):
    folder = REPOSITORY / "runs" / "browser-tests" / request.node.name
    shutil.rmtree(folder, ignore_errors=True)
    return folder


@pytest.fixture
def open_notebook(new_page, lab, screenshots):
    """Opens notebooks; afterwards no error may have come up in any of them."""
    pages = []

    def open_one(name):
        pages.append(LabPage(new_page(viewport=VIEWPORT), screenshots))
        pages[-1].open(lab, name)
        return pages[-1]

    yield open_one
    problems = [problem for page in pages for problem in page.take_errors()]
    for page in pages:
        page.shut_down()
    assert not problems


@pytest.fixture(scope="session")
def shared_page():
    """The page of JupyterLab that `run_cell` keeps from test to test: a list of at most one."""
    return []


@pytest.fixture
def run_cell(get_chromium, lab, shared_page, screenshots, request):
    """Runs a cell, alone in a notebook, in a page and a kernel that tests share.

    A test that fails takes both with it. No error may have come up in the page.
    """
    failed_before = request.session.testsfailed

    def run(source, **size):
        if not shared_page:
            number = len(list(lab.notebooks.glob("cell_*")))  # another notebook, another kernel
            write_cells(lab.notebooks / f"cell_{number}.ipynb", "")
            shared_page.append(LabPage(patient_page(get_chromium()), screenshots))
            shared_page[0].open(lab, f"cell_{number}.ipynb")
        (page,) = shared_page
        page.screenshots = screenshots
        page.page.set_viewport_size(VIEWPORT | size)
        page.page.mouse.move(0, 0)  # away from what another test pointed at
        page.run_cell(source)
        page.page.locator(".tripletlib-widget").first.wait_for()
        wait_until(page.page, WIDGET_IS_DRAWN)
        return page

    yield run
    if shared_page:
        page = shared_page.pop()
        with ExitStack() as stack:
            stack.callback(page.page.close)
            problems = page.take_errors()
            assert not problems
            if request.session.testsfailed == failed_before:
                shared_page.append(page)
                stack.pop_all()


def pytest_terminal_summary(terminalreporter):
    if any(ABSENT in str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())):
        terminalreporter.write_line(f"skipped tests/browser: {ABSENT}")
