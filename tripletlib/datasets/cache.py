"""Decoded images kept in a memory-mapped file, so that a data set is decoded once."""

import hashlib
import json
import os
import secrets
import shutil
import time
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tripletlib.datasets.decoding import UnreadableImageError, read_images
from tripletlib.runtime import Progress, data_root

DECODING_VERSION = 1  # raise it with every change to `decoding`: older caches are then made anew
_ABANDONED_AFTER = 3600  # seconds; by then a half-written folder has lost its writer
_told: set[tuple[Path, str]] = set()  # one notice for all parts of a data set


@dataclass(frozen=True)
class DecodedImages:
    """The images of a list of files.

    Attributes:
        images: uint8 `[N, 3, H, W]`, in the order of the files. Memory-mapped if a cache could be
            written; changes stay in memory.
        skipped: place in the list of files, and reason, of each that could not be read.
    """

    images: np.ndarray
    skipped: dict[int, str]


def load_images(
    paths: Sequence[str],
    image_size: tuple[int, int],
    name: str | None,
    skip_unreadable: bool = False,
    progress: Progress = "auto",
    title: str = "decoding",
) -> DecodedImages:
    """Opens the images from the cache, or decodes them and writes it.

    A cache is a folder `data_root()/cache/NAME-HxW-KEY` of `images.npy` and `about.json`. The key
    is made of every file's path, size and time of change, so a changed file means a new cache; the
    old one is removed. A cache is written under another name and renamed when whole; its checksum
    is compared when it is opened, and a damaged one is made anew.

    Args:
        paths: the files, at least one.
        image_size: `(H, W)` in pixels.
        name: of the data set and its part; None keeps no cache.
        skip_unreadable: leave out what cannot be read.
        progress: see `tripletlib.progress`.
        title: stands before the bar.

    Returns:
        The `DecodedImages`. Where the cache cannot be written they are in memory, and a warning
        says so.

    Raises:
        UnreadableImageError: a file cannot be read, and `skip_unreadable` is not set.
    """
    target = None if name is None else _cache_folder(paths, image_size, name)
    decoded = None if target is None else _open(target, len(paths), image_size)
    if decoded is None:
        decoded = DecodedImages(*read_images(paths, image_size, skip_unreadable, progress, title))
        if target is not None and _write(target, decoded):
            decoded = _open(target, len(paths), image_size) or decoded
    for index, reason in decoded.skipped.items():
        if not skip_unreadable:  # a cache may come from a call that skipped
            raise UnreadableImageError(paths[index], reason)
    return decoded


def _cache_folder(paths: Sequence[str], image_size: tuple[int, int], name: str) -> Path:
    key = hashlib.sha256(f"{DECODING_VERSION} {image_size}".encode())
    for path in paths:
        try:
            status = Path(path).stat()
            stamp = f"\0{status.st_size}\0{status.st_mtime_ns}\0"
        except OSError:  # gone, or out of reach: reading it will say so
            stamp = "\0\0"
        key.update(os.fsencode(path) + stamp.encode())
    height, width = image_size
    return data_root() / "cache" / f"{name}-{height}x{width}-{key.hexdigest()[:16]}"


def _open(target: Path, files: int, image_size: tuple[int, int]) -> DecodedImages | None:
    try:
        about = json.loads((target / "about.json").read_text(encoding="utf-8"))
        skipped = {int(index): str(reason) for index, reason in about["skipped"].items()}
        # Copy on write: torch warns of arrays that it may not write to, and the file stays as it is
        images = np.lib.format.open_memmap(target / "images.npy", mode="c").view(np.ndarray)
        fits = images.shape == (files - len(skipped), 3, *image_size) and images.dtype == np.uint8
        if fits and zlib.crc32(images.data) == about["crc32"]:
            return DecodedImages(images, skipped)
    except Exception:  # missing or damaged in whatever way: the pictures themselves are still there
        pass
    return None


def _write(target: Path, decoded: DecodedImages) -> bool:
    workshop = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    about = {"crc32": zlib.crc32(decoded.images.data), "skipped": decoded.skipped}
    try:
        workshop.mkdir(parents=True)
        np.save(workshop / "images.npy", decoded.images)
        (workshop / "about.json").write_text(json.dumps(about), encoding="utf-8")
        _remove_older(target)
        workshop.rename(target)
    except OSError as error:
        files = len(decoded.images) + len(decoded.skipped)
        height, width = decoded.images.shape[2:]
        if _open(target, files, (height, width)) is not None:
            return True  # another process has just kept the same images
        _tell(target.parent, error.strerror or str(error))
        return False
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return True


def _tell(folder: Path, reason: str) -> None:
    if (folder, reason) in _told:
        return
    _told.add((folder, reason))
    warnings.warn(
        f"decoded images cannot be kept in {folder} ({reason}): they stay in memory and will be "
        "decoded again next time. Free some space there, or set TRIPLETLIB_DATA to a folder that "
        "can be written to",
        stacklevel=4,
    )


def _remove_older(target: Path) -> None:
    """Remove caches of other states of the same files, a damaged one of this state, and remains."""
    state = target.name.rsplit("-", 1)[0] + "-"
    for folder in target.parent.iterdir():
        abandoned = folder.name.startswith(f".{state}") and _is_abandoned(folder)
        if abandoned or folder.name.startswith(state):
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(workshop: Path) -> bool:
    try:
        return time.time() - workshop.stat().st_mtime > _ABANDONED_AFTER
    except OSError:  # its writer, another process, has just removed or renamed it
        return False
