"""Drawn pedestrians in the layout of Market-1501: a data set made offline and free to give away.

Nobody is shown: every person is a handful of numbers (`Identity`), seen by a `Camera` with its own
street, light, colour cast, blur and noise. The set is hard where the real one is hard: people share
their clothes and differ in small things (a bag, the hair, the shoes), a front view hides a
backpack, boxes are cropped loosely, things stand in the way. Scores on it say nothing about real
data: call it synthetic wherever they are shown.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tripletlib.datasets.drawn.identities import Identity
from tripletlib.datasets.drawn.pictures import Framing, draw_person
from tripletlib.datasets.drawn.streets import Camera
from tripletlib.datasets.folders import resolve_root
from tripletlib.runtime import Progress, explained_data_writing, progress_bar

LOOKALIKES = 16  # identities in one outfit; about half of them are test identities
JUNK_SHARE, DISTRACTOR_SHARE = 0.2, 0.15  # of the right images; 0.29 and 0.21 in the real gallery
STREET_ONLY = 0.25  # share of junk and distractors where the detector fired at nobody
FOLDERS = ("bounding_box_train", "bounding_box_test", "query")
MARKER = "synthetic.json"  # lies in a whole data set and says how it was made
DRAWING_VERSION = 1  # raise it with every change to the drawing: older sets are then made anew


@dataclass(frozen=True)
class _Shot:
    """One picture to make.

    `pid` is -1 for junk and 0 for distractors; `person` numbers the people behind both.
    """

    folder: str
    name: str
    pid: int
    person: int
    outfit: int
    camera: int
    number: int


def _plan(identities: int, cameras: int, images_per_camera: int, seed: int) -> Iterator[_Shot]:
    """Every picture of the data set, in a fixed order, with its final name."""
    frames = [0] * cameras
    outfits = max(1, identities // LOOKALIKES)
    for folder, pid, person, camera in _cast(identities, cameras, images_per_camera, seed):
        frames[camera] += 1
        label = f"{pid:04d}" if pid >= 0 else "-1"
        box = 0 if folder == "query" else 1  # the real queries are boxed by hand, as number 00
        name = f"{label}_c{camera + 1}s{1 + person % 6}_{frames[camera]:06d}_{box:02d}.jpg"
        yield _Shot(folder, name, pid, person, person % outfits, camera, frames[camera])


def _cast(
    identities: int, cameras: int, images_per_camera: int, seed: int
) -> Iterator[tuple[str, int, int, int]]:
    """Folder, pid, person and camera of every picture: who is seen where, and how often."""
    shuffled = np.random.default_rng([seed, 0]).permutation(identities) + 1
    train, test = np.sort(shuffled[: identities // 2]), np.sort(shuffled[identities // 2 :])
    for folder, pids, count in (
        ("bounding_box_train", train, images_per_camera),
        ("query", test, 1),
        ("bounding_box_test", test, images_per_camera),
    ):
        for pid in pids.tolist():
            for camera in range(cameras):
                yield from [(folder, pid, pid, camera)] * count
    right = len(test) * cameras * images_per_camera
    for pid, share in ((-1, JUNK_SHARE), (0, DISTRACTOR_SHARE)):
        for k in range(math.ceil(share * right)):
            # A stranger is seen three times, in neighbouring cameras; junk shows other strangers.
            stranger = identities + 1 + k // 3 + (right if pid == -1 else 0)
            yield "bounding_box_test", pid, stranger, k % cameras


def _draw_shot(shot: _Shot, cameras: list[Camera], seed: int) -> Image.Image:
    """The picture of one shot; it depends on seed and shot alone, so any order gives the same."""
    camera = cameras[shot.camera]
    who: Identity | None = Identity.draw(
        np.random.default_rng([seed, 2, shot.person]), np.random.default_rng([seed, 5, shot.outfit])
    )
    # A person crosses a camera in one direction; the query comes from the gallery's walk.
    walk = np.random.default_rng([seed, 3, shot.person, shot.camera])
    rng = np.random.default_rng([seed, 4, shot.camera, shot.number])
    yaw = float(walk.choice(camera.yaws) + walk.normal(0, 0.2) + rng.normal(0, 0.12))
    if shot.pid <= 0 and rng.random() < STREET_ONLY:
        who = None  # the detector fired at the street
    framing = Framing.draw(rng, junk=shot.pid == -1)
    return draw_person(who, camera, rng, yaw, framing)


def _check_settings(settings: dict[str, int]) -> dict[str, int]:
    """The settings as plain numbers; ValueError if one of them is not whole or out of range."""
    limits = {
        "identities": (2, 9999),
        "cameras": (2, 9),
        "images_per_camera": (1, 99),
        "seed": (0, 2**32 - 1),
        "camera_seed": (0, 2**32 - 1),
    }
    for name, value in settings.items():
        low, high = limits[name]
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or not low <= value <= high:
            raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
    return {name: int(value) for name, value in settings.items()}


def _is_whole(root: Path, marker: dict) -> bool:
    """Whether `root` holds the data set that `marker` describes, with no picture lost since."""
    try:
        if json.loads((root / MARKER).read_text()) != marker:
            return False
    except (OSError, ValueError):
        return False
    return all(
        folder.is_dir() and sum(1 for _ in folder.glob("*.jpg")) == count
        for folder, count in ((root / name, count) for name, count in marker["pictures"].items())
    )


def _refuse_foreign(root: Path) -> None:
    """Raise FileExistsError if `root` is a file, or a folder with anything that is not ours."""
    if not root.exists():
        return
    found = {path.name for path in root.iterdir()} if root.is_dir() else {root.name}
    if found and (MARKER not in found or found - {MARKER, *FOLDERS}):
        raise FileExistsError(
            f"{root} holds files that are not of a synthetic data set; choose another root, or "
            "move them away"
        )


def write_synthetic_market(
    root: str | os.PathLike[str],
    identities: int = 300,
    cameras: int = 6,
    images_per_camera: int = 4,
    seed: int = 0,
    progress: Progress = "auto",
    camera_seed: int | None = None,
) -> Path:
    """Draw people and write them as a data set in the layout of Market-1501.

    Half of the identities (rounded down) go to `bounding_box_train`, the others to
    `bounding_box_test` and, once per camera, to `query`. The gallery also gets junk (pid -1: boxes
    that cut a person in half, or show nobody) and distractors (pid 0: people who are nobody's
    answer, and boxes that show nobody). The pictures are drawn in a hidden folder beside `root`
    that takes its place at the end: an interrupted call leaves no half data set.

    Args:
        root: folder to write; made if it is missing.
        identities: people with a number, 2 to 9999.
        cameras: cameras, 2 to 9; each sees every identity.
        images_per_camera: pictures of an identity in one camera, 1 to 99; a query comes on top.
        seed: same seed and same version of Pillow, same pixels.
        progress: see `tripletlib.progress`.
        camera_seed: draws the cameras and their streets, `seed` the people; by default `seed` draws
            both. The `seed` of another set gives that set's cameras with other people before them.

    Returns:
        `root`, absolute. If it holds this very data set already, nothing is drawn; if it holds
        another one that this function wrote, that is replaced.

    Raises:
        ValueError: a setting is not a whole number in its range.
        FileExistsError: `root` holds anything that this function did not write.
        OSError: something cannot be written; the text names it and the way out. What `root` held
            before is still there.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_synthetic_market(folder + "/people", 4, 2, 1, progress="off")
        ...     sorted(path.name for path in root.iterdir())
        ['bounding_box_test', 'bounding_box_train', 'query', 'synthetic.json']
    """
    settings = {
        "identities": identities,
        "cameras": cameras,
        "images_per_camera": images_per_camera,
        "seed": seed,
    }
    if camera_seed is not None:
        settings["camera_seed"] = camera_seed
    settings = _check_settings(settings)
    root = resolve_root(root)
    shots = list(_plan(identities, cameras, images_per_camera, settings["seed"]))
    pictures = {name: sum(shot.folder == name for shot in shots) for name in FOLDERS}
    marker = {"drawing": DRAWING_VERSION, **settings, "pictures": pictures}
    if not _is_whole(root, marker):
        _refuse_foreign(root)
        with _workshop(root) as workshop:
            _write_all(workshop / "new", shots, settings, progress)
            _write_marker(workshop / "new", marker)
            _swap_in(workshop / "new", root, workshop / "old")
    return root


@contextmanager
def _workshop(root: Path) -> Iterator[Path]:
    """A hidden folder beside `root`, on the same disk so that it can be renamed; removed again."""
    with explained_data_writing(root.parent):
        root.parent.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        yield workshop
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _write_all(
    folder: Path, shots: list[_Shot], settings: dict[str, int], progress: Progress
) -> None:
    count, seed = settings["cameras"], settings["seed"]
    streets = settings.get("camera_seed", seed)
    cameras = [Camera.draw(k, count, np.random.default_rng([streets, 1, k])) for k in range(count)]
    for name in FOLDERS:
        with explained_data_writing(folder / name):
            (folder / name).mkdir(parents=True)
    with progress_bar(len(shots), "image", progress, desc="drawing synthetic people") as bar:
        for shot in shots:
            picture, file = _draw_shot(shot, cameras, seed), folder / shot.folder / shot.name
            with explained_data_writing(file):
                picture.save(file, quality=88)
            bar.update()


def _write_marker(folder: Path, marker: dict) -> None:
    with explained_data_writing(folder / MARKER):
        (folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n")


def _swap_in(new: Path, root: Path, old: Path) -> None:
    """Put the finished folder in `root`'s place; if that fails, what was there comes back."""
    with explained_data_writing(root):
        if root.exists():
            root.rename(old)
        try:
            new.rename(root)
        except BaseException:
            if old.exists():
                old.rename(root)
            raise
