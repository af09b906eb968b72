"""A walking person: points and cross-sections in three dimensions, turned and painted.

So a backpack, a logo or a face shows and hides as it would on a real person. All lengths are shares
of the body's height.
"""

import math

import numpy as np
from PIL import ImageDraw

from tripletlib.datasets.drawn.identities import Colour, Identity, tint

Point = tuple[float, float, float]  # to the person's left, up, forward
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
CURTAIN = np.array(
    [(0.74, 0.072, 0.074), (0.80, 0.078, 0.080), (0.90, 0.072, 0.082), (0.95, 0.066, 0.076)]
)


class Figure:
    """A body seen from one side: puts points of the body on the canvas and paints shapes there.

    Args:
        draw: paints on the canvas.
        x: column of the body's axis, in pixels.
        foot: row of the ground below it, in pixels.
        scale: pixels of a height of 1.
        yaw: the way it faces in radians, 0 towards the camera, pi away from it.
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
        """Column and row of a point of the body, in pixels.

        Example:
            >>> from PIL import Image
            >>> canvas = ImageDraw.Draw(Image.new("RGB", (64, 128)))
            >>> Figure(canvas, x=32, foot=120, scale=100, yaw=0.0).place((0.1, 0.5, 0.0))
            (42.0, 70.0)
        """
        across = point[0] * self.cos + point[2] * self.sin
        # The camera looks down a little: what is nearer appears lower.
        up = point[1] - 0.1 * self.depth(point)
        return self.x + self.scale * across, self.foot - self.scale * up

    def ball(self, point: Point, radius: float, colour: Colour, flat: float = 1.0) -> None:
        """A disc around a point of the body, `flat` times as high as it is wide."""
        (x, y), r = self.place(point), radius * self.scale
        self.draw.ellipse((x - r, y - r * flat, x + r, y + r * flat), fill=colour)

    def limb(self, points: list[Point], radii: list[float], colour: Colour) -> None:
        """Rounded, tapering pieces from point to point; a darker rim sets them off.

        Args:
            points: N points of the body.
            radii: of the limb at each of them, as shares of the body's height, N.
            colour: of the limb; its rim is darker.
        """
        placed = [self.place(p) for p in points]
        for rim, shade in ((0.006, 0.72), (0.0, 1.0)):
            fill = tint(colour, shade)
            sizes = [(r + rim) * self.scale for r in radii]
            for (x, y), r in zip(placed, sizes, strict=True):
                self.draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
            for k in range(len(placed) - 1):
                (x0, y0), (x1, y1) = placed[k : k + 2]
                length = math.hypot(x1 - x0, y1 - y0) or 1.0
                u, v = (y0 - y1) / length, (x1 - x0) / length  # across the limb
                r0, r1 = sizes[k : k + 2]
                self.draw.polygon(
                    [
                        (x0 + u * r0, y0 + v * r0),
                        (x1 + u * r1, y1 + v * r1),
                        (x1 - u * r1, y1 - v * r1),
                        (x0 - u * r0, y0 - v * r0),
                    ],
                    fill=fill,
                )

    def patch(
        self, profile: np.ndarray, az: tuple[float, float], up: tuple[float, float], colour: Colour
    ) -> None:
        """The visible part of a patch of skin or cloth between two angles and two heights.

        Args:
            profile: cross-sections, `[L, 3]`: height, half width, half depth, from low to high.
            az: from where to where around the body, in degrees from the front (0) by the left side
                (90) to the back (180).
            up: from which height to which.
            colour: of the patch.
        """
        levels = np.concatenate(
            [[up[0]], profile[(profile[:, 0] > up[0]) & (profile[:, 0] < up[1]), 0], [up[1]]]
        )
        half = self.scale * np.hypot(
            np.interp(levels, profile[:, 0], profile[:, 1]) * self.cos,
            np.interp(levels, profile[:, 0], profile[:, 2]) * self.sin,
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
    """The whole person, from the far side to the near one.

    Args:
        figure: where to paint, and from which side.
        who: the person.
        phase: the moment of the walk in radians, 2 pi for two steps.
    """
    torso = TORSO * (1.0, who.build, who.build)
    swing = 0.45 * math.sin(phase)
    sides = sorted((1.0, -1.0), key=lambda side: figure.depth((side, 0.0, 0.0)))
    behind = figure.cos > 0  # what hangs on the back is on the far side
    _draw_arm(figure, who, sides[0], -swing * sides[0])
    if who.bag == "backpack" and behind:
        draw_backpack(figure, who)
    for side in sides:
        _draw_leg(figure, who, side, swing * side)
    figure.limb([(0, 0.80, 0), (0, 0.85, 0.005)], [0.034, 0.032], tint(who.skin, 0.88))  # neck
    draw_clothes(figure, who, torso)
    if who.bag == "backpack" and not behind:
        draw_backpack(figure, who)
    _draw_arm(figure, who, sides[1], -swing * sides[1])
    _draw_head(figure, who)


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
    elbow = (
        shoulder[0] + 0.026 * side,
        0.772 - 0.15 * math.cos(swing),
        0.15 * math.sin(swing) - 0.01,
    )
    lower = swing + 0.35
    hand = (elbow[0], elbow[1] - 0.15 * math.cos(lower), elbow[2] + 0.15 * math.sin(lower))
    if who.bag == "handbag" and side > 0:
        draw_handbag(figure, who, hand)
    figure.limb([shoulder, elbow, hand], [0.032, 0.027, 0.020], who.skin)
    figure.ball(hand, 0.024, who.skin)
    if who.sleeves == "long":
        figure.limb([shoulder, elbow, hand], [0.038, 0.034, 0.029], who.top)
        figure.ball((hand[0], hand[1] - 0.028, hand[2] + 0.008), 0.024, who.skin)
    elif who.sleeves == "short":
        middle = (elbow[0], 0.3 * shoulder[1] + 0.7 * elbow[1], 0.7 * elbow[2])
        figure.limb([shoulder, middle], [0.038, 0.039], who.top)


def _draw_head(figure: Figure, who: Identity) -> None:
    figure.patch(HEAD, AROUND, (0.822, 0.992), who.skin)
    figure.ball((0.0, 0.892, 0.073), 0.011, tint(who.skin, 0.94))
    if figure.cos > -0.35:
        _draw_face(figure, who)
    _draw_hair(figure, who)
    draw_hat(figure, who)


def _draw_face(figure: Figure, who: Identity) -> None:
    for side in (-1.0, 1.0):
        eye = (0.026 * side, 0.908, 0.066)
        if figure.depth(eye) > 0.0:
            figure.ball((0.036 * side, 0.878, 0.056), 0.013, tint(who.skin, 0.93), 0.8)
            if who.glasses:
                figure.ball(eye, 0.020, (40, 40, 46))
                figure.ball(eye, 0.014, (190, 206, 214))
            figure.ball(eye, 0.0075, (34, 28, 30), 1.35)
    if who.beard:
        figure.patch(HEAD, (-75, 75), (0.822, 0.868), who.hair)
    figure.patch(HEAD, (-20, 20), (0.857, 0.866), (176, 84, 80))


def _draw_hair(figure: Figure, who: Identity) -> None:
    if who.hair_style == "bald":
        return
    tail = (0.0, 0.93, -0.085)
    if who.hair_style == "ponytail" and figure.cos > 0:
        figure.limb([tail, (0.0, 0.80, -0.11)], [0.026, 0.016], who.hair)
    figure.patch(HAIR, (-78, 78), (0.945, 1.0), who.hair)
    figure.patch(HAIR, (78, 282), (0.865, 1.0), who.hair)
    figure.patch(HAIR, (-60, 60), (0.962, 0.974), tint(who.hair, 1.35))
    if who.hair_style == "bob":
        figure.patch(CURTAIN, (55, 305), (0.825, 0.95), who.hair)
    elif who.hair_style == "long":
        figure.patch(CURTAIN, (62, 298), (0.74, 0.95), who.hair)
    elif who.hair_style == "bun":
        figure.ball((0.0, 1.0, -0.04), 0.038, who.hair)
    elif who.hair_style == "ponytail" and figure.cos <= 0:
        figure.limb([tail, (0.0, 0.80, -0.11)], [0.028, 0.016], tint(who.hair, 0.95))


def draw_clothes(figure: Figure, who: Identity, torso: np.ndarray) -> None:
    """The clothes of the trunk; sleeves and trouser legs are painted with the limbs.

    Args:
        figure: where to paint.
        who: whose clothes.
        torso: cross-sections, `[L, 3]`, see `Figure.patch`.
    """
    _draw_bottom(figure, who, torso)
    _draw_top(figure, who, torso)
    if who.bag == "backpack":
        for az in ((-50, -36), (36, 50)):
            figure.patch(torso, az, (0.60, 0.815), tint(who.bag_colour, 0.9))
    elif who.bag == "shoulder":
        _draw_shoulder_bag(figure, who)


def draw_handbag(figure: Figure, who: Identity, hand: Point) -> None:
    """A handbag that hangs from the hand."""
    x, y = figure.place((hand[0], hand[1] - 0.03, hand[2]))
    w, s = 0.035 + 0.03 * abs(figure.sin), figure.scale
    handle = (x - 0.03 * s, y - 0.02 * s, x + 0.03 * s, y + 0.08 * s)
    figure.draw.arc(handle, 180, 360, (40, 34, 32), 4)
    box = (x - w * s, y + 0.03 * s, x + w * s, y + 0.13 * s)
    figure.draw.rounded_rectangle(box, 6, who.bag_colour, tint(who.bag_colour, 0.7), 2)


def draw_backpack(figure: Figure, who: Identity) -> None:
    """The backpack itself; its straps belong to `draw_clothes`."""
    (x, y), s = figure.place((0.0, 0.69, -0.095 * who.build)), figure.scale
    w = math.hypot(0.092 * figure.cos, 0.055 * figure.sin)
    rim = tint(who.bag_colour, 0.7)
    figure.draw.rounded_rectangle(
        (x - w * s, y - 0.12 * s, x + w * s, y + 0.11 * s), 12, who.bag_colour, rim, 3
    )
    figure.draw.rounded_rectangle(
        (x - 0.7 * w * s, y, x + 0.7 * w * s, y + 0.08 * s), 8, tint(who.bag_colour, 0.86)
    )


def draw_hat(figure: Figure, who: Identity) -> None:
    """Cap, beanie or sunhat, over the hair; nothing on a bare head."""
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


def _draw_bottom(figure: Figure, who: Identity, torso: np.ndarray) -> None:
    if who.bottom_kind != "skirt":
        figure.patch(torso, AROUND, (0.45, 0.54), who.bottom)
        return
    skirt = SKIRT * (1, who.build, who.build)
    figure.patch(skirt, AROUND, (0.27, 0.52), who.bottom)
    for pleat in range(0, 360, 45):
        figure.patch(skirt, (pleat, pleat + 9), (0.27, 0.42), tint(who.bottom, 0.82))


def _draw_top(figure: Figure, who: Identity, torso: np.ndarray) -> None:
    if who.coat:
        coat = SKIRT * (1, who.build, who.build)
        figure.patch(coat, AROUND, (0.28, 0.53), tint(who.top, 0.95))
    figure.patch(torso, AROUND, (0.485, 0.825), who.top)
    _draw_pattern(figure, who, torso)
    figure.patch(torso, (-26, 26), (0.80, 0.825), tint(who.skin, 0.92))


def _draw_pattern(figure: Figure, who: Identity, torso: np.ndarray) -> None:
    if who.pattern == "stripes":
        for up in (0.51, 0.57, 0.63, 0.69, 0.75):
            figure.patch(torso, AROUND, (up, up + 0.026), who.accent)
    elif who.pattern == "band":
        figure.patch(torso, AROUND, (0.63, 0.71), who.accent)
    elif who.pattern == "logo":
        figure.patch(torso, (-32, 32), (0.66, 0.75), who.accent)
    elif who.pattern == "yoke":
        figure.patch(torso, AROUND, (0.735, 0.825), who.accent)
    elif who.pattern == "open":  # a jacket over a shirt
        hem = 0.28 if who.coat else 0.485
        figure.patch(torso, (-26, 26), (hem, 0.82), who.accent)


def _draw_shoulder_bag(figure: Figure, who: Identity) -> None:
    """A strap from the right shoulder across chest and back to a bag on the left hip."""
    for front in (1.0, -1.0):
        if front * figure.cos > -0.2:
            ends = [
                figure.place(p)
                for p in ((-0.07, 0.81, 0.03 * front), (0.095 * who.build, 0.54, 0.05 * front))
            ]
            figure.draw.line(ends, fill=tint(who.bag_colour, 0.85), width=6)
    if figure.sin < 0.5:  # otherwise the body hides it
        (x, y), s = figure.place((0.11 * who.build, 0.50, 0.0)), figure.scale
        w = 0.03 + 0.035 * abs(figure.sin)
        box = (x - w * s, y - 0.05 * s, x + w * s, y + 0.06 * s)
        figure.draw.rounded_rectangle(box, 7, who.bag_colour, tint(who.bag_colour, 0.7), 2)
