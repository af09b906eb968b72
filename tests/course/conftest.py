"""Executes notebooks in a kernel: one for all of them, since importing torch takes seconds."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest
from nbclient import NotebookClient

CLEAR = "import matplotlib.pyplot\nmatplotlib.pyplot.close('all')\n%reset -f"


@pytest.fixture(scope="session")
def execute(tmp_path_factory):
    """A function: notebook -> outputs of its code cells by id; each begins with no variables.

    A cell that raises ends it with nbclient's error, unless its tag says that it may.
    """
    runs = tmp_path_factory.mktemp("runs")
    manager = None

    def run(notebook):
        nonlocal manager
        notebook = nbformat.from_dict(notebook)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(CLEAR))
        client = NotebookClient(notebook, km=manager, timeout=300, kernel_name="python3")
        try:
            client.execute(cleanup_kc=False, env=os.environ | {"TRIPLETLIB_RUNS": str(runs)})
        finally:
            manager = client.km
            client.kc.stop_channels()
        return {c.id: c.outputs for c in notebook.cells[1:] if c.cell_type == "code"}

    yield run
    if manager is not None:
        # In a thread: an event loop of the browser tests may be running in this one.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, manager.shutdown_kernel(now=True)).result()
