"""One widget in one cell, for tests that need no whole notebook."""

PLAYGROUND = """from tripletlib.widgets import Playground
playground = Playground()
playground"""

QUERY_BROWSER = """from tripletlib.experiments import open_retrieval
from tripletlib.runtime import run_folder
from tripletlib.widgets import QueryBrowser
browser = QueryBrowser(open_retrieval(progress="off"), run_folder("browser"))
browser"""
