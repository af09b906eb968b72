"""Drawn pedestrians in the layout of Market-1501: a data set made offline and free to give away.

Nobody is shown: a person is a handful of numbers (`Identity`), seen by a `Camera`. As in the real
set, people share their clothes and differ in small things, a front view hides a backpack, boxes are
cropped loosely, things stand in the way. Scores on it say nothing about real data.
"""

import io
import json
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tripletlib.datasets.drawn.identities import Identity
from tripletlib.datasets.drawn.pictures import Framing, draw_person
from tripletlib.datasets.drawn.streets import Camera
from tripletlib.datasets.folders import (
    from_data_root,
    is_left_by_file_manager,
    printable,
    remove_abandoned,
    replaced_folder,
    scan,
)
from tripletlib.runtime import Progress, explained_writing, progress_bar

LOOKALIKES = 16  # identities in one outfit; about half of them are test identities
JUNK_SHARE, DISTRACTOR_SHARE = 0.2, 0.15  # of the right images; 0.29 and 0.21 in the real gallery
STREET_ONLY = 0.25  # share of junk and distractors that show nobody
FOLDERS = ("bounding_box_train", "bounding_box_test", "query")
MARKER = "synthetic.json"  # lies in a whole data set and says how it was made
DRAWING_VERSION = 1  # raise it with every change to the drawing: older sets are then made anew
_ELSEWHERE = "name another folder, with TRIPLETLIB_DATA or in the call, then try again"


class _Detection(NamedTuple):
    """One picture to draw; `person` also numbers the people of pid -1 (junk) and 0."""

    name: str  # of the file, below the root
    pid: int
    person: int
    outfit: int
    camera: int
    number: int  # of the picture among those of its camera


