"""Own pictures: names and numbers, what is told when they are opened, and what is left alone."""

import os
import shutil
import unicodedata
import warnings
import zlib
from pathlib import Path

import pytest
from picture_files import state, write_pictures

from tripletlib.datasets import from_folders
from tripletlib.datasets.decoding import ENDINGS

PARTS = ("train", "query", "gallery")


@pytest.fixture
def own(tmp_path):
    return write_pictures(
        tmp_path / "own",
        "train/zoe/door_1.jpg",
        "train/adam/yard_1.png",
        "query/mia/door_1.jpg",
        "gallery/mia/yard_1.jpg",
        "gallery/mia/yard_10.jpg",
        "gallery/ben/door_1.jpg",
        "gallery/junk/door_7.jpg",
        "gallery/distractors/hall_7.jpg",
    )


def parts(dataset):
    return [getattr(dataset, part) for part in PARTS]


def names(dataset, split):
    """Who is seen where, in words."""
    who = dataset.identity_names | {0: None}
    return [
        (who[pid], dataset.camera_names[camid])
        for pid, camid in zip(split.pids.tolist(), split.camids.tolist(), strict=True)
    ]


# Names and numbers


def test_names_are_kept_beside_the_numbers(own):
    dataset = from_folders(own, progress="off")
    assert sorted(dataset.identity_names.values()) == ["adam", "ben", "mia", "zoe"]
    assert sorted(dataset.camera_names.values()) == ["door", "hall", "yard"]
    assert names(dataset, dataset.train) == [("adam", "yard"), ("zoe", "door")]
    assert names(dataset, dataset.query) == [("mia", "door")]
    gallery = [("ben", "door"), (None, "hall"), ("mia", "yard"), ("mia", "yard")]
    assert names(dataset, dataset.gallery) == gallery
    assert [Path(path).relative_to(own).as_posix() for path in dataset.junk_paths] == [
        "gallery/junk/door_7.jpg"
    ]
    relative = [str(Path(path).relative_to(own)) for path in dataset.gallery.paths]
    assert relative == sorted(relative)
    assert relative[0] == "gallery/ben/door_1.jpg"
    assert dataset.train.images.shape == (2, 3, 128, 64)
    for split in parts(dataset):
        assert split.pids.max() < 2**31
        assert split.camids.max() < 2**31


def test_a_number_is_called_by_its_name(own):
    dataset = from_folders(own, progress="off")
    assert [dataset.person(pid) for pid in dataset.gallery.pids] == ["ben", "0", "mia", "mia"]
    assert [dataset.camera(camid) for camid in dataset.train.camids] == ["yard", "door"]


def test_numbers_do_not_depend_on_who_else_is_there(own):
    before = from_folders(own, progress="off")
    fingerprints = [split.fingerprint for split in parts(before)]
    write_pictures(own, "query/aaron/attic_1.jpg", "query/ben/8_1.jpg")
    after = from_folders(own, progress="off")
    assert before.identity_names.items() < after.identity_names.items()
    assert before.camera_names.items() < after.camera_names.items()
    now = [split.fingerprint for split in parts(after)]
    assert [now[0], now[2]] == [fingerprints[0], fingerprints[2]]
    assert now[1] != fingerprints[1]


def test_whole_numbers_are_kept(tmp_path):
    root = write_pictures(
        tmp_path, "train/10/7_x.jpg", "query/9/03_x.jpg", "gallery/0009/12_x_y.jpg"
    )
    dataset = from_folders(root)
    assert [split.pids.tolist() for split in parts(dataset)] == [[10], [9], [9]]
    assert [split.camids.tolist() for split in parts(dataset)] == [[7], [3], [12]]
    assert dataset.identity_names == {10: "10", 9: "9"}


def test_two_forms_of_one_accent_are_one_person(tmp_path):
    one, other = (unicodedata.normalize(form, "zoé") for form in ("NFC", "NFD"))
    root = write_pictures(
        tmp_path, "train/a/x_1.jpg", f"query/{one}/{one}_1.jpg", f"gallery/{other}/yard_1.jpg"
    )
    if next((root / "query").iterdir()).name == next((root / "gallery").iterdir()).name:
        pytest.skip("this file system makes one form of them")
    dataset = from_folders(root)
    assert dataset.query.pids.tolist() == dataset.gallery.pids.tolist()


