"""Pictures of every kind come out upright, in RGB and in the asked size, or with an error."""

import io
import mmap
import os
import platform
import re
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from tripletlib.datasets import decoding
from tripletlib.datasets.decoding import (
    ENDINGS,
    FORMATS,
    UnreadableImageError,
    decode_image,
    read_image,
    read_images,
)
from tripletlib.runtime import REPOSITORY

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


UPRIGHT = {  # what a viewer makes of pixels [H, W, 3] with each orientation of the EXIF standard
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_orientation_is_applied_once_in_every_format(file, orientation, kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    original, exif = gradient(128, 64), Image.Exif()
    exif[0x0112] = orientation
    save(original, file, kind, exif=exif)
    upright = Image.fromarray(np.ascontiguousarray(UPRIGHT[orientation](np.asarray(original))))
    expected = np.asarray(upright.resize((64, 128), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    for image in (read_image(file, SIZE), decode_image(file.read_bytes(), "mine", SIZE)):
        difference = np.abs(image.astype(int) - expected)
        assert difference.mean() < 4  # of 255, where the format loses some; a wrong turn: above 40
        assert kind not in ("PNG", "TIFF") or not difference.any()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16", "LAB"])
def test_orientation_of_every_mode_of_tiff(file, mode):
    exif = Image.Exif()
    exif[0x0112] = 6
    dark = {"CMYK": (0, 0, 0, 255), "LAB": (0, 128, 128)}
    stored = Image.new(mode, (40, 20), dark.get(mode, 0))
    if mode == "P":
        stored.putpalette([0, 0, 0, 255, 255, 255])
    bright = {
        "P": 1,
        "LA": (255, 255),
        "CMYK": (0, 0, 0, 0),
        "I;16": 0xFFFF,
        "LAB": (255, 128, 128),
    }
    stored.paste(bright.get(mode, 255), (0, 0, 10, 5))  # top left; shown top right
    if mode == "LA":
        stored.putalpha(255)
    image = read_image(save(stored, file, "TIFF", exif=exif), (40, 20)).astype(int)
    assert image[:, :8, -4:].min() > image[:, -8:, :4].max()


def test_damaged_exif_does_not_spoil_the_pixels(file):
    save(Image.new("RGB", (64, 128), (200, 100, 50)), file, "JPEG", exif=b"Exif\0\0nonsense")
    assert np.abs(np.array(mean_colour(file)) - (200, 100, 50)).max() <= 2


@pytest.mark.parametrize(
    ("kind", "mode", "colour", "expected"),
    [
        ("PNG", "1", 1, [255] * 3),
        ("PNG", "L", 77, [77] * 3),
        ("PNG", "LA", (100, 0), [255] * 3),
        ("PNG", "RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("PNG", "RGBA", (10, 20, 30, 0), [255] * 3),
        ("PNG", "RGBA", (0, 100, 200, 51), [204, 224, 244]),
        ("PNG", "I;16", 0x8000, [128] * 3),
        ("PNG", "I;16", 300, [1] * 3),
        ("PPM", "1", 1, [255] * 3),
        ("PPM", "I;16", 0x8000, [128] * 3),
        ("JPEG", "CMYK", (0, 0, 0, 0), [255] * 3),
        ("JPEG", "CMYK", (0, 0, 0, 255), [0] * 3),
        ("TIFF", "1", 1, [255] * 3),
        ("TIFF", "LA", (100, 255), [100] * 3),
        ("TIFF", "RGBA", (0, 100, 200, 51), [204, 224, 244]),
        ("TIFF", "CMYK", (0, 255, 255, 0), [255, 0, 0]),
        ("TIFF", "CMYK", (0, 0, 0, 255), [0] * 3),
        ("TIFF", "YCbCr", (100, 128, 128), [100] * 3),
        ("TIFF", "I;16", 0xFFFF, [255] * 3),
        ("TIFF", "I;16B", 0x8000, [128] * 3),
        ("TIFF", "LAB", (255, 128, 128), [255] * 3),
        ("TIFF", "LAB", (0, 128, 128), [0] * 3),
        ("JPEG2000", "LA", (100, 0), [255] * 3),
        ("JPEG2000", "I;16", 0x8000, [128] * 3),
        ("ICO", "RGBA", (10, 20, 30, 0), [255] * 3),
        ("TGA", "RGBA", (10, 20, 30, 0), [255] * 3),
        ("SGI", "L", 77, [77] * 3),
        ("DDS", "LA", (100, 0), [255] * 3),
    ],
)
def test_every_mode_is_shown_as_a_viewer_shows_it(file, kind, mode, colour, expected):
    shown = mean_colour(save(Image.new(mode, (60, 90), colour), file, kind))
    np.testing.assert_allclose(shown, expected, atol=2 if mode == "LAB" else 0)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "BMP", "TGA", "PCX"])
def test_palettes(file, kind):
    picture = Image.new("P", (60, 90), 1)
    picture.putpalette([0, 0, 0, 200, 150, 100])
    assert mean_colour(save(picture, file, kind)) == [200, 150, 100]
    if kind in ("PNG", "GIF"):
        assert mean_colour(save(picture, file, kind, transparency=1)) == [255] * 3
    if kind == "PNG":
        assert mean_colour(save(picture, file, kind, transparency=b"\xff\x00")) == [255] * 3


@pytest.mark.parametrize(
    ("mode", "colour", "key"),
    [("1", 0, 0), ("L", 3, 3), ("RGB", (1, 2, 3), (1, 2, 3)), ("I;16", 300, 300)],
)
def test_a_colour_that_stands_for_transparent(file, mode, colour, key):
    picture = Image.new(mode, (60, 90), colour)
    assert mean_colour(save(picture, file, transparency=key)) == [255] * 3
    assert mean_colour(save(picture, file)) != [255] * 3


def test_a_transparent_colour_of_16_bits(file):
    file.write_bytes(png((2, 16), [300] * 6, 2, 2, transparency=[300] * 3))
    assert mean_colour(file) == [255] * 3


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_picture_of_several(file, kind):
    first, second = Image.new("RGB", (60, 90), (200, 0, 0)), Image.new("RGB", (60, 90), "blue")
    save(first, file, kind, save_all=True, append_images=[second], duration=100, lossless=True)
    assert mean_colour(file) == [200, 0, 0]


def tiff(bits, data, width, photometric=1, sample_format=1):
    """One row of grey in a TIFF as other programs write it."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 134, 277: 1, 278: 1}
    tags |= {279: len(data), 339: sample_format}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II" + struct.pack("<HIH", 42, 8, len(tags)) + entries + bytes(4) + data


def test_greys_of_12_bits_are_not_taken_for_16(file):
    file.write_bytes(tiff(12, bytes.fromhex("800fff"), 2))  # 0x800 and 0xfff
    assert read_image(file, (1, 2))[0, 0].tolist() == [128, 255]


@pytest.mark.parametrize(("bits", "data"), [(8, b"\0\0"), (16, b"\0\0\0\0")])
def test_greys_where_0_is_white(file, bits, data):
    file.write_bytes(tiff(bits, data, 2, photometric=0))
    assert mean_colour(file) == [255] * 3


@pytest.mark.parametrize(
    ("pixels", "sample_format"),
    [
        (np.full(2, 100, np.uint32), 1),  # fits in 16 bits, and would be black if that were guessed
        (np.full(2, 100, np.int32), 2),
        (np.full(2, 1e6, np.int32), 2),
        (np.full(2, -5, np.int16), 2),
        (np.full(2, 0.5, np.float32), 3),
    ],
)
def test_pixels_without_an_agreed_white_are_an_error(file, pixels, sample_format):
    bits = 8 * pixels.itemsize
    file.write_bytes(tiff(bits, pixels.tobytes(), 2, sample_format=sample_format))
    with pytest.raises(UnreadableImageError, match="no agreed white; save it with 8 bits"):
        read_image(file, SIZE)


def test_a_pfm_is_an_error(file):
    file.write_bytes(b"Pf\n2 2\n-1.0\n" + np.ones(4, np.float32).tobytes())
    with pytest.raises(UnreadableImageError, match="floating point have no agreed white"):
        read_image(file, SIZE)


@pytest.mark.parametrize("size", [(8_000, 6_251), (12_000, 9_000), (60_000, 60_000)])
def test_too_many_pixels_are_an_error_before_they_are_decoded(file, size):
    file.write_bytes(png_header(*size))
    with pytest.raises(UnreadableImageError, match=rf"{file.name}.*pixels"):
        read_images([str(file)], SIZE, progress="off")


def test_an_icon_whose_picture_is_larger_than_it_says_is_an_error(file):
    large = io.BytesIO()
    Image.new("1", (8_000, 6_251)).save(large, "PNG")
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 1, len(large.getvalue()), 22)
    file.write_bytes(struct.pack("<HHH", 0, 1, 1) + entry + large.getvalue())
    with pytest.raises(UnreadableImageError, match="8000 x 6251 pixels are more than"):
        read_image(file, SIZE)


def test_a_large_jpeg_is_decoded_reduced(file):
    save(Image.new("L", (9_000, 6_000), 100), file, "JPEG")
    assert mean_colour(file) == [100] * 3


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide themselves")
def test_memory_of_a_large_upload_is_given_back():
    buffer = io.BytesIO()
    Image.new("RGBA", (7_000, 5_000)).save(buffer, "PNG", compress_level=1)
    decode_image(png((0, 16), [0], 1, 1), "warm.png", SIZE)

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE / 1e6

    before = resident()
    decode_image(buffer.getvalue(), "large.png", SIZE)
    assert resident() - before < 50  # MB; the pixels alone took 140


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
    with pytest.raises(UnreadableImageError, match="it is a folder, a pipe or"):
        read_image(file, SIZE)


@pytest.mark.parametrize("form", [str, Path])
def test_a_path_may_start_at_home_or_in_the_data_root(data, form, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    data.mkdir()
    save(Image.new("RGB", (4, 8), "white"), data / "a.png")
    paths = [form("a.png"), form(f"~/{data.name}/a.png")]
    assert read_images(paths, (8, 4), progress="off")[0].min() == 255
    assert read_image(paths[1], (8, 4)).min() == 255


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_named_pipe_does_not_hang(file):
    os.mkfifo(file)
    with pytest.raises(UnreadableImageError, match="a pipe or another thing that is no file"):
        read_images([str(file)], SIZE, progress="off")


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=60), cut=st.integers(0, 800), flip=st.integers(0, 5000))
def test_whatever_the_bytes_it_is_an_image_or_our_error(tmp_path_factory, data, cut, flip):
    whole = bytearray(jpeg())
    whole[flip % len(whole)] ^= 0x55
    file = tmp_path_factory.getbasetemp() / "fuzz.jpg"
    file.write_bytes(bytes(whole[: len(whole) - cut]) + data)
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

    monkeypatch.setattr(decoding, "_read_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_images(["x"] * 20_000, (8, 4), progress="off")
    assert len(read) < 10_000


def test_there_is_a_progress_bar(tmp_path, capsys):
    path = str(save(Image.new("L", (4, 8)), tmp_path / "a.png"))
    read_images([path], (8, 4), progress="bar", title="decoding query")
    assert "decoding query: 100%" in capsys.readouterr().err
    read_images([path], (8, 4), progress="lines")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read_whatever_the_file_is_called(file, kind):
    try:
        save(Image.new("RGB", (32, 32), (200, 100, 50)), file, kind)
    except (KeyError, OSError):
        pytest.skip("this Pillow does not write it")
    assert np.abs(np.array(mean_colour(file)) - (200, 100, 50)).max() <= 2


def test_every_ending_belongs_to_a_format_and_every_format_has_one():
    known = Image.registered_extensions() | {".mpo": "JPEG"}
    assert {known[ending] for ending in ENDINGS if ending in known} == set(FORMATS) & set(
        Image.OPEN
    )


def test_the_data_readme_lists_the_endings():
    text = (REPOSITORY / "data" / "README.md").read_text(encoding="utf-8")
    assert {f".{ending}" for ending in re.findall(r"`\.(\w+)`", text)} == ENDINGS


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_bytes_that_were_handed_in_are_read_like_the_file(file, kind):
    save(gradient(90, 40), file, kind)
    image = decode_image(file.read_bytes(), "mine", SIZE)
    np.testing.assert_array_equal(image, read_image(file, SIZE))


def eps():
    buffer = io.BytesIO()
    gradient(20, 10).save(buffer, "EPS")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"not a picture", "no known picture format"),
        (eps(), "no known picture format"),  # would start another program
        (png_header(10_000, 10_000), "more than the 50,000,000"),
        (png_header(20, 20), ""),
    ],
)
def test_bad_bytes_that_were_handed_in_are_named_with_what_to_do(data, reason):
    with pytest.raises(UnreadableImageError, match=f"me.png cannot be .*{reason}.*Save it as JPEG"):
        decode_image(data, "me.png", SIZE)


def test_a_data_set_starts_no_other_program(file):
    file.write_bytes(eps())
    with pytest.raises(UnreadableImageError, match="no known picture format"):
        read_image(file, SIZE)
