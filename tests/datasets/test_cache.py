"""A cache is right or it is not there: changed files, damage, interruptions, full disks."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tripletlib.datasets import cache as image_cache
from tripletlib.datasets.cache import load_images
from tripletlib.datasets.decoding import UnreadableImageError, read_images
from tripletlib.runtime.paths import REPOSITORY

SIZE = (32, 16)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIPLETLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(image_cache, "_told", set())
    return tmp_path / "data" / "cache"


@pytest.fixture
def paths(tmp_path):
    generator = np.random.default_rng(0)
    (tmp_path / "set").mkdir()
    files = [tmp_path / "set" / f"{k}.png" for k in range(7)]
    for file in files:
        Image.fromarray(generator.integers(0, 256, (40, 20, 3), dtype=np.uint8)).save(file)
    return [str(file) for file in files]


def load(paths, **options):
    return load_images(paths, SIZE, "set-train", progress="off", **options)


def fresh(paths):
    return read_images(paths, SIZE, progress="off")[0]


def forbid_decoding(monkeypatch):
    monkeypatch.setattr(image_cache, "read_images", lambda *_: pytest.fail("decoded again"))


def test_the_second_time_nothing_is_decoded(cache, paths, monkeypatch):
    first = load(paths)
    forbid_decoding(monkeypatch)
    second = load(paths)
    np.testing.assert_array_equal(first.images, fresh(paths))
    np.testing.assert_array_equal(second.images, first.images)
    assert isinstance(second.images.base, np.memmap)


def test_changes_in_memory_do_not_reach_the_file(cache, paths):
    images = load(paths).images
    torch.as_tensor(images).zero_()  # warns of arrays that cannot be written to
    assert not images.any()
    np.testing.assert_array_equal(load(paths).images, fresh(paths))


def test_without_a_name_nothing_is_written(cache, paths):
    images = load_images(paths, SIZE, None, progress="off").images
    np.testing.assert_array_equal(images, fresh(paths))
    assert not cache.exists()


def other_pixels(path):
    with Image.open(path) as picture:
        turned = picture.transpose(Image.Transpose.ROTATE_180)
    turned.save(path)


def touch(path):
    os.utime(path, ns=(0, time.time_ns() + 1))


@pytest.mark.parametrize("change", [other_pixels, touch])
def test_a_changed_file_is_noticed_and_the_old_cache_removed(cache, paths, change):
    load(paths)
    before = {entry.name for entry in cache.iterdir()}
    change(paths[3])
    np.testing.assert_array_equal(load(paths).images, fresh(paths))
    after = {entry.name for entry in cache.iterdir()}
    assert len(after) == 1
    assert not after & before


def test_an_added_and_a_removed_file_are_noticed(cache, paths):
    load(paths)
    assert len(load(paths[:-1]).images) == 6
    np.testing.assert_array_equal(load(paths).images, fresh(paths))
    assert len(list(cache.iterdir())) == 1


def test_each_size_and_each_part_has_its_own_cache(cache, paths, monkeypatch):
    for name in ("set-train", "set-query"):
        for size in ((32, 16), (16, 8)):
            load_images(paths, size, name, progress="off")
    forbid_decoding(monkeypatch)
    assert load_images(paths, (16, 8), "set-train", progress="off").images.shape == (7, 3, 16, 8)
    assert len(list(cache.iterdir())) == 4


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
    images = np.zeros((2, 3, *SIZE), np.uint8)
    np.save(folder / "images.npy", images)


def garbage(folder):
    (folder / "images.npy").write_bytes(b"PK\x03\x04 this is no array")


def pickle_inside(folder):
    np.save(folder / "images.npy", np.array([{}], dtype=object), allow_pickle=True)


def no_about(folder):
    (folder / "about.json").unlink()


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
        half_an_about,
        other_about,
    ],
)
def test_a_damaged_cache_is_made_anew(cache, paths, damage, monkeypatch):
    load(paths)
    (folder,) = cache.iterdir()
    damage(folder)
    np.testing.assert_array_equal(load(paths).images, fresh(paths))
    forbid_decoding(monkeypatch)
    assert len(load(paths).images) == 7
    assert list(cache.iterdir()) == [folder]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("write", ["mkdir", "save", "write_text", "iterdir", "rename"])
def test_where_nothing_can_be_written_it_goes_on_in_memory(
    cache, paths, number, write, monkeypatch
):
    def fail(*args, **options):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(np if write == "save" else Path, write, fail)
        with pytest.warns(UserWarning, match=rf"{os.strerror(number)}.*stay in memory") as notices:
            loaded = load(paths)
    assert len(notices) == 1
    assert str(cache) in str(notices[0].message)
    np.testing.assert_array_equal(loaded.images, fresh(paths))
    assert not cache.exists() or list(cache.iterdir()) == []
    assert isinstance(load(paths).images.base, np.memmap)  # the next time it can


def test_a_disk_that_fills_up_while_writing(cache, paths):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with warnings.catch_warnings(record=True) as notices:
            warnings.simplefilter("always")
            loaded = load(paths)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ["stay in memory" in str(notice.message) for notice in notices] == [True]
    np.testing.assert_array_equal(loaded.images, fresh(paths))
    assert list(cache.iterdir()) == []


def test_a_file_where_the_cache_should_be(cache, paths):
    cache.parent.mkdir()
    cache.write_text("not a folder")
    with pytest.warns(UserWarning, match="stay in memory"):
        loaded = load(paths)
    np.testing.assert_array_equal(loaded.images, fresh(paths))
    assert cache.read_text() == "not a folder"


def test_one_notice_for_all_parts_of_a_set(cache, paths):
    cache.parent.mkdir()
    cache.write_text("not a folder")
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        for name in ("set-train", "set-query", "set-gallery"):
            load_images(paths, SIZE, name, progress="off")
    assert len(notices) == 1


@pytest.mark.parametrize("moment", ["read_image", "save", "write_text", "rename"])
def test_an_interrupt_leaves_nothing_that_looks_whole(cache, paths, moment, monkeypatch):
    def interrupt(*args, **options):
        if moment == "save":  # half of it is on the disk
            Path(args[0]).write_bytes(b"\x93NUMPY")
        raise KeyboardInterrupt

    owner = {"save": np, "read_image": "tripletlib.datasets.decoding"}.get(moment, Path)
    with monkeypatch.context() as patch:
        if isinstance(owner, str):
            patch.setattr(f"{owner}.{moment}", interrupt)
        else:
            patch.setattr(owner, moment, interrupt)
        with pytest.raises(KeyboardInterrupt):
            load(paths)
    assert not cache.exists() or list(cache.iterdir()) == []
    np.testing.assert_array_equal(load(paths).images, fresh(paths))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("moment", ["write_text", "rename"])
def test_a_process_killed_while_writing_leaves_nothing_that_looks_whole(cache, paths, moment):
    script = f"""
