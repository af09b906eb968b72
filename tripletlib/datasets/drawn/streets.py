"""Cameras and what they look at: a town's streets, light, lens and sensor."""

import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tripletlib.datasets.drawn.identities import ACCENTS, Colour, tint

HEIGHT, WIDTH = 128, 64  # pixels of a Market-1501 box
STREET_SIZE = (640, 200)  # width and height of a backdrop, of which a box shows a piece
GROUND = 128  # row of a backdrop where wall and pavement meet

# How much cameras differ. Harsher values make colours a weaker clue.
EXPOSURES = (0.86, 1.12, 0.96, 1.06, 0.90, 1.02)  # one after the other, from camera to camera
FLICKER = 0.09  # exposure from picture to picture, as a share
CAST = 0.06  # colour cast, as a share
CONTRAST = (0.75, 1.1)
BLUR = (0.25, 1.0)  # pixels
HAZE = 0.5  # how far a backdrop pales towards grey


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
    def draw(cls, index: int, count: int, rng: np.random.Generator) -> "Camera":
        """Camera `index` of `count`; casts spread over the colour circle, so no two agree."""
        hue = 2 * math.pi * index / count + rng.uniform(-0.3, 0.3)
        exposure = EXPOSURES[index % len(EXPOSURES)] * rng.uniform(0.95, 1.05)
        red, green, blue = (
            exposure * (1 + CAST * math.cos(hue - k * 2 * math.pi / 3)) for k in range(3)
        )
        along = (0.0, math.pi, 0.5 * math.pi, 0.25 * math.pi, -0.5 * math.pi, -0.75 * math.pi)[
            index % 6
        ]
        return cls(
            gain=(red, green, blue),
            contrast=rng.uniform(*CONTRAST),
            blur=rng.uniform(*BLUR),
            noise=rng.uniform(1.5, 5.0),
            light=float(rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0)),
            yaws=(along, along + math.pi, along + rng.uniform(-1, 1)),
            street=_paint_street(index, rng),
        )


def expose(scene: Image.Image, camera: Camera, rng: np.random.Generator) -> Image.Image:
    """What lens and sensor make of it: blur, exposure, cast, contrast, light from a side, noise."""
    scene = scene.filter(ImageFilter.GaussianBlur(camera.blur * rng.uniform(0.6, 1.6)))
    pixels = np.asarray(scene, np.float32) * (
        np.array(camera.gain, np.float32) * np.float32(rng.uniform(1 - FLICKER, 1 + FLICKER))
    )
    pixels = 120 + (pixels - 120) * np.float32(camera.contrast)
    pixels *= 1 + 0.12 * camera.light * np.linspace(-1, 1, WIDTH, dtype=np.float32)[:, None]
    pixels += rng.standard_normal((HEIGHT, WIDTH, 1), np.float32) * np.float32(camera.noise)
    # Bright parts roll off softly, as film and good sensors do, in place of a hard cut at white.
    pixels = np.where(pixels > 200, 200 + 55 * np.tanh((pixels - 200) / 55), pixels)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _gradient(width: int, top: Colour, bottom: Colour, height: int) -> Image.Image:
    rows = np.linspace(top, bottom, height)[:, None, :].repeat(width, axis=1)
    return Image.fromarray(rows.astype(np.uint8))


def _paint_street(index: int, rng: np.random.Generator) -> Image.Image:
    """A camera's backdrop: what stands behind the people, and the ground below GROUND.

    All cameras watch one town, so that a backdrop alone does not give the camera away: five
    places stand side by side in each, the camera's own kind twice.
    """
    (w, h), ground = (2 * STREET_SIZE[0], 2 * STREET_SIZE[1]), 2 * GROUND
    painters = (_paint_bricks, _paint_shops, _paint_park, _paint_road, _paint_columns, _paint_glass)
    own = index % len(painters)
    others = rng.permutation([k for k in range(len(painters)) if k != own])[:3]
    image = Image.new("RGB", (w, h))
    draw = ImageDraw.Draw(image)
    edges = np.linspace(0, w, 6).round().astype(int).tolist()
    for kind, left, right in zip(
        (own, *others[:2], own, others[2]), edges, edges[1:], strict=False
    ):
        image.paste(_gradient(w - left, (200, 218, 234), (240, 238, 230), ground), (left, 0))
        painters[kind](draw, left, right, ground, rng)
    stone = (172, 168, 162)
    image.paste(_gradient(w, tint(stone, 0.88), tint(stone, 1.08), h - ground), (0, ground))
    for y in np.cumsum([2, 12, 20, 30, 44]):
        draw.line((0, ground + y, w, ground + y), fill=tint(stone, 0.86), width=2)
    for x in range(-w, 2 * w, 90):
        draw.line((x, ground, w / 2 + (x - w / 2) * 1.6, h), fill=tint(stone, 0.86), width=2)
    # Haze: distant things are paler and softer than the people in front of them.
    haze = Image.new("RGB", image.size, (198, 196, 192))
    return Image.blend(image.filter(ImageFilter.GaussianBlur(1.6)), haze, HAZE).reduce(2)


