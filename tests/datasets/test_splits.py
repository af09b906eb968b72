"""Splits: arrays that fit each other, fingerprints, bad files, an untouched folder."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_files import state, write_market
from PIL import Image

from tripletlib.datasets import cache as image_cache
from tripletlib.datasets.decoding import UnreadableImageError, read_image
from tripletlib.datasets.drawn.dataset import write_synthetic_market
from tripletlib.datasets.layouts import FOLDERS, Market1501
from tripletlib.sampling import PKSampler

PARTS = tuple(FOLDERS)


def parts(dataset):
    return [getattr(dataset, part) for part in PARTS]


# Splits


def test_splits_are_what_the_names_say(drawn):
    market = Market1501(drawn)
    for part, split in zip(PARTS, parts(market), strict=True):
        files = sorted(path.name for path in (drawn / FOLDERS[part]).iterdir())
        files = [name for name in files if not name.startswith("-1")]
        assert [Path(path).name for path in split.paths] == files
        assert split.pids.tolist() == [int(name.split("_")[0]) for name in files]
        assert split.camids.tolist() == [int(re.search(r"_c(\d)", name)[1]) for name in files]
        assert len(split) == len(files)
        assert split.pids.dtype == split.camids.dtype == np.int64
        assert split.paths.dtype.kind == "U"  # saved without pickle
        assert all(Path(path).is_absolute() for path in split.paths)
        assert split.skipped == {}


def test_junk_is_left_out_and_distractors_stay(drawn):
    names = [path.name for path in (drawn / "bounding_box_test").iterdir()]
    gallery = Market1501(drawn).gallery
    assert sum(name.startswith("-1") for name in names) > 0
    assert (gallery.pids != -1).all()
    assert (gallery.pids == 0).sum() == sum(name.startswith("0000") for name in names) > 0
    junk = [Path(path).name for path in Market1501(drawn).junk_paths]
    assert junk == sorted(name for name in names if name.startswith("-1"))
    assert len(junk) + len(gallery) == len(names)


def test_images_are_the_files_and_are_decoded_on_first_use(drawn, data, monkeypatch):
    market = Market1501(drawn, image_size=(64, 32), progress="off")
    assert not data.exists()
    for split in parts(market):
        expected = np.stack([read_image(path, (64, 32)) for path in split.paths])
        assert split.images.dtype == np.uint8
        np.testing.assert_array_equal(split.images, expected)
    with monkeypatch.context() as patch:
        patch.setattr(image_cache, "read_images", lambda *_, **__: pytest.fail("decoded again"))
        again = Market1501(drawn, image_size=[64, 32])
        for split, first in zip(parts(again), parts(market), strict=True):
            np.testing.assert_array_equal(split.images, first.images)
            assert split.images is split.images
    assert Market1501(drawn, progress="off").query.images.shape[2:] == (128, 64)


def test_a_changed_picture_is_seen_by_the_next_data_set(market, data):
    first = Market1501(market, progress="off").query
    assert len(first.images) == len(first)
    write_to = Path(first.paths[2])
    Image.new("RGB", (64, 128), (9, 99, 199)).save(write_to, "PNG")
    second = Market1501(market, progress="off").query
    assert second.images[2, :, 5, 5].tolist() == [9, 99, 199]
    np.testing.assert_array_equal(second.images[3:], first.images[3:])
    assert len(list((data / "cache").iterdir())) == 1


# What tells one content from another


def fingerprints(root, **options):
    return [split.fingerprint for split in parts(Market1501(root, progress="off", **options))]


def test_a_fingerprint_is_of_the_content_wherever_it_lies(drawn, market, monkeypatch):
    first = fingerprints(drawn)
    assert len(set(first)) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in first)
    for path in market.rglob("*.jpg"):  # as a program that strips metadata writes it
        data = path.read_bytes()
        path.write_bytes(data[:2] + b"\xff\xfe\x00\x06copy" + data[2:])
    assert fingerprints(market) == first
    monkeypatch.setenv("TRIPLETLIB_DATA", str(market / "inside"))  # so there is no cache
    assert fingerprints(market) == first


def change_a_pixel(file):
    with Image.open(file) as picture:
        pixels = np.array(picture)
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(file, "PNG")


def change_the_pid(file):
    file.rename(file.with_name(file.name.replace("_c", "9_c")))


def change_the_camera(file):
    file.rename(file.with_name(re.sub(r"_c\d", "_c7", file.name)))


@pytest.mark.parametrize("change", [change_a_pixel, change_the_pid, change_the_camera, Path.unlink])
def test_a_fingerprint_changes_with_the_content(market, change):
    first = fingerprints(market)
    change(sorted((market / "query").iterdir())[-1])
    train, query, gallery = fingerprints(market)
    assert (train, gallery) == (first[0], first[2])
    assert query != first[1]


def test_a_fingerprint_is_of_one_image_size(drawn):
    assert not {*fingerprints(drawn)} & {*fingerprints(drawn, image_size=(64, 32))}


def test_a_set_and_its_cache_may_move_together(market, tmp_path, monkeypatch):
    shutil.copytree(market, tmp_path / "data" / "people")
    first = fingerprints("people")
    shutil.copytree(tmp_path / "data", tmp_path / "elsewhere")
    monkeypatch.setenv("TRIPLETLIB_DATA", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(image_cache, "read_images", lambda *_, **__: pytest.fail("decoded again"))
    assert fingerprints("people") == first


def test_training_takes_the_arrays_as_they_are(drawn):
    train = Market1501(drawn, progress="off").train
    (batch, *_) = PKSampler(train.pids, identities=3, images=2)
    assert torch.as_tensor(train.images)[batch].shape == (6, 3, 128, 64)


@pytest.mark.parametrize(("identities", "cameras", "queries"), [(2, 2, 2), (5, 9, 27)])
def test_synthetic_sets_of_any_shape_say_only_how_many_answers_there_are(
    tmp_path, identities, cameras, queries, capsys
):
    root = write_synthetic_market(tmp_path / "set", identities, cameras, 1, progress="off")
    Market1501(root)
    assert capsys.readouterr().out == (
        f"{queries} of {queries} queries have a right answer in the gallery: the same identity in "
        "another camera.\n"
    )
    Market1501(root, progress="off")
    assert capsys.readouterr().out == ""


def test_repr_counts(drawn):
    assert repr(Market1501(drawn).train) == "<train: 16 images, 4 pids, 2 cameras>"
    assert "<query: 8 images" in repr(Market1501(drawn))


# Files that cannot be read


def spoil(market):
    """Four bad files of a folder of ten; returns the paths of the good ones."""
    folder = market / "bounding_box_train"
    files = sorted(folder.iterdir())
    files[0].write_bytes(b"")
    files[5].write_bytes(files[5].read_bytes()[:700])
    files[6].write_text("a text that is called .jpg")
    files[-1].unlink()
    files[-1].symlink_to(market / "gone.jpg")
    return [str(file) for k, file in enumerate(files) if k not in (0, 5, 6, len(files) - 1)]


def test_a_bad_file_is_an_error_that_names_it(market, data):
    spoil(market)
    with pytest.raises(ValueError, match=r"\.jpg: is no file, or a link that leads to none"):
        Market1501(market)
    sorted((market / "bounding_box_train").iterdir())[-1].unlink()
    train = Market1501(market, progress="off").train
    with pytest.raises(UnreadableImageError, match=r"bounding_box_train/.*skip_unreadable=True"):
        _ = train.images
    assert not (data / "cache").exists()


def test_bad_files_can_be_skipped_and_the_arrays_stay_aligned(market, capsys):
    good = spoil(market)
    for _ in range(2):  # decoded, then from the cache
        train = Market1501(market, skip_unreadable=True, progress="off").train
        assert train.paths.tolist() == good
        assert train.pids.tolist() == [int(Path(path).name[:4]) for path in good]
        assert len(train.camids) == len(train.images) == len(train) == len(good)
        for path, image in zip(good, train.images, strict=True):
            np.testing.assert_array_equal(image, read_image(path, (128, 64)))
        assert len(train.skipped) == 4
        reasons = " · ".join(train.skipped.values())
        assert re.fullmatch(
            r"is no file, or a link.* · .* empty · .* truncated .* · .* no known .*", reasons
        )
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 4
        assert all(line.startswith("left out of train: /") for line in lines)
    with pytest.raises(ValueError, match="is no file"):
        _ = Market1501(market, progress="off").train.images


def test_a_long_list_of_skipped_files_is_cut(tmp_path, capsys):
    write_market(tmp_path)
    for k in range(15):
        (tmp_path / "query" / f"0003_c1s1_{k:06d}_00.jpg").write_bytes(b"")
    assert len(Market1501(tmp_path, skip_unreadable=True, progress="off").query.skipped) == 15
    assert "left out of query: 5 more, see `.skipped`" in capsys.readouterr().out


def test_nothing_readable_is_an_error_even_then(tmp_path):
    write_market(tmp_path)
    for file in (tmp_path / "query").iterdir():
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 1 pictures of query can be read"):
        Market1501(tmp_path, skip_unreadable=True, progress="off")


# The data set's folder


def test_nothing_is_written_into_the_data_set(market):
    before = state(market.parent)
    for skip in (False, True):
        for split in parts(Market1501(market, skip_unreadable=skip, progress="off")):
            assert len(split.images) == len(split)
    assert state(market.parent) == before


@pytest.mark.parametrize("inside", [".", "bounding_box_train", "new/folder"])
def test_not_even_if_the_data_root_lies_in_it(market, inside, monkeypatch):
    monkeypatch.setenv("TRIPLETLIB_DATA", str(market / inside))
    before = state(market)
    for split in parts(Market1501(market, progress="off")):
        assert len(split.images) == len(split)
    assert state(market) == before


def test_sets_of_one_name_in_two_places_do_not_share_a_cache(tmp_path, data):
    one, two = (write_market(tmp_path / place / "set") for place in ("a", "b"))
    Image.new("RGB", (8, 16), "white").save(next((two / "query").iterdir()), "JPEG")
    for root in (one, two, one, two):
        assert Market1501(root, progress="off").query.images.mean() == (255 if root == two else 0)
    assert len(list((data / "cache").iterdir())) == 2
