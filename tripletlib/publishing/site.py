"""The lessons, sheets and pages as one static site, read without a server and without a network."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tripletlib.experiments import open_retrieval
from tripletlib.publishing.runner import folder_parser
from tripletlib.runtime import REPOSITORY, OneLineError, renew_folder
from tripletlib.widgets import write_query_page

SITE = REPOSITORY / "course" / "site"
QUERY_PAGE = "query_browser.html"  # the home page links to it


def build_site(folder: Path = SITE) -> list[str]:
    """Builds the site anew and returns what Sphinx warns of, such as links that lead nowhere.

    It shows the notebooks as they are committed. For the query browser's page people are drawn,
    embedded and ranked. `docs/site/conf.py` holds Sphinx's settings.

    Raises:
        ModuleNotFoundError: the extra `site` is not installed.
        FileExistsError: the folder holds other files.
        OneLineError: Sphinx failed.
    """
    if find_spec("myst_nb") is None:
        raise ModuleNotFoundError("the site needs the extra `site`: pip install -e '.[site]'")
    renew_folder(folder)
    settings = REPOSITORY / "docs" / "site"
    places = ("-c", settings, "-d", folder / ".doctrees", REPOSITORY, folder)
    command = [sys.executable, "-m", "sphinx", "-q", "--no-color", *map(str, places)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise OneLineError("Sphinx could not build the site; see above")
    shutil.rmtree(folder / ".doctrees")
    shutil.copyfile(folder / "README.html", folder / "index.html")
    write_query_page(open_retrieval(progress="off"), folder / QUERY_PAGE)
    return done.stderr.splitlines()


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `tripletlib site`; returns the exit status, 1 if a page has a fault."""
    parser = folder_parser("site", "Build the static site of lessons and sheets.", SITE)
    folder = parser.parse_args(arguments).output
    warnings = build_site(folder)
    print(*warnings, sep="\n", file=sys.stderr)
    print(folder / "index.html")
    return 1 if warnings else 0
