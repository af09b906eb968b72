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
from tripletlib.datasets.folders import replaced_folder
from tripletlib.runtime.paths import REPOSITORY, data_root

SIZE = (32, 16)


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


def load(paths, name="set-train", size=SIZE, **options):
    return load_images(paths, size, data_root() / "cache" / name, progress="off", **options)


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
        Image.linear_gradient("L").resize(SIZE[::-1]).point(lambda grey, k=k: grey // 2 + k).save(
            path
        )
    before = load(paths)
    change(paths[1])
    after = load(paths)
    np.testing.assert_array_equal(after.images, fresh(paths))
    assert (after.images != before.images).any()
    assert after.digest != before.digest
    assert len(list(cache.iterdir())) == 1


def test_a_set_that_was_copied_over_itself_is_recognised(cache, paths, monkeypatch):
    before = load(paths)
    for path in paths:
        data = Path(path).read_bytes()
        Path(path).unlink()
        Path(path).write_bytes(data)
        touch(path)
    forbid_decoding(monkeypatch)
    after = load(paths)
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
    load(paths)
    hashed = count_hashed(monkeypatch)
    load(paths)
    assert hashed == []
    touch(paths[3])
    os.utime(paths[3], ns=(0, 0))
    for _ in range(2):
        load(paths)
    assert hashed == [paths[3]]


def test_files_just_written_are_read_until_their_times_can_be_trusted(cache, paths, monkeypatch):
    load(paths)
    hashed = count_hashed(monkeypatch)
    age(monkeypatch)
    for _ in range(2):
        load(paths)
    assert hashed == paths


def test_stamps_that_cannot_be_kept_cost_time_only(cache, paths, monkeypatch):
    load(paths)
    forbid_decoding(monkeypatch)

    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(image_cache, "atomic_write", full)
    np.testing.assert_array_equal(load(paths).images, fresh(paths))


def test_an_added_and_a_removed_file_are_noticed(cache, paths):
    load(paths)
    assert len(load(paths[:-1]).images) == 6
    np.testing.assert_array_equal(load(paths).images, fresh(paths))
    assert len(list(cache.iterdir())) == 1


def test_a_cache_of_another_size_is_not_taken(cache, paths, monkeypatch):
    load(paths, "train")
    forbid_decoding(monkeypatch)
    with pytest.raises(pytest.fail.Exception, match="decoded again"):
        load(paths, "train", (16, 8))


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
    load(paths)
    (folder,) = cache.iterdir()
    damage(folder)
    np.testing.assert_array_equal(load(paths).images, fresh(paths))
    forbid_decoding(monkeypatch)
    assert len(load(paths).images) == 7
    assert list(cache.iterdir()) == [folder]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("write", ["mkdir", "save", "write_text", "rename"])
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
            load(paths, name)
    assert len(notices) == 1


@pytest.mark.parametrize("moment", ["_read_file", "save", "write_text", "rename"])
def test_an_interrupt_leaves_nothing_that_looks_whole(cache, paths, moment, monkeypatch):
    def interrupt(*args, **options):
        if moment == "save":  # half of it is on the disk
            Path(args[0]).write_bytes(b"\x93NUMPY")
        raise KeyboardInterrupt

    owner = {"save": np, "_read_file": "tripletlib.datasets.decoding"}.get(moment, Path)
    with monkeypatch.context() as patch:
        if isinstance(owner, str):
            patch.setattr(f"{owner}.{moment}", interrupt)
        else:
            patch.setattr(owner, moment, interrupt)
        with pytest.raises(KeyboardInterrupt):
            load(paths)
    assert not cache.exists() or list(cache.iterdir()) == []
    np.testing.assert_array_equal(load(paths).images, fresh(paths))


KILLED = """
import os, signal, sys
from pathlib import Path
from tripletlib.datasets.cache import load_images
Path.{moment} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
load_images(sys.argv[2:], {size}, Path(sys.argv[1]), progress="off")
"""


def kill_while_writing(cache, paths, moment):
    script = KILLED.format(moment=moment, size=SIZE)
    command = [sys.executable, "-c", script, str(cache / "set-train"), *paths]
    killed = subprocess.run(command, cwd=REPOSITORY, check=False)
    assert killed.returncode == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("moment", ["write_text", "replace"])
def test_a_process_killed_while_writing_leaves_nothing_for_ever(cache, paths, moment, monkeypatch):
    if moment == "replace":  # of the stamps, in a whole cache
        load(paths)
        touch(paths[0])
    kill_while_writing(cache, paths, moment)
    np.testing.assert_array_equal(load(paths).images, fresh(paths))
    assert [folder.name for folder in cache.iterdir()] == ["set-train"]


def test_what_another_process_writes_is_left_alone(cache, paths):
    with replaced_folder(cache / "set-train") as theirs:
        (theirs / "images.npy").write_bytes(b"half")
        load(paths)
        assert (theirs / "images.npy").read_bytes() == b"half"
    (whole,) = cache.iterdir()
    assert whole.name == "set-train"


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
    rename = Path.rename

    def rename_while_another_finishes(folder, target):
        if folder.name == "new":
            monkeypatch.setattr(Path, "rename", rename)
            load(paths)
        return rename(folder, target)

    monkeypatch.setattr(Path, "rename", rename_while_another_finishes)
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
    assert sorted(file.name for file in folder.iterdir()) == [
        "about.json",
        "files.npy",
        "images.npy",
    ]
    assert json.loads((folder / "about.json").read_text())["skipped"] == {}
