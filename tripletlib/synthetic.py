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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tripletlib import progress as progress_display
from tripletlib.pedestrians import ACCENTS, Figure, Identity, draw_body, tint
from tripletlib.streets import GROUND, HEIGHT, STREET_SIZE, WIDTH, Camera, expose

OVERSAMPLING = 3  # drawn this much larger, then averaged: ImageDraw itself draws jagged edges
LOOKALIKES = 16  # identities in one outfit; about half of them are test identities
SIZES, SHIFT = (0.78, 0.97), 0.06  # person's height in a box; sideways shift, standard deviation
PASSERS, OBSTACLES = 0.18, 0.26  # shares of the boxes with another person, with a thing in front
JUNK_SHARE, DISTRACTOR_SHARE = 0.2, 0.15  # of the right images; 0.29 and 0.21 in the real gallery
STREET_ONLY = 0.25  # share of junk and distractors where the detector fired at nobody
FOLDERS = ("bounding_box_train", "bounding_box_test", "query")
MARKER = "synthetic.json"  # lies in a whole data set and says how it was made
DRAWING_VERSION = 1  # raise it with every change to the drawing: older sets are then made anew


@dataclass(frozen=True)
class Framing:
    """How a person lies in a box: height and shift, as shares of the box's height and width."""

    size: float
    right: float
    down: float

    @classmethod
    def draw(cls, rng: np.random.Generator, junk: bool = False) -> "Framing":
        """A detector's loose box, or, for junk, one that cuts off about half of the person."""
        if junk:
            side = rng.choice([-1.0, 1.0])
            return cls(rng.uniform(0.9, 1.8), side * rng.uniform(0.35, 0.6), rng.uniform(-0.3, 0.9))
        return cls(rng.uniform(*SIZES), rng.normal(0, SHIFT), rng.normal(0, 0.015))


def draw_person(
    who: Identity | None,
    camera: Camera,
    rng: np.random.Generator,
    yaw: float = 0.0,
    framing: Framing | None = None,
) -> Image.Image:
    """One 128x64 picture of a person, or of the street alone.

    Args:
        who: the person; None for a detection with nobody in it.
        camera: where it is seen.
        rng: draws what differs from picture to picture: step, box, obstacles, noise.
        yaw: direction of the walk in radians, 0 towards the camera, pi away from it.
        framing: how the box lies; drawn from `rng` when None.

    Returns:
        An RGB image, HEIGHT x WIDTH.
    """
    framing = framing or Framing.draw(rng)
    scale = framing.size * (who.height if who else 1.0) * HEIGHT  # pixels of a height of 1
    x, foot = (0.5 + framing.right) * WIDTH, (0.96 + framing.down) * HEIGHT
    scene = _cut_street(camera, rng, framing, foot)
    if who is not None:
        canvas = Image.new("RGBA", (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING))
        draw = ImageDraw.Draw(canvas)
        at = (x * OVERSAMPLING, foot * OVERSAMPLING, scale * OVERSAMPLING)
        other, obstacle = rng.random(2) < (PASSERS, OBSTACLES)
        if other:  # a passer-by at the edge, behind or in front
            aside = rng.choice([-1.0, 1.0]) * rng.uniform(0.42, 0.6) * WIDTH * OVERSAMPLING
            passer = Figure(draw, at[0] + aside, at[1], at[2], rng.uniform(0, 2 * math.pi))
            draw_body(passer, Identity.draw(rng, rng), rng.uniform(0, 2 * math.pi))
        draw_body(Figure(draw, *at, yaw), who, rng.uniform(0, 2 * math.pi))
        if obstacle:
            _draw_obstacle(draw, rng, at[1], at[2])
        scene = _compose(scene, canvas.reduce(OVERSAMPLING), camera.light, (x, foot, scale))
    return expose(scene, camera, rng)


