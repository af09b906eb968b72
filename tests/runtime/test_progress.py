"""Who is live: asked of kernels as front ends and executors start them."""

import json
import subprocess
import sys

import nbformat
import pytest

from tripletlib.runtime import in_live_notebook

QUESTION = "from tripletlib.runtime import in_live_notebook\nprint('live:', in_live_notebook())"
# A process that runs a cell in a kernel and prints what the cell printed, as a Jupyter server does.
SERVER = """
import sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="python3")
try:
    client.execute_interactive(sys.argv[1], timeout=120)
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
"""


@pytest.fixture
def notebook(tmp_path):
    cell = nbformat.v4.new_code_cell(QUESTION)
    written = nbformat.v4.new_notebook(cells=[cell])
    written.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(written, tmp_path / "question.ipynb")
    return tmp_path / "question.ipynb"


@pytest.fixture
def _open_notebook(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")


def ask_through_server(tmp_path, cell):
    server = tmp_path / "server.py"
    server.write_text(SERVER, encoding="utf-8")
    return subprocess.run([sys.executable, server, cell], capture_output=True, text=True).stdout


def test_a_plain_process_is_not_live():
    assert not in_live_notebook()


@pytest.mark.parametrize("variable", ["JPY_SESSION_NAME", "VOILA_BASE_URL"])
def test_a_kernel_that_a_front_end_started_is_live(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "/")
    assert "live: True" in ask_through_server(tmp_path, QUESTION)


def test_a_kernel_without_a_front_end_is_not_live(tmp_path):
    assert "live: False" in ask_through_server(tmp_path, QUESTION)


@pytest.mark.usefixtures("_open_notebook")
def test_papermill_is_not_live_although_it_inherits_a_front_end(notebook, tmp_path):
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", notebook]
    subprocess.run([*command, tmp_path / "executed.ipynb"], check=True, capture_output=True)
    executed = nbformat.read(tmp_path / "executed.ipynb", as_version=4)
    assert "live: False" in executed.cells[0].outputs[0].text


@pytest.mark.usefixtures("_open_notebook")
def test_papermill_and_nbconvert_inside_an_open_notebook_are_not_live(notebook, tmp_path):
    cell = f"""
import subprocess, sys, papermill
executed = papermill.execute_notebook({str(notebook)!r}, None, progress_bar=False)
print("papermill", executed.cells[0].outputs[0].text)
command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", "--stdout"]
print("nbconvert", subprocess.run([*command, {str(notebook)!r}], capture_output=True,
                                  text=True, check=True).stdout)
{QUESTION}"""
    shown = ask_through_server(tmp_path, cell)
    papermill_says, nbconvert_says = shown.split("nbconvert", 1)
    assert "live: False" in papermill_says
    executed, open_notebook_says = json.JSONDecoder().raw_decode(nbconvert_says.strip())
    assert "live: False" in "".join(executed["cells"][0]["outputs"][0]["text"])
    assert "live: True" in nbconvert_says.strip()[open_notebook_says:]
