"""Points of the plane as a stage for k-reciprocal neighbours: who belongs, and with what weight."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from tripletlib.plotting import BLACK, BLUE, SKY
from tripletlib.plotting_scores import SERIES


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
    """Draws named points of the plane, each in a disc whose area and number are its value.

    Args:
        ax: where to draw.
        points: `[N, 2]`.
        names: N short texts, written above the points.
        values: `[N]`, not negative; a point at 0 has no disc, and a value below a tenth of the
            largest is not written, for small discs often stand close together.
        title: stands above the axes.
    """
    _draw_points(ax, points, names)
    largest = max(float(values.max()), 1e-12)
    areas = 1500 * values / largest
    ax.scatter(points[:, 0], points[:, 1], s=areas, color=SKY, edgecolors=BLUE, alpha=0.5)
    for point, value in zip(points, values, strict=True):
        if value >= 0.1 * largest:
            ax.annotate(f"{value:.2f}", point, (0, -15), textcoords="offset points", ha="center",
                        fontsize=9)  # fmt: skip
    ax.set_title(title)
    return ax


def _draw_points(ax: Axes, points: np.ndarray, names: Sequence[str]) -> None:
    ax.scatter(points[:, 0], points[:, 1], s=22, color=BLACK, zorder=3)
    for point, name in zip(points, names, strict=True):
        ax.annotate(name, point, (0, 9), textcoords="offset points", ha="center", fontsize=10)
    ax.set(xticks=[], yticks=[])
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.12)
    ax.spines[:].set_visible(False)
