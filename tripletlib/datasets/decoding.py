"""Picture files of many formats, decoded to uint8 arrays of one size."""

import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from tripletlib.datasets.folders import from_data_root, printable
from tripletlib.runtime import Progress, progress_bar, return_freed_memory

# Pillow's names of the formats that are read. Left out are those that start other programs (EPS:
# Ghostscript), films, and what holds measurements. TGA is last: it has no mark to be known by.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "ICO",
           "ICNS", "DDS", "PCX", "PSD", "QOI", "SGI", "SUN", "TGA")  # fmt: skip
_ENDINGS = """
    jpg jpeg jpe jfif mpo png apng webp avif bmp dib gif tif tiff ppm pgm pbm pnm pfm jp2 j2k jpx
    jpf jpc j2c ico icns dds pcx psd qoi sgi rgb rgba bw ras tga icb vda vst
"""
ENDINGS = frozenset(f".{ending}" for ending in _ENDINGS.split())
MAX_PIXELS = 50_000_000  # of one picture; decoding takes up to 12 bytes for each
_CHUNK = 64  # pictures in one piece of work: fewer hand-overs between threads
_FILE_ADVICE = (
    "Copy it again from where it came from, or move it away, or pass skip_unreadable=True to go on "
    "without it."
)


class UnreadableImageError(ValueError):
    """A file is not a picture, or a damaged one, or of a kind that is not read.

    Attributes:
        path: the file.
        reason: what is wrong with it.
    """

    def __init__(
        self, path: str | os.PathLike[str], reason: str, advice: str = _FILE_ADVICE
    ) -> None:
        self.path, self.reason = os.fspath(path), reason
        super().__init__(f"{printable(path)} cannot be read as a picture: {reason}. {advice}")


def read_image(path: str | os.PathLike[str], image_size: tuple[int, int]) -> np.ndarray:
    """Reads one picture.

    It is turned as its EXIF tag says; transparent parts become white; grey is repeated in the three
    channels; 16 bits become 8. Then it is stretched by Pillow's bilinear filter, which averages
    over all pixels it replaces. A large JPEG is shrunk while it is decoded, to no less than twice
    the size.

    Args:
        path: a file in one of `FORMATS`, relative to the data root or absolute; the first picture
            if it holds several.
        image_size: `(H, W)` in pixels.

    Returns:
        RGB, uint8 `[3, H, W]`.

    Raises:
        UnreadableImageError: missing, empty, truncated, not a picture, above `MAX_PIXELS`, or with
            pixels whose white is not agreed upon.
    """
    with warnings.catch_warnings(action="ignore"):
        return _read_file(path, image_size)


def decode_image(data: bytes, name: str, image_size: tuple[int, int]) -> np.ndarray:
    """Decodes a file's content like `read_image`; `name` is the file's, for the error's text."""
    try:
        advice = "Save it as JPEG or PNG and try again."
        with warnings.catch_warnings(action="ignore"), _explained(name, advice):
            return _decode(io.BytesIO(data), len(data), image_size)
    finally:
        return_freed_memory()


def read_images(
    paths: Sequence[str],
    image_size: tuple[int, int],
    skip_unreadable: bool = False,
    progress: Progress = "auto",
    title: str = "decoding",
) -> tuple[np.ndarray, dict[int, str]]:
    """Reads N pictures like `read_image`, in as many threads as there are processors.

    `progress` is that of `tripletlib.runtime`, `title` stands before the bar. What cannot be read
    is an error, or left out if `skip_unreadable`.

    Returns:
        The images, uint8 `[N - number of left out, 3, H, W]`, in the order of `paths`; and for each
        one left out its index in `paths` and the reason.
    """
    images = np.empty((len(paths), 3, *image_size), np.uint8)
    skipped: dict[int, str] = {}

    def read_chunk(start: int) -> int:
        chunk = paths[start : start + _CHUNK]
        for index, path in enumerate(chunk, start):
            try:
                images[index] = _read_file(path, image_size)
            except UnreadableImageError as error:
                if not skip_unreadable:
                    raise
                skipped[index] = error.reason
        return len(chunk)

    pool = ThreadPoolExecutor(os.cpu_count())
    with (
        progress_bar(len(paths), "image", progress, desc=title) as bar,
        warnings.catch_warnings(action="ignore"),  # of metadata; filters count for all threads
    ):
        try:
            for done in pool.map(read_chunk, range(0, len(paths), _CHUNK)):
                bar.update(done)
        finally:
            pool.shutdown(cancel_futures=True)  # after an error or an interrupt they stop soon
    return_freed_memory()
    if skipped:
        images = np.delete(images, list(skipped), axis=0)
    return images, dict(sorted(skipped.items()))


