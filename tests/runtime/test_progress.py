"""Who is live: asked of kernels as front ends and executors start them."""

import subprocess
import sys

import nbformat
import pytest

from tripletlib import runtime
from tripletlib.runtime import in_live_notebook

# Without the room's door, which imports PyTorch, for seconds in each of the kernels.
QUESTION = f"""
import sys, types
room = types.ModuleType("tripletlib.runtime")
room.__path__ = {list(runtime.__path__)}
sys.modules["tripletlib.runtime"] = room
from tripletlib.runtime.progress import in_live_notebook
print(in_live_notebook())
"""
# Runs a cell in a kernel and prints what the cell printed, as a Jupyter server does.
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
# What the kernel of an open notebook says of the kernels that it starts, and of itself.
OPEN_NOTEBOOK = """
import json, os, subprocess, sys, papermill
executed = papermill.execute_notebook({notebook!r}, None, progress_bar=False)
print("papermill inside:", executed.cells[0].outputs[0].text)
command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", "--stdout"]
done = subprocess.run([*command, {notebook!r}], capture_output=True, text=True, check=True)
print("nbconvert inside:", *json.loads(done.stdout)["cells"][0]["outputs"][0]["text"])
print("JPY_SESSION_NAME:", end=" ")
{question}
del os.environ["JPY_SESSION_NAME"]
print("no front end:", in_live_notebook())
os.environ["VOILA_BASE_URL"] = "/"
print("VOILA_BASE_URL:", in_live_notebook())
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """By kernel what it says, as text."""
    folder = tmp_path_factory.mktemp("open")
    asking, executed = folder / "question.ipynb", folder / "executed.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(QUESTION)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, asking)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
        cell = OPEN_NOTEBOOK.format(notebook=str(asking), question=QUESTION)
        command = [sys.executable, "-c", SERVER, cell]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        command = [sys.executable, "-m", "papermill", "--no-progress-bar", asking, executed]
        subprocess.run(command, capture_output=True, check=True)
    outside = nbformat.read(executed, as_version=4).cells[0].outputs[0].text
    told = (line.partition(": ") for line in f"papermill: {outside}\n{said}".splitlines() if line)
    return {kernel: answer.strip() for kernel, _, answer in told}


def test_a_plain_process_is_not_live():
    assert not in_live_notebook()


@pytest.mark.parametrize("variable", ["JPY_SESSION_NAME", "VOILA_BASE_URL"])
def test_a_kernel_that_a_front_end_started_is_live(answers, variable):
    assert answers[variable] == "True"


def test_a_kernel_without_a_front_end_is_not_live(answers):
    assert answers["no front end"] == "False"


@pytest.mark.parametrize("executor", ["papermill", "papermill inside", "nbconvert inside"])
def test_an_executors_kernel_is_not_live_although_it_inherits_a_front_end(answers, executor):
    assert answers[executor] == "False"
