"""A cache is right or it is not there: changed files, damage, interruptions, full disks."""

import errno
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_files import CACHED_SIZE, decoded_anew, load_cached
from PIL import Image

from tripletlib.datasets import cache as image_cache
from tripletlib.datasets.cache import load_images
from tripletlib.datasets.decoding import UnreadableImageError


def forbid_decoding(monkeypatch):
    monkeypatch.setattr(image_cache, "read_images", lambda *_, **__: pytest.fail("decoded again"))


def test_the_second_time_nothing_is_decoded(cache, paths, monkeypatch):
    first = load_cached(paths)
    forbid_decoding(monkeypatch)
    second = load_cached(paths)
    np.testing.assert_array_equal(first.images, decoded_anew(paths))
    np.testing.assert_array_equal(second.images, first.images)
    assert isinstance(second.images.base, np.memmap)


def test_changes_in_memory_do_not_reach_the_file(cache, paths):
    images = load_cached(paths).images
    torch.as_tensor(images).zero_()  # warns of arrays that cannot be written to
    assert not images.any()
    np.testing.assert_array_equal(load_cached(paths).images, decoded_anew(paths))


def test_without_a_name_nothing_is_written(cache, paths):
    images = load_images(paths, CACHED_SIZE, None, progress="off").images
    np.testing.assert_array_equal(images, decoded_anew(paths))
    assert not cache.exists()


def other_pixels(path):
    with Image.open(path) as picture:
        turned = picture.transpose(Image.Transpose.ROTATE_180)
    turned.save(path)


def touch(path):
    os.utime(path, ns=(0, time.time_ns() + 1))


def other_pixels_same_size_and_time(path):
    """As an uncompressed picture is replaced by one of the same camera that was copied with -p."""
    before = Path(path).stat()
    data = bytearray(Path(path).read_bytes())
    data[-1] ^= 255  # the last pixel of a BMP
    Path(path).write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Path(path).stat().st_size == before.st_size


