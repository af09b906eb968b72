"""Points of the plane as a stage for k-reciprocal neighbours: who belongs, and with what weight."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from tripletlib.plotting import BLACK, BLUE, SKY
from tripletlib.plotting_scores import SERIES

_LARGEST_DISC = 27  # its width in points of the page


def draw_members(
    ax: Axes,
    points: np.ndarray,
    names: Sequence[str],
    groups: Mapping[str, Sequence[int]],
    title: str,
) -> Axes:
    """Draws named points of the plane and marks groups of them.

    Args:
        ax: where to draw.
        points: `[N, 2]`.
        names: N short texts, written beside the points.
        groups: name to the points that belong to it, for the legend; at most six groups. A point in
            several has several rings.
        title: stands above the axes.
    """
    _draw_points(ax, points, names)
    for ring, ((name, members), look) in enumerate(zip(groups.items(), SERIES, strict=False)):
        chosen = points[list(members)]
        ax.scatter(
            chosen[:, 0], chosen[:, 1], s=110 + 130 * ring, facecolors="none",
            edgecolors=look[0], marker=look[1], linewidths=2, label=name,
        )  # fmt: skip
    ax.set_title(title)
    return ax


def draw_values(
    ax: Axes, points: np.ndarray, names: Sequence[str], values: np.ndarray, title: str
) -> Axes:
    """Draws named points of the plane, each in a disc whose area is its value.

    Args:
        ax: where to draw.
        points: `[N, 2]`.
        names: N short texts, written above the discs.
        values: `[N]`, not negative, written behind the names; a point at 0 has no disc, and a value
            below a tenth of the largest is not written, for small discs often stand close together.
        title: stands above the axes.
    """
    shares = values / max(float(values.max()), 1e-12)
    texts = [
        f"{name} {value:.2f}" if share >= 0.1 else name
        for name, value, share in zip(names, values, shares, strict=True)
    ]
    widths = _LARGEST_DISC * np.sqrt(shares)  # points of the page
    _draw_points(ax, points, texts, np.maximum(widths / 2 + 3, 7))
    ax.scatter(points[:, 0], points[:, 1], s=widths**2, color=SKY, edgecolors=BLUE, alpha=0.5)
    ax.set_title(title)
    return ax


def _draw_points(
    ax: Axes, points: np.ndarray, texts: Sequence[str], heights: np.ndarray | None = None
) -> None:
    """Draws the points and writes each text some points of the page above its own."""
    ax.scatter(points[:, 0], points[:, 1], s=22, color=BLACK, zorder=3)
    above = np.full(len(points), 9.0) if heights is None else heights
    for point, text, height in zip(points, texts, above, strict=True):
        ax.annotate(text, point, (0, height), textcoords="offset points", ha="center", fontsize=10)
    ax.set(xticks=[], yticks=[])
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.12)
    ax.spines[:].set_visible(False)
