"""Figures are drawn without a screen and closed after every test; slow tests are marked.

Tests that execute notebooks share one kernel, since importing PyTorch takes seconds.
"""

import asyncio
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import nbval.kernel
import pytest
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

mpl.use("agg")
# Folders, files and tests that took more than half a second; `make check` leaves them out.
SLOW = Path(__file__).with_name("slow_tests.txt")
CLEAR = """
import os, matplotlib.pyplot
matplotlib.pyplot.close("all")
os.environ["TRIPLETLIB_DATA"] = {data!r}
%reset -f
"""


def pytest_collection_modifyitems(items):
    slow = set(SLOW.read_text(encoding="utf-8").split())
    for item in items:
        test = item.nodeid.partition("[")[0]
        file = PurePosixPath(test.partition("::")[0])
        if slow & {test, *map(str, [file, *file.parents])}:
            item.add_marker(pytest.mark.slow)


def _start_once_more(start):
    """Starts a kernel anew that ended at its start, and says what it wrote.

    Its ports are chosen before it binds them: while many processes start, one of them may be
    taken in between.
    """

    def start_new_kernel(*args, stderr, **options):
        with stderr, tempfile.TemporaryFile("w+") as written:
            try:
                return start(*args, stderr=written, **options)
            except RuntimeError as error:
                written.seek(0)
                print(f"{error}; started once more:\n{written.read()}")
            return start(*args, stderr=stderr, **options)

    return start_new_kernel


nbval.kernel.start_new_kernel = _start_once_more(nbval.kernel.start_new_kernel)


@pytest.fixture(autouse=True)
def matplotlib_as_before():
    with plt.rc_context():
        yield
    plt.close("all")


@pytest.fixture
def set_threads():
    """A function: how many threads PyTorch has until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def ax():
    return plt.figure().gca()


@pytest.fixture(scope="session")
def execute(tmp_path_factory):
    """A function: notebook -> outputs of its code cells by id; each begins with no variables.

    A cell that raises ends it with nbclient's error, unless its tag says that it may. `data` names
    another data root.
    """
    environment = os.environ | {"TRIPLETLIB_RUNS": str(tmp_path_factory.mktemp("runs"))}
    usual = os.environ.get("TRIPLETLIB_DATA", "")
    manager = None

    def run(notebook, data=usual):
        nonlocal manager
        notebook = nbformat.from_dict(notebook)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(CLEAR.format(data=str(data))))
        client = NotebookClient(notebook, km=manager, timeout=300, kernel_name="python3")
        manager = None  # unless it serves the next one, too
        try:
            client.execute(cleanup_kc=False, env=environment)
            manager = client.km
        except CellExecutionError:
            manager = client.km
            raise
        finally:
            if client.kc is not None:
                client.kc.stop_channels()
            if manager is None:
                stop(client.km)
        return {c.id: c.outputs for c in notebook.cells[1:] if c.cell_type == "code"}

    def stop(manager):
        # In a thread: an event loop of the browser tests may be running in this one.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, manager.shutdown_kernel(now=True)).result()

    yield run
    if manager is not None:
        stop(manager)
