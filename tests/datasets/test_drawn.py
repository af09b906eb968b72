"""Drawn pedestrians: layout, promises about seeds and interruptions, how hard it is."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tripletlib.datasets.drawn import dataset as synthetic
from tripletlib.datasets.drawn.dataset import FOLDERS, write_synthetic_market
from tripletlib.runtime import REPOSITORY

NAME = re.compile(r"(-1|\d{4})_c(\d)s\d_\d{6}_\d{2}\.jpg")


def parse(folder: Path) -> tuple[list[Path], np.ndarray, np.ndarray]:
    paths = sorted(folder.iterdir())
    matches = [NAME.fullmatch(path.name) for path in paths]
    assert all(matches), "a name is not in the form of Market-1501"
    return paths, np.array([int(m[1]) for m in matches]), np.array([int(m[2]) for m in matches])


def pixels(folder: Path) -> np.ndarray:
    return np.stack(
        [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    )  # [N, 128, 64, 3]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "market"
    return write_synthetic_market(
        root, identities=21, cameras=3, images_per_camera=2, progress="off"
    )


@pytest.fixture
def tiny(tmp_path: Path) -> dict:
    return {
        "root": tmp_path / "tiny",
        "identities": 4,
        "cameras": 2,
        "images_per_camera": 1,
        "progress": "off",
    }


def test_layout_and_counts(market: Path):
    assert sorted(p.name for p in market.iterdir()) == sorted([*FOLDERS, synthetic.MARKER])
    (_, train, train_cams), (_, gallery, _), (_, query, query_cams) = (
        parse(market / f) for f in FOLDERS
    )
    assert set(Counter(zip(train.tolist(), train_cams.tolist(), strict=True)).values()) == {2}
    assert (len(train), len(query)) == (10 * 3 * 2, 11 * 3)
    assert len(set(zip(query.tolist(), query_cams.tolist(), strict=True))) == len(query), (
        "one query a camera"
    )
    counts = Counter(gallery.tolist())
    # a fifth and 15 % of the 66 right images, rounded up
    assert (counts.pop(-1), counts.pop(0)) == (14, 10)
    assert set(counts.values()) == {3 * 2}
    assert set(counts) == set(query.tolist())


def test_train_and_test_share_nobody(market: Path):
    train, gallery = (set(parse(market / f)[1].tolist()) for f in FOLDERS[:2])
    assert not train & gallery
    assert train | gallery == {-1, *range(22)}


def test_every_query_has_a_right_answer_in_another_camera(market: Path):
    (_, gallery, gallery_cams), (_, query, query_cams) = (
        parse(market / "bounding_box_test"),
        parse(market / "query"),
    )
    for pid, cam in zip(query, query_cams, strict=True):
        assert ((gallery == pid) & (gallery_cams != cam)).any()


@pytest.mark.parametrize("folder", FOLDERS)
def test_pictures_are_rgb_jpegs_of_the_right_size(market: Path, folder: str):
    for path in (market / folder).iterdir():
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 128))


def test_same_seed_same_pixels_other_seed_others(tmp_path: Path, tiny: dict):
    write_synthetic_market(**tiny)
    again = write_synthetic_market(**{**tiny, "root": tmp_path / "again"})
    other = write_synthetic_market(**{**tiny, "root": tmp_path / "other"}, seed=1)
    for folder in FOLDERS:
        assert [p.name for p in parse(tiny["root"] / folder)[0]] == [
            p.name for p in parse(again / folder)[0]
        ]
        assert np.array_equal(pixels(tiny["root"] / folder), pixels(again / folder))
    assert not np.array_equal(pixels(again / "query"), pixels(other / "query"))


def test_camera_seed_keeps_the_streets_and_changes_the_people(tmp_path: Path, tiny: dict):
    own = write_synthetic_market(**{**tiny, "root": tmp_path / "own"}, seed=1)
    same = write_synthetic_market(**{**tiny, "root": tmp_path / "same"}, seed=1, camera_seed=1)
    lent = write_synthetic_market(**{**tiny, "root": tmp_path / "lent"}, seed=1, camera_seed=0)
    assert np.array_equal(pixels(own / "query"), pixels(same / "query"))
    assert not np.array_equal(pixels(own / "query"), pixels(lent / "query"))
    settings = json.loads((lent / synthetic.MARKER).read_text())
    assert (settings["seed"], settings["camera_seed"]) == (1, 0)
    with pytest.raises(ValueError, match="camera_seed"):
        write_synthetic_market(**tiny, camera_seed=-1)


def test_a_person_looks_different_in_each_camera(market: Path):
    _, pids, _ = parse(market / "query")
    images = pixels(market / "query").astype(float)
    for pid in set(pids.tolist()):
        one, two, three = images[pids == pid]
        assert (
            min(np.abs(one - two).mean(), np.abs(one - three).mean(), np.abs(two - three).mean())
            > 8
        )


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


KILLED = """
import os, signal, sys
from tripletlib.datasets.drawn import dataset
draw, drawn = dataset.draw_person, []
def draw_and_die(*args):
    drawn.append(args)
    if len(drawn) == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return draw(*args)
dataset.draw_person = draw_and_die
dataset.write_synthetic_market(sys.argv[1], 4, 2, 1, progress="off")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_what_a_killed_process_left_is_removed(tiny: dict):
    write_synthetic_market(**tiny, seed=7)
    other = tiny["root"].parent / f".{tiny['root'].name}-notebook"  # as long as our own token
    (other / "new").mkdir(parents=True)
    command = [sys.executable, "-c", KILLED, str(tiny["root"])]
    killed = subprocess.run(command, cwd=REPOSITORY, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tiny["root"].parent.iterdir())) == 3
    write_synthetic_market(**tiny, seed=7)  # whole: nothing is drawn
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


def colour_histograms(images: np.ndarray) -> np.ndarray:
    """Square roots of joint 4x4x4 RGB histograms over six stripes.

    Of the middle half of each box, with its brightness evened out: the strongest of the simple
    colour baselines that were tried.
    """
    middle = images[:, 8:124, 16:48].astype(float)
    middle = (middle * 120 / middle.mean((1, 2), keepdims=True)).clip(0, 255).astype(int) >> 6
    codes = middle @ [16, 4, 1]  # [N, 116, 32]
    bins = [
        [np.bincount(s.ravel(), minlength=64) for s in np.array_split(code, 6)] for code in codes
    ]
    return np.sqrt(np.array(bins).reshape(len(images), -1) / codes[0].size)


def test_colours_alone_do_not_solve_it(tmp_path: Path):
    root = write_synthetic_market(
        tmp_path / "set", identities=80, cameras=6, images_per_camera=2, progress="off"
    )
    (_, gallery, gallery_cams), (_, query, query_cams) = (
        parse(root / "bounding_box_test"),
        parse(root / "query"),
    )
    similarity = (
        colour_histograms(pixels(root / "query"))
        @ colour_histograms(pixels(root / "bounding_box_test")).T
    )
    precisions = []
    for row, pid, cam in zip(similarity, query, query_cams, strict=True):
        keep = (gallery != -1) & ~((gallery == pid) & (gallery_cams == cam))
        order = np.argsort(-row[keep], kind="stable")
        ranks = np.flatnonzero(gallery[keep][order] == pid) + 1
        precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    score = float(np.mean(precisions))
    assert 0.05 < score < 0.40
