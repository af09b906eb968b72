"""A walking person in three dimensions, seen from one side and painted.

So a backpack, a logo or a face shows and hides as it would on a real person. All lengths are shares
of the body's height.
"""

import math
from itertools import pairwise

import numpy as np
from PIL import ImageDraw

from tripletlib.datasets.drawn.identities import Colour, Identity, tint

Point = tuple[float, float, float]  # to the person's left, up, forward
Span = tuple[float, float]
AROUND = (-180.0, 180.0)  # degrees: all the way round the body

# Cross-sections of the body: rows of (height, half width, half depth), from low to high.
TORSO = np.array([(0.450, 0.088, 0.064), (0.520, 0.090, 0.066), (0.610, 0.080, 0.058),
                  (0.710, 0.096, 0.066), (0.765, 0.102, 0.060), (0.800, 0.088, 0.050),
                  (0.825, 0.040, 0.038)])  # fmt: skip
SKIRT = np.array([(0.24, 0.135, 0.120), (0.40, 0.108, 0.090), (0.52, 0.088, 0.066)])
HEAD = np.array([(0.822, 0.012, 0.020), (0.832, 0.034, 0.042), (0.855, 0.054, 0.062),
                 (0.890, 0.063, 0.071), (0.920, 0.064, 0.073), (0.950, 0.058, 0.067),
                 (0.972, 0.045, 0.052), (0.988, 0.022, 0.026), (0.992, 0.008, 0.010)])  # fmt: skip
HAIR = HEAD * (1.0, 1.10, 1.10) + (0.008, 0.0, 0.0)
LONG_HAIR = np.array([(0.74, 0.072, 0.074), (0.80, 0.078, 0.080), (0.90, 0.072, 0.082),
                      (0.95, 0.066, 0.076)])  # fmt: skip


class Figure:
    """A body seen from one side: puts points of the body on the canvas and paints shapes there.

    `x` is the column of its axis and `foot` the row of the ground below it, in pixels; `scale` the
    pixels of a height of 1; `yaw` the way it faces in radians, 0 towards the camera.
    """

    def __init__(
        self, draw: ImageDraw.ImageDraw, x: float, foot: float, scale: float, yaw: float
    ) -> None:
        self.draw, self.x, self.foot, self.scale, self.yaw = draw, x, foot, scale, yaw
        self.cos, self.sin = math.cos(yaw), math.sin(yaw)

    def depth(self, point: Point) -> float:
        """How far a point of the body lies towards the camera, from the body's axis."""
        return point[2] * self.cos - point[0] * self.sin

    def place(self, point: Point) -> tuple[float, float]:
        """Column and row of a point of the body, in pixels."""
        across = point[0] * self.cos + point[2] * self.sin
        # The camera looks down a little: what is nearer appears lower.
        up = point[1] - 0.1 * self.depth(point)
        return self.x + self.scale * across, self.foot - self.scale * up

    def ball(self, point: Point, radius: float, colour: Colour, flat: float = 1.0) -> None:
        """A disc around a point of the body, `flat` times as high as it is wide."""
        (x, y), r = self.place(point), radius * self.scale
        self.draw.ellipse((x - r, y - r * flat, x + r, y + r * flat), fill=colour)

    def box(self, point: Point, half: float, up: Span) -> tuple[float, float, float, float]:
        """A rectangle around a point: half its width, and how far its edges lie above the point."""
        (x, y), s = self.place(point), self.scale
        return x - half * s, y - up[1] * s, x + half * s, y - up[0] * s

    def limb(self, points: list[Point], radii: list[float], colour: Colour) -> None:
        """Rounded, tapering pieces from point to point, with a darker rim; a radius a point."""
        placed = [self.place(p) for p in points]
        for rim, shade in ((0.006, 0.72), (0.0, 1.0)):
            fill = tint(colour, shade)
            sizes = [(r + rim) * self.scale for r in radii]
            for at, r in zip(placed, sizes, strict=True):
                self.draw.circle(at, r, fill=fill)
            for k, ((x0, y0), (x1, y1)) in enumerate(pairwise(placed)):
                length = math.hypot(x1 - x0, y1 - y0) or 1.0
                u, v = (y0 - y1) / length, (x1 - x0) / length  # across the limb
                r0, r1 = sizes[k : k + 2]
                one_side = [(x0 + u * r0, y0 + v * r0), (x1 + u * r1, y1 + v * r1)]
                other_side = [(x1 - u * r1, y1 - v * r1), (x0 - u * r0, y0 - v * r0)]
                self.draw.polygon(one_side + other_side, fill=fill)

    def patch(self, profile: np.ndarray, az: Span, up: Span, colour: Colour) -> None:
        """The visible part of a patch of skin or cloth between two angles and two heights.

        `profile` are cross-sections `[L, 3]`, see `TORSO`. `az` is in degrees from the front (0) by
        the left side (90) to the back (180).
        """
        heights = profile[:, 0]
        levels = np.concatenate([[up[0]], heights[(heights > up[0]) & (heights < up[1])], [up[1]]])
        half = self.scale * np.hypot(
            np.interp(levels, heights, profile[:, 1]) * self.cos,
            np.interp(levels, heights, profile[:, 2]) * self.sin,
        )
        y = self.foot - levels * self.scale
        turned = math.degrees(self.yaw) % 360
        for turn in (-720, -360, 0, 360):
            low, high = max(az[0] + turned + turn, -90), min(az[1] + turned + turn, 90)
            if high > low:
                left = self.x + half * math.sin(math.radians(low))
                right = self.x + half * math.sin(math.radians(high))
                outline = np.concatenate([np.stack([left, y], 1), np.stack([right, y], 1)[::-1]])
                self.draw.polygon(outline.ravel().tolist(), fill=colour)


