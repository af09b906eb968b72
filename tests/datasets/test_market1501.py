"""Market-1501: splits, fingerprints, errors, counts, and a data set that is left alone."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from picture_files import state, write_market
from PIL import Image

from tripletlib.datasets import cache as image_cache
from tripletlib.datasets import market1501
from tripletlib.datasets.decoding import UnreadableImageError, read_image
from tripletlib.datasets.drawn.dataset import write_synthetic_market
from tripletlib.datasets.market1501 import FOLDERS, OFFICIAL_COUNTS, Market1501, parse_name
from tripletlib.sampling import PKSampler

PARTS = tuple(FOLDERS)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A data set that no test changes."""
    root = tmp_path_factory.mktemp("drawn") / "people"
    return write_synthetic_market(root, 8, 2, 2, progress="off")


@pytest.fixture
def market(drawn, tmp_path):
    """A copy to do bad things to."""
    return Path(shutil.copytree(drawn, tmp_path / "above" / "people"))


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
        patch.setattr(image_cache, "read_images", lambda *_: pytest.fail("decoded again"))
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


@pytest.mark.parametrize(
    "change", [change_a_pixel, change_the_pid, change_the_camera, Path.unlink], ids=str
)
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
    monkeypatch.setattr(image_cache, "read_images", lambda *_: pytest.fail("decoded again"))
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
    monkeypatch.setattr(market1501, "OFFICIAL_COUNTS", counts)


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
