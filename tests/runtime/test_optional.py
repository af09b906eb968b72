"""A package that is there but broken is as good as none, with one notice."""

import logging
import sys

import pytest

from tripletlib.__main__ import main
from tripletlib.runtime import in_live_notebook, optional_package
from tripletlib.training import History


@pytest.fixture(autouse=True)
def _asked_anew():
    optional_package.cache_clear()
    yield
    optional_package.cache_clear()


@pytest.fixture
def break_package(tmp_path, monkeypatch):
    """Puts a package in front of the installed one, whose import fails in a given way."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(name, raised):
        for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise {raised}('built for another NumPy')")

    return put


WAYS = ["ImportError", "AttributeError", "SystemError", "RuntimeError", "KeyError", "SystemExit"]


@pytest.mark.parametrize("raised", WAYS)
def test_whatever_an_import_raises_is_told_once(break_package, caplog, raised):
    break_package("somebodys_package", raised)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert optional_package("somebodys_package", "nothing is drawn") is None
    (notice,) = caplog.messages
    assert notice.startswith("somebodys_package is not used")
    assert "another NumPy" in notice
    assert notice.endswith("nothing is drawn")


def test_a_package_that_is_there_is_used(caplog):
    assert optional_package("json", "").dumps([1]) == "[1]"
    assert not caplog.messages


@pytest.mark.parametrize("raised", WAYS)
def test_a_broken_tensorboard_does_not_stop_a_training(break_package, tmp_path, caplog, raised):
    break_package("tensorboard", raised)
    for module in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        sys.modules.pop(module)
    with caplog.at_level(logging.WARNING), History(tmp_path / "run"):
        pass
    (notice,) = caplog.messages
    assert "history.csv only" in notice
    assert len(History.load(tmp_path / "run")) == 0


def test_without_psutil_a_front_ends_kernel_counts_as_live(break_package, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    break_package("psutil", "OSError")
    assert in_live_notebook()


@pytest.mark.parametrize("raised", WAYS)
def test_a_command_without_its_package_says_so_in_one_line(
    break_package, monkeypatch, capsys, raised
):
    break_package("nbgrader", raised)
    monkeypatch.delitem(sys.modules, "tripletlib.publishing.course", raising=False)
    assert main(["course"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: a package cannot be used ({raised}: ")
    assert "another NumPy" in line
