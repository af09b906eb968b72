"""Market-1501, anything in its layout, and own pictures in folders."""

import os
import re
import warnings
from pathlib import Path

from tripletlib.datasets.folders import resolve_root, scan
from tripletlib.datasets.splits import ENDING, PARTS, Listing, Reading, ReidDataset
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
# What folders in the gallery of `from_folders` mean, apart from identities
SPECIAL_FOLDERS = {"junk": "/-1", "-1": "/-1", "distractors": "/0", "0": "/0"}
_SPECIAL_PIDS = {"/-1": JUNK, "/0": DISTRACTOR}  # no folder's name has a slash

_MARKET_NAME = re.compile(rf"(-1|[0-9]{{1,9}})_c([0-9]{{1,9}})(?:[s_.].*)?{ENDING}", re.I | re.S)
_OWN_NAME = re.compile(rf"([^_]+)_.*{ENDING}", re.I | re.S)
_NUMBER = re.compile("[0-9]{1,9}")


class Market1501(ReidDataset):
    """Market-1501, or any pictures in its layout; see `ReidDataset` for what it holds.

    A name gives identity and camera, `PPPP_cC` and then anything: `0002_c1s1_000451_03.jpg`.
    `.jpg.jpg` and the endings of other pictures are fine; `Thumbs.db` and hidden files are ignored.
    Pids and camids are the numbers in the names. In the gallery -1 is junk and 0 a distractor.

    Args:
        root: holds `bounding_box_train`, `query` and `bounding_box_test`, or is the folder above;
            a relative path is meant from the data root.
        image_size: `(H, W)` in pixels.
        skip_unreadable: leave out and list what cannot be read, in place of an error. All three
            parts are decoded at once then.
        verify: compare the counts with the official ones: a match is printed, a difference is a
            warning. By default only if the set looks like the official one: the folder is called
            `Market-1501-v...` or holds `gt_bbox`, or a folder has exactly the official count.
        progress: of decoding, see `tripletlib.progress`.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: an empty folder, a name that does not parse, a pid that has no meaning there.

    Source:
        Zheng, Shen, Tian, Wang, Wang, Tian 2015, Scalable Person Re-identification: A Benchmark
        (ICCV); counts: the data set's readme and files.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from tripletlib.synthetic import write_synthetic_market
        >>> with TemporaryDirectory() as folder:
        ...     root = write_synthetic_market(folder + "/people", 4, 2, 3, progress="off")
        ...     print(Market1501(root).train)
        <train: 12 images, 2 pids, 2 cameras>
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        image_size: tuple[int, int] = (128, 64),
        skip_unreadable: bool = False,
        verify: bool | None = None,
        progress: Progress = "auto",
    ) -> None:
        reading = Reading(image_size, skip_unreadable, progress)
        folder = _find_market(resolve_root(root))
        listings = {
            part: _list_market(folder / name, part, skip_unreadable)
            for part, name in FOLDERS.items()
        }
        counts = _count(listings)
        if verify or (verify is None and _looks_official(folder, counts)):
            _compare(folder, counts)
        super().__init__(folder, listings, int, int, reading)


class FolderDataset(ReidDataset):
    """What `from_folders` returns: identities and cameras have names besides their numbers.

    Attributes:
        identity_names: pid to the name of its folder.
        camera_names: camid to the word in the file names.
    """

    def __init__(self, root: Path, listings: dict[str, Listing], reading: Reading) -> None:
        rows = [row for listing in listings.values() for row in listing.rows]
        people = sorted({who for _, who, _ in rows if who not in _SPECIAL_PIDS})
        pids = {who: pid for pid, who in enumerate(people, start=1)}
        words = sorted({word for _, _, word in rows})
        numbers = all(_NUMBER.fullmatch(word) for word in words)
        camids = {word: int(word) if numbers else k for k, word in enumerate(words, start=1)}
        to_pid = (pids | _SPECIAL_PIDS).__getitem__
        super().__init__(root, listings, to_pid, camids.__getitem__, reading)
        self.identity_names = {pid: who for who, pid in pids.items()}
        self.camera_names = {camid: word for word, camid in camids.items()}


def from_folders(
    root: str | os.PathLike[str],
    image_size: tuple[int, int] = (128, 64),
    skip_unreadable: bool = False,
    progress: Progress = "auto",
) -> FolderDataset:
    """Own pictures: `train/`, `query/` and `gallery/`, each `identity/camera_anything.jpg`.

    An identity's folder may have any name. They are numbered from 1 in sorted order over all three
    parts, so a name is the same person everywhere. The camera is what stands before the first
    underscore: if these are whole numbers they are kept, otherwise the words are numbered from 1 in
    sorted order. Two folders in `gallery/` are not identities: `junk` (or `-1`) is left out,
    `distractors` (or `0`) is in the way and never right.

    Args:
        root: holds the three folders; a relative path is meant from the data root.
        image_size: see `Market1501`.
        skip_unreadable: see `Market1501`.
        progress: see `Market1501`.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: an empty folder, or a file or folder that does not belong there.
    """
    reading = Reading(image_size, skip_unreadable, progress)
    folder = resolve_root(root)
    listings = {part: _list_own(folder / part, part, skip_unreadable) for part in PARTS}
    dataset = FolderDataset(folder, listings, reading)
    seen = {*dataset.query.camids.tolist(), *dataset.gallery.camids.tolist()}
    if len(seen) == 1:
        warnings.warn(
            f"query and gallery of {folder} come from one camera, "
            f"{dataset.camera_names[seen.pop()]!r}. Matches from the query's own camera do not "
            "count, so none is right. Begin the names with the camera: door_0001.jpg",
            stacklevel=2,
        )
    return dataset


def _find_market(root: Path) -> Path:
    """`root`, or the one folder in it that holds `bounding_box_train`."""
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root} is missing or no folder: name the unpacked folder that holds "
            f"{', '.join(FOLDERS.values())}; data/README.md says where to get Market-1501"
        )
    if (root / FOLDERS["train"]).is_dir():
        return root
    inside = [Path(entry.path) for entry in scan(root) if entry.is_dir()]
    found = [folder for folder in inside if (folder / FOLDERS["train"]).is_dir()]
    if len(found) > 1:
        raise ValueError(f"{root} holds several data sets, name one: {', '.join(map(str, found))}")
    if not found:
        raise FileNotFoundError(
            f"neither {root} nor a folder in it holds {FOLDERS['train']}; see data/README.md "
            "for the tree"
        )
    return found[0]


def _list_market(folder: Path, part: str, skip_unreadable: bool) -> Listing:
    listing = Listing(skip_unreadable)
    lowest = {"train": 0, "query": 1, "gallery": JUNK}[part]
    for entry in scan(folder):
        parsed = _MARKET_NAME.fullmatch(entry.name)
        if parsed is None:
            reason = "is not named like 0002_c1s1_000451_03.jpg; rename it or move it away"
            listing.refuse(entry.path, reason)
        elif int(parsed[1]) < lowest:
            reason = (
                f"only a gallery has junk or distractors (pid {parsed[1]}); renumber or remove it"
            )
            listing.refuse(entry.path, reason)
        else:
            listing.rows.append((entry.path, parsed[1], parsed[2]))
    return listing


def _list_own(folder: Path, part: str, skip_unreadable: bool) -> Listing:
    listing = Listing(skip_unreadable)
    for person in scan(folder):
        special = SPECIAL_FOLDERS.get(person.name.lower())
        if not person.is_dir():
            listing.refuse(person.path, "is no folder; put each identity's pictures in a folder")
        elif special is not None and part != "gallery":
            reason = "only a gallery has junk or distractors; give this folder another name"
            listing.refuse(person.path, reason)
        else:
            _list_person(Path(person.path), special or person.name, listing)
    return listing


def _list_person(folder: Path, who: str, listing: Listing) -> None:
    for entry in scan(folder):
        parsed = _OWN_NAME.fullmatch(entry.name)
        if parsed is None:
            reason = "is not named camera_anything.jpg, as in door_0001.jpg; rename it"
            listing.refuse(entry.path, reason)
        else:
            listing.rows.append((entry.path, who, parsed[1]))


def _count(listings: dict[str, Listing]) -> dict[str, int]:
    train, query, gallery = ([int(who) for _, who, _ in listings[part].rows] for part in PARTS)
    found = [len(train), len(set(train)), len(query), len(set(query)), len(gallery)]
    found += [gallery.count(JUNK), gallery.count(DISTRACTOR)]
    return dict(zip(OFFICIAL_COUNTS, found, strict=True))


def _looks_official(folder: Path, counts: dict[str, int]) -> bool:
    sizes = ("training images", "queries", "images in bounding_box_test")
    return (
        folder.name.lower().startswith("market-1501-v")
        or (folder / "gt_bbox").is_dir()
        or any(counts[name] == OFFICIAL_COUNTS[name] for name in sizes)
    )


def _compare(folder: Path, counts: dict[str, int]) -> None:
    wrong = [
        f"{name} {counts[name]:,} (official: {official:,})"
        for name, official in OFFICIAL_COUNTS.items()
        if counts[name] != official
    ]
    if wrong:
        warnings.warn(
            f"{folder} differs from the official Market-1501: {', '.join(wrong)}. Unpack it again, "
            "or pass verify=False if it is meant to differ",
            stacklevel=3,
        )
        return
    numbers = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    print(f"Market-1501 is complete: {numbers}.")
