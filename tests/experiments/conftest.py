import os
import shutil

import pytest
from tiny_experiment import TINY

from tripletlib.experiments import Experiment


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """A data root that no test changes: who is drawn and decoded there is so for all."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def roots(drawn, tmp_path, monkeypatch):
    """Folders of the tests' own; returned is the usual data root, which has what was once drawn."""
    usual = os.environ.get("TRIPLETLIB_DATA", "")
    monkeypatch.setenv("TRIPLETLIB_DATA", str(drawn))
    monkeypatch.setenv("TRIPLETLIB_RUNS", str(tmp_path / "runs"))
    return usual


@pytest.fixture
def own_people(roots, drawn, tmp_path, monkeypatch):
    """A copy of the people of `TINY`, in a data root of the test's own."""
    Experiment(**TINY).open_dataset("off")
    shutil.copytree(drawn / "people", tmp_path / "data" / "people")
    monkeypatch.setenv("TRIPLETLIB_DATA", str(tmp_path / "data"))
