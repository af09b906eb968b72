"""Market-1501: splits, fingerprints, errors, counts, and a data set that is left alone."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_files import write_market
from PIL import Image

from tripletlib.datasets import layouts
from tripletlib.datasets.layouts import FOLDERS, OFFICIAL_COUNTS, Market1501, parse_name

PARTS = tuple(FOLDERS)


# Where it looks


def test_root_may_be_the_folder_above(market):
    assert Market1501(market.parent).root == Market1501(market).root == market.resolve()


def test_a_relative_root_is_meant_from_the_data_root(market, data, monkeypatch, tmp_path):
    shutil.copytree(market, data / "people")
    monkeypatch.chdir(tmp_path)
    assert Market1501("people").root == (data / "people").resolve()


def test_several_sets_in_the_folder_above_are_named(market):
    write_market(market.parent / "second")
    with pytest.raises(ValueError, match=r"several data sets.*people.*second"):
        Market1501(market.parent)


def test_hidden_folders_are_no_data_sets(market):
    write_market(market.parent / ".half")
    assert Market1501(market.parent).root == market.resolve()


def test_missing_root_names_it_and_the_way_to_the_data(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is missing.*data/README\.md"):
        Market1501(tmp_path / "nowhere")
    (tmp_path / "Market.zip").write_bytes(b"PK")
    with pytest.raises(FileNotFoundError, match=r"Market\.zip is missing or no folder"):
        Market1501(tmp_path / "Market.zip")


@pytest.mark.parametrize("folders", [(), ("images",), ("query", "bounding_box_test")])
def test_an_empty_root_and_a_wrong_tree(tmp_path, folders):
    root = tmp_path / "set"
    root.mkdir()
    for name in folders:
        (root / name).mkdir()
    with pytest.raises(FileNotFoundError, match=r"bounding_box_train.*data/README\.md"):
        Market1501(root)


@pytest.mark.parametrize("folder", ["query", "bounding_box_test"])
def test_a_missing_folder_is_named(market, folder):
    shutil.rmtree(market / folder)
    with pytest.raises(FileNotFoundError, match=rf"{folder} is missing"):
        Market1501(market)


@pytest.mark.parametrize("part", PARTS)
def test_an_empty_folder_is_named(market, part):
    for file in (market / FOLDERS[part]).iterdir():
        file.unlink()
    (market / FOLDERS[part] / "Thumbs.db").write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"no picture for '{part}'"):
        Market1501(market)


@pytest.mark.parametrize("image_size", [128, (128,), (0, 64), (128.0, 64), "ab", (True, -1)])
def test_a_size_that_is_none(drawn, image_size):
    with pytest.raises(ValueError, match=r"image_size must be \(height, width\)"):
        Market1501(drawn, image_size=image_size)


# Names


@pytest.mark.parametrize(
    ("name", "pid", "camid"),
    [
        ("0003_c4s1_000001_01.jpg.jpg", 3, 4),
        ("0003_c4s1_000001_01.JPG", 3, 4),
        ("12345_c12_x.png", 12345, 12),
        ("3_c1.jpeg", 3, 1),
        ("0003_c1s6_015971_00 (copy).jpg", 3, 1),
    ],
)
def test_names_that_parse(tmp_path, name, pid, camid):
    gallery = Market1501(write_market(tmp_path, f"bounding_box_test/{name}")).gallery
    assert (pid, camid) in zip(gallery.pids.tolist(), gallery.camids.tolist(), strict=True)


@pytest.mark.parametrize(
    "name",
    [
        "person.jpg",
        "0003.jpg",
        "0003_c.jpg",
        "0003_x1s1_000001_01.jpg",
        "-2_c1s1_000001_01.jpg",
        "0003_c1x.jpg",
        "٣_c1s1_000001_01.jpg",
    ],
)
def test_names_that_do_not(tmp_path, name):
    write_market(tmp_path, f"query/{name}")
    with pytest.raises(ValueError, match=r"is not named like 0002_c1s1.*rename it") as caught:
        Market1501(tmp_path)
    assert name in str(caught.value)
    market = Market1501(tmp_path, skip_unreadable=True, progress="off")
    assert [Path(path).name for path in market.query.skipped] == [name]
    assert len(market.query) == len(market.query.images) == 1


@pytest.mark.parametrize("name", ["0003_c1s1.heic", "0003_c1s1_000001_01", "notes.txt", "x.eps"])
def test_endings_of_other_formats_are_the_reason(tmp_path, name):
    write_market(tmp_path, f"query/{name}")
    with pytest.raises(ValueError, match=r"its ending '.*' is of no picture.*data/README\.md"):
        Market1501(tmp_path)


@pytest.mark.parametrize(
    "name", ["Thumbs.db", "thumbs.db", "desktop.ini", ".DS_Store", "._0003_c1.jpg", "0003_c1.jpg~"]
)
def test_what_file_managers_leave_behind_is_ignored(tmp_path, name):
    write_market(tmp_path)
    (tmp_path / "query" / name).write_bytes(b"junk")
    assert len(Market1501(tmp_path).query) == 1


@pytest.mark.parametrize("name", ["{} (copy).jpg", "{} - Kopie (2).jpg", "{} copy.jpg"])
def test_copies_of_a_picture_are_ignored_and_others_of_such_names_are_not(tmp_path, name):
    folder = write_market(tmp_path) / "query"
    (original,) = folder.iterdir()
    copy = folder / name.format(original.stem)
    shutil.copy(original, copy)
    assert len(Market1501(tmp_path).query) == 1
    Image.new("RGB", (8, 16), "white").save(copy)
    assert len(Market1501(tmp_path).query) == 2
    original.unlink()
    assert len(Market1501(tmp_path).query) == 1


def test_a_copy_named_before_the_original_is_ignored_too(tmp_path):
    folder = write_market(tmp_path) / "query"
    (original,) = folder.iterdir()
    shutil.copy(original, folder / f"Copy of {original.name}")
    assert len(Market1501(tmp_path).query) == 1


def test_a_folder_among_the_pictures(tmp_path):
    (write_market(tmp_path) / "query" / "more").mkdir()
    with pytest.raises(ValueError, match=r"more: is a folder where"):
        Market1501(tmp_path)


@pytest.mark.parametrize(("part", "pid"), [("query", "-1"), ("query", "0000"), ("train", "-1")])
def test_junk_and_distractors_only_make_sense_in_a_gallery(tmp_path, part, pid):
    write_market(tmp_path, f"{FOLDERS[part]}/{pid}_c1s1_000002_01.jpg")
    with pytest.raises(ValueError, match=rf"{pid}_c1s1.*only a gallery has junk"):
        Market1501(tmp_path)


def test_training_identities_may_start_at_zero(tmp_path):
    write_market(tmp_path, "bounding_box_train/0000_c1s1_000001_01.jpg")
    assert Market1501(tmp_path).train.pids.tolist() == [0, 1]


@given(
    pid=st.sampled_from([-1, *range(0, 1502, 100)]),
    camera=st.integers(1, 6),
    rest=st.tuples(st.integers(1, 6), st.integers(0, 999_999), st.integers(0, 99)),
    twice=st.booleans(),
)
def test_every_official_name_parses(pid, camera, rest, twice):
    number = "-1" if pid == -1 else f"{pid:04d}"
    name = f"{number}_c{camera}s{rest[0]}_{rest[1]:06d}_{rest[2]:02d}.jpg" + ".jpg" * twice
    assert parse_name(name) == (pid, camera)


# Counts


def test_official_counts_add_up():
    counts = OFFICIAL_COUNTS
    gallery = counts["images in bounding_box_test"] - counts["of them junk"]
    assert gallery == 15_913
    assert gallery - counts["of them distractors"] == 13_115  # good pictures, the readme's "good"
    assert counts["training identities"] + counts["query identities"] == 1_501


def official(root):
    """Small, and called like the official set."""
    names = ("-1_c1s1_000001_01.jpg", "-1_c1s1_000002_01.jpg", "0000_c1s1_000003_01.jpg")
    return write_market(
        root / "Market-1501-v15.09.15", *(f"bounding_box_test/{name}" for name in names)
    )


@pytest.fixture
def small_counts(monkeypatch):
    counts = dict(zip(OFFICIAL_COUNTS, (1, 1, 1, 1, 4, 2, 1), strict=True))
    monkeypatch.setattr(layouts, "OFFICIAL_COUNTS", counts)


def test_the_official_set_is_recognised_and_said_to_be_complete(tmp_path, small_counts, capsys):
    Market1501(official(tmp_path))
    line, _ = capsys.readouterr().out.splitlines()
    assert line.startswith("Market-1501 is complete: training images 1, ")
    assert "of them junk 2" in line


def test_an_incomplete_official_set_is_a_warning_with_both_numbers(tmp_path, small_counts, capsys):
    root = official(tmp_path)
    (root / "bounding_box_test" / "-1_c1s1_000002_01.jpg").unlink()
    with pytest.warns(UserWarning, match="official Market-1501") as notices:
        Market1501(root)
    (notice,) = notices
    assert "images in bounding_box_test 3 (official: 4), of them junk 1 (official: 2)." in str(
        notice.message
    )
    assert notice.filename == __file__
    assert "training images" not in str(notice.message)
    assert "complete" not in capsys.readouterr().out


def test_real_counts_are_meant(tmp_path):
    with pytest.warns(UserWarning, match=r"training images 1 \(official: 12,936\)"):
        Market1501(official(tmp_path))


@pytest.mark.parametrize("trait", ["gt_bbox", "count"])
def test_other_traits_of_the_official_set(tmp_path, trait, monkeypatch):
    root = write_market(tmp_path / "renamed")
    Market1501(root)
    if trait == "gt_bbox":
        (root / "gt_bbox").mkdir()
    if trait == "count":
        monkeypatch.setitem(OFFICIAL_COUNTS, "queries", 1)
    with pytest.warns(UserWarning, match="official: 751"):
        Market1501(root)
