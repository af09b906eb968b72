"""A person as a camera shows one: in a loose box, before a street, with things in the way."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tripletlib.datasets.drawn.body import Figure, draw_body
from tripletlib.datasets.drawn.identities import ACCENTS, Colour, Identity, Rng, one_of, tint
from tripletlib.datasets.drawn.streets import (
    GROUND,
    HEIGHT,
    STREET_SIZE,
    WIDTH,
    Camera,
    Draw,
    expose,
)

OVERSAMPLING = 3  # drawn this much larger, then averaged: ImageDraw itself draws jagged edges
SIZES, SHIFT = (0.78, 0.97), 0.06  # person's height in a box; sideways shift, standard deviation
PASSERS, OBSTACLES = 0.18, 0.26  # shares of the boxes with another person, with a thing in front


@dataclass(frozen=True)
class Framing:
    """How a person lies in a box."""

    size: float  # height of a person of average height, as a share of the box's
    right: float  # of the middle, as a share of the box's width
    down: float  # how far the feet lie below their usual place, as a share of the box's height

    @classmethod
    def draw(cls, rng: Rng, junk: bool) -> "Framing":
        """A detector's loose box or, for junk, one that cuts off about half of the person."""
        if junk:
            side = rng.choice([-1.0, 1.0])
            return cls(rng.uniform(0.9, 1.8), side * rng.uniform(0.35, 0.6), rng.uniform(-0.3, 0.9))
        return cls(rng.uniform(*SIZES), rng.normal(0, SHIFT), rng.normal(0, 0.015))


def draw_person(
    who: Identity | None, camera: Camera, rng: Rng, yaw: float, framing: Framing
) -> Image.Image:
    """One RGB picture, HEIGHT x WIDTH, of a person or, where `who` is None, of the street alone.

    `rng` draws what differs from picture to picture: step, obstacles, noise. `yaw` is the direction
    of the walk in radians, 0 towards the camera.
    """
    scale = framing.size * (who.height if who else 1.0) * HEIGHT  # pixels of a height of 1
    at = ((0.5 + framing.right) * WIDTH, (0.96 + framing.down) * HEIGHT, scale)
    scene = _cut_street(camera, rng, framing, at[1])
    if who is not None:
        scene = _compose(scene, _draw_people(who, rng, yaw, at), camera.light, at)
    return expose(scene, camera, rng)


def _draw_people(
    who: Identity, rng: Rng, yaw: float, at: tuple[float, float, float]
) -> Image.Image:
    """The person on a transparent ground, maybe with a passer-by and with a thing in front.

    `at` is x and foot in pixels of the box, and the pixels of a height of 1.
    """
    canvas = Image.new("RGBA", (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    x, foot, scale = (value * OVERSAMPLING for value in at)
    passer, obstacle = rng.random(2) < (PASSERS, OBSTACLES)
    if passer:  # at the edge, behind the person
        aside = rng.choice([-1.0, 1.0]) * rng.uniform(0.42, 0.6) * WIDTH * OVERSAMPLING
        figure = Figure(draw, x + aside, foot, scale, rng.uniform(0, 2 * math.pi))
        draw_body(figure, Identity.draw(rng, rng), rng.uniform(0, 2 * math.pi))
    draw_body(Figure(draw, x, foot, scale, yaw), who, rng.uniform(0, 2 * math.pi))
    if obstacle:
        _draw_obstacle(draw, rng, foot, scale)
    return canvas.reduce(OVERSAMPLING)


def _cut_street(camera: Camera, rng: Rng, framing: Framing, foot: float) -> Image.Image:
    """The piece of the street behind a box, so that the feet stand on the ground."""
    zoom = 0.9 / framing.size
    left = rng.uniform(0, STREET_SIZE[0] - WIDTH * zoom)
    feet = min(GROUND + rng.uniform(16, 34), STREET_SIZE[1] - (HEIGHT - foot) * zoom)
    top = max(0.0, feet - foot * zoom)
    box = (left, top, left + WIDTH * zoom, min(STREET_SIZE[1], top + HEIGHT * zoom))
    return camera.street.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box=box)


def _compose(
    scene: Image.Image, person: Image.Image, light: float, at: tuple[float, float, float]
) -> Image.Image:
    """Puts the person on the street, with a soft shadow and a bright edge on the light's side."""
    x, foot, scale = at
    shadow = Image.new("L", scene.size)
    end = x + 0.22 * scale * -light  # away from the light
    left, right = min(x, end) - 0.12 * scale, max(x, end) + 0.12 * scale
    box = (left, foot - 0.045 * scale, right, foot + 0.025 * scale)
    ImageDraw.Draw(shadow).ellipse(box, fill=130)
    scene.paste((30, 32, 48), mask=shadow.filter(ImageFilter.GaussianBlur(1.5)))
    alpha = person.getchannel("A")
    soft = np.asarray(alpha.filter(ImageFilter.GaussianBlur(2.5)), np.float32) / 255
    edge = np.zeros_like(soft)
    edge[:, 2:-2] = soft[:, :-4] - soft[:, 4:]  # positive on the right edge of things
    shade = 1.0 + 0.45 * light * edge - 0.10 * np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None]
    rgb = np.asarray(person.convert("RGB"), np.float32) * shade[:, :, None]
    scene.paste(Image.fromarray(rgb.clip(0, 255).astype(np.uint8)), mask=alpha)
    return scene


