import pytest


@pytest.fixture(autouse=True)
def roots(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIPLETLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TRIPLETLIB_RUNS", str(tmp_path / "runs"))
