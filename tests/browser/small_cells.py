"""Widgets in cells of their own, for tests that need no whole notebook."""

import nbformat

PLAYGROUND = """from tripletlib.widgets import Playground
playground = Playground()
playground"""

# Embeddings and pictures are read once in a kernel, whose cells open browser after browser.
QUERY_BROWSER = """from tripletlib.experiments import open_retrieval
from tripletlib.runtime import run_folder
from tripletlib.widgets import QueryBrowser
if "retrieval" not in globals():
    retrieval = open_retrieval(progress="off")
browser = QueryBrowser(retrieval, run_folder("browser"))
browser"""

PHOTOS = QUERY_BROWSER.replace("(retrieval,", "(retrieval.without_labels(),")


def write_cells(file, *sources):
    """Writes a notebook."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in sources])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, file)
