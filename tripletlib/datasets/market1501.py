"""Market-1501, and anything in its layout."""

import os
import re
import warnings
from pathlib import Path

from tripletlib.datasets.folders import from_data_root, printable, scan
from tripletlib.datasets.splits import PARTS, FileList, ListedPicture, ReadOptions, ReidDataset
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
