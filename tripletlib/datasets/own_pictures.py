"""Own pictures: people in folders of their own, or a folder of pictures without labels."""

import os
import re
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path

from tripletlib.datasets.decoding import ENDINGS
from tripletlib.datasets.folders import from_data_root, printable, scan
from tripletlib.datasets.market1501 import parse_name
from tripletlib.datasets.splits import (
    PARTS,
    FileList,
    ListedPicture,
    Pictures,
    ReadOptions,
    ReidDataset,
)
from tripletlib.evaluation import DISTRACTOR, JUNK
from tripletlib.runtime import Progress

# What folders in the gallery mean, apart from identities
SPECIAL_FOLDERS = {"junk": JUNK, "-1": JUNK, "distractors": DISTRACTOR, "0": DISTRACTOR}
_WORDS_FROM = 10**9  # smaller numbers are names themselves; labels stay within 32 bits


class Numbering:
    """Numbers that stand for names. A name's number does not depend on the other names."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}  # of each number given so far, fit to be shown
        self._forms: dict[int, str] = {}

    def __call__(self, name: str) -> int:
        """The name itself if it is a number below 10^9, else a larger number from its CRC-32.

        Two ways to write the same accent are one name, and 0002 is 2.
        """
        form = unicodedata.normalize("NFC", name)
        if re.fullmatch("[0-9]{1,9}", form):
            number = int(form)
            form = str(number)
        else:
            number = _WORDS_FROM + zlib.crc32(os.fsencode(form)) % (2**31 - _WORDS_FROM)
        other = self._forms.setdefault(number, form)
        if other != form:
            raise ValueError(
                f"{printable(name)!r} and {printable(other)!r} happen to get the same number, "
                f"{number}; rename one of them"
            )
        self.names.setdefault(number, printable(name))
        return number


def from_folders(
    root: str | os.PathLike[str],
    image_size: tuple[int, int] = (128, 64),
    skip_unreadable: bool = False,
    progress: Progress = "auto",
) -> ReidDataset:
    """Own pictures: `train/`, `query/` and `gallery/`, each `identity/camera_anything.jpg`.

    An identity's folder may have any name; the same name is the same person in all three parts. The
    camera is what stands before the first underscore, or, in names in the manner of Market-1501
    such as `0002_c1s1_000451_03.jpg`, the number after the c. Whole numbers are kept as pids and
    camids; a word gets a number of its own, see `ReidDataset.identity_names` and `camera_names`.
    Two folders in `gallery/` are not identities: `junk` (or `-1`) is left out, `distractors` (or
    `0`) is in the way and never right. The arguments are those of `Market1501`.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: an empty folder, or a file or folder that does not belong there.
    """
    options = ReadOptions(image_size, skip_unreadable, progress)
    folder = from_data_root(root).resolve()
    identities, cameras = Numbering(), Numbering()
    files = {part: FileList(options) for part in PARTS}
    for part in PARTS:
        for person, pid in _list_people(folder / part, files[part], identities):
            _list_pictures(Path(person.path), pid, files[part], cameras)
    return ReidDataset(folder, files, identities.names, cameras.names)


def from_pictures(
    root: str | os.PathLike[str],
    image_size: tuple[int, int] = (128, 64),
    skip_unreadable: bool = False,
    progress: Progress = "auto",
) -> Pictures:
    """A folder of pictures without labels, to search in: any names, no identities, no cameras.

    Files of other kinds and folders in it are left out; a line says how many. Without identities
    there is nothing to train on, no right answer and so no score. The arguments are those of
    `Market1501`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no picture is in it.
    """
    options = ReadOptions(image_size, skip_unreadable, progress)
    folder = from_data_root(root).resolve()
    files, others = FileList(options), 0
    for entry in scan(folder):
        if entry.is_file() and Path(entry.name).suffix.lower() in ENDINGS:
            files.pictures.append(ListedPicture(entry.path))
        else:
            others += 1
    if not files.pictures:
        raise ValueError(
            f"no picture in {printable(folder)}; those in folders inside it are not looked at, and "
            "data/README.md lists the formats that are read"
        )
    options.tell(
        f"{len(files.pictures):,} pictures without labels: they can be searched, but there is "
        f"nothing to train on and no score. {others:,} other files and folders are left out."
    )
    return Pictures("pictures", folder, files)


def _list_people(
    part: Path, files: FileList, identities: Numbering
) -> Iterator[tuple[os.DirEntry[str], int]]:
    """The folders of a part, each with the pid of its pictures."""
    for person in scan(part):
        special = SPECIAL_FOLDERS.get(re.sub("^0+$", "0", person.name.lower()))
        if not person.is_dir():
            files.refuse(person.path, "is no folder; put each identity's pictures in a folder")
        elif special is None:
            yield person, identities(person.name)
        elif part.name == "gallery":
            yield person, special
        else:
            reason = "only a gallery has junk or distractors; give this folder another name"
            files.refuse(person.path, reason)


def _list_pictures(folder: Path, pid: int, files: FileList, cameras: Numbering) -> None:
    number = int(folder.name) if re.fullmatch("-1|[0-9]{1,9}", folder.name) else None
    for entry in scan(folder):
        if not files.takes(entry):
            continue
        market, (camera, underscore, _) = parse_name(entry.name), entry.name.partition("_")
        if market is not None and number is not None and market[0] != number:
            reason = f"its name says identity {market[0]}, its folder {number}; move it"
            files.refuse(entry.path, reason)
        elif market is not None or (camera and underscore):
            camera = camera if market is None else str(market[1])
            files.pictures.append(ListedPicture(entry.path, pid, cameras(camera)))
        else:
            reason = "is not named camera_anything.jpg, as in door_0001.jpg; rename it"
            files.refuse(entry.path, reason)
