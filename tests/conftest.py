"""Figures are drawn without a screen and closed after every test; slow tests are marked."""

import tempfile
import warnings
from pathlib import Path, PurePosixPath

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbval.kernel
import pytest

mpl.use("agg")
# Folders, files and tests that took more than half a second; `make check` leaves them out.
SLOW = Path(__file__).with_name("slow_tests.txt")


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

    def start_new_kernel(*args, **options):
        with tempfile.TemporaryFile("w+") as stderr:
            try:
                return start(*args, **options | {"stderr": stderr})
            except RuntimeError as error:
                stderr.seek(0)
                warnings.warn(f"{error}; started once more:\n{stderr.read()}", stacklevel=1)
        return start(*args, **options)

    return start_new_kernel


nbval.kernel.start_new_kernel = _start_once_more(nbval.kernel.start_new_kernel)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return plt.figure().gca()