def _draw_obstacle(draw: Draw, rng: Rng, foot: float, scale: float) -> None:
    """A pole, a planter or a bicycle in front of the person."""
    kind, x = rng.integers(3), rng.uniform(0.05, 0.95) * WIDTH * OVERSAMPLING
    if kind == 0:
        _draw_pole(draw, x, rng.uniform(0.03, 0.07) * WIDTH * OVERSAMPLING)
    elif kind == 1:
        _draw_planter(draw, rng, x, foot - scale * rng.uniform(0.12, 0.3))
    else:
        _draw_bicycle(draw, x, foot - 0.10 * scale, 0.13 * scale, one_of(rng, ACCENTS))


def _draw_pole(draw: Draw, x: float, r: float) -> None:
    for k in range(6):
        box = (x - r + k * r / 3, 0, x - r + (k + 1) * r / 3, HEIGHT * OVERSAMPLING)
        draw.rectangle(box, fill=tint((120, 128, 132), 1.2 - 0.12 * k))


def _draw_planter(draw: Draw, rng: Rng, x: float, top: float) -> None:
    w, h = WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING
    leaves = [(84, 136, 78), (108, 158, 88), (214, 96, 110)]
    for _ in range(22):
        at, r = (x + rng.normal(0, 0.2 * w), top + rng.normal(0, 8)), rng.uniform(8, 18)
        draw.circle(at, r, fill=leaves[int(rng.choice(3, p=[0.5, 0.38, 0.12]))])
    left, right, slope = x - 0.4 * w, x + 0.4 * w, 0.06 * w
    tub = [(left, top + 8), (right, top + 8), (right - slope, h), (left + slope, h)]
    draw.polygon(tub, fill=(150, 112, 88))


def _draw_bicycle(draw: Draw, x: float, y: float, r: float, frame: Colour) -> None:
    """`r` is the radius of a wheel."""
    hub, front = (x - 1.6 * r, y), (x + 1.6 * r, y)
    seat, bar = (x - 0.6 * r, y - 1.6 * r), (x + 1.2 * r, y - 1.8 * r)
    dark = (42, 42, 46)
    for wheel in (hub, front):
        draw.circle(wheel, r, outline=dark, width=6)
    draw.line([hub, seat, bar, (x, y), seat], fill=frame, width=7, joint="curve")
    draw.line([front, bar, (bar[0] - 0.5 * r, bar[1] - 0.4 * r)], fill=frame, width=7)
    draw.line([(seat[0] - 14, seat[1] - 8), (seat[0] + 14, seat[1] - 8)], fill=dark, width=10)
