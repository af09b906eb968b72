"""A body as points and cross-sections in three dimensions, turned by the viewing angle and painted.

So a backpack, a logo or a face shows and hides as it would on a real person. All lengths are shares
of the body's height.
"""

import math

import numpy as np
from PIL import ImageDraw

from tripletlib.datasets.drawn.identities import Colour, tint

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
