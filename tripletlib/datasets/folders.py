"""Folders of pictures: where they lie, what counts in them, and how one is replaced as a whole."""

import glob
import os
import re
import secrets
import shutil
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tripletlib.runtime import data_root, exclusive_lock

# Left by file managers and network drives
_LEFT_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", ".ds_store", ".directory"}
_LEFT_FOLDERS = {"__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information"}
_LEFT = _LEFT_FILES | _LEFT_FOLDERS
_ABANDONED_AFTER = 3600  # seconds, where no lock tells whether the writer still lives


def from_data_root(path: str | os.PathLike[str]) -> Path:
    """The path with `~` expanded; a relative one is meant from the data root."""
    return data_root() / Path(path).expanduser()


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, sorted by name, without what file managers leave behind.

    That is: hidden files, backups `x~`, thumbnails, and copies such as `x (copy).jpg`,
    `x - Kopie.jpg` or `Copy of x.jpg` whose content is that of `x.jpg` beside them. A
    FileNotFoundError if there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{printable(folder)} is missing or no folder; see data/README.md for the tree"
        )
    with os.scandir(folder) as entries:
        found = {entry.name: entry for entry in entries if not _is_stray(entry.name)}
    return [found[name] for name in sorted(found) if not _is_copy(folder, name, found)]


def printable(text: str | os.PathLike[str]) -> str:
    """A path or name on one line that every terminal can show: other characters are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in os.fspath(text))


def is_left_by_file_manager(name: str) -> bool:
    """Whether a file manager writes a file of this name by itself: nobody misses it."""
    return name.startswith("._") or name.lower() in _LEFT_FILES


def _is_stray(name: str) -> bool:
    return name.startswith(".") or name.endswith("~") or name.lower() in _LEFT


def _is_copy(folder: Path, name: str, names: Container[str]) -> bool:
    if " " not in name and "(" not in name:
        return False
    stem, ending = os.path.splitext(name)  # noqa: PTH122
    originals = {name[at.end() :] for at in re.finditer(" ", name)}
    originals |= {stem[: at.start()].rstrip() + ending for at in re.finditer(r"[ (]", stem)}
    originals.discard(name)
    return any(one in names and _is_same(folder / one, folder / name) for one in originals)


def _is_same(one: Path, other: Path) -> bool:
    """Whether two files, or two folders of files, have the same content."""
    if one.is_dir() and other.is_dir():
        names = [entry.name for entry in scan(one)]
        same = names == [entry.name for entry in scan(other)]
        return same and all(_is_same(one / name, other / name) for name in names)
    if not (one.is_file() and other.is_file()) or one.stat().st_size != other.stat().st_size:
        return False
    return one.read_bytes() == other.read_bytes()


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder that takes the place of `target` once it is filled.

    Whoever opens `target` finds all of the earlier folder or all of the new one. After an error the
    earlier one is still there; an OSError too where another process was quicker.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target)
    token = secrets.token_hex(4)
    workshop = target.with_name(f".{target.name}-{token}")
    unlocked = target.with_name(f".{token}")  # nobody takes it for abandoned before it is locked
    try:
        (unlocked / "new").mkdir(parents=True)
        with exclusive_lock(unlocked):
            unlocked.rename(workshop)
            yield workshop / "new"
            _swap(workshop / "new", target, workshop / "old")
    finally:
        shutil.rmtree(unlocked, ignore_errors=True)
        shutil.rmtree(workshop, ignore_errors=True)


def remove_abandoned(target: Path) -> None:
    """Removes what killed processes left of `replaced_folder(target)`, and nothing else."""
    token = "[0-9a-f]" * 8
    for workshop in target.parent.glob(f".{glob.escape(target.name)}-{token}"):
        with suppress(OSError):  # its writer lives, or another process has just removed it
            names = {entry.name for entry in workshop.iterdir()}
            if names and names <= {"new", "old"}:
                with exclusive_lock(workshop) as is_locked:
                    if is_locked or time.time() - workshop.stat().st_mtime > _ABANDONED_AFTER:
                        with suppress(OSError):  # killed between the two renames
                            (workshop / "old").rename(target)
                        shutil.rmtree(workshop, ignore_errors=True)


def _swap(new: Path, target: Path, old: Path) -> None:
    with suppress(FileNotFoundError):
        target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        with suppress(FileNotFoundError):
            old.rename(target)
        raise