def draw_body(figure: Figure, who: Identity, phase: float) -> None:
    """The whole person, from the far side to the near one; a `phase` of 2 pi is two steps."""
    torso = TORSO * (1.0, who.build, who.build)
    swing = 0.45 * math.sin(phase)
    far, near = sorted((1.0, -1.0), key=lambda side: figure.depth((side, 0.0, 0.0)))
    back_is_far = figure.cos > 0
    _draw_arm(figure, who, far, -swing * far)
    if who.bag == "backpack" and back_is_far:
        _draw_backpack(figure, who)
    for side in (far, near):
        _draw_leg(figure, who, side, swing * side)
    figure.limb([(0, 0.80, 0), (0, 0.85, 0.005)], [0.034, 0.032], tint(who.skin, 0.88))  # neck
    _draw_clothes(figure, who, torso)
    if who.bag == "backpack" and not back_is_far:
        _draw_backpack(figure, who)
    _draw_arm(figure, who, near, -swing * near)
    figure.patch(HEAD, AROUND, (0.822, 0.992), who.skin)
    figure.ball((0.0, 0.892, 0.073), 0.011, tint(who.skin, 0.94))  # nose
    if figure.cos > -0.35:
        _draw_face(figure, who)
    if who.hair_style != "bald":
        _draw_hair(figure, who)
    _draw_hat(figure, who)


def _draw_leg(figure: Figure, who: Identity, side: float, swing: float) -> None:
    hip = (0.052 * side * who.build, 0.48, 0.0)
    knee = (hip[0], 0.48 - 0.21 * math.cos(swing), 0.21 * math.sin(swing) + 0.015)
    lower = swing - 0.25 - 0.35 * max(0.0, -swing)  # the leg behind bends
    ankle = (hip[0], knee[1] - 0.215 * math.cos(lower), knee[2] + 0.215 * math.sin(lower))
    wide = 0.5 + 0.5 * who.build
    radii = [0.058 * wide, 0.043 * wide, 0.031 * wide]
    toe = (hip[0] * 1.3, ankle[1] - 0.022, ankle[2] + 0.075)
    figure.limb([(hip[0], ankle[1] - 0.016, ankle[2]), toe], [0.030, 0.022], who.shoes)
    if who.bottom_kind == "trousers":
        figure.limb([hip, knee, ankle], radii, who.bottom)
        return
    figure.limb([hip, knee, ankle], [0.9 * r for r in radii], who.skin)
    if who.bottom_kind == "shorts":
        figure.limb([hip, knee], [radii[0], 0.054 * wide], who.bottom)


