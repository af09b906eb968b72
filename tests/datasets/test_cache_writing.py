"""A cache is whole or not there: interruptions, kills, full disks, several writers."""

import errno
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from picture_files import CACHED_SIZE, decoded_anew, load_cached

from tripletlib.datasets import cache as image_cache
from tripletlib.datasets.decoding import read_images
from tripletlib.datasets.folders import replaced_folder
from tripletlib.runtime import REPOSITORY


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
            loaded = load_cached(paths)
    assert len(notices) == 1
    assert str(cache) in str(notices[0].message)
    np.testing.assert_array_equal(loaded.images, decoded_anew(paths))
    assert not cache.exists() or list(cache.iterdir()) == []
    assert isinstance(load_cached(paths).images.base, np.memmap)  # the next time it can


def test_a_disk_that_fills_up_while_writing(cache, paths):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with warnings.catch_warnings(record=True) as notices:
            warnings.simplefilter("always")
            loaded = load_cached(paths)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ["stay in memory" in str(notice.message) for notice in notices] == [True]
    np.testing.assert_array_equal(loaded.images, decoded_anew(paths))
    assert list(cache.iterdir()) == []


def test_a_file_where_the_cache_should_be(cache, paths):
    cache.parent.mkdir()
    cache.write_text("not a folder")
    with pytest.warns(UserWarning, match="stay in memory"):
        loaded = load_cached(paths)
    np.testing.assert_array_equal(loaded.images, decoded_anew(paths))
    assert cache.read_text() == "not a folder"


def test_one_notice_for_all_parts_of_a_set(cache, paths):
    cache.parent.mkdir()
    cache.write_text("not a folder")
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        for name in ("set-train", "set-query", "set-gallery"):
            load_cached(paths, name)
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
            load_cached(paths)
    assert not cache.exists() or list(cache.iterdir()) == []
    np.testing.assert_array_equal(load_cached(paths).images, decoded_anew(paths))


# Two processes that are killed: one writes a cache, one the stamps of a whole one.
KILLED = """
import os, signal, sys
from pathlib import Path
from tripletlib.datasets.cache import load_images
for name, moment in ("set-train", "write_text"), ("set-query", "replace"):
    if os.fork() == 0:
        setattr(Path, moment, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        load_images(sys.argv[2:], {size}, Path(sys.argv[1], name), progress="off")
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_process_killed_while_writing_leaves_nothing_for_ever(cache, paths):
    load_cached(paths, "set-query")
    os.utime(paths[0])
    command = [sys.executable, "-c", KILLED.format(size=CACHED_SIZE), str(cache), *paths]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(-signal.SIGKILL)] * 2
    for name in ("set-train", "set-query"):
        np.testing.assert_array_equal(load_cached(paths, name).images, decoded_anew(paths))
    assert {folder.name for folder in cache.iterdir()} == {"set-train", "set-query"}


def test_what_another_process_writes_is_left_alone(cache, paths):
    with replaced_folder(cache / "set-train") as theirs:
        (theirs / "images.npy").write_bytes(b"half")
        load_cached(paths)
        assert (theirs / "images.npy").read_bytes() == b"half"
    (whole,) = cache.iterdir()
    assert whole.name == "set-train"


def test_another_process_was_quicker(cache, paths, monkeypatch):
    decode = read_images

    def decode_while_another_finishes(*args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(image_cache, "read_images", decode)
            load_cached(paths)
        return decode(*args, **options)

    monkeypatch.setattr(image_cache, "read_images", decode_while_another_finishes)
    np.testing.assert_array_equal(load_cached(paths).images, decoded_anew(paths))
    assert len(list(cache.iterdir())) == 1


def test_another_process_was_quicker_by_a_moment(cache, paths, monkeypatch, recwarn):
    rename = Path.rename

    def rename_while_another_finishes(folder, target):
        if folder.name == "new":
            monkeypatch.setattr(Path, "rename", rename)
            load_cached(paths)
        return rename(folder, target)

    monkeypatch.setattr(Path, "rename", rename_while_another_finishes)
    np.testing.assert_array_equal(load_cached(paths).images, decoded_anew(paths))
    assert not recwarn.list  # no word of a full disk
    assert len(list(cache.iterdir())) == 1
