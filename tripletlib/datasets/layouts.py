"""The layouts of folders that are read: Market-1501's, own people, unlabelled pictures.

Each becomes lists of files with pids and camids; what does not belong there is refused by name.
"""

import os
import re
import unicodedata
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

from tripletlib.datasets.decoding import ENDINGS
from tripletlib.datasets.folders import from_data_root, printable, scan
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

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
OFFICIAL_COUNTS = {
    "training images": 12_936,
    "training identities": 751,
    "queries": 3_368,
    "query identities": 750,
    "images in bounding_box_test": 19_732,
    "of them junk": 3_819,
    "of them distractors": 2_798,
}
_NAME = re.compile(r"(-1|[0-9]{1,9})_c([0-9]{1,9})(?:[s_.].*)?\..+", re.S)
# What folders in the gallery mean, apart from identities
SPECIAL_FOLDERS = {"junk": JUNK, "-1": JUNK, "distractors": DISTRACTOR, "0": DISTRACTOR}
_WORDS_FROM = 10**9  # smaller numbers are names themselves; labels stay within 32 bits


class Market1501(ReidDataset):
    """Market-1501, or any pictures in its layout; see `ReidDataset` for what it holds.

    A name gives identity and camera, `PPPP_cC` and then anything: `0002_c1s1_000451_03.jpg`.
    `.jpg.jpg` and the endings of other formats are fine; what file managers leave is ignored.
    Pids and camids are the numbers in the names. In the gallery -1 is junk and 0 a distractor.
    Where the folder is called `Market-1501-v...` or holds `gt_bbox`, or a part has the official
    number of pictures, all counts are compared with the official ones.

    Args:
        root: holds `bounding_box_train`, `query` and `bounding_box_test`, or is the folder above;
            a relative path is meant from the data root.
        image_size: `(H, W)` in pixels.
        skip_unreadable: leave out and list what cannot be read, in place of an error. All three
            parts are decoded at once then.
        progress: of decoding, see `tripletlib.runtime`; `"off"` also prints no counts.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: an empty folder, a name that does not parse, a pid that has no meaning there.

    Source:
        Zheng, Shen, Tian, Wang, Wang, Tian 2015, Scalable Person Re-identification: A Benchmark
        (ICCV); counts: the data set's readme and files.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from tripletlib.datasets import write_synthetic_market
        >>> with TemporaryDirectory() as folder:
        ...     root = write_synthetic_market(folder + "/people", 4, 2, 3, progress="off")
        ...     print(Market1501(root).train)
        4 of 4 queries have a right answer in the gallery: the same identity in another camera.
        <train: 12 images, 2 pids, 2 cameras>
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        image_size: tuple[int, int] = (128, 64),
        skip_unreadable: bool = False,
        progress: Progress = "auto",
    ) -> None:
        options = ReadOptions(image_size, skip_unreadable, progress)
        folder = _find_market(from_data_root(root).resolve())
        files = {part: _list_files(folder / name, part, options) for part, name in FOLDERS.items()}
        _compare_counts(folder, files, options)
        super().__init__(folder, files)


def _find_market(root: Path) -> Path:
    """`root`, or the one folder in it that holds `bounding_box_train`."""
    folders = [root, *(Path(entry.path) for entry in scan(root))]
    found = [folder for folder in folders if (folder / FOLDERS["train"]).is_dir()]
    if not found:
        raise FileNotFoundError(
            f"neither {printable(root)} nor a folder in it holds {FOLDERS['train']}; see "
            "data/README.md for the tree, and from_folders for pictures of your own"
        )
    if found[0] != root and len(found) > 1:
        names = ", ".join(map(printable, found))
        raise ValueError(f"{printable(root)} holds several data sets, name one: {names}")
    return found[0]


def parse_name(name: str) -> tuple[int, int] | None:
    """Pid and camid of a file name in the manner of Market-1501; None if it is another name."""
    parsed = _NAME.fullmatch(name)
    return None if parsed is None else (int(parsed[1]), int(parsed[2]))


def _list_files(folder: Path, part: str, options: ReadOptions) -> FileList:
    files = FileList(options)
    lowest = {"train": 0, "query": 1, "gallery": JUNK}[part]
    for entry in scan(folder):
        if not files.takes(entry):
            continue
        parsed = parse_name(entry.name)
        if parsed is None:
            reason = "is not named like 0002_c1s1_000451_03.jpg; rename it or move it away"
            files.refuse(entry.path, reason)
        elif parsed[0] < lowest:
            reason = f"only a gallery has junk or distractors (pid {parsed[0]}); "
            files.refuse(entry.path, reason + "renumber it or move it away")
        else:
            files.pictures.append(ListedPicture(entry.path, *parsed))
    return files


def _compare_counts(folder: Path, files: dict[str, FileList], options: ReadOptions) -> None:
    """Tells whether all of Market-1501 is there, if the set looks like it."""
    train, query, gallery = ([one.pid for one in files[part].pictures] for part in PARTS)
    found = [len(train), len(set(train)), len(query), len(set(query)), len(gallery)]
    found += [gallery.count(JUNK), gallery.count(DISTRACTOR)]
    counts = dict(zip(OFFICIAL_COUNTS, found, strict=True))
    is_named = folder.name.lower().startswith("market-1501-v") or (folder / "gt_bbox").is_dir()
    sizes = ("training images", "queries", "images in bounding_box_test")
    if not is_named and all(counts[size] != OFFICIAL_COUNTS[size] for size in sizes):
        return
    wrong = [
        f"{name} {counts[name]:,} (official: {official:,})"
        for name, official in OFFICIAL_COUNTS.items()
        if counts[name] != official
    ]
    if wrong:
        warnings.warn(
            f"{printable(folder)} differs from the official Market-1501: {', '.join(wrong)}. "
            "Unpack it again, unless it is meant to differ",
            stacklevel=3,
        )
    else:
        numbers = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        options.tell(f"Market-1501 is complete: {numbers}.")


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
