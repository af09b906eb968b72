"""Cameras and what they look at: a town's streets, light, lens and sensor."""

import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tripletlib.datasets.drawn.identities import ACCENTS, Colour, Rng, one_of, tint

Draw = ImageDraw.ImageDraw
HEIGHT, WIDTH = 128, 64  # pixels of a Market-1501 box
STREET_SIZE = (640, 200)  # width and height of a backdrop, of which a box shows a piece
GROUND = 128  # row of a backdrop where wall and pavement meet
_PAINTED_GROUND = 2 * GROUND  # backdrops are painted at twice their size

# How much cameras differ. Larger differences make colours a weaker clue.
EXPOSURES = (0.86, 1.12, 0.96, 1.06, 0.90, 1.02)  # of the first, the second, ... camera
FLICKER = 0.09  # exposure from picture to picture, as a share
CAST = 0.06  # colour cast, as a share
CONTRAST = (0.75, 1.1)
BLUR = (0.25, 1.0)  # pixels
HAZE = 0.5  # how far a backdrop pales towards grey
YAWS = (0.0, math.pi, 0.5 * math.pi, 0.25 * math.pi, -0.5 * math.pi, -0.75 * math.pi)


@dataclass(frozen=True)
class Camera:
    """What all pictures of one camera share."""

    gain: tuple[float, float, float]  # of red, green, blue: exposure times colour cast
    contrast: float
    blur: float  # pixels
    noise: float  # grey levels, standard deviation
    light: float  # -1: from the left, 1: from the right
    yaws: tuple[float, ...]  # directions people walk in, radians: 0 comes nearer, pi goes away
    street: Image.Image = field(repr=False)

    @classmethod
    def draw(cls, index: int, count: int, rng: Rng) -> "Camera":
        """Camera `index` of `count`; casts spread over the colour circle, so no two agree."""
        hue = 2 * math.pi * index / count + rng.uniform(-0.3, 0.3)
        exposure = EXPOSURES[index % len(EXPOSURES)] * rng.uniform(0.95, 1.05)
        red, green, blue = (
            exposure * (1 + CAST * math.cos(hue - k * 2 * math.pi / 3)) for k in range(3)
        )
        along = YAWS[index % len(YAWS)]
        return cls(
            gain=(red, green, blue),
            contrast=rng.uniform(*CONTRAST),
            blur=rng.uniform(*BLUR),
            noise=rng.uniform(1.5, 5.0),
            light=float(rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0)),
            yaws=(along, along + math.pi, along + rng.uniform(-1, 1)),
            street=_paint_street(index, rng),
        )


def expose(scene: Image.Image, camera: Camera, rng: Rng) -> Image.Image:
    """What lens and sensor make of a scene: blur, exposure, cast, contrast, side light, noise."""
    scene = scene.filter(ImageFilter.GaussianBlur(camera.blur * rng.uniform(0.6, 1.6)))
    pixels = np.asarray(scene, np.float32) * (
        np.array(camera.gain, np.float32) * np.float32(rng.uniform(1 - FLICKER, 1 + FLICKER))
    )
    pixels = 120 + (pixels - 120) * np.float32(camera.contrast)
    pixels *= 1 + 0.12 * camera.light * np.linspace(-1, 1, WIDTH, dtype=np.float32)[:, None]
    pixels += rng.standard_normal((HEIGHT, WIDTH, 1), np.float32) * np.float32(camera.noise)
    # Values above 200 approach 255 smoothly, as in a real sensor, in place of a cut at white.
    pixels = np.where(pixels > 200, 200 + 55 * np.tanh((pixels - 200) / 55), pixels)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _gradient(width: int, top: Colour, bottom: Colour, height: int) -> Image.Image:
    rows = np.linspace(top, bottom, height)[:, None, :].repeat(width, axis=1)
    return Image.fromarray(rows.astype(np.uint8))


def _paint_street(index: int, rng: Rng) -> Image.Image:
    """A camera's backdrop: what stands behind the people, and the pavement below GROUND.

    Five places stand side by side in each, the camera's own kind twice, so that a backdrop alone
    does not give the camera away.
    """
    w, h, ground = 2 * STREET_SIZE[0], 2 * STREET_SIZE[1], _PAINTED_GROUND
    painters = (_paint_bricks, _paint_shops, _paint_park, _paint_road, _paint_columns, _paint_glass)
    own = index % len(painters)
    others = rng.permutation([k for k in range(len(painters)) if k != own])[:3]
    image = Image.new("RGB", (w, h))
    draw = ImageDraw.Draw(image)
    edges = np.linspace(0, w, 6).round().astype(int).tolist()
    kinds = (own, *others[:2], own, others[2])
    for kind, left, right in zip(kinds, edges[:-1], edges[1:], strict=True):
        image.paste(_gradient(w - left, (200, 218, 234), (240, 238, 230), ground), (left, 0))
        painters[kind](draw, left, right, rng)
    stone = (172, 168, 162)
    image.paste(_gradient(w, tint(stone, 0.88), tint(stone, 1.08), h - ground), (0, ground))
    for y in np.cumsum([2, 12, 20, 30, 44]):
        draw.line((0, ground + y, w, ground + y), fill=tint(stone, 0.86), width=2)
    for x in range(-w, 2 * w, 90):
        draw.line((x, ground, w / 2 + (x - w / 2) * 1.6, h), fill=tint(stone, 0.86), width=2)
    # Haze: distant things are paler and softer than the people in front of them.
    haze = Image.new("RGB", image.size, (198, 196, 192))
    return Image.blend(image.filter(ImageFilter.GaussianBlur(1.6)), haze, HAZE).reduce(2)