def _draw_arm(figure: Figure, who: Identity, side: float, swing: float) -> None:
    shoulder = (0.094 * side * who.build, 0.772, 0.0)
    x = shoulder[0] + 0.026 * side
    elbow = (x, 0.772 - 0.15 * math.cos(swing), 0.15 * math.sin(swing) - 0.01)
    lower = swing + 0.35
    hand = (x, elbow[1] - 0.15 * math.cos(lower), elbow[2] + 0.15 * math.sin(lower))
    if who.bag == "handbag" and side > 0:
        _draw_handbag(figure, who, hand)
    figure.limb([shoulder, elbow, hand], [0.032, 0.027, 0.020], who.skin)
    figure.ball(hand, 0.024, who.skin)
    if who.sleeves == "long":
        figure.limb([shoulder, elbow, hand], [0.038, 0.034, 0.029], who.top)
        figure.ball((x, hand[1] - 0.028, hand[2] + 0.008), 0.024, who.skin)
    elif who.sleeves == "short":
        middle = (x, 0.3 * shoulder[1] + 0.7 * elbow[1], 0.7 * elbow[2])
        figure.limb([shoulder, middle], [0.038, 0.039], who.top)


def _draw_face(figure: Figure, who: Identity) -> None:
    for side in (-1.0, 1.0):
        eye = (0.026 * side, 0.908, 0.066)
        if figure.depth(eye) > 0.0:
            figure.ball((0.036 * side, 0.878, 0.056), 0.013, tint(who.skin, 0.93), 0.8)  # cheek
            if who.glasses:
                figure.ball(eye, 0.020, (40, 40, 46))
                figure.ball(eye, 0.014, (190, 206, 214))
            figure.ball(eye, 0.0075, (34, 28, 30), 1.35)
    if who.beard:
        figure.patch(HEAD, (-75, 75), (0.822, 0.868), who.hair)
    figure.patch(HEAD, (-20, 20), (0.857, 0.866), (176, 84, 80))  # mouth


def _draw_hair(figure: Figure, who: Identity) -> None:
    tail: list[Point] = [(0.0, 0.93, -0.085), (0.0, 0.80, -0.11)]
    if who.hair_style == "ponytail" and figure.cos > 0:  # behind the head
        figure.limb(tail, [0.026, 0.016], who.hair)
    figure.patch(HAIR, (-78, 78), (0.945, 1.0), who.hair)
    figure.patch(HAIR, (78, 282), (0.865, 1.0), who.hair)
    figure.patch(HAIR, (-60, 60), (0.962, 0.974), tint(who.hair, 1.35))  # a highlight
    if who.hair_style == "bob":
        figure.patch(LONG_HAIR, (55, 305), (0.825, 0.95), who.hair)
    elif who.hair_style == "long":
        figure.patch(LONG_HAIR, (62, 298), (0.74, 0.95), who.hair)
    elif who.hair_style == "bun":
        figure.ball((0.0, 1.0, -0.04), 0.038, who.hair)
    elif who.hair_style == "ponytail" and figure.cos <= 0:
        figure.limb(tail, [0.028, 0.016], tint(who.hair, 0.95))


def _draw_hat(figure: Figure, who: Identity) -> None:
    if who.hat == "cap":
        figure.patch(HAIR, AROUND, (0.938, 1.0), who.accent)
        figure.limb([(0, 0.943, 0.06), (0, 0.935, 0.115)], [0.020, 0.014], tint(who.accent, 0.85))
    elif who.hat == "beanie":
        figure.patch(HAIR * (1, 1.05, 1.05) + (0.008, 0, 0), AROUND, (0.935, 1.008), who.accent)
        figure.patch(HAIR * (1, 1.10, 1.10), AROUND, (0.932, 0.952), tint(who.accent, 0.82))
        figure.ball((0.0, 1.012, 0.0), 0.018, tint(who.accent, 0.9))
    elif who.hat == "sunhat":
        figure.patch(HAIR, AROUND, (0.945, 1.0), tint(who.accent, 0.95))
        figure.ball((0.0, 0.945, 0.0), 0.115, who.accent, 0.22)


