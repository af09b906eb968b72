"""The gallery in the plane, in the query browser: hover to see a picture, click to look it up."""

from collections.abc import Callable
from typing import Any

import bqplot
import ipywidgets
import numpy as np
from sklearn.decomposition import PCA

from tripletlib.evaluation import Place, RankedGallery, Verdict
from tripletlib.plots import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION
from tripletlib.widgets.messages import Messages

SHOWN = 2_500  # pictures of the gallery in the background; a browser draws each as an element
_LOOKS = {  # of the answers: colour, marker
    Verdict.UNKNOWN: (BLUE, "square"),
    Verdict.JUNK: (BLACK, "plus"),
    Verdict.DISTRACTOR: (VERMILION, "triangle-down"),
    Verdict.WRONG: (VERMILION, "cross"),
    Verdict.RIGHT: (GREEN, "circle"),
}


class GalleryMap:
    """A scatter of the gallery's first two principal components; query and answers stand out.

    Args:
        embeddings: of the gallery, `[G, D]`.
        describe: from a gallery index to the HTML of the picture that hovering shows.
        messages: shows errors.
        on_choose: is called with the gallery index of a clicked point.

    Attributes:
        points: the gallery in the plane, `[G, 2]`.
        explained: share of the variance that the plane shows.
        note: what is drawn, and how much of it the plane shows.
        widget: what to show.
    """

    def __init__(
        self,
        embeddings: np.ndarray,
        describe: Callable[[int], str],
        messages: Messages,
        on_choose: Callable[[int], None],
    ) -> None:
        self._describe, self._messages, self._on_choose = describe, messages, on_choose
        components = min(2, *embeddings.shape)
        self._plane = PCA(components, random_state=0).fit(embeddings)
        self.points = self._project(embeddings)
        self.explained = float(self._plane.explained_variance_ratio_.sum())
        self._tip = ipywidgets.HTML()
        self._scales = {"x": bqplot.LinearScale(), "y": bqplot.LinearScale()}
        everybody = np.linspace(0, len(embeddings) - 1, min(SHOWN, len(embeddings)))
        self._indices: dict[str, np.ndarray] = {"background": everybody.astype(int)}
        self._background = self._scatter(
            "background", colors=[GREY], default_size=12, opacities=[0.45]
        )
        self._answers = {
            verdict: self._scatter(
                verdict, colors=[colour], marker=marker, default_size=90, stroke="white"
            )
            for verdict, (colour, marker) in _LOOKS.items()
        }
        drawn = (
            ""
            if len(everybody) == len(embeddings)
            else f", {len(everybody):,} of {len(embeddings):,} pictures drawn"
        )
        self.note = f"Two principal components, {self.explained:.0%} of the variance{drawn}"
        self._query = bqplot.Scatter(
            x=[0.0], y=[0.0], scales=self._scales, colors=["white"], marker="diamond",
            stroke=BLACK, stroke_width=3, default_size=220,
        )  # fmt: skip
        self.widget = self._figure()

    def show(self, query: np.ndarray, places: list[Place]) -> None:
        """Marks a query and its answers.

        Args:
            query: its embedding, `[D]`.
            places: the answers to mark.
        """
        for verdict, mark in self._answers.items():
            self._indices[verdict] = np.array(
                [place.index for place in places if place.verdict == verdict], dtype=int
            )
            _move(mark, self.points[self._indices[verdict]])
        _move(self._query, self._project(query[None]))

    def _project(self, embeddings: np.ndarray) -> np.ndarray:
        flat = self._plane.transform(embeddings)  # [N, 1 or 2]
        return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))

    def _scatter(self, name: str, **look: Any) -> Any:
        points = self.points[self._indices.setdefault(name, np.zeros(0, int))]
        mark = bqplot.Scatter(
            x=points[:, 0],
            y=points[:, 1],
            scales=self._scales,
            tooltip=self._tip,
            tooltip_style={"opacity": 1},
            **look,
        )
        # Hovering leaves a message where it is: the mouse may be on its way elsewhere.
        hover = self._messages.guarded(
            lambda event: self._show_tip(self._index(name, event)), clears=False
        )
        click = self._messages.guarded(lambda event: self._on_choose(self._index(name, event)))
        mark.on_hover(lambda _, event: hover(event))
        mark.on_element_click(lambda _, event: click(event))
        return mark

    def _index(self, name: str, event: dict[str, Any]) -> int:
        return int(self._indices[name][event["data"]["index"]])

    def _show_tip(self, index: int) -> None:
        self._tip.value = self._describe(index)

    def _figure(self) -> Any:
        figure = bqplot.Figure(
            marks=[self._background, *self._answers.values(), self._query],
            axes=[],  # only who is near to whom means something
            fig_margin={"top": 8, "bottom": 8, "left": 8, "right": 8},
            layout=ipywidgets.Layout(width="100%", min_width="0", height="300px"),
        )
        figure.add_class("browser-map")
        return figure


def _move(mark: Any, points: np.ndarray) -> None:
    """Moves a mark in one message to the page."""
    with mark.hold_sync():
        mark.x, mark.y = points[:, 0], points[:, 1]


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

    def show(self, *lists: RankedGallery | None) -> None:
        """Draws the curves of the answers by distance and re-ranked; None for no curve."""
        for line, answers in zip(self._lines, lists, strict=True):
            curve = None if answers is None else answers.curve()
            recall, precision = (np.zeros(0), np.zeros(0)) if curve is None else curve
            with line.hold_sync():
                line.x, line.y = recall, precision
