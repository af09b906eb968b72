"""A drawn set is written whole or not at all, and nothing else is ever removed."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tripletlib.datasets.drawn import dataset as synthetic
from tripletlib.datasets.drawn.dataset import write_synthetic_market


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("identities", value) for value in (1, 10_000, 4.0, True)),
        *(("cameras", value) for value in (1, 10, "6")),
        *(("images_per_camera", value) for value in (0, None)),
        ("seed", -1),
    ],
)
def test_bad_settings_are_named(tiny: dict, name: str, value: object):
    with pytest.raises(ValueError, match=rf"{name} must be a whole number from \d+ to \d+"):
        write_synthetic_market(**{**tiny, name: value})
    assert not tiny["root"].exists()


def test_numpy_integers_are_whole_numbers(tiny: dict):
    root = write_synthetic_market(**{**tiny, "identities": np.int64(4)})
    assert (root / synthetic.MARKER).is_file()


def test_the_same_set_is_not_drawn_twice(tiny: dict, monkeypatch: pytest.MonkeyPatch):
    write_synthetic_market(**tiny)
    monkeypatch.setattr(synthetic, "draw_person", lambda *_: pytest.fail("drawn again"))
    write_synthetic_market(**tiny)


def test_another_set_or_a_damaged_one_is_replaced(tiny: dict):
    root = write_synthetic_market(**tiny)
    names = {p.name for p in (root / "query").iterdir()}
    next((root / "query").iterdir()).unlink()
    write_synthetic_market(**tiny)
    assert {p.name for p in (root / "query").iterdir()} == names
    write_synthetic_market(**{**tiny, "cameras": 3})
    assert len(list((root / "query").iterdir())) == 6
    assert [p.name for p in root.parent.iterdir()] == ["tiny"], (
        "something was left beside the data set"
    )


def test_foreign_files_are_left_alone(tiny: dict):
    tiny["root"].mkdir()
    write_synthetic_market(**tiny)  # an empty folder is fine
    foreign = {**tiny, "root": tiny["root"].parent / "photos"}
    foreign["root"].mkdir()
    (foreign["root"] / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=r"holiday\.jpg was not drawn.*choose another root"):
        write_synthetic_market(**foreign)
    with pytest.raises(FileExistsError, match="holiday"):
        write_synthetic_market(**{**tiny, "root": foreign["root"] / "holiday.jpg"})
    assert (foreign["root"] / "holiday.jpg").read_bytes() == b"precious"


def own_file(root: Path) -> Path:
    return root / "notes.txt"


def own_hidden_file(root: Path) -> Path:
    return root / "query" / ".notes"


def own_picture(root: Path) -> Path:
    return root / "query" / "0003_c1s1_000099_00.jpg"


def own_folder(root: Path) -> Path:
    return root / "query" / "more" / "mine.jpg"


def replaced_picture(root: Path) -> Path:
    return sorted((root / "query").iterdir())[0]


@pytest.mark.parametrize(
    "place", [own_file, own_hidden_file, own_picture, own_folder, replaced_picture]
)
def test_own_files_in_a_drawn_set_are_not_removed(tiny: dict, place):
    file = place(write_synthetic_market(**tiny))
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"precious")
    before = contents(tiny["root"])
    with pytest.raises(FileExistsError, match=r" was not drawn.*choose another root") as caught:
        write_synthetic_market(**tiny, seed=3)
    assert str(caught.value).split(" was not drawn")[0] in (str(file), str(file.parent))
    assert contents(tiny["root"]) == before


def test_an_own_file_that_comes_while_the_set_is_drawn_is_not_removed(tiny: dict, monkeypatch):
    precious = write_synthetic_market(**tiny) / "query" / "mine.jpg"
    draw = synthetic.draw_person
    monkeypatch.setattr(
        synthetic, "draw_person", lambda *args: precious.write_bytes(b"precious") and draw(*args)
    )
    with pytest.raises(FileExistsError, match=r"mine\.jpg was not drawn.*choose another root"):
        write_synthetic_market(**tiny, seed=3)
    assert precious.read_bytes() == b"precious"
    assert [path.name for path in tiny["root"].parent.iterdir()] == ["tiny"]


def test_two_processes_may_draw_the_same_set_at_once(tiny: dict, monkeypatch: pytest.MonkeyPatch):
    draw = synthetic._write_pictures

    def draw_after_the_other(*arguments):
        monkeypatch.setattr(synthetic, "_write_pictures", draw)
        write_synthetic_market(**tiny)
        return draw(*arguments)

    monkeypatch.setattr(synthetic, "_write_pictures", draw_after_the_other)
    root = write_synthetic_market(**tiny)
    monkeypatch.setattr(synthetic, "_write_pictures", lambda *_: pytest.fail("drawn again"))
    write_synthetic_market(**tiny)
    assert [path.name for path in root.parent.iterdir()] == ["tiny"]


def test_what_file_managers_leave_does_not_stand_in_the_way(tiny: dict):
    root = write_synthetic_market(**tiny)
    drawn = contents(root)
    for name in (".DS_Store", "query/Thumbs.db", "query/._0001_c1.jpg"):
        (root / name).write_bytes(b"x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "draw_person", lambda *_: pytest.fail("drawn again"))
        write_synthetic_market(**tiny)
    write_synthetic_market(**tiny, seed=3)
    assert contents(write_synthetic_market(**tiny)) == drawn


def test_a_set_of_an_earlier_version_without_checksums_is_known_by_its_names(tiny: dict):
    marker = write_synthetic_market(**tiny) / synthetic.MARKER
    told = json.loads(marker.read_text())
    assert len(told.pop("crc32")) == sum(told["pictures"].values())
    marker.write_text(json.dumps(told))
    assert '"seed": 3' in (write_synthetic_market(**tiny, seed=3) / synthetic.MARKER).read_text()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_in_place_of_the_marker_is_not_waited_for(tiny: dict):
    marker = write_synthetic_market(**tiny) / synthetic.MARKER
    marker.unlink()
    os.mkfifo(marker)
    with pytest.raises(FileExistsError, match="was not drawn"):
        write_synthetic_market(**tiny)


def test_what_a_killed_process_left_is_removed(tiny: dict, monkeypatch: pytest.MonkeyPatch):
    other = tiny["root"].parent / f".{tiny['root'].name}-notebook"  # as long as our own token
    (other / "new").mkdir(parents=True)
    draw = synthetic.draw_person

    def draw_and_copy(*args):
        """A killed process leaves such files as now lie there, and no lock."""
        for workshop in {*tiny["root"].parent.iterdir()} - {other}:
            shutil.copytree(workshop, workshop.with_name(f"{workshop.name[:-8]}0123abcd"))
        monkeypatch.setattr(synthetic, "draw_person", draw)
        return draw(*args)

    monkeypatch.setattr(synthetic, "draw_person", draw_and_copy)
    write_synthetic_market(**tiny)
    assert len(list(tiny["root"].parent.iterdir())) == 3
    write_synthetic_market(**tiny)  # whole: nothing is drawn
    assert {path.name for path in tiny["root"].parent.iterdir()} == {"tiny", other.name}


@pytest.mark.parametrize("before", [False, True])
def test_an_interrupted_call_leaves_no_half_set(
    tiny: dict, monkeypatch: pytest.MonkeyPatch, before: bool
):
    if before:
        write_synthetic_market(**tiny, seed=7)
    drawn = []

    def fail(*args):
        drawn.append(args)
        if len(drawn) == 9:
            raise KeyboardInterrupt
        return Image.new("RGB", (64, 128))

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "draw_person", fail)
        with pytest.raises(KeyboardInterrupt):
            write_synthetic_market(**tiny)
    assert [p.name for p in tiny["root"].parent.iterdir()] == (["tiny"] if before else [])
    if before:
        assert '"seed": 7' in (tiny["root"] / synthetic.MARKER).read_text()
    assert len(list((write_synthetic_market(**tiny) / "query").iterdir())) == 4


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


# What writes, and on which path it fails
WRITES = {
    "parent": ("mkdir", "home"),
    "folder": ("mkdir", "query"),
    "picture": ("write_bytes", ".jpg"),
    "marker": ("write_text", "synthetic.json"),
    "swapping in": ("rename", "new"),
    "moving aside": ("rename", "tiny"),
}


def refuse_to_write(patch: pytest.MonkeyPatch, write: str, code: int) -> None:
    function, ending = WRITES[write]
    really = getattr(Path, function)

    def refuse(path, *args, **options):
        if path.name.endswith(ending):
            raise OSError(code, os.strerror(code))
        return really(path, *args, **options)

    patch.setattr(Path, function, refuse)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize(
    ("write", "before"),
    [
        (write, before)
        for write in WRITES
        for before in (False, True)
        if before or write != "moving aside"
    ],
)
def test_a_disk_that_cannot_be_written_is_named_and_keeps_what_it_had(
    tiny: dict, monkeypatch: pytest.MonkeyPatch, write: str, before: bool, code: int
):
    tiny["root"] = tiny["root"].parent / "home" / "tiny"
    if before:
        write_synthetic_market(**tiny, seed=7)
    earlier = contents(tiny["root"])
    with monkeypatch.context() as patch:
        refuse_to_write(patch, write, code)
        way_out = r"TRIPLETLIB_DATA.*could not write: '.*home/tiny'"
        with pytest.raises(OSError, match=way_out) as caught:
            write_synthetic_market(**tiny)
    assert caught.value.errno == code
    assert os.strerror(code) in str(caught.value)
    assert contents(tiny["root"]) == earlier
    beside = [path.name for path in tiny["root"].parent.glob("*")]
    assert beside == (["tiny"] if before else [])


def test_an_interrupt_between_the_two_renames_brings_the_earlier_set_back(
    tiny: dict, monkeypatch: pytest.MonkeyPatch
):
    earlier = contents(write_synthetic_market(**tiny, seed=7))
    really = Path.rename

    def interrupt(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise KeyboardInterrupt
        return really(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_synthetic_market(**tiny)
    assert contents(tiny["root"]) == earlier