def _paint_bricks(draw: Draw, left: int, right: int, rng: Rng) -> None:
    brick = (172, 108, 88)
    draw.rectangle((left, 0, right, _PAINTED_GROUND), fill=tint(brick, 0.85))
    for row, y in enumerate(range(0, _PAINTED_GROUND, 14)):
        for x in range(left - 15 * (row % 2), right, 30):
            draw.rectangle((x, y, x + 27, y + 11), fill=tint(brick, rng.uniform(0.92, 1.1)))
    flowers = ((206, 74, 92), (238, 190, 80), (92, 140, 84))
    for x in range(left + 20, right - 60, 125):
        draw.rectangle((x, 20, x + 90, 130), fill=(238, 230, 214))
        draw.rectangle((x + 8, 28, x + 82, 122), fill=(96, 122, 144))
        draw.rectangle((x - 8, 130, x + 98, 152), fill=(110, 78, 60))
        for k in range(0, 100, 9):
            draw.ellipse((x + k - 8, 114, x + k + 8, 132), fill=flowers[k % 3])


def _paint_shops(draw: Draw, left: int, right: int, rng: Rng) -> None:
    draw.rectangle((left, 0, right, _PAINTED_GROUND), fill=(92, 84, 92))
    for x in range(left, right, 250):
        awning = one_of(rng, ACCENTS[1:])
        draw.rectangle((x + 14, 60, x + 230, _PAINTED_GROUND - 24), fill=(250, 222, 160))
        for k in range(5):
            box = (x + 28 + 40 * k, 150 + 10 * (k % 3), x + 54 + 40 * k, _PAINTED_GROUND - 30)
            draw.rounded_rectangle(box, 8, one_of(rng, ACCENTS))
        for k in range(12):
            edge = x + 10 + 19 * k
            stripe = [(edge, 20), (edge + 19, 20), (edge + 21, 84), (edge + 2, 84)]
            draw.polygon(stripe, fill=awning if k % 2 else (244, 240, 232))


def _paint_park(draw: Draw, left: int, right: int, rng: Rng) -> None:
    draw.rectangle((left, _PAINTED_GROUND - 40, right, _PAINTED_GROUND), fill=(132, 168, 98))
    for x in range(left, right, 120):
        x += int(rng.integers(-30, 30))
        draw.rectangle((x - 9, 90, x + 9, _PAINTED_GROUND), fill=(112, 84, 62))
        for _ in range(14):
            at, r = (x + rng.normal(0, 34), 70 + rng.normal(0, 30)), rng.uniform(20, 40)
            draw.circle(at, r, fill=tint((96, 146, 84), rng.uniform(0.8, 1.2)))
    for x in range(left, right, 26):
        r, green = rng.uniform(14, 30), tint((88, 136, 80), rng.uniform(0.91, 1.09))
        draw.circle((x, _PAINTED_GROUND), r, fill=green)


def _paint_road(draw: Draw, left: int, right: int, rng: Rng) -> None:
    houses = ((216, 190, 160), (190, 176, 186), (222, 206, 178), (170, 186, 196))
    for x in range(left, right, 150):
        top = int(rng.integers(0, 90))
        draw.rectangle((x, top, x + 148, _PAINTED_GROUND), fill=one_of(rng, houses))
        for y in range(top + 16, _PAINTED_GROUND - 60, 44):
            for k in range(3):
                draw.rectangle((x + 16 + 44 * k, y, x + 38 + 44 * k, y + 28), fill=(112, 132, 150))
    for x in range(left + 10, right, 330):
        car, y = one_of(rng, ACCENTS), _PAINTED_GROUND
        draw.rounded_rectangle((x + 50, y - 62, x + 180, y), 26, tint(car, 0.85))
        draw.rounded_rectangle((x + 64, y - 54, x + 166, y - 20), 14, (176, 200, 212))
        draw.rounded_rectangle((x, y - 30, x + 230, y + 14), 16, car)
        for wheel in (x + 48, x + 182):
            draw.circle((wheel, y + 16), 20, fill=(40, 40, 44))


def _paint_columns(draw: Draw, left: int, right: int, rng: Rng) -> None:
    draw.rectangle((left, 0, right, _PAINTED_GROUND), fill=(206, 192, 168))
    for x in range(left + 20, right, 128):
        draw.rounded_rectangle((x + 56, 40, x + 134, _PAINTED_GROUND), 40, fill=(130, 112, 96))
        for k in range(8):  # a round shaft: bright in the middle
            stone = tint((232, 222, 202), 1.06 - 0.05 * abs(k - 3))
            draw.rectangle((x + 5 * k, 0, x + 5 * k + 5, _PAINTED_GROUND), fill=stone)
        base = (x - 8, _PAINTED_GROUND - 22, x + 48, _PAINTED_GROUND)
        draw.rectangle(base, fill=(222, 210, 188))


def _paint_glass(draw: Draw, left: int, right: int, rng: Rng) -> None:
    bottom = _PAINTED_GROUND
    for x in range(left, right, 96):
        draw.rectangle((x, 0, x + 96, bottom), fill=tint((150, 184, 200), rng.uniform(0.85, 1.12)))
        reflection = [(x + 20, 0), (x + 52, 0), (x + 12, bottom), (x - 20, bottom)]
        draw.polygon(reflection, fill=(184, 210, 220))
        draw.rectangle((x, 0, x + 7, bottom), fill=(78, 88, 96))
        if rng.random() < 0.4:
            draw.rectangle((x + 22, 70, x + 80, 176), fill=one_of(rng, ACCENTS))
            draw.rectangle((x + 30, 80, x + 72, 130), fill=(244, 240, 228))
    draw.rectangle((left, bottom - 16, right, bottom), fill=(92, 98, 104))
