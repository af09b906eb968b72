"""Training, query and gallery pictures of people: who, in which camera, and the images."""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tripletlib.datasets.cache import DecodedImages, load_images
from tripletlib.evaluation import JUNK
from tripletlib.runtime import Progress, data_root

PARTS = ("train", "query", "gallery")
ENDING = r"\.(?:jpe?g|png|bmp|gif|tiff?|webp|ppm|pgm)"  # of a picture's name
_SHOWN = 10  # skipped files that are printed


@dataclass(frozen=True)
class Reading:
    """How pictures are read.

    Attributes:
        image_size: `(H, W)` in pixels.
        skip_unreadable: leave out and list what cannot be read, in place of an error.
        progress: of decoding, see `tripletlib.progress`.
    """

    image_size: tuple[int, int] = (128, 64)
    skip_unreadable: bool = False
    progress: Progress = "auto"

    def __post_init__(self) -> None:
        given = self.image_size
        size = tuple(given) if isinstance(given, (tuple, list)) else ()  # a list: parameter files
        if len(size) != 2 or not all(isinstance(edge, int) and edge > 0 for edge in size):
            raise ValueError(f"image_size must be (height, width) in pixels, got {given!r}")
        object.__setattr__(self, "image_size", size)


class Listing:
    """The files of one part, each with the names of its identity and its camera.

    Attributes:
        rows: `(absolute path, identity, camera)` of each file, as text.
        skipped: path and reason of what was left out.
    """

    def __init__(self, skip_unreadable: bool) -> None:
        self.rows: list[tuple[str, str, str]] = []
        self.skipped: dict[str, str] = {}
        self._skip = skip_unreadable

    def refuse(self, path: str, reason: str) -> None:
        """Raises a ValueError, or notes what is left out."""
        if not self._skip:
            raise ValueError(f"{path}: {reason}; or pass skip_unreadable=True to go on without it")
        self.skipped[path] = reason


class Split:
    """One part of a data set, sorted by file name.

    Attributes:
        name: `"train"`, `"query"` or `"gallery"`.
        paths: absolute paths, strings `[N]`.
        pids: identity of each picture, int64 `[N]`.
        camids: camera of each picture, int64 `[N]`.
        skipped: path and reason of what was left out because it could not be read; empty unless
            `skip_unreadable` was set.
    """

    def __init__(
        self,
        name: str,
        rows: list[tuple[str, int, int]],
        skipped: dict[str, str],
        cache: Path | None,
        reading: Reading,
    ) -> None:
        self.name, self.skipped = name, dict(skipped)
        self.paths = np.array([path for path, _, _ in rows], dtype=np.str_)
        self.pids = np.array([pid for _, pid, _ in rows], dtype=np.int64)
        self.camids = np.array([camid for _, _, camid in rows], dtype=np.int64)
        self._cache, self._reading = cache, reading
        self._decoded: DecodedImages | None = None
        if reading.skip_unreadable:
            self._leave_out_unreadable()

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        people, cameras = len(np.unique(self.pids)), len(np.unique(self.camids))
        return f"<{self.name}: {len(self):,} images, {people:,} pids, {cameras} cameras>"

    @property
    def images(self) -> np.ndarray:
        """RGB images, uint8 `[N, 3, H, W]`: decoded on first use, then from the cache.

        Raises:
            UnreadableImageError: a file is no picture, or a damaged one.
        """
        return self._load().images

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for the content, to be kept with what is made of it.

        Two splits have the same one if and only if (but for a chance of 1 in 2^64) they agree in
        the decoded images, uint8 `[N, 3, H, W]` with their size and order, the pids and the camids.
        Names, places and times of the files, and how pictures were compressed, do not matter.
        Decodes the images like `images`; with a cache, they are hashed only when it is made.

        Raises:
            UnreadableImageError: see `images`.
        """
        digest = hashlib.sha256(self._load().digest.encode())
        for numbers in (self.pids, self.camids):
            digest.update(numbers.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def _load(self) -> DecodedImages:
        if self._decoded is None:
            self._decoded = load_images(
                self.paths.tolist(),
                self._reading.image_size,
                self._cache,
                self._reading.skip_unreadable,
                self._reading.progress,
                title=f"decoding {self.name}",
            )
        return self._decoded

    def _leave_out_unreadable(self) -> None:
        # Only decoding tells what is readable. Done at once: the arrays never change their length.
        skipped = self._load().skipped
        self.skipped |= {str(self.paths[place]): reason for place, reason in skipped.items()}
        for path, reason in list(self.skipped.items())[:_SHOWN]:
            print(f"left out of {self.name}: {path}: {reason}")
        if len(self.skipped) > _SHOWN:
            print(f"left out of {self.name}: {len(self.skipped) - _SHOWN:,} more, see `.skipped`")
        keep = np.setdiff1d(np.arange(len(self)), list(skipped))
        if not len(keep):
            raise ValueError(f"none of the {len(self):,} pictures of {self.name} can be read")
        self.paths, self.pids, self.camids = self.paths[keep], self.pids[keep], self.camids[keep]


class ReidDataset:
    """Pictures of people for training, and for finding them again: queries and a gallery.

    Attributes:
        root: the folder they lie in; nothing is ever written there.
        train: the training `Split`.
        query: the `Split` of pictures to look up.
        gallery: the `Split` to find them in; junk (pid -1) is left out, distractors (0) are kept.
        junk_paths: the files that were left out as junk, absolute paths, strings `[N]`.
    """

    def __init__(
        self,
        root: Path,
        listings: dict[str, Listing],
        to_pid: Callable[[str], int],
        to_camid: Callable[[str], int],
        reading: Reading,
    ) -> None:
        self.root = root
        splits = {}
        for part in PARTS:
            rows = [(path, to_pid(who), to_camid(cam)) for path, who, cam in listings[part].rows]
            rows = [row for row in rows if row[1] != JUNK]
            if not rows:
                raise ValueError(
                    f"no picture for {part!r} in {root}; see data/README.md for the tree"
                )
            skipped = listings[part].skipped
            cache = _cache_folder(root, part, reading.image_size)
            splits[part] = Split(part, rows, skipped, cache, reading)
        self.train, self.query, self.gallery = (splits[part] for part in PARTS)
        junk = [path for path, who, _ in listings["gallery"].rows if to_pid(who) == JUNK]
        self.junk_paths = np.array(junk, dtype=np.str_)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.train!r}, {self.query!r}, {self.gallery!r})"


def _cache_folder(root: Path, part: str, image_size: tuple[int, int]) -> Path | None:
    """Where decoded images are kept; None if that would be in the data set's own folder.

    A data set below the data root is known by its place there, so that the two may move together.
    """
    data = data_root().resolve()
    if data.is_relative_to(root):
        return None
    place = root.relative_to(data) if root.is_relative_to(data) else root
    key = hashlib.sha256(os.fsencode(place)).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9_-]", "_", root.name)[:40]
    height, width = image_size
    return data / "cache" / f"{name}-{key}-{part}-{height}x{width}"