@contextmanager
def _explained(path: str | os.PathLike[str], advice: str = _FILE_ADVICE) -> Iterator[None]:
    """Turns whatever a decoder raises into an UnreadableImageError."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # OSError, SyntaxError, struct.error, IndexError ...
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # its own text repeats the path
            reason = "its content is in no known picture format, or of a kind Pillow does not read"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        raise UnreadableImageError(path, reason, advice) from error


def _read_file(path: str | os.PathLike[str], image_size: tuple[int, int]) -> np.ndarray:
    with _explained(path):
        file = path if os.path.isabs(path) else from_data_root(path)  # noqa: PTH117 - often text
        found = os.stat(file)  # noqa: PTH116
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is a folder, a pipe or another thing that is no file")
        with Path(file).open("rb") as stream:
            return _decode(stream, found.st_size, image_size)


def _decode(stream: BinaryIO, file_size: int, image_size: tuple[int, int]) -> np.ndarray:
    if not file_size:
        raise ValueError("the file is empty")
    height, width = image_size
    with Image.open(stream, formats=_formats()) as picture:
        picture.draft(None, (2 * max(image_size),) * 2)  # JPEG only; a square: it may turn
        _check_pixels(picture)
        picture.load()
        _check_pixels(picture)  # the picture inside an icon may be larger than the icon says
        with suppress(Exception):  # a damaged tag does not spoil the pixels
            ImageOps.exif_transpose(picture, in_place=True)
        rgb = _to_rgb(picture).resize((width, height), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))  # [H, W, 3] -> [3, H, W]


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this installation of Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_pixels(picture: Image.Image) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(
            f"{picture.width} x {picture.height} pixels are more than the {MAX_PIXELS:,} that are "
            "decoded at once; save it smaller, or as JPEG"
        )


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "F":
        raise ValueError("pixels in floating point have no agreed white; save it with 8 bits")
    if picture.mode.startswith("I"):
        picture = _to_8_bits(picture)
    key = picture.info.get("transparency")  # of palettes and pictures without an alpha channel
    if isinstance(key, tuple) and max(key) > 255:  # in 16 bits, while Pillow reads the upper 8
        picture.info["transparency"] = tuple(value >> 8 for value in key)
    if not picture.has_transparency_data:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    coloured = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    on_white = Image.new("RGB", picture.size, "white")
    on_white.paste(coloured, mask=coloured)
    return on_white


def _to_8_bits(picture: Image.Image) -> Image.Image:
    """Greys of 9 to 16 bits in 8; Pillow itself would make everything above 255 white."""
    if picture.mode == "I" and picture.format not in ("PNG", "PPM"):  # they have 16 bits in it
        raise ValueError("pixels of 32 bits have no agreed white; save it with 8 bits")
    grey, bits, key = np.asarray(picture), 16, picture.info.get("transparency")
    if picture.format == "TIFF":
        tags = picture.tag_v2  # type: ignore[attr-defined]
        bits = tags[ExifTags.Base.BitsPerSample][0]
        if tags[ExifTags.Base.PhotometricInterpretation] == 0:  # 0 is white
            grey = 2**bits - 1 - grey
    light = Image.fromarray((grey >> (bits - 8)).astype(np.uint8))
    if key is not None:
        light.putalpha(Image.fromarray(np.uint8(255) * (grey != key)))
    return light
