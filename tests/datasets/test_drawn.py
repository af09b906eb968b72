"""Drawn pedestrians: layout, promises about seeds and interruptions, how hard it is."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tripletlib.datasets.drawn import dataset as synthetic
from tripletlib.datasets.drawn.dataset import FOLDERS, write_synthetic_market

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
        tmp_path / "set", identities=48, cameras=4, images_per_camera=1, progress="off"
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
    assert 0.1 < score < 0.40  # by chance it would be 0.07
