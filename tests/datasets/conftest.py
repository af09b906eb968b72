import pytest

from tripletlib.datasets import cache


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """A data root of the test's own, and every notice again."""
    monkeypatch.setenv("TRIPLETLIB_DATA", str(tmp_path / "data"))
    cache._tell.cache_clear()
    return tmp_path / "data"