def _plan(identities: int, cameras: int, images_per_camera: int, seed: int) -> Iterator[_Detection]:
    """Every picture of the data set, in a fixed order: who is seen where, and how often."""
    shuffled = np.random.default_rng([seed, 0]).permutation(identities) + 1
    train, test = np.sort(shuffled[: identities // 2]), np.sort(shuffled[identities // 2 :])
    shown = [
        (folder, pid, pid, camera)
        for folder, pids, count in (
            ("bounding_box_train", train, images_per_camera),
            ("query", test, 1),
            ("bounding_box_test", test, images_per_camera),
        )
        for pid in pids.tolist()
        for camera in range(cameras)
        for _ in range(count)
    ]
    right = len(test) * cameras * images_per_camera
    for pid, share in ((-1, JUNK_SHARE), (0, DISTRACTOR_SHARE)):
        for k in range(math.ceil(share * right)):
            # A stranger is seen three times, in neighbouring cameras; junk shows other strangers.
            stranger = identities + 1 + k // 3 + (right if pid == -1 else 0)
            shown.append(("bounding_box_test", pid, stranger, k % cameras))
    numbers, outfits = [0] * cameras, max(1, identities // LOOKALIKES)
    for folder, pid, person, camera in shown:
        numbers[camera] += 1
        label = f"{pid:04d}" if pid >= 0 else "-1"
        box = 0 if folder == "query" else 1  # the real queries are boxed by hand, as number 00
        sequence = f"c{camera + 1}s{1 + person % 6}"
        name = f"{folder}/{label}_{sequence}_{numbers[camera]:06d}_{box:02d}.jpg"
        yield _Detection(name, pid, person, person % outfits, camera, numbers[camera])


def _draw(shown: _Detection, cameras: list[Camera], seed: int) -> Image.Image:
    """The picture of one detection; it depends on these alone, so any order gives the same."""
    camera = cameras[shown.camera]
    who: Identity | None = Identity.draw(
        np.random.default_rng([seed, 2, shown.person]),
        np.random.default_rng([seed, 5, shown.outfit]),
    )
    # A person crosses a camera in one direction; the query comes from the gallery's walk.
    walk = np.random.default_rng([seed, 3, shown.person, shown.camera])
    rng = np.random.default_rng([seed, 4, shown.camera, shown.number])
    yaw = float(walk.choice(camera.yaws) + walk.normal(0, 0.2) + rng.normal(0, 0.12))
    if shown.pid <= 0 and rng.random() < STREET_ONLY:
        who = None
    return draw_person(who, camera, rng, yaw, Framing.draw(rng, junk=shown.pid == -1))


def _check_settings(settings: dict[str, int]) -> dict[str, int]:
    """The settings as plain numbers; ValueError if one of them is not whole or out of range."""
    limits = {"identities": (2, 9999), "cameras": (2, 9), "images_per_camera": (1, 99)}
    for name, value in settings.items():
        low, high = limits.get(name, (0, 2**32 - 1))  # the others are seeds
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or not low <= value <= high:
            raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
    return {name: int(value) for name, value in settings.items()}


def write_synthetic_market(
    root: str | os.PathLike[str],
    identities: int = 300,
    cameras: int = 6,
    images_per_camera: int = 4,
    seed: int = 0,
    progress: Progress = "auto",
    camera_seed: int | None = None,
) -> Path:
    """Draws people and writes them as a data set in the layout of Market-1501.

    Half of the identities (rounded down) go to `bounding_box_train`, the others to
    `bounding_box_test` and, once per camera, to `query`. The gallery also gets junk (pid -1: boxes
    that cut a person in half) and distractors (pid 0: people who are nobody's answer); some of both
    show nobody. An interrupted call leaves no half data set.

    Args:
        root: folder to write, relative to the data root or absolute.
        identities: people with a number, 2 to 9999.
        cameras: 2 to 9; each sees every identity.
        images_per_camera: pictures of an identity in one camera, 1 to 99; a query comes on top.
        seed: same seed and same version of Pillow, same pixels.
        progress: see `tripletlib.runtime`.
        camera_seed: draws the cameras and their streets in place of `seed`; the `seed` of another
            set gives that set's cameras, with other people before them.

    Returns:
        `root`, absolute. This very data set is not drawn again; another drawn one is replaced.

    Raises:
        ValueError: a setting is not a whole number in its range.
        FileExistsError: `root` holds anything that was not written here, or was changed since;
            nothing is removed then.
        OSError: something cannot be written; what `root` held before is still there.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     root = write_synthetic_market(folder + "/people", 4, 2, 1, progress="off")
        ...     sorted(path.name for path in root.iterdir())
        ['bounding_box_test', 'bounding_box_train', 'query', 'synthetic.json']
    """
    seeds = {"seed": seed} | ({} if camera_seed is None else {"camera_seed": camera_seed})
    sizes = {"identities": identities, "cameras": cameras, "images_per_camera": images_per_camera}
    settings = _check_settings(sizes | seeds)
    root = from_data_root(root).resolve()
    remove_abandoned(root)
    plan = list(_plan(identities, cameras, images_per_camera, settings["seed"]))
    pictures = {name: sum(shown.name.startswith(name) for shown in plan) for name in FOLDERS}
    marker = {"drawing": DRAWING_VERSION, **settings, "pictures": pictures}
    found, files = _read_marker(root)
    if found != marker or _list_pictures(root) != {*files}:
        _refuse_foreign(root, files)
        with explained_writing(root, _ELSEWHERE), replaced_folder(root) as folder:
            checksums = _write_pictures(folder, plan, settings, progress)
            text = json.dumps(marker | {"crc32": checksums}) + "\n"
            (folder / MARKER).write_text(text, encoding="utf-8")
            # What was put there meanwhile, but for the set as another process has drawn it.
            _refuse_foreign(root, _read_marker(root)[1] or files)
    return root


def _write_pictures(
    folder: Path, plan: list[_Detection], settings: dict[str, int], progress: Progress
) -> list[int]:
    """Draws and writes the pictures; returns the CRC-32 of each file."""
    count, seed = settings["cameras"], settings["seed"]
    streets = settings.get("camera_seed", seed)
    cameras = [Camera.draw(k, count, np.random.default_rng([streets, 1, k])) for k in range(count)]
    checksums = []
    for name in FOLDERS:
        (folder / name).mkdir()
    with progress_bar(len(plan), "image", progress, desc="drawing synthetic people") as bar:
        for shown in plan:
            jpeg = io.BytesIO()
            _draw(shown, cameras, seed).save(jpeg, "JPEG", quality=88)
            (folder / shown.name).write_bytes(jpeg.getvalue())
            checksums.append(zlib.crc32(jpeg.getvalue()))
            bar.update()
    return checksums


def _read_marker(root: Path) -> tuple[dict, dict[str, int | None]]:
    """How a set was drawn, and its files with their CRC-32 if known; both empty if it was not."""
    try:
        if not (root / MARKER).is_file():  # a pipe would be waited for
            return {}, {}
        marker = json.loads((root / MARKER).read_text(encoding="utf-8"))
        shape = (marker[name] for name in ("identities", "cameras", "images_per_camera", "seed"))
        names = [shown.name for shown in _plan(*shape)]
        checksums = marker.pop("crc32", [None] * len(names))
        return marker, dict(zip(names, checksums, strict=True))
    except (OSError, ValueError, KeyError, TypeError):
        return {}, {}


def _list_pictures(root: Path) -> set[str]:
    folders = [root / name for name in FOLDERS if (root / name).is_dir()]
    return {f"{folder.name}/{entry.name}" for folder in folders for entry in scan(folder)}


def _refuse_foreign(root: Path, files: dict[str, int | None]) -> None:
    """Raises FileExistsError if `root` holds anything that was not drawn, or was changed since."""
    for path in sorted(root.rglob("*")) if root.is_dir() else [root] * root.exists():
        name = path.relative_to(root).as_posix()
        ours = name in FOLDERS or (files and name == MARKER) or is_left_by_file_manager(path.name)
        if name in files and path.is_file():
            ours = files[name] in (None, zlib.crc32(path.read_bytes()))
        if not ours:
            raise FileExistsError(
                f"{printable(path)} was not drawn with the set in {printable(root)}, which would "
                "be replaced; choose another root, or move it away"
            )
