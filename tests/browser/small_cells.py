"""One widget in one cell, for tests that need no whole notebook."""

import nbformat

PLAYGROUND = """from tripletlib.widgets import Playground
playground = Playground()
playground"""

QUERY_BROWSER = """from tripletlib.experiments import open_retrieval
from tripletlib.runtime import run_folder
from tripletlib.widgets import QueryBrowser
browser = QueryBrowser(open_retrieval(progress="off"), run_folder("browser"))
browser"""

PHOTOS = QUERY_BROWSER.replace('progress="off")', 'progress="off").without_labels()')


def write_cell(source, file):
    """Writes a notebook with one cell."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, file)