import os, signal, sys
from pathlib import Path
from tripletlib.datasets.cache import load_images
Path.{moment} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
load_images(sys.argv[1:], {SIZE}, "set-train", progress="off")
"""
    killed = subprocess.run([sys.executable, "-c", script, *paths], cwd=REPOSITORY, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [folder.name[0] for folder in cache.iterdir()] == ["."]
    np.testing.assert_array_equal(load(paths).images, fresh(paths))
    assert len(list(cache.iterdir())) == 2


def test_remains_of_a_killed_process_are_ignored_and_later_removed(cache, paths):
    load(paths)
    (whole,) = cache.iterdir()
    young, old = (cache / f".{whole.name}-{name}" for name in ("young", "old"))
    for remains in (young, old):
        remains.mkdir()
        (remains / "images.npy").write_bytes(b"half")
    os.utime(old, (0, 0))
    foreign = cache / "set-training-notes"
    foreign.mkdir()
    touch(paths[0])
    np.testing.assert_array_equal(load(paths).images, fresh(paths))
    left = set(cache.iterdir())
    assert {young, foreign} < left  # the young one may still have its writer
    assert len(left) == 3


def test_another_process_was_quicker(cache, paths, monkeypatch):
    decode = read_images

    def decode_while_another_finishes(*args):
        with monkeypatch.context() as patch:
            patch.setattr(image_cache, "read_images", decode)
            load(paths)
        return decode(*args)

    monkeypatch.setattr(image_cache, "read_images", decode_while_another_finishes)
    np.testing.assert_array_equal(load(paths).images, fresh(paths))
    assert len(list(cache.iterdir())) == 1


def test_another_process_was_quicker_by_a_moment(cache, paths, monkeypatch, recwarn):
    remove_older = image_cache._remove_older

    def remove_while_another_finishes(target):
        remove_older(target)
        monkeypatch.setattr(image_cache, "_remove_older", remove_older)
        load(paths)  # another process, between removing and renaming

    monkeypatch.setattr(image_cache, "_remove_older", remove_while_another_finishes)
    np.testing.assert_array_equal(load(paths).images, fresh(paths))
    assert not recwarn.list  # no word of a full disk
    assert len(list(cache.iterdir())) == 1


def test_what_was_skipped_is_remembered(cache, paths, monkeypatch):
    Path(paths[2]).write_bytes(b"")
    with pytest.raises(UnreadableImageError, match=r"2\.png"):
        load(paths)
    assert not cache.exists()  # an error keeps nothing
    first = load(paths, skip_unreadable=True)
    forbid_decoding(monkeypatch)
    second = load(paths, skip_unreadable=True)
    assert first.skipped == second.skipped == {2: "the file is empty"}
    np.testing.assert_array_equal(second.images, fresh(paths[:2] + paths[3:]))
    with pytest.raises(UnreadableImageError, match=r"2\.png.*the file is empty"):
        load(paths)


def test_about_is_plain_json(cache, paths):
    load(paths)
    (folder,) = cache.iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["about.json", "images.npy"]
    assert json.loads((folder / "about.json").read_text())["skipped"] == {}
