"""Decoded images, kept in a memory-mapped file until one of their picture files changes."""

import functools
import hashlib
import json
import os
import stat
import time
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tripletlib.datasets.decoding import UnreadableImageError, read_images
from tripletlib.datasets.folders import remove_abandoned, replaced_folder
from tripletlib.runtime import atomic_write

_DECODING_VERSION = 2  # raise it with every change to `decoding`: older caches are then made anew
_RACY = 2_000_000_000  # ns; a file this young may change again without a new time (FAT: 2 s)
_STAMP = np.dtype([("status", "<i8", 3), ("sha256", "u1", 32)])  # status: size, mtime, ctime in ns
_CHUNK = 64  # files hashed by a thread at a time


class DecodedImages(NamedTuple):
    """The images of a list of files, in their order."""

    images: np.ndarray  # uint8 [N, 3, H, W]; memory-mapped from a cache, changes stay in memory
    skipped: dict[int, str]  # index and reason of each file that could not be read
    digest: str  # SHA-256 of shape and values of the images as they were decoded


def load_images(
    paths: Sequence[str],
    image_size: tuple[int, int],
    cache: Path | None,
    skip_unreadable: bool = False,
    **bar: Any,
) -> DecodedImages:
    """Opens the images from a cache, or decodes them like `read_images` and writes it.

    A cache is trusted as git trusts its index: a file whose size, times of modification and change
    are as they were is the same file; of any other the bytes are hashed and compared. So a copied
    data set is recognised and a replaced picture noticed. A checksum tells a damaged cache.

    `cache` is its folder; None keeps none. Where it cannot be written a warning says so.
    """
    decoded = None
    if cache is not None:
        remove_abandoned(cache)
        decoded = _open(cache, paths, image_size)
    if decoded is None:
        # Stamped before they are decoded: a file that changes meanwhile is noticed the next time.
        stamps = None if cache is None else _stamp(paths)
        images, skipped = read_images(paths, image_size, skip_unreadable, **bar)
        digest = hashlib.sha256(repr(images.shape).encode() + b"\0")
        digest.update(images.data)
        decoded = DecodedImages(images, skipped, digest.hexdigest())
        if cache is not None and stamps is not None:
            decoded = _keep(cache, paths, stamps, decoded)
    for index, reason in decoded.skipped.items():
        if not skip_unreadable:  # a cache may come from a call that skipped
            raise UnreadableImageError(paths[index], reason)
    return decoded


def _keep(
    cache: Path, paths: Sequence[str], stamps: np.ndarray, decoded: DecodedImages
) -> DecodedImages:
    """Writes the cache and opens it; what was decoded if that fails."""
    about = {
        "decoding": _DECODING_VERSION,
        "names": _names_digest(paths),
        "skipped": decoded.skipped,
        "sha256": decoded.digest,
        "crc32": zlib.crc32(decoded.images.data),
    }
    failure = None
    try:
        with replaced_folder(cache) as folder:
            np.save(folder / "images.npy", decoded.images)
            np.save(folder / "files.npy", stamps)
            (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
    except OSError as error:
        failure = error.strerror or str(error)
    # What was just written needs no check; after a failure another process may have written it.
    kept = _open(cache, paths, decoded.images.shape[2:], check=failure is not None)
    if failure and kept is None:
        _tell(cache.parent, failure)
    return kept if kept is not None and kept.digest == decoded.digest else decoded


def _open(
    cache: Path, paths: Sequence[str], image_size: tuple[int, ...], check: bool = True
) -> DecodedImages | None:
    """The images of a cache, if it is whole and of these files as they are now."""
    try:
        about = json.loads((cache / "about.json").read_text(encoding="utf-8"))
        skipped = {int(index): str(reason) for index, reason in about["skipped"].items()}
        if (about["decoding"], about["names"]) != (_DECODING_VERSION, _names_digest(paths)):
            return None
        if check and not _files_are_unchanged(cache / "files.npy", paths):
            return None
        # Copy on write: torch warns of arrays that it may not write to, and the file stays as it is
        images = np.lib.format.open_memmap(cache / "images.npy", mode="c").view(np.ndarray)
        fits = images.shape == (len(paths) - len(skipped), 3, *image_size)
        is_whole = not check or zlib.crc32(images.data) == about["crc32"]
        if fits and images.dtype == np.uint8 and is_whole:
            return DecodedImages(images, skipped, str(about["sha256"]))
    except Exception:  # missing or damaged in whatever way: the pictures themselves are still there
        pass
    return None


def _names_digest(paths: Sequence[str]) -> str:
    """Stands for the files' names and their order, wherever the folder lies."""
    shared = len(os.path.commonprefix(list(paths)))  # noqa: RUF071 - any shared start will do
    names = "\0".join(path[shared:] for path in paths)
    return hashlib.sha256(os.fsencode(names)).hexdigest()


def _files_are_unchanged(file: Path, paths: Sequence[str]) -> bool:
    stamps = np.load(file, allow_pickle=False)
    changed = np.flatnonzero((stamps["status"] != _status(paths)).any(axis=1))
    if not len(changed):
        return True
    now = _stamp([paths[index] for index in changed.tolist()])
    if (stamps["sha256"][changed] != now["sha256"]).any():
        return False
    stamps[changed] = now
    with suppress(OSError), atomic_write(file) as unfinished:  # else they are hashed next time too
        np.save(unfinished, stamps)
    return True


def _status(paths: Sequence[str]) -> np.ndarray:
    """Size, modification and change time in ns of each file, int64 `[N, 3]`; -1 if there is none.

    Change times count because the others are easily kept: `cp -p` keeps them, and so do ZIP files.
    """
    rows = np.full((len(paths), 3), -1, np.int64)
    for row, path in zip(rows, paths, strict=True):
        with suppress(OSError):  # gone, or out of reach
            found = os.stat(path)  # noqa: PTH116 - a Path for each of 20,000 files takes longer
            row[:] = found.st_size, found.st_mtime_ns, found.st_ctime_ns
    return rows


def _stamp(paths: Sequence[str]) -> np.ndarray:
    """What tells whether files are still the same: status, and SHA-256 of the bytes."""
    stamps = np.zeros(len(paths), _STAMP)
    now = time.time_ns()
    stamps["status"] = _status(paths)
    stamps["status"][stamps["status"][:, 1:].max(axis=1) > now - _RACY, 2] = -1
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor() as pool:
        digests = b"".join(pool.map(_hash_files, chunks))
    stamps["sha256"] = np.frombuffer(digests, np.uint8).reshape(-1, 32)
    return stamps


def _hash_files(paths: Sequence[str]) -> bytes:
    digests = []
    for path in paths:
        digest = bytes(32)
        with suppress(OSError):  # decoding says why
            if stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
                with open(path, "rb", buffering=0) as stream:  # noqa: PTH123
                    digest = hashlib.sha256(stream.read()).digest()
        digests.append(digest)
    return b"".join(digests)


@functools.cache  # one notice for all parts of a data set
def _tell(folder: Path, reason: str) -> None:
    warnings.warn(
        f"decoded images cannot be kept in {folder} ({reason}): they stay in memory and will be "
        "decoded again next time. Free some space there, or set TRIPLETLIB_DATA to a folder that "
        "can be written to",
        stacklevel=4,
    )