@pytest.mark.parametrize("change", [other_pixels, other_pixels_same_size_and_time])
def test_a_replaced_picture_is_noticed(cache, tmp_path, change):
    paths = [str(tmp_path / f"{k}.bmp") for k in range(3)]
    for k, path in enumerate(paths):
        picture = Image.linear_gradient("L").resize(CACHED_SIZE[::-1])
        picture.point(lambda grey, k=k: grey // 2 + k).save(path)
    before = load_cached(paths)
    change(paths[1])
    after = load_cached(paths)
    np.testing.assert_array_equal(after.images, decoded_anew(paths))
    assert (after.images != before.images).any()
    assert after.digest != before.digest
    assert len(list(cache.iterdir())) == 1


def test_a_set_that_was_copied_over_itself_is_recognised(cache, paths, monkeypatch):
    before = load_cached(paths)
    for path in paths:
        data = Path(path).read_bytes()
        Path(path).unlink()
        Path(path).write_bytes(data)
        touch(path)
    forbid_decoding(monkeypatch)
    after = load_cached(paths)
    np.testing.assert_array_equal(after.images, before.images)
    assert after.digest == before.digest


def age(monkeypatch, seconds=10):
    """Lets time pass: files just written are not trusted, they might change within a tick."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + seconds * 10**9)


def count_hashed(monkeypatch):
    hashed, really = [], image_cache._hash_files
    monkeypatch.setattr(
        image_cache, "_hash_files", lambda files: hashed.extend(files) or really(files)
    )
    return hashed


def test_unchanged_files_are_not_read_again_and_changed_ones_once(cache, paths, monkeypatch):
    age(monkeypatch)
    load_cached(paths)
    hashed = count_hashed(monkeypatch)
    load_cached(paths)
    assert hashed == []
    touch(paths[3])
    os.utime(paths[3], ns=(0, 0))
    for _ in range(2):
        load_cached(paths)
    assert hashed == [paths[3]]


def test_files_just_written_are_read_until_their_times_can_be_trusted(cache, paths, monkeypatch):
    load_cached(paths)
    hashed = count_hashed(monkeypatch)
    age(monkeypatch)
    for _ in range(2):
        load_cached(paths)
    assert hashed == paths


def test_stamps_that_cannot_be_kept_cost_time_only(cache, paths, monkeypatch):
    load_cached(paths)
    forbid_decoding(monkeypatch)

    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(image_cache, "atomic_write", full)
    np.testing.assert_array_equal(load_cached(paths).images, decoded_anew(paths))


def test_an_added_and_a_removed_file_are_noticed(cache, paths):
    load_cached(paths)
    assert len(load_cached(paths[:-1]).images) == 6
    np.testing.assert_array_equal(load_cached(paths).images, decoded_anew(paths))
    assert len(list(cache.iterdir())) == 1


def test_a_cache_of_another_size_is_not_taken(cache, paths, monkeypatch):
    load_cached(paths, "train")
    forbid_decoding(monkeypatch)
    with pytest.raises(pytest.fail.Exception, match="decoded again"):
        load_cached(paths, "train", (16, 8))


def truncate(folder):
    file = folder / "images.npy"
    file.write_bytes(file.read_bytes()[:-1])


def cut_to_nothing(folder):
    (folder / "images.npy").write_bytes(b"")


def flip_a_bit(folder):
    file = folder / "images.npy"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def other_shape(folder):
    images = np.zeros((2, 3, *CACHED_SIZE), np.uint8)
    np.save(folder / "images.npy", images)


def garbage(folder):
    (folder / "images.npy").write_bytes(b"PK\x03\x04 this is no array")


def pickle_inside(folder):
    np.save(folder / "images.npy", np.array([{}], dtype=object), allow_pickle=True)


def no_about(folder):
    (folder / "about.json").unlink()


def no_stamps(folder):
    (folder / "files.npy").unlink()


def stamps_of_fewer_files(folder):
    np.save(folder / "files.npy", np.load(folder / "files.npy")[:-1])


def half_an_about(folder):
    (folder / "about.json").write_text('{"crc32": 1')


def other_about(folder):
    (folder / "about.json").write_text("[]")


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        cut_to_nothing,
        flip_a_bit,
        other_shape,
        garbage,
        pickle_inside,
        no_about,
        no_stamps,
        stamps_of_fewer_files,
        half_an_about,
        other_about,
    ],
)
def test_a_damaged_cache_is_made_anew(cache, paths, damage, monkeypatch):
    load_cached(paths)
    (folder,) = cache.iterdir()
    damage(folder)
    np.testing.assert_array_equal(load_cached(paths).images, decoded_anew(paths))
    forbid_decoding(monkeypatch)
    assert len(load_cached(paths).images) == 7
    assert list(cache.iterdir()) == [folder]


def test_what_was_skipped_is_remembered(cache, paths, monkeypatch):
    Path(paths[2]).write_bytes(b"")
    with pytest.raises(UnreadableImageError, match=r"2\.png"):
        load_cached(paths)
    assert not cache.exists()  # an error keeps nothing
    first = load_cached(paths, skip_unreadable=True)
    forbid_decoding(monkeypatch)
    second = load_cached(paths, skip_unreadable=True)
    assert first.skipped == second.skipped == {2: "the file is empty"}
    np.testing.assert_array_equal(second.images, decoded_anew(paths[:2] + paths[3:]))
    with pytest.raises(UnreadableImageError, match=r"2\.png.*the file is empty"):
        load_cached(paths)


def test_about_is_plain_json(cache, paths):
    load_cached(paths)
    (folder,) = cache.iterdir()
    assert sorted(file.name for file in folder.iterdir()) == [
        "about.json",
        "files.npy",
        "images.npy",
    ]
    assert json.loads((folder / "about.json").read_text())["skipped"] == {}
