"""Pictures of one folder or part, and data sets of people: who, in which camera, and the images."""

import hashlib
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tripletlib.datasets.cache import DecodedImages, load_images
from tripletlib.datasets.decoding import ENDINGS
from tripletlib.datasets.folders import printable
from tripletlib.evaluation import JUNK
from tripletlib.runtime import Progress, current_processes, data_root

PARTS = ("train", "query", "gallery")
_SHOWN = 10  # skipped files, or identities, that are named


class ListedPicture(NamedTuple):
    """A file with the numbers of the identity and of the camera that it shows; 0 if unknown."""

    path: str
    pid: int = 0
    camid: int = 0


@dataclass(frozen=True)
class ReadOptions:
    """How pictures are read; see `Market1501` for each."""

    image_size: tuple[int, int]
    skip_unreadable: bool
    progress: Progress

    def __post_init__(self) -> None:
        given = self.image_size
        size = tuple(given) if isinstance(given, (tuple, list)) else ()  # a list: parameter files
        if len(size) != 2 or not all(isinstance(edge, int) and edge > 0 for edge in size):
            raise ValueError(f"image_size must be (height, width) in pixels, got {given!r}")
        object.__setattr__(self, "image_size", size)

    def tell(self, text: str) -> None:
        """Prints a line, once for all processes of a training."""
        if self.progress != "off" and current_processes().is_first:
            print(text)


class FileList:
    """The pictures of a folder or part, and path and reason of each file that is left out."""

    def __init__(self, options: ReadOptions) -> None:
        self.options = options
        self.pictures: list[ListedPicture] = []
        self.skipped: dict[str, str] = {}

    def refuse(self, path: str, reason: str) -> None:
        """Raises a ValueError, or notes what is left out."""
        if not self.options.skip_unreadable:
            raise ValueError(
                f"{printable(path)}: {reason}; or pass skip_unreadable=True to go on without it"
            )
        self.skipped[path] = reason

    def takes(self, entry: os.DirEntry[str]) -> bool:
        """Whether an entry can be a picture, by its kind and ending; if not, it is refused."""
        ending = os.path.splitext(entry.name)[1]  # noqa: PTH122 - a Path for each takes longer
        if entry.is_file() and ending.lower() in ENDINGS:
            return True
        if entry.is_dir():
            reason = "is a folder where pictures are expected; data/README.md shows both trees"
        elif not entry.is_file():
            reason = "is no file, or a link that leads to none"
        else:
            formats = "data/README.md lists the formats that are read; save it as JPEG or PNG"
            reason = f"its ending {printable(ending)!r} is of no picture: {formats}"
        self.refuse(entry.path, reason)
        return False


