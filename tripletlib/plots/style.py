"""How figures and widgets look: colours, series, and what stands for right, wrong and the rest.

Colours are Okabe and Ito's, told apart by all common kinds of colour vision. Nothing differs by
colour alone: series have markers and lines of their own, verdicts a mark and a line.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#8C8C8C"
DARK_GREY, DARK_ORANGE = "#6E6E6E", "#B27A00"  # stand out from white and from near black

PICTURE_DPI = 80  # of figures with photographs, which take most of a saved notebook

# Colour, marker and line of the curves of a figure.
SERIES = (
    (BLUE, "o", "-"), (ORANGE, "^", "--"), (GREEN, "s", "-."), (PURPLE, "D", ":"),
    (BLACK, "v", "-"), (SKY, "P", "--"), (VERMILION, "X", "-."),
)  # fmt: skip
# Paul Tol's "muted" scheme and a grey: up to ten identities.
TEN_COLOURS = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933",
    "#DDCC77", "#CC6677", "#882255", "#AA4499", "#777777",
)  # fmt: skip
TEN_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", "*", ">")


class VerdictStyle(NamedTuple):
    """How a gallery picture is marked that is right, wrong, ... for a query."""

    mark: str  # a character to stand before the rank
    colour: str  # of mark and frame
    line: Literal["solid", "dashed", "dotted"]  # of the frame, as CSS calls it
    marker: str  # in a scatter, as matplotlib calls it


VERDICT_STYLES = {
    "right": VerdictStyle("✓", GREEN, "solid", "o"),
    "wrong": VerdictStyle("✗", VERMILION, "dashed", "P"),
    "distractor": VerdictStyle("⊘", VERMILION, "dotted", "v"),
    "junk": VerdictStyle("–", DARK_GREY, "dotted", "^"),
    "unknown": VerdictStyle("", DARK_GREY, "solid", "s"),
}


def use_notebook_style() -> None:
    """Sets font sizes, grid and resolution for figures that are read in a notebook page."""
    plt.rcParams.update(
        {
            "figure.dpi": 96,
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 12,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "image.cmap": "gray",
        }
    )


def clear_axes(ax: Axes) -> None:
    """Takes ticks, frame and grid away, for pictures and diagrams."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.grid(False)


def literal(text: str) -> str:
    """Text whose dollar signs are shown; matplotlib takes what stands between two for a formula."""
    return text.replace("$", r"\$")


def scatter_identities(
    ax: Axes, points: np.ndarray, labels: np.ndarray, name: Callable[[int], str] = str, **look: Any
) -> None:
    """Scatters points `[N, 2]`; each of up to ten identities has a colour, a marker and a name."""
    for label, colour, marker in zip(np.unique(labels), TEN_COLOURS, TEN_MARKERS, strict=False):
        x, y = points[labels == label].T
        ax.scatter(x, y, color=colour, marker=marker, label=literal(name(label)), **look)


def show_picture(ax: Axes, image: np.ndarray) -> None:
    """Shows a picture, uint8 `[3, H, W]`, without ticks and frame."""
    ax.imshow(image.transpose(1, 2, 0))
    clear_axes(ax)


def draw_answer(ax: Axes, image: np.ndarray, verdict: str, place: str, caption: str) -> None:
    """Draws a picture, uint8 `[3, H, W]`, framed by its verdict, a key of `VERDICT_STYLES`.

    The verdict's mark and `place` stand above the picture, the caption below; junk is faded.
    """
    style = VERDICT_STYLES[verdict]
    show_picture(ax, image)
    ax.images[0].set_alpha(0.35 if verdict == "junk" else 1)
    dashes = {"solid": "-", "dashed": (0, (2, 1)), "dotted": (0, (1, 1))}[style.line]
    ax.spines[:].set(visible=True, color=style.colour, lw=3, ls=dashes, capstyle="butt")
    ax.set_title(f"{style.mark} {place}".strip(), fontsize=9, color=style.colour)
    ax.set_xlabel(literal(caption), fontsize=9, color=style.colour)
