import pytest

from tripletlib.datasets import cache


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """A data root of the test's own, and every notice again."""
    monkeypatch.setenv("TRIPLETLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(cache, "_told", set())
    return tmp_path / "data"
