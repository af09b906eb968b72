"""Picture files of many kinds to uint8 arrays of one size."""

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from tripletlib.runtime import Progress, progress_bar

_CHUNK = 64  # pictures in one piece of work: fewer hand-overs between threads
_ORIENTATION = 0x0112  # number of the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# Plain pixel formats. Pillow knows more, some of which start other programs (EPS: Ghostscript).
UPLOAD_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_FILE_ADVICE = (
    "Copy it again from where it came from, or move it away, or pass skip_unreadable=True to go on "
    "without it."
)


class UnreadableImageError(ValueError):
    """A file is not a picture, or a damaged one.

    Attributes:
        path: the file.
        reason: what is wrong with it.
    """

    def __init__(
        self, path: str | os.PathLike[str], reason: str, advice: str = _FILE_ADVICE
    ) -> None:
        self.path, self.reason = os.fspath(path), reason
        super().__init__(f"{self.path} cannot be read as a picture: {reason}. {advice}")


def read_image(path: str | os.PathLike[str], image_size: tuple[int, int]) -> np.ndarray:
    """Reads one picture.

    It is turned as its EXIF tag says; transparent parts become white; grey is repeated in the three
    channels; 16 bits become 8. Then it is stretched to the size by Pillow's bilinear filter, which
    averages over all pixels it replaces when it shrinks; a JPEG much larger than that is already
    shrunk while it is decoded, to no less than twice the size.

    Args:
        path: a file in any format that Pillow knows; the first picture if it holds several.
        image_size: `(H, W)` in pixels.

    Returns:
        RGB, uint8 `[3, H, W]`.

    Raises:
        UnreadableImageError: missing, empty, truncated, not a picture, too large to be honest (over
            Pillow's `Image.MAX_IMAGE_PIXELS`), or with pixels whose white is not agreed upon.
    """
    try:
        with Image.open(path) as picture:
            return _to_array(picture, image_size)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, IndexError ...
        is_empty = isinstance(error, UnidentifiedImageError) and Path(path).stat().st_size == 0
        reason = "the file is empty" if is_empty else _explain(error)
        raise UnreadableImageError(path, reason) from error


def decode_image(data: bytes, name: str, image_size: tuple[int, int]) -> np.ndarray:
    """Like `read_image`, for a picture that somebody handed in and that nobody has looked at.

    Args:
        data: the file's content, in one of `UPLOAD_FORMATS`.
        name: the file's name, for the error's text only.
        image_size: `(H, W)` in pixels.

    Returns:
        RGB, uint8 `[3, H, W]`.

    Raises:
        UnreadableImageError: see `read_image`; or another format.
    """
    try:
        with Image.open(io.BytesIO(data), formats=UPLOAD_FORMATS) as picture:
            return _to_array(picture, image_size)
    except MemoryError:
        raise
    except Exception as error:
        reason = _explain(error) if data else "the file is empty"
        advice = "Save it as JPEG or PNG and try again."
        raise UnreadableImageError(name, reason, advice) from error


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
        progress: see `tripletlib.progress`.
        title: stands before the bar.

    Returns:
        The images, uint8 `[N - number of left out, 3, H, W]`, in the order of `paths`; and for each
        one left out its place in `paths` and the reason.

    Raises:
        UnreadableImageError: see `read_image`; not if `skip_unreadable`.
    """
    images = np.empty((len(paths), 3, *image_size), np.uint8)
    skipped: dict[int, str] = {}
    read_chunk = partial(_read_chunk, paths, images, skipped, skip_unreadable)
    with (
        _threads() as pool,
        progress_bar(len(paths), "image", progress, desc=title) as bar,
        warnings.catch_warnings(),
    ):
        # `read_image` makes an error of it. Filters count for all threads, so set them here.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for done in pool.map(read_chunk, range(0, len(paths), _CHUNK)):
            bar.update(done)
    if skipped:
        images = np.delete(images, list(skipped), axis=0)
    return images, dict(sorted(skipped.items()))


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """As many threads as there are processors; after an error or an interrupt they stop soon."""
    pool = ThreadPoolExecutor()
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
            images[index] = read_image(path, images.shape[2:])
        except UnreadableImageError as error:
            if not skip_unreadable:
                raise
            skipped[index] = error.reason
    return len(chunk)


def _to_array(picture: Image.Image, image_size: tuple[int, int]) -> np.ndarray:
    height, width = image_size
    _refuse_bomb(picture)
    turn = _turn(picture)
    picture.draft(None, (2 * max(image_size),) * 2)  # JPEG only; a square: it may turn
    rgb = _to_rgb(picture)
    if turn is not None:
        rgb = rgb.transpose(turn)
    rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))  # [H, W, 3] -> [3, H, W]


def _refuse_bomb(picture: Image.Image) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and picture.width * picture.height > limit:
        raise Image.DecompressionBombError(
            f"{picture.width} x {picture.height} pixels are more than the {limit:,} that Pillow "
            "holds for safe; if you trust the file, save it smaller"
        )


def _turn(picture: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged tag does not spoil the pixels
        return None


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "F":
        raise ValueError("pixels in floating point have no agreed white; save it with 8 bits")
    if picture.mode.startswith("I"):  # Pillow would make everything above 255 white
        grey = np.asarray(picture).astype(np.int64)
        if grey.min() < 0 or grey.max() > 0xFFFF:
            raise ValueError("pixels of 32 bits have no agreed white; save it with 8 bits")
        return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        coloured = picture.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        return Image.alpha_composite(white, coloured).convert("RGB")
    return picture.convert("RGB")


def _explain(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its own text repeats the path
        return "its content is in no known picture format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