def _cut_street(
    camera: Camera, rng: np.random.Generator, framing: Framing, foot: float
) -> Image.Image:
    """The piece of the street behind a box, so that the feet stand on the ground."""
    zoom = 0.9 / framing.size
    left = rng.uniform(0, STREET_SIZE[0] - WIDTH * zoom)
    feet = min(GROUND + rng.uniform(16, 34), STREET_SIZE[1] - (HEIGHT - foot) * zoom)
    top = max(0.0, feet - foot * zoom)
    box = (left, top, left + WIDTH * zoom, min(STREET_SIZE[1], top + HEIGHT * zoom))
    return camera.street.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box=box)


def _compose(
    scene: Image.Image, person: Image.Image, light: float, at: tuple[float, float, float]
) -> Image.Image:
    """Put the person on the street, with a soft shadow and roundness from the light's side."""
    x, foot, scale = at
    shadow = Image.new("L", scene.size)
    reach = 0.22 * scale * -light  # away from the light
    box = (
        min(x, x + reach) - 0.12 * scale,
        foot - 0.045 * scale,
        max(x, x + reach) + 0.12 * scale,
        foot + 0.025 * scale,
    )
    ImageDraw.Draw(shadow).ellipse(box, fill=130)
    scene.paste((30, 32, 48), mask=shadow.filter(ImageFilter.GaussianBlur(1.5)))
    alpha = person.getchannel("A")
    soft = np.asarray(alpha.filter(ImageFilter.GaussianBlur(2.5)), np.float32) / 255
    edge = np.zeros_like(soft)
    edge[:, 2:-2] = soft[:, :-4] - soft[:, 4:]  # positive on the right edge of things
    shade = 1.0 + 0.45 * light * edge - 0.10 * np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None]
    rgb = np.asarray(person.convert("RGB"), np.float32) * shade[:, :, None]
    scene.paste(Image.fromarray(rgb.clip(0, 255).astype(np.uint8)), mask=alpha)
    return scene


def _draw_obstacle(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, foot: float, scale: float
) -> None:
    """A pole, a planter or a bicycle in front of the person."""
    kind, x = rng.integers(3), rng.uniform(0.05, 0.95) * WIDTH * OVERSAMPLING
    if kind == 0:
        _draw_pole(draw, x, rng.uniform(0.03, 0.07) * WIDTH * OVERSAMPLING)
    elif kind == 1:
        _draw_planter(draw, rng, x, foot - scale * rng.uniform(0.12, 0.3))
    else:
        r = 0.13 * scale  # of a wheel
        _draw_bicycle(draw, x, foot - 0.10 * scale, r, ACCENTS[int(rng.integers(len(ACCENTS)))])


def _draw_pole(draw: ImageDraw.ImageDraw, x: float, r: float) -> None:
    for k in range(6):
        draw.rectangle(
            (x - r + k * r / 3, 0, x - r + (k + 1) * r / 3, HEIGHT * OVERSAMPLING),
            fill=tint((120, 128, 132), 1.2 - 0.12 * k),
        )


def _draw_planter(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, top: float
) -> None:
    w, h = WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING
    leaves = [(84, 136, 78), (108, 158, 88), (214, 96, 110)]
    for _ in range(22):
        cx, cy, r = x + rng.normal(0, 0.2 * w), top + rng.normal(0, 8), rng.uniform(8, 18)
        leaf = leaves[int(rng.choice(3, p=[0.5, 0.38, 0.12]))]
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=leaf)
    left, right, slope = x - 0.4 * w, x + 0.4 * w, 0.06 * w
    tub = [(left, top + 8), (right, top + 8), (right - slope, h), (left + slope, h)]
    draw.polygon(tub, fill=(150, 112, 88))