class Pictures:
    """Pictures without labels, sorted by file name.

    Attributes:
        name: what they are, for texts.
        root: folder of the data set, absolute.
        paths: absolute paths, strings `[N]`.
        skipped: path and reason of what was left out because it could not be read; empty unless
            `skip_unreadable` was set.
    """

    def __init__(self, name: str, root: Path, files: FileList) -> None:
        self.name, self.root, self.skipped = name, root, dict(files.skipped)
        self._files, self._options = [picture.path for picture in files.pictures], files.options
        self._decoded: dict[tuple[int, int], DecodedImages] = {}
        pictures = files.pictures
        if self._options.skip_unreadable:
            # Only decoding tells what is readable. Done now: no array changes its length later.
            unreadable = self._load().skipped
            self.skipped |= {self._files[index]: reason for index, reason in unreadable.items()}
            self._tell_skipped()
            pictures = [one for index, one in enumerate(pictures) if index not in unreadable]
            if not pictures:
                raise ValueError(f"none of the {len(self._files):,} pictures of {name} can be read")
        self._set(pictures)

    _labels = b""  # of a Split: pids and camids

    def _set(self, pictures: Sequence[ListedPicture]) -> None:
        self.paths = np.array([picture.path for picture in pictures], dtype=np.str_)

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self):,} images>"

    @property
    def images(self) -> np.ndarray:
        """RGB images, uint8 `[N, 3, H, W]`: decoded on first use, then from the cache.

        An UnreadableImageError if a file is no picture, or a damaged one.
        """
        return self._load().images

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for the content: decoded images, pids and camids, order.

        To be kept with what is made of them. Names, places and times of the files, and how they
        were compressed, do not matter. Decodes the images like `images`. Two splits have the same
        one if and only if (but for a chance of 1 in 2^64) they agree in all three.
        """
        return hashlib.sha256(self._load().digest.encode() + self._labels).hexdigest()[:16]

    def resized(self, image_size: tuple[int, int]) -> np.ndarray:
        """The same pictures in another size `(H, W)`, uint8 `[N, 3, H, W]`; see `images`."""
        return self._load(image_size).images

    def _load(self, image_size: tuple[int, int] | None = None) -> DecodedImages:
        size = image_size or self._options.image_size
        if size not in self._decoded:
            self._decoded[size] = load_images(
                self._files,
                size,
                _cache_folder(self.root, self.name, size),
                self._options.skip_unreadable,
                progress=self._options.progress,
                title=f"decoding {self.name}",
            )
        return self._decoded[size]

    def _tell_skipped(self) -> None:
        for path, reason in list(self.skipped.items())[:_SHOWN]:
            print(f"left out of {self.name}: {printable(path)}: {reason}")
        if len(self.skipped) > _SHOWN:
            print(f"left out of {self.name}: {len(self.skipped) - _SHOWN:,} more, see `.skipped`")


class Split(Pictures):
    """One part of a data set, sorted by file name: `Pictures` with labels.

    Attributes:
        name: `"train"`, `"query"` or `"gallery"`.
        pids: identity of each picture, int64 `[N]`.
        camids: camera of each picture, int64 `[N]`.
    """

    def _set(self, pictures: Sequence[ListedPicture]) -> None:
        super()._set(pictures)
        self.pids = np.array([picture.pid for picture in pictures], dtype=np.int64)
        self.camids = np.array([picture.camid for picture in pictures], dtype=np.int64)
        self._labels = np.stack([self.pids, self.camids]).astype("<i8").tobytes()

    def __repr__(self) -> str:
        people, cameras = len(np.unique(self.pids)), len(np.unique(self.camids))
        return f"<{self.name}: {len(self):,} images, {people:,} pids, {cameras} cameras>"


class ReidDataset:
    """Pictures of people for training, and for finding them again: queries and a gallery.

    When it is opened it says how many queries have a right answer: a gallery picture of the same
    identity in another camera. It warns if that is less than half of them.

    Attributes:
        root: the folder they lie in; nothing is ever written there.
        train: the training `Split`.
        query: the `Split` of pictures to look up.
        gallery: the `Split` to find them in; junk (pid -1) is left out, distractors (0) are kept.
        junk_paths: the files that were left out as junk, absolute paths, strings `[N]`.
        identity_names: pid to the name of its folder; empty for the layout of Market-1501.
        camera_names: camid to the word in the file names; likewise. In both, characters that
            cannot be shown are escaped.
    """

    def __init__(
        self,
        root: Path,
        files: dict[str, FileList],
        identity_names: dict[int, str] | None = None,
        camera_names: dict[int, str] | None = None,
    ) -> None:
        self.root = root
        self.identity_names, self.camera_names = identity_names or {}, camera_names or {}
        gallery = files["gallery"]
        junk = [picture.path for picture in gallery.pictures if picture.pid == JUNK]
        self.junk_paths = np.array(junk, dtype=np.str_)
        gallery.pictures = [picture for picture in gallery.pictures if picture.pid != JUNK]
        for part in PARTS:
            if not files[part].pictures:
                raise ValueError(
                    f"no picture for {part!r} in {printable(root)}; see data/README.md for the tree"
                )
        self.train, self.query, self.gallery = (Split(part, root, files[part]) for part in PARTS)
        self._tell_answers(gallery.options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.train!r}, {self.query!r}, {self.gallery!r})"

    def person(self, pid: int) -> str:
        """What to call an identity: the name of its folder if it has one, else its number."""
        return self.identity_names.get(int(pid), str(pid))

    def camera(self, camid: int) -> str:
        """What to call a camera: the word in its file names if there is one, else its number."""
        return self.camera_names.get(int(camid), str(camid))

    def _tell_answers(self, options: ReadOptions) -> None:
        pids, camids = self.gallery.pids.tolist(), self.gallery.camids.tolist()
        of_pid, of_both = Counter(pids), Counter(zip(pids, camids, strict=True))
        pids, camids = self.query.pids.tolist(), self.query.camids.tolist()
        queries = list(zip(pids, camids, strict=True))
        unseen = [pid for pid, _ in queries if not of_pid[pid]]
        own = [pid for pid, camid in queries if 0 < of_pid[pid] == of_both[pid, camid]]
        right = len(queries) - len(unseen) - len(own)
        answered = f"{right:,} of {len(queries):,} queries have a right answer in the gallery"
        options.tell(f"{answered}: the same identity in another camera.")
        known = sorted({*self.train.pids.tolist()} & {*pids})
        if known:
            options.tell(
                f"Identities in both train and query: {len(known):,} "
                f"({_named(self.person, known)}). Scores then say nothing about people never seen."
            )
        if 2 * right < len(queries):
            text = f"{printable(self.root)}: {answered}"
            if unseen:
                text += f"; of {len(unseen):,} it has no picture ({_named(self.person, unseen)})"
            if own:
                cameras = _named(self.camera, [*camids, *self.gallery.camids.tolist()])
                text += (
                    f"; of {len(own):,} it has pictures of the query's own camera only, which do "
                    f"not count ({_named(self.person, own)}); the cameras of query and gallery: "
                    f"{cameras}. Begin the names with the camera, as in door_0001.jpg"
                )
            warnings.warn(text, stacklevel=4)


def _named(name: Callable[[int], str], numbers: list[int]) -> str:
    """The first names of a list, each once."""
    shown = [name(number) for number in dict.fromkeys(numbers)]
    return ", ".join(shown[:_SHOWN]) + ", ..." * (len(shown) > _SHOWN)


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
