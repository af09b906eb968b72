"""Pictures of every kind come out upright, in RGB and in the asked size, or with an error."""

import io
import mmap
import os
import platform
import re
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import gradient, mean_colour, png, png_header, save
from PIL import Image, ImageOps

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
