"""Tiny pictures, data sets of them, and whether a folder was left as it is."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tripletlib.datasets.cache import load_images
from tripletlib.datasets.decoding import read_image, read_images
from tripletlib.runtime import data_root


def write_pictures(root: Path, *names: str) -> Path:
    """JPEGs of 16 x 8 pixels of a colour each, whatever the names' endings say."""
    for k, name in enumerate(names):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 16), (k, 0, 0)).save(file, "JPEG")
    return root


def write_market(root: Path, *more: str) -> Path:
    """One picture in each part of Market-1501's layout, and more."""
    return write_pictures(
        root,
        "bounding_box_train/0001_c1s1_000001_01.jpg",
        "query/0002_c1s1_000001_00.jpg",
        "bounding_box_test/0002_c2s1_000001_01.jpg",
        *more,
    )


def state(folder: Path) -> dict[Path, tuple[int, int]]:
    """Everything that a write would change."""
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
    }


def save(picture, file, kind="PNG", **options):
    picture.save(file, kind, **options)
    return file


def mean_colour(file):
    return read_image(file, (128, 64)).mean((1, 2)).round().astype(int).tolist()


def gradient(height, width):
    rows, columns = np.linspace(0, 255, height), np.linspace(0, 255, width)
    red, green = np.broadcast_to(rows[:, None], (height, width)), np.tile(columns, (height, 1))
    return Image.fromarray(np.stack([red, green, 255 - red], 2).astype(np.uint8))


def png(kind, values, width, height, transparency=()):
    """A PNG with all rows equal, of values in 16 bits."""
    row = b"\0" + struct.pack(f">{len(values)}H", *values)
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, kind[1], kind[0], 0, 0, 0)]
    if transparency:
        chunks.append(b"tRNS" + struct.pack(f">{len(transparency)}H", *transparency))
    chunks += [b"IDAT" + zlib.compress(height * row if values else b""), b"IEND"]
    framed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def png_header(width, height):
    """A PNG that only claims its size."""
    return png((2, 8), [], width, height)


CACHED_SIZE = (32, 16)


def load_cached(paths, name="set-train", size=CACHED_SIZE, **options):
    return load_images(paths, size, data_root() / "cache" / name, progress="off", **options)


def decoded_anew(paths):
    return read_images(paths, CACHED_SIZE, progress="off")[0]
