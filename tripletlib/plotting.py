"""Every static figure. A function draws on the axes it is given and returns them.

Colours are Okabe and Ito's, told apart by all common kinds of colour vision; right and wrong
differ by a mark too, never by colour alone.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tripletlib.history import PERCENTILES, History

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, BLACK = "#CC79A7", "#56B4E9", "#F0E442", "#000000"
GREY = "#8C8C8C"


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