def _draw_bicycle(
    draw: ImageDraw.ImageDraw, x: float, y: float, r: float, frame: tuple[int, int, int]
) -> None:
    hub, front = (x - 1.6 * r, y), (x + 1.6 * r, y)
    seat, bar = (x - 0.6 * r, y - 1.6 * r), (x + 1.2 * r, y - 1.8 * r)
    dark = (42, 42, 46)
    for cx, cy in (hub, front):
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), outline=dark, width=6)
    draw.line([hub, seat, bar, (x, y), seat], fill=frame, width=7, joint="curve")
    draw.line([front, bar, (bar[0] - 0.5 * r, bar[1] - 0.4 * r)], fill=frame, width=7)
    draw.line([(seat[0] - 14, seat[1] - 8), (seat[0] + 14, seat[1] - 8)], fill=dark, width=10)


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

    def shot(folder: str, pid: int, person: int, camera: int) -> _Shot:
        frames[camera] += 1
        label = f"{pid:04d}" if pid >= 0 else "-1"
        box = 0 if folder == "query" else 1  # the real queries are boxed by hand, as number 00
        name = f"{label}_c{camera + 1}s{1 + person % 6}_{frames[camera]:06d}_{box:02d}.jpg"
        return _Shot(folder, name, pid, person, person % outfits, camera, frames[camera])

    shuffled = np.random.default_rng([seed, 0]).permutation(identities) + 1
    train, test = np.sort(shuffled[: identities // 2]), np.sort(shuffled[identities // 2 :])
    for folder, pids, count in (
        ("bounding_box_train", train, images_per_camera),
        ("query", test, 1),
        ("bounding_box_test", test, images_per_camera),
    ):
        for pid in pids.tolist():
            for camera in range(cameras):
                for _ in range(count):
                    yield shot(folder, pid, pid, camera)
    right = len(test) * cameras * images_per_camera
    for pid, share in ((-1, JUNK_SHARE), (0, DISTRACTOR_SHARE)):
        for k in range(math.ceil(share * right)):
            # A stranger is seen three times, in neighbouring cameras; junk shows other strangers.
            stranger = identities + 1 + k // 3 + (right if pid == -1 else 0)
            yield shot("bounding_box_test", pid, stranger, k % cameras)


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


def _check_settings(settings: dict[str, int]) -> None:
    limits = {
        "identities": (2, 9999),
        "cameras": (2, 9),
        "images_per_camera": (1, 99),
        "seed": (0, 2**32 - 1),
        "camera_seed": (0, 2**32 - 1),
    }
    for name, value in settings.items():
        low, high = limits[name]
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, np.integer))
            or not low <= value <= high
        ):
            raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")


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
    progress: progress_display.Progress = "auto",
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
    """
    settings = {
        "identities": identities,
        "cameras": cameras,
        "images_per_camera": images_per_camera,
        "seed": seed,
    }
    if camera_seed is not None:
        settings["camera_seed"] = camera_seed
    _check_settings(settings)
    settings = {name: int(value) for name, value in settings.items()}
    root = Path(root).absolute()
    shots = list(_plan(identities, cameras, images_per_camera, settings["seed"]))
    pictures = {name: sum(shot.folder == name for shot in shots) for name in FOLDERS}
    marker = {"drawing": DRAWING_VERSION, **settings, "pictures": pictures}
    if _is_whole(root, marker):
        return root
    _refuse_foreign(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        _write_all(workshop / "new", shots, settings, progress)
        (workshop / "new" / MARKER).write_text(json.dumps(marker, indent=2) + "\n")
        if root.exists():
            root.rename(workshop / "old")
        (workshop / "new").rename(root)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return root


def _write_all(
    folder: Path,
    shots: list[_Shot],
    settings: dict[str, int],
    progress: progress_display.Progress,
) -> None:
    count, seed = settings["cameras"], settings["seed"]
    streets = settings.get("camera_seed", seed)
    cameras = [Camera.draw(k, count, np.random.default_rng([streets, 1, k])) for k in range(count)]
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    with progress_display.bar(
        len(shots), "image", progress, desc="drawing synthetic people"
    ) as bar:
        for shot in shots:
            _draw_shot(shot, cameras, seed).save(folder / shot.folder / shot.name, quality=88)
            bar.update()
