"""Pictures of every mode and orientation are shown as a viewer shows them, or refused."""

import struct

import numpy as np
import pytest
from picture_files import gradient, mean_colour, png, save
from PIL import Image, features

from tripletlib.datasets.decoding import UnreadableImageError, decode_image, read_image

SIZE = (128, 64)


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
