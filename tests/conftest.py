"""Figures are drawn without a screen and closed after every test; slow tests are marked."""

from pathlib import Path, PurePosixPath

import matplotlib as mpl
import matplotlib.pyplot as plt
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


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return plt.figure().gca()
