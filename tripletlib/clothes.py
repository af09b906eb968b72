"""What a person wears and carries, painted on a figure: skirt, top, coat, bags and hats."""

import math

import numpy as np

from tripletlib.figure import AROUND, HAIR, SKIRT, Figure, Point
from tripletlib.pedestrians import Identity, tint


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
