"""Picture files of many formats, decoded to uint8 arrays of one size."""

import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from tripletlib.datasets.folders import printable
from tripletlib.runtime import Progress, progress_bar, return_freed_memory

# Pillow's names of the formats that are read, and the endings of their files. Left out are those
# that start other programs (EPS: Ghostscript), films, and what holds measurements.
FORMATS = {
    "JPEG": "jpg jpeg jpe jfif mpo",
    "PNG": "png apng",
    "WEBP": "webp",
    "AVIF": "avif",
    "BMP": "bmp",
    "DIB": "dib",
    "GIF": "gif",
    "TIFF": "tif tiff",
    "PPM": "ppm pgm pbm pnm pfm",
    "JPEG2000": "jp2 j2k jpx jpf jpc j2c",
    "ICO": "ico",
    "ICNS": "icns",
    "DDS": "dds",
    "PCX": "pcx",
    "PSD": "psd",
    "QOI": "qoi",
    "SGI": "sgi rgb rgba bw",
    "SUN": "ras",
    "TGA": "tga icb vda vst",  # last: it has no mark of its own to be known by
}
ENDINGS = frozenset(f".{ending}" for endings in FORMATS.values() for ending in endings.split())
MAX_PIXELS = 50_000_000  # of one picture while it is decoded, 4 to 9 bytes each
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
    channels; 16 bits become 8. Then it is stretched to the size by Pillow's bilinear filter, which
    averages over all pixels it replaces when it shrinks; a JPEG much larger than that is already
    shrunk while it is decoded, to no less than twice the size.

    Args:
        path: a file in one of `FORMATS`; the first picture if it holds several.
        image_size: `(H, W)` in pixels.

    Returns:
        RGB, uint8 `[3, H, W]`.

    Raises:
        UnreadableImageError: missing, empty, truncated, not a picture, above `MAX_PIXELS`, or with
            pixels whose white is not agreed upon.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _read_file(path, image_size)


def decode_image(data: bytes, name: str, image_size: tuple[int, int]) -> np.ndarray:
    """Decodes a picture that was handed in, like `read_image`.

    Args:
        data: the file's content.
        name: the file's name, for the error's text only.
        image_size: `(H, W)` in pixels.

    Returns:
        RGB, uint8 `[3, H, W]`.

    Raises:
        UnreadableImageError: see `read_image`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(io.BytesIO(data), len(data), image_size)
    except MemoryError:
        raise
    except Exception as error:
        advice = "Save it as JPEG or PNG and try again."
        raise UnreadableImageError(name, _explain(error), advice) from error
    finally:
        return_freed_memory()


def read_images(
    paths: Sequence[str],
    image_size: tuple[int, int],
    skip_unreadable: bool = False,
    progress: Progress = "auto",
    title: str = "decoding",
) -> tuple[np.ndarray, dict[int, str]]:
    """Reads many pictures, in as many threads as there are processors, with a progress bar.

    Args:
        paths: N files.
        image_size: `(H, W)` in pixels.
        skip_unreadable: leave out what cannot be read.
        progress: see `tripletlib.runtime`.
        title: stands before the bar.

    Returns:
        The images, uint8 `[N - number of left out, 3, H, W]`, in the order of `paths`; and for each
        one left out its index in `paths` and the reason.

    Raises:
        UnreadableImageError: see `read_image`; not if `skip_unreadable`.
    """
    images = np.empty((len(paths), 3, *image_size), np.uint8)
    skipped: dict[int, str] = {}
    read_chunk = partial(_read_chunk, paths, images, skipped, skip_unreadable)
    with (
        _threads() as pool,
        progress_bar(len(paths), "image", progress, desc=title) as bar,
        warnings.catch_warnings(),  # filters count for all threads, so set them here
    ):
        warnings.simplefilter("ignore")  # of metadata; what spoils the pixels is an error
        for done in pool.map(read_chunk, range(0, len(paths), _CHUNK)):
            bar.update(done)
    return_freed_memory()
    if skipped:
        images = np.delete(images, list(skipped), axis=0)
    return images, dict(sorted(skipped.items()))


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """As many threads as there are processors; after an error or an interrupt they stop soon."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _read_chunk(
    paths: Sequence[str],
    images: np.ndarray,
    skipped: dict[int, str],
    skip_unreadable: bool,
    start: int,
) -> int:
    """Reads the pictures of one piece of work into `images`, uint8 `[N, 3, H, W]`; their number."""
    chunk = paths[start : start + _CHUNK]
    for index, path in enumerate(chunk, start):
        try:
            images[index] = _read_file(path, images.shape[2:])
        except UnreadableImageError as error:
            if not skip_unreadable:
                raise
            skipped[index] = error.reason
    return len(chunk)


def _read_file(path: str | os.PathLike[str], image_size: tuple[int, int]) -> np.ndarray:
    try:
        found = os.stat(path)  # noqa: PTH116 - most callers have text
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is a folder, a pipe or another thing that is no file")
        with Path(path).open("rb") as stream:
            return _decode(stream, found.st_size, image_size)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, IndexError ...
        raise UnreadableImageError(path, _explain(error)) from error


def _decode(stream: BinaryIO, file_size: int, image_size: tuple[int, int]) -> np.ndarray:
    if not file_size:
        raise ValueError("the file is empty")
    height, width = image_size
    with Image.open(stream, formats=_formats()) as picture:
        picture.draft(None, (2 * max(image_size),) * 2)  # JPEG only; a square: it may turn
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(
                f"{picture.width} x {picture.height} pixels are more than the {MAX_PIXELS:,} that "
                "are decoded at once; save it smaller, or as JPEG"
            )
        picture.load()
        with suppress(Exception):  # a damaged tag does not spoil the pixels
            ImageOps.exif_transpose(picture, in_place=True)
        rgb = _to_rgb(picture).resize((width, height), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))  # [H, W, 3] -> [3, H, W]


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this installation of Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


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
    coloured = picture.convert("RGBA")
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


def _explain(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its own text repeats the path
        return "its content is in no known picture format, or of a kind that Pillow does not read"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