def _paint_bricks(
    draw: ImageDraw.ImageDraw, left: int, right: int, ground: int, rng: np.random.Generator
) -> None:
    brick = (172, 108, 88)
    draw.rectangle((left, 0, right, ground), fill=tint(brick, 0.85))
    for row, y in enumerate(range(0, ground, 14)):
        for x in range(left - 15 * (row % 2), right, 30):
            draw.rectangle((x, y, x + 27, y + 11), fill=tint(brick, rng.uniform(0.92, 1.1)))
    for x in range(left + 20, right - 60, 125):
        draw.rectangle((x, 20, x + 90, 130), fill=(238, 230, 214))
        draw.rectangle((x + 8, 28, x + 82, 122), fill=(96, 122, 144))
        draw.rectangle((x - 8, 130, x + 98, 152), fill=(110, 78, 60))
        for k in range(0, 100, 9):
            draw.ellipse(
                (x + k - 8, 114, x + k + 8, 132),
                fill=[(206, 74, 92), (238, 190, 80), (92, 140, 84)][k % 3],
            )


def _paint_shops(
    draw: ImageDraw.ImageDraw, left: int, right: int, ground: int, rng: np.random.Generator
) -> None:
    draw.rectangle((left, 0, right, ground), fill=(92, 84, 92))
    for x in range(left, right, 250):
        awning = ACCENTS[int(rng.integers(1, len(ACCENTS)))]
        draw.rectangle((x + 14, 60, x + 230, ground - 24), fill=(250, 222, 160))
        for k in range(5):
            goods = ACCENTS[int(rng.integers(len(ACCENTS)))]
            draw.rounded_rectangle(
                (x + 28 + 40 * k, 150 + 10 * (k % 3), x + 54 + 40 * k, ground - 30), 8, goods
            )
        for k in range(12):
            stripe = awning if k % 2 else (244, 240, 232)
            edge = x + 10 + 19 * k
            shape = [(edge, 20), (edge + 19, 20), (edge + 21, 84), (edge + 2, 84)]
            draw.polygon(shape, fill=stripe)


def _paint_park(
    draw: ImageDraw.ImageDraw, left: int, right: int, ground: int, rng: np.random.Generator
) -> None:
    draw.rectangle((left, ground - 40, right, ground), fill=(132, 168, 98))
    for x in range(left, right, 120):
        x += int(rng.integers(-30, 30))
        draw.rectangle((x - 9, 90, x + 9, ground), fill=(112, 84, 62))
        for _ in range(14):
            cx, cy, r = x + rng.normal(0, 34), 70 + rng.normal(0, 30), rng.uniform(20, 40)
            draw.ellipse(
                (cx - r, cy - r, cx + r, cy + r), fill=tint((96, 146, 84), rng.uniform(0.8, 1.2))
            )
    for x in range(left, right, 26):
        r = rng.uniform(14, 30)
        draw.ellipse(
            (x - r, ground - r, x + r, ground + r),
            fill=tint((88, 136, 80), rng.uniform(1 - FLICKER, 1 + FLICKER)),
        )


def _paint_road(
    draw: ImageDraw.ImageDraw, left: int, right: int, ground: int, rng: np.random.Generator
) -> None:
    for x in range(left, right, 150):
        top = int(rng.integers(0, 90))
        house = [(216, 190, 160), (190, 176, 186), (222, 206, 178), (170, 186, 196)][
            int(rng.integers(4))
        ]
        draw.rectangle((x, top, x + 148, ground), fill=house)
        for y in range(top + 16, ground - 60, 44):
            for k in range(3):
                draw.rectangle((x + 16 + 44 * k, y, x + 38 + 44 * k, y + 28), fill=(112, 132, 150))
    for x in range(left + 10, right, 330):
        car = ACCENTS[int(rng.integers(len(ACCENTS)))]
        draw.rounded_rectangle((x + 50, ground - 62, x + 180, ground), 26, tint(car, 0.85))
        draw.rounded_rectangle((x + 64, ground - 54, x + 166, ground - 20), 14, (176, 200, 212))
        draw.rounded_rectangle((x, ground - 30, x + 230, ground + 14), 16, car)
        for wheel in (x + 48, x + 182):
            draw.ellipse((wheel - 20, ground - 4, wheel + 20, ground + 36), fill=(40, 40, 44))


def _paint_columns(
    draw: ImageDraw.ImageDraw, left: int, right: int, ground: int, rng: np.random.Generator
) -> None:
    draw.rectangle((left, 0, right, ground), fill=(206, 192, 168))
    for x in range(left + 20, right, 128):
        draw.rounded_rectangle((x + 56, 40, x + 134, ground), 40, fill=(130, 112, 96))
        for k in range(8):  # a round shaft: bright in the middle
            draw.rectangle(
                (x + 5 * k, 0, x + 5 * k + 5, ground),
                fill=tint((232, 222, 202), 1.06 - 0.05 * abs(k - 3)),
            )
        draw.rectangle((x - 8, ground - 22, x + 48, ground), fill=(222, 210, 188))


def _paint_glass(
    draw: ImageDraw.ImageDraw, left: int, right: int, ground: int, rng: np.random.Generator
) -> None:
    for x in range(left, right, 96):
        draw.rectangle((x, 0, x + 96, ground), fill=tint((150, 184, 200), rng.uniform(0.85, 1.12)))
        draw.polygon(
            [(x + 20, 0), (x + 52, 0), (x + 12, ground), (x - 20, ground)], fill=(184, 210, 220)
        )
        draw.rectangle((x, 0, x + 7, ground), fill=(78, 88, 96))
        if rng.random() < 0.4:
            draw.rectangle((x + 22, 70, x + 80, 176), fill=ACCENTS[int(rng.integers(len(ACCENTS)))])
            draw.rectangle((x + 30, 80, x + 72, 130), fill=(244, 240, 228))
    draw.rectangle((left, ground - 16, right, ground), fill=(92, 98, 104))
