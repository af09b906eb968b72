import os
import time

import pytest

from tripletlib.runtime import atomic_write, renew_folder


def test_the_old_content_stands_until_the_new_is_whole(tmp_path):
    file = tmp_path / "folder" / "scores.csv"
    for content, before in (("old", None), ("new", "old")):
        with atomic_write(file, sync=True) as unfinished:
            unfinished.write_text(content)
            assert (file.read_text() if before else file.exists()) == (before or False)
            assert unfinished.suffix == ".csv"  # np.savez would append another
        assert file.read_text() == content
    assert list(file.parent.iterdir()) == [file]


def write_half(unfinished):
    unfinished.write_text("half")
    raise KeyboardInterrupt


def write_nothing(unfinished):
    raise KeyboardInterrupt


@pytest.mark.parametrize("begin", [write_half, write_nothing])
def test_after_an_error_nothing_is_left_and_the_old_content_stands(tmp_path, begin):
    file = tmp_path / "[1] a"
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(file) as unfinished:
        begin(unfinished)
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_text() == "old"


def test_two_writers_do_not_disturb_each_other(tmp_path):
    file = tmp_path / "table.npz"
    with atomic_write(file) as first, atomic_write(file) as second:
        first.write_text("first")
        second.write_text("second")
    assert file.read_text() == "first"  # it ended last
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_killed_writer_left_goes_after_an_hour(tmp_path):
    file = tmp_path / "[1].pt"
    writers = [atomic_write(file) for _ in range(2)]  # these never get to their end
    abandoned, recent = (writer.__enter__() for writer in writers)
    for unfinished, age in ((abandoned, 4000), (recent, 60)):
        unfinished.write_text("half")
        os.utime(unfinished, times=(time.time() - age,) * 2)
    with atomic_write(file) as unfinished:
        unfinished.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([file, recent])


def test_a_commands_folder_is_emptied_and_nobody_elses(tmp_path):
    ours, other = tmp_path / "new" / "site", tmp_path / "thesis"
    for _ in range(2):
        renew_folder(ours)
        assert not [file for file in ours.iterdir() if not file.name.startswith(".")]
        (ours / "page.html").touch()
    other.mkdir()
    renew_folder(other)  # empty
    (tmp_path / "kept.txt").touch()
    with pytest.raises(FileExistsError, match="name a new or an empty folder"):
        renew_folder(tmp_path)
    assert (tmp_path / "kept.txt").exists()
