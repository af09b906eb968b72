"""A folder of pictures without labels: what is in it, and what cannot be computed."""

from pathlib import Path

import pytest
from picture_files import state, write_pictures

from tripletlib.datasets import cache as image_cache
from tripletlib.datasets import from_pictures


@pytest.fixture
def photos(tmp_path):
    root = write_pictures(
        tmp_path / "photos", "holiday 1.jpg", "IMG_2.PNG", "x.webp", "album/y.jpg"
    )
    (root / "film.mp4").write_bytes(b"no picture")
    (root / ".DS_Store").write_bytes(b"x")
    return root


def test_pictures_without_labels_say_what_cannot_be_computed(photos, capsys):
    before = state(photos)
    pictures = from_pictures(photos)
    assert [Path(path).name for path in pictures.paths] == ["IMG_2.PNG", "holiday 1.jpg", "x.webp"]
    assert pictures.images.shape == (3, 3, 128, 64)
    assert not hasattr(pictures, "pids")
    out = capsys.readouterr().out
    assert "3 pictures without labels" in out
    assert "nothing to train on and no score" in out
    assert "2 other files and folders are left out" in out
    assert state(photos) == before


def test_pictures_without_labels_have_a_fingerprint_and_a_cache(photos, monkeypatch):
    first = from_pictures(photos, (32, 16), progress="off").fingerprint
    monkeypatch.setattr(image_cache, "read_images", lambda *_, **__: pytest.fail("decoded again"))
    assert from_pictures(photos, (32, 16), progress="off").fingerprint == first
    (photos / "x.webp").unlink()
    monkeypatch.undo()
    assert from_pictures(photos, (32, 16), progress="off").fingerprint != first


def test_pictures_that_cannot_be_read_are_named_or_left_out(photos):
    (photos / "bad.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"bad\.jpg cannot be read .*: the file is empty"):
        _ = from_pictures(photos, progress="off").images
    pictures = from_pictures(photos, skip_unreadable=True, progress="off")
    assert len(pictures) == len(pictures.images) == 3
    assert [Path(path).name for path in pictures.skipped] == ["bad.jpg"]


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is missing"):
        from_pictures("nowhere")
    write_pictures(tmp_path / "albums", "album/y.jpg")
    with pytest.raises(ValueError, match=r"no picture in .*albums; those in folders inside"):
        from_pictures(tmp_path / "albums")
