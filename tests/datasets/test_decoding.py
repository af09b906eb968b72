"""Pictures of every kind come out upright, in RGB and in the asked size, or with an error."""

import io
import struct
import time
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tripletlib.datasets import decoding
from tripletlib.datasets.decoding import UnreadableImageError, decode_image, read_image, read_images

SIZE = (128, 64)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "0001_c1s1_000001_01.jpg"  # Pillow looks at the content, not at the name


def save(picture, file, kind="PNG", **options):
    picture.save(file, kind, **options)
    return file


def mean_colour(file):
    return read_image(file, SIZE).mean((1, 2)).round().astype(int).tolist()


def gradient(height, width):
    rows, columns = np.linspace(0, 255, height), np.linspace(0, 255, width)
    red, green = np.broadcast_to(rows[:, None], (height, width)), np.tile(columns, (height, 1))
    return Image.fromarray(np.stack([red, green, 255 - red], 2).astype(np.uint8))


def png_header(width, height):
    """A PNG that only claims its size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = (
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data)
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_right_size_is_not_touched(file):
    pixels = np.random.default_rng(0).integers(0, 256, (128, 64, 3), dtype=np.uint8)
    image = read_image(save(Image.fromarray(pixels), file), SIZE)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("picture", [(300, 100), (20, 10), (1, 1), (128, 4000)])
def test_other_sizes_are_stretched(file, picture):
    original = gradient(*picture)
    expected = original.resize((64, 128), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(
        read_image(save(original, file), SIZE), np.asarray(expected).transpose(2, 0, 1)
    )


@pytest.mark.parametrize(("shape", "orientation"), [((4000, 3000), 1), ((2000, 4000), 6)])
def test_large_jpeg_looks_like_its_full_decoding(file, shape, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    original = gradient(*shape)
    save(original, file, "JPEG", quality=92, exif=exif)
    with Image.open(file) as picture:
        upright = ImageOps.exif_transpose(picture).resize((64, 128), Image.Resampling.BILINEAR)
    difference = read_image(file, SIZE).astype(int) - np.asarray(upright).transpose(2, 0, 1)
    assert np.abs(difference).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_turns_the_picture(file, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(gradient(128, 64), file, kind, exif=exif)
    with Image.open(file) as picture:
        upright = ImageOps.exif_transpose(picture).resize((64, 128), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(read_image(file, SIZE), np.asarray(upright).transpose(2, 0, 1))


def test_damaged_exif_does_not_spoil_the_pixels(file):
    save(Image.new("RGB", (64, 128), (200, 100, 50)), file, "JPEG", exif=b"Exif\0\0nonsense")
    assert np.abs(np.array(mean_colour(file)) - (200, 100, 50)).max() <= 2


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 77, [77] * 3),
        ("1", 1, [255] * 3),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), [255] * 3),
        ("RGBA", (0, 100, 200, 51), [204, 224, 244]),
        ("LA", (100, 0), [255] * 3),
        ("I;16", 0x8000, [128] * 3),
        ("I;16", 300, [1] * 3),
    ],
)
def test_modes_of_png(file, mode, colour, expected):
    assert mean_colour(save(Image.new(mode, (60, 90), colour), file)) == expected


def test_palette_with_and_without_transparency(file):
    picture = Image.new("P", (60, 90), 1)
    picture.putpalette([0, 0, 0, 200, 150, 100])
    assert mean_colour(save(picture, file)) == [200, 150, 100]
    assert mean_colour(save(picture, file, transparency=1)) == [255] * 3
    assert mean_colour(save(picture, file, transparency=b"\xff\x00")) == [255] * 3
    assert mean_colour(save(picture, file, "GIF")) == [200, 150, 100]


def test_cmyk_and_16_bit_tiff(file):
    assert mean_colour(save(Image.new("CMYK", (60, 90), (0, 0, 0, 0)), file, "JPEG")) == [255] * 3
    deep = Image.fromarray(np.full((90, 60), 0xFFFF, np.uint16))
    assert mean_colour(save(deep, file, "TIFF")) == [255] * 3


@pytest.mark.parametrize(
    "pixels", [np.full((9, 9), 1e6, np.int32), np.full((9, 9), 0.5, np.float32)]
)
def test_pixels_without_an_agreed_white_are_an_error(file, pixels):
    save(Image.fromarray(pixels), file, "TIFF")
    with pytest.raises(UnreadableImageError, match="no agreed white; save it with 8 bits"):
        read_image(file, SIZE)


@pytest.mark.parametrize("size", [(12_000, 9_000), (60_000, 60_000)])
def test_a_decompression_bomb_is_an_error_before_it_is_decoded(file, size):
    file.write_bytes(png_header(*size))
    with pytest.raises(UnreadableImageError, match=rf"{file.name}.*pixels"):
        read_images([str(file)], SIZE, progress="off")


def jpeg():
    buffer = io.BytesIO()
    gradient(128, 64).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"not a picture at all\n" * 20, "no known picture format"),
        (jpeg()[: len(jpeg()) // 2], "truncated"),
        (jpeg()[:30], "."),
        (png_header(64, 128), "."),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no known picture format"),
    ],
)
def test_a_bad_file_is_named_with_what_to_do(file, content, reason):
    file.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        read_image(file, SIZE)
    assert str(file) in str(caught.value)
    assert "skip_unreadable=True" in str(caught.value)


def test_missing_file_and_folder(file):
    with pytest.raises(UnreadableImageError, match="No such file"):
        read_image(file, SIZE)
    file.mkdir()
    with pytest.raises(UnreadableImageError, match="directory"):
        read_image(file, SIZE)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=60), cut=st.integers(0, 800), flip=st.integers(0, 5000))
def test_whatever_the_bytes_it_is_an_image_or_our_error(tmp_path_factory, data, cut, flip):
    whole = bytearray(jpeg())
    whole[flip % len(whole)] ^= 0x55
    file = tmp_path_factory.getbasetemp() / "fuzz.jpg"
    file.write_bytes(bytes(whole[: len(whole) - cut]) + data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow mentions metadata that it does not understand
        try:
            shape = read_image(file, (16, 8)).shape
        except UnreadableImageError:
            shape = (3, 16, 8)
    assert shape == (3, 16, 8)


@pytest.mark.parametrize("count", [1, 64, 65, 200])
def test_many_keep_their_order(tmp_path, count):
    paths = []
    for k in range(count):
        paths.append(str(save(Image.new("L", (4, 8), k), tmp_path / f"{k}.png")))
    images, skipped = read_images(paths, (8, 4), progress="off")
    assert skipped == {}
    assert images.shape == (count, 3, 8, 4)
    assert images[:, 0, 0, 0].tolist() == list(range(count))


def test_skipping_names_places_and_reasons(tmp_path):
    paths = []
    for k in range(150):
        path = tmp_path / f"{k}.png"
        paths.append(str(path))
        if k in (0, 70, 149):
            path.write_bytes(b"")
        else:
            save(Image.new("L", (4, 8), k), path)
    images, skipped = read_images(paths, (8, 4), skip_unreadable=True, progress="off")
    assert skipped == dict.fromkeys((0, 70, 149), "the file is empty")
    assert images[:, 0, 0, 0].tolist() == [k for k in range(150) if k not in skipped]
    with pytest.raises(UnreadableImageError):
        read_images(paths, (8, 4), progress="off")


def test_an_interrupt_stops_the_threads(tmp_path, monkeypatch):
    read = []

    def interrupt(path, size):
        read.append(path)
        if len(read) == 100:
            raise KeyboardInterrupt
        time.sleep(0.001)  # as a real picture takes: the other threads need a moment to hear of it
        return np.zeros((3, *size), np.uint8)

    monkeypatch.setattr(decoding, "read_image", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_images(["x"] * 20_000, (8, 4), progress="off")
    assert len(read) < 10_000


def test_there_is_a_progress_bar(tmp_path, capsys):
    path = str(save(Image.new("L", (4, 8)), tmp_path / "a.png"))
    read_images([path], (8, 4), progress="bar", title="decoding query")
    assert "decoding query: 100%" in capsys.readouterr().err
    read_images([path], (8, 4), progress="lines")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_bytes_that_were_handed_in_are_read_like_the_file(file, kind):
    save(gradient(90, 40), file, kind)
    image = decode_image(file.read_bytes(), "mine", SIZE)
    np.testing.assert_array_equal(image, read_image(file, SIZE))


def handed_in_eps():
    buffer = io.BytesIO()
    gradient(20, 10).save(buffer, "EPS")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"not a picture", "no known picture format"),
        (handed_in_eps(), "no known picture format"),  # would start another program
        (png_header(10_000, 10_000), "more than the"),
        (png_header(20, 20), ""),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_bytes_that_were_handed_in_are_named_with_what_to_do(data, reason):
    with pytest.raises(UnreadableImageError, match=f"me.png cannot be .*{reason}.*Save it as JPEG"):
        decode_image(data, "me.png", SIZE)