def test_two_names_of_one_number_are_an_error(own, monkeypatch):
    monkeypatch.setattr(zlib, "crc32", lambda data: 5)
    with pytest.raises(ValueError, match=r"'zoe' and 'adam' happen to get the same number.*rename"):
        from_folders(own)


def test_names_of_market1501_in_folders_are_read_as_what_they_are(tmp_path):
    """The layout that a much-used baseline's preparation script makes."""
    root = write_pictures(
        tmp_path,
        *(
            f"train/{pid}/{pid}_c{camera}s1_000451_03.jpg"
            for pid in ("0002", "0007")
            for camera in (1, 2)
        ),
        *(f"query/{pid}/{pid}_c1s1_000451_00.jpg" for pid in ("0001", "0003")),
        *(
            f"gallery/{pid}/{pid}_c{camera}s1_000451_03.jpg"
            for pid in ("0001", "0003")
            for camera in (1, 2)
        ),
        "gallery/-1/-1_c3s1_000401_03.jpg",
        "gallery/0000/0000_c4s1_000001_01.jpg",
    )
    dataset = from_folders(root)
    assert dataset.train.pids.tolist() == [2, 2, 7, 7]
    assert dataset.train.camids.tolist() == [1, 2, 1, 2]
    assert dataset.query.camids.tolist() == [1, 1]
    assert dataset.gallery.pids.tolist() == [0, 1, 1, 3, 3]
    assert dataset.gallery.camids.tolist() == [4, 1, 2, 1, 2]
    assert [Path(path).name for path in dataset.junk_paths] == ["-1_c3s1_000401_03.jpg"]
    write_pictures(root, "query/0001/0003_c1s1_000451_00.jpg")
    with pytest.raises(ValueError, match="its name says identity 3, its folder 1; move it"):
        from_folders(root)


def test_short_names_for_junk_and_distractors(tmp_path):
    root = write_pictures(
        tmp_path,
        *("train/5/1_1.jpg", "query/6/1_1.jpg", "gallery/6/2_1.jpg"),
        *("gallery/-1/1_1.jpg", "gallery/0/2_2.jpg"),
    )
    assert from_folders(root).gallery.pids.tolist() == [0, 6]


@pytest.mark.parametrize("name", ["junk", "0", "0000", "-1", "Distractors"])
@pytest.mark.parametrize("part", ["train", "query"])
def test_reserved_names_elsewhere_are_refused(own, part, name):
    write_pictures(own, f"{part}/{name}/door_1.jpg")
    with pytest.raises(ValueError, match=rf"{part}/{name}: only a gallery has junk"):
        from_folders(own)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("query/mia/door1.jpg", "is not named camera_anything.jpg"),
        ("query/mia/_1.jpg", "is not named camera_anything.jpg"),
        ("query/mia/door_1.txt", r"its ending '\.txt' is of no picture"),
        ("query/mia/door_1.heic", r"its ending '\.heic' is of no picture"),
        ("query/door_1.jpg", "is no folder"),
        ("query/mia/more/door_1.jpg", "more: is a folder where"),
    ],
)
def test_what_does_not_fit_into_folders(own, file, message):
    write_pictures(own, file)
    with pytest.raises(ValueError, match=f"{message}.*skip_unreadable"):
        from_folders(own)
    dataset = from_folders(own, skip_unreadable=True, progress="off")
    assert len(dataset.query) == len(dataset.query.skipped) == 1


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_every_ending_of_the_list_is_taken(own, ending):
    write_pictures(own, f"query/mia/door_2{ending.upper()}")
    assert len(from_folders(own).query) == 2


@pytest.mark.parametrize("part", PARTS)
def test_folders_that_are_missing_or_empty(own, part):
    shutil.rmtree(own / part)
    with pytest.raises(FileNotFoundError, match=rf"{part} is missing"):
        from_folders(own)
    (own / part / "nobody").mkdir(parents=True)
    with pytest.raises(ValueError, match=rf"no picture for '{part}'"):
        from_folders(own)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_named_pipe_is_told_and_does_not_hang(own):
    os.mkfifo(own / "query" / "mia" / "door_2.jpg")
    with pytest.raises(ValueError, match=r"door_2\.jpg: is no file"):
        from_folders(own)


