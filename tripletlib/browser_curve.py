"""The precision-recall curve of one query, in the query browser."""

import bqplot
import ipywidgets
import numpy as np

from tripletlib.answers import Answers
from tripletlib.plotting import BLUE, ORANGE


class PrecisionRecallCurve:
    """Up to two curves: by distance, and re-ranked.

    Attributes:
        widget: what to show.
    """

    def __init__(self) -> None:
        scales = {name: bqplot.LinearScale(min=0, max=1) for name in ("x", "y")}
        looks = ((BLUE, "solid"), (ORANGE, "dashed"))
        self._lines = [
            bqplot.Lines(
                x=[], y=[], scales=scales, colors=[colour], line_style=style, stroke_width=3
            )
            for colour, style in looks
        ]
        ticks = {"tick_values": np.linspace(0, 1, 5), "tick_format": ".2f", "grid_color": "#E5E5E5"}
        axes = [
            bqplot.Axis(scale=scales["x"], label="recall", **ticks),
            bqplot.Axis(scale=scales["y"], side="left", label="precision", **ticks),
        ]
        self.widget = bqplot.Figure(
            marks=self._lines,
            axes=axes,
            fig_margin={"top": 8, "bottom": 45, "left": 55, "right": 12},
            layout=ipywidgets.Layout(width="100%", min_width="0", height="300px"),
        )
        self.widget.add_class("browser-curve")

    def show(self, *lists: Answers | None) -> None:
        """Draws the curves of the answers by distance and re-ranked; None for no curve."""
        for line, answers in zip(self._lines, lists, strict=True):
            curve = None if answers is None else answers.curve()
            recall, precision = (np.zeros(0), np.zeros(0)) if curve is None else curve
            with line.hold_sync():
                line.x, line.y = recall, precision
