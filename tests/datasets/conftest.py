import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tripletlib.datasets import cache as image_cache
from tripletlib.datasets import write_synthetic_market


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """A data root of the test's own, and every notice again."""
    monkeypatch.setenv("TRIPLETLIB_DATA", str(tmp_path / "data"))
    image_cache._tell.cache_clear()
    return tmp_path / "data"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "0001_c1s1_000001_01.jpg"  # Pillow looks at the content, not at the name


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """A data set that no test changes."""
    root = tmp_path_factory.mktemp("drawn") / "people"
    return write_synthetic_market(root, 8, 2, 2, progress="off")


@pytest.fixture
def market(drawn, tmp_path):
    """A copy to do bad things to."""
    return Path(shutil.copytree(drawn, tmp_path / "above" / "people"))


@pytest.fixture
def tiny(tmp_path: Path) -> dict:
    return {
        "root": tmp_path / "tiny",
        "identities": 4,
        "cameras": 2,
        "images_per_camera": 1,
        "progress": "off",
    }


@pytest.fixture
def cache(data):
    return data / "cache"


@pytest.fixture
def paths(tmp_path):
    generator = np.random.default_rng(0)
    (tmp_path / "set").mkdir()
    files = [tmp_path / "set" / f"{k}.png" for k in range(7)]
    for file in files:
        Image.fromarray(generator.integers(0, 256, (40, 20, 3), dtype=np.uint8)).save(file)
    return [str(file) for file in files]