# What is told when a set is opened


def test_the_number_of_answered_queries_is_printed(own, capsys):
    write_pictures(own, "query/ben/yard_1.jpg", "query/rosa/door_1.jpg")
    from_folders(own)
    assert "2 of 3 queries have a right answer in the gallery" in capsys.readouterr().out


def test_queries_without_an_answer_are_a_warning_with_names_and_numbers(own):
    write_pictures(own, *(f"query/{name}/door_1.jpg" for name in ("ben", "rosa", "tom")))
    with pytest.warns(UserWarning, match="queries have") as notices:
        from_folders(own)
    (notice,) = notices
    assert notice.filename == __file__
    assert (
        str(notice.message)
        .split("; ", 1)[0]
        .endswith(": 1 of 4 queries have a right answer in the gallery")
    )
    assert "; of 2 it has no picture (rosa, tom)" in str(notice.message)
    assert "; of 1 it has pictures of the query's own camera only" in str(notice.message)
    assert "(ben); the cameras of query and gallery: door, hall, yard" in str(notice.message)


def test_people_in_both_training_and_queries_are_told(own, capsys):
    from_folders(own)
    assert "Identities in both" not in capsys.readouterr().out
    write_pictures(own, "train/mia/yard_7.jpg")
    from_folders(own)
    assert "Identities in both train and query: 1 (mia). " in capsys.readouterr().out


def test_one_camera_for_all_is_a_warning(tmp_path):
    root = write_pictures(tmp_path, "train/a/IMG_1.jpg", "query/b/IMG_2.jpg", "gallery/b/IMG_3.jpg")
    with pytest.warns(
        UserWarning, match=r"0 of 1 .*the cameras of query and gallery: IMG.*door_0001\.jpg"
    ):
        from_folders(root)


# Files


def test_own_pictures_are_left_alone_and_hidden_files_ignored(own):
    for folder in (own / "query", own / "query" / "mia"):
        for name in ("Thumbs.db", ".DS_Store"):
            (folder / name).write_bytes(b"x")
    (own / "query" / "@eaDir").mkdir()
    before = state(own)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(from_folders(own, progress="off").query.images) == 1
    assert state(own) == before


def test_a_copy_of_a_person_is_nobody_else(own):
    before = from_folders(own)
    for part, name in (("train", "zoe"), ("query", "mia")):
        shutil.copytree(own / part / name, own / part / f"{name} (copy)")
    after = from_folders(own)
    assert after.identity_names == before.identity_names
    write_pictures(own, "train/zoe (copy)/yard_3.jpg")
    assert "zoe (copy)" in from_folders(own).identity_names.values()


HOSTILE = [
    "new\nline",
    "a b",
    "<b>&amp;",
    "$HOME",
    "%s{}",
    "-rf",
    "日本",
    "\x1b[31m",
    "'\"",
    b"\xff\xe9",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_in_any_characters(tmp_path, name, capsys):
    name = os.fsdecode(name)
    root = tmp_path / f"set {name}"
    try:
        write_pictures(
            root, "train/a/x_1.jpg", f"query/{name}/{name}_1.jpg", f"gallery/{name}/y_{name}.jpg"
        )
    except OSError:
        pytest.skip("this file system takes no such names")
    (root / "query" / name / f"x{name}").write_bytes(b"no picture")
    dataset = from_folders(root, skip_unreadable=True)
    assert dataset.query.pids.tolist() == dataset.gallery.pids.tolist()
    assert len(dataset.query.images) == 1
    (shown,) = (dataset.person(pid) for pid in dataset.query.pids)
    assert shown.isprintable()
    assert shown == name or not name.isprintable()
    out = capsys.readouterr().out
    out.encode()  # as a terminal or a notebook must
    assert len(out.splitlines()) == 2  # one file left out, one count
    with pytest.raises(ValueError, match="its ending") as caught:
        from_folders(root)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("form", [str, Path])
def test_a_path_may_be_text_and_start_at_home(own, form, monkeypatch):
    monkeypatch.setenv("HOME", str(own.parent))
    assert from_folders(form("~/own"), progress="off").root == own.resolve()