def _draw_clothes(figure: Figure, who: Identity, torso: np.ndarray) -> None:
    """The clothes of the trunk; sleeves and trouser legs are painted with the limbs."""
    skirt = SKIRT * (1, who.build, who.build)
    if who.bottom_kind == "skirt":
        figure.patch(skirt, AROUND, (0.27, 0.52), who.bottom)
        for pleat in range(0, 360, 45):
            figure.patch(skirt, (pleat, pleat + 9), (0.27, 0.42), tint(who.bottom, 0.82))
    else:
        figure.patch(torso, AROUND, (0.45, 0.54), who.bottom)
    if who.coat:
        figure.patch(skirt, AROUND, (0.28, 0.53), tint(who.top, 0.95))
    figure.patch(torso, AROUND, (0.485, 0.825), who.top)
    patterns: dict[str, list[tuple[Span, Span]]] = {
        "stripes": [(AROUND, (up, up + 0.026)) for up in (0.51, 0.57, 0.63, 0.69, 0.75)],
        "band": [(AROUND, (0.63, 0.71))],
        "logo": [((-32, 32), (0.66, 0.75))],
        "yoke": [(AROUND, (0.735, 0.825))],
        "open": [((-26, 26), (0.28 if who.coat else 0.485, 0.82))],  # a jacket over a shirt
    }
    for az, up in patterns.get(who.pattern, []):
        figure.patch(torso, az, up, who.accent)
    figure.patch(torso, (-26, 26), (0.80, 0.825), tint(who.skin, 0.92))
    if who.bag == "backpack":
        for az in ((-50, -36), (36, 50)):  # its straps
            figure.patch(torso, az, (0.60, 0.815), tint(who.bag_colour, 0.9))
    elif who.bag == "shoulder":
        _draw_shoulder_bag(figure, who)


def _draw_bag(
    figure: Figure, who: Identity, box: tuple[float, float, float, float], corner: int, rim: int
) -> None:
    figure.draw.rounded_rectangle(box, corner, who.bag_colour, tint(who.bag_colour, 0.7), rim)


def _draw_handbag(figure: Figure, who: Identity, hand: Point) -> None:
    at = (hand[0], hand[1] - 0.03, hand[2])
    figure.draw.arc(figure.box(at, 0.03, (-0.08, 0.02)), 180, 360, (40, 34, 32), 4)  # its handle
    _draw_bag(figure, who, figure.box(at, 0.035 + 0.03 * abs(figure.sin), (-0.13, -0.03)), 6, 2)


def _draw_backpack(figure: Figure, who: Identity) -> None:
    at, half = (0.0, 0.69, -0.095 * who.build), math.hypot(0.092 * figure.cos, 0.055 * figure.sin)
    _draw_bag(figure, who, figure.box(at, half, (-0.11, 0.12)), 12, 3)
    pocket = figure.box(at, 0.7 * half, (-0.08, 0.0))
    figure.draw.rounded_rectangle(pocket, 8, tint(who.bag_colour, 0.86))


def _draw_shoulder_bag(figure: Figure, who: Identity) -> None:
    """A strap from the right shoulder across chest and back to a bag on the left hip."""
    for front in (1.0, -1.0):
        if front * figure.cos > -0.2:
            shoulder = figure.place((-0.07, 0.81, 0.03 * front))
            hip = figure.place((0.095 * who.build, 0.54, 0.05 * front))
            figure.draw.line([shoulder, hip], fill=tint(who.bag_colour, 0.85), width=6)
    if figure.sin < 0.5:  # otherwise the body hides it
        at = (0.11 * who.build, 0.50, 0.0)
        _draw_bag(figure, who, figure.box(at, 0.03 + 0.035 * abs(figure.sin), (-0.06, 0.05)), 7, 2)
