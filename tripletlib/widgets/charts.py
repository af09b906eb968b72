"""Ranked pictures, precision-recall curve and map of the gallery: on the page, and on paper."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import bqplot
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from sklearn.decomposition import PCA

from tripletlib.evaluation import Place, RankedGallery
from tripletlib.plots import (
    BLUE,
    BQPLOT_MARKERS,
    DARK_ORANGE,
    GREY,
    PICTURE_DPI,
    SERIES,
    VERDICT_STYLES,
    Ranking,
    draw_ranking,
    literal,
    show_picture,
)
from tripletlib.widgets.cards import CardMaker, no_scores, score_texts, why_text
from tripletlib.widgets.notebook_widget import AXIS, PAPER, TEXT, NotebookWidget, move_mark
from tripletlib.widgets.state import BrowserState, Picture

SHOWN = 2_500  # pictures of the gallery in the background; a browser draws each as an element


class GalleryPlane:
    """The plane of the first two principal components of the gallery's embeddings, `[G, D]`.

    Attributes:
        points: the gallery in the plane, `[G, 2]`.
        explained: share of the variance that the plane shows.
    """

    def __init__(self, embeddings: np.ndarray) -> None:
        with np.errstate(invalid="ignore"):  # of a single picture, or of equal ones
            self._plane = PCA(min(2, *embeddings.shape), random_state=0).fit(embeddings)
        self.points = self.project(embeddings)
        shares = np.nan_to_num(self._plane.explained_variance_ratio_, nan=1.0)
        self.explained = float(shares.sum().clip(0, 1))

    def project(self, embeddings: np.ndarray) -> np.ndarray:
        """Embeddings `[N, D]` as points `[N, 2]`."""
        flat = self._plane.transform(embeddings)  # [N, 1 or 2]
        return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))


class GalleryMap:
    """A scatter of the gallery in the plane; query and answers stand out.

    Hovering over a point shows its picture, by the HTML that `describe` makes of its gallery index;
    `on_hover` and, by a click, `on_choose` are called with the index. The owner shows
    errors.

    Attributes:
        note: what is drawn, and how much of it the plane shows.
        widget: what to show.
    """

    def __init__(
        self,
        plane: GalleryPlane,
        describe: Callable[[int], str],
        owner: NotebookWidget,
        on_choose: Callable[[int], None],
        on_hover: Callable[[int], None],
    ) -> None:
        self._plane, self._describe = plane, describe
        self._owner, self._on_choose, self._on_hover = owner, on_choose, on_hover
        self._tip = ipywidgets.HTML()
        self._scales = {"x": bqplot.LinearScale(), "y": bqplot.LinearScale()}
        self._indices: dict[Any, np.ndarray] = {}  # of each mark's points
        size = len(plane.points)
        shown = np.linspace(0, size - 1, min(SHOWN, size)).astype(int)
        background = self._scatter(colors=[GREY], default_size=10)
        self._move(background, shown)
        look = {"default_size": 90, "stroke": PAPER}
        self._answers = {
            verdict: self._scatter(
                colors=[style.colour], marker=BQPLOT_MARKERS[style.marker], **look
            )
            for verdict, style in VERDICT_STYLES.items()
        }
        look = {"colors": [PAPER], "stroke": TEXT, "stroke_width": 3, "default_size": 220}
        self._query = bqplot.Scatter(x=[0], y=[0], scales=self._scales, marker="diamond", **look)
        look |= {"fill": False, "default_size": 300}
        self._ring = bqplot.Scatter(x=[], y=[], scales=self._scales, **look)
        self.note = f"Two principal components, {plane.explained:.0%} of the variance"
        if len(shown) < size:
            self.note += f", {len(shown):,} of {size:,} pictures drawn"
        # No axes: only who is near to whom means something.
        marks = [self._ring, background, *self._answers.values(), self._query]
        self.widget = _figure(marks, [], 8, 8, 8)

    def show(self, query: np.ndarray, places: Sequence[Place]) -> None:
        """Marks a query, by its embedding `[D]`, and its answers."""
        for verdict, mark in self._answers.items():
            mine = [place.index for place in places if place.verdict == verdict]
            self._move(mark, np.array(mine, dtype=int))
        move_mark(self._query, self._plane.project(query[None]))

    def point_out(self, index: int | None) -> None:
        """Rings a picture of the gallery, or none."""
        move_mark(self._ring, self._plane.points[[] if index is None else [index]])

    def _move(self, mark: Any, indices: np.ndarray) -> None:
        self._indices[mark] = indices
        move_mark(mark, self._plane.points[indices])

    def _scatter(self, **look: Any) -> Any:
        tip = {"tooltip": self._tip, "tooltip_style": {"opacity": 1}}
        mark = bqplot.Scatter(x=np.zeros(0), y=np.zeros(0), scales=self._scales, **tip, **look)

        def index(event: dict[str, Any]) -> int:
            return int(self._indices[mark][event["data"]["index"]])

        def show_tip(_: Any, event: dict[str, Any]) -> None:
            self._tip.value = self._describe(index(event))
            self._on_hover(index(event))

        # Hovering leaves a message where it is: the mouse may be on its way elsewhere.
        mark.on_hover(self._owner.guarded(show_tip, clears=False))
        mark.on_element_click(self._owner.guarded(lambda _, event: self._on_choose(index(event))))
        return mark


class PrecisionRecallCurve:
    """Up to two curves, by distance and re-ranked, in `widget`.

    Their steps enclose the AP by the rectangle rule.
    """

    def __init__(self) -> None:
        scales = {name: bqplot.LinearScale(min=0, max=1) for name in ("x", "y")}
        look = {"scales": scales, "stroke_width": 3, "interpolation": "step-before"}
        self._lines = [
            bqplot.Lines(x=[], y=[], colors=[colour], line_style=style, **look)
            for colour, style in ((BLUE, "solid"), (DARK_ORANGE, "dashed"))
        ]
        ticks = {"tick_values": np.linspace(0, 1, 5), "tick_format": ".2f", **AXIS}
        axes = [
            bqplot.Axis(scale=scales["x"], label="recall", **ticks),
            bqplot.Axis(scale=scales["y"], side="left", label="precision", **ticks),
        ]
        self.widget = _figure(self._lines, axes, 45, 55, 20)

    def show(self, *rankings: RankedGallery | None) -> None:
        """Draws the curves by distance and re-ranked; None for no curve."""
        for line, ranked in zip(self._lines, rankings, strict=True):
            curve = None if ranked is None else ranked.curve()
            move_mark(line, np.zeros((0, 2)) if curve is None else np.column_stack(curve))


def _figure(marks: list[Any], axes: list[Any], bottom: int, left: int, right: int) -> Any:
    margin = {"top": 8, "bottom": bottom, "left": left, "right": right}
    layout = ipywidgets.Layout(width="100%", min_width="0", height="300px")
    return bqplot.Figure(marks=marks, axes=axes, fig_margin=margin, layout=layout)


def draw_map(ax: Axes, state: BrowserState) -> None:
    """Draws the map on paper: the gallery in the plane, the query and its first places."""
    plane = GalleryPlane(state.retrieval.gallery.embeddings)
    x, y = plane.points.T
    ax.scatter(x, y, s=6, color=GREY, alpha=0.45, linewidths=0, label="gallery")
    for verdict, style in VERDICT_STYLES.items():
        mine = [place.index for place in state.result.top() if place.verdict == verdict]
        if mine:
            x, y = plane.points[mine].T
            marks = ax.scatter(x, y, s=60, color=style.colour, marker=style.marker, ec="white")
            marks.set_label(verdict)
    x, y = plane.project(state.embedding(state.result.query)[None]).T
    ax.scatter(x, y, s=110, color="white", marker="D", ec="black", lw=2, label="query")
    ax.set_title(f"Two principal components (PCA),\n{plane.explained:.0%} of the variance")
    ax.set(xticks=[], yticks=[])  # only who is near to whom means something
    ax.grid(False)
    ax.legend(fontsize=9)


def draw_result(state: BrowserState, columns: int = 8) -> Figure:
    """Draws the query, its ranked gallery and its precision-recall curve.

    Re-ranked, there is a row before and a row after, and small arrows say how many ranks a picture
    went up or down. A row has `columns` answers, at most `top_k`.
    """
    result, rankings = state.result, state.result.rankings
    columns = min(columns, result.options.top_k)
    has_curve = bool(result.before.first_right)
    heights = [2 * len(rankings), 2.6 if has_curve else 0.7]
    size = ((columns + 1) * 0.88, sum(heights) + 0.5)
    figure = plt.figure(figsize=size, dpi=PICTURE_DPI)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    rows = above.subplots(len(rankings), columns + 1, squeeze=False)
    retrieval = state.retrieval
    ranks = result.before.rank_by_index(len(retrieval.gallery))
    for row, (name, ranked) in zip(rows, rankings.items(), strict=True):
        options = result.options.show_junk, None if ranked is result.before else ranks
        image = state.image(result.query)
        draw_ranking(row, Ranking.of(retrieval, image, ranked, name, columns, *options))
        row[0].set_xlabel(literal(_query_label(state)), fontsize=9)
    if has_curve:
        text, curve = below.subplots(1, 2, gridspec_kw={"width_ratios": [1, 1.3]})
        text.axis("off")
        facts = [f"{name}: {value}" for name, value in score_texts(result).items()]
        lines = [*facts, *textwrap.wrap(why_text(result), 5 * columns + 5)]
        text.text(0, 0.95, "\n".join(lines), va="top", linespacing=1.7)
        _draw_curves(curve, rankings)
    else:
        below.text(0.02, 0.4, textwrap.fill(no_scores(state), 11 * columns + 11), va="center")
    title = f"{retrieval.name}\n{CardMaker(state).name(result.query)}"
    title = title if result.after is None else f"{title}, re-ranked: {result.settings}"
    figure.suptitle(literal(title))
    return figure


def draw_explanation(state: BrowserState, rank: int = 1) -> Figure:
    """Draws which regions make what is looked up and its answer at a rank alike, or set them apart.

    Left, both as the network takes them; then their occlusion maps by the trained network and, as a
    sanity check, by one with random weights. Each network has a scale of its own. A ValueError
    without a network.
    """
    result = state.result
    place = next((place for place in result.ranked.top(rank) if place.rank == rank), None)
    if place is None:
        raise ValueError(f"there is no answer at rank {rank}")
    answer = Picture("gallery", place.index)
    maps, pair = state.explain(answer), [state.input(result.query), state.input(answer)]
    figure = plt.figure(figsize=(7.2, 2.9), dpi=PICTURE_DPI)
    widths = [1, *[1.3] * len(maps)]
    parts = figure.subfigures(1, len(widths), squeeze=False, width_ratios=widths)[0]
    for ax, image, name in zip(parts[0].subplots(1, 2), pair, ("query", "answer"), strict=True):
        show_picture(ax, image)
        ax.set_title(name, fontsize=9)
    for part, (name, changes) in zip(parts[1:], maps.items(), strict=True):
        _draw_maps(part, pair, changes)
        part.suptitle(name, fontsize=10)
    parts[0].suptitle("seen by the network", fontsize=10)
    names = " and ".join(CardMaker(state).name(one) for one in (result.query, answer))
    verdict = f", {place.verdict}" if state.retrieval.labelled else ""
    figure.suptitle(literal(f"{names}\nrank {place.rank}{verdict}"), fontsize=10)
    return figure


def _draw_maps(part: SubFigure, pair: list[np.ndarray], changes: list[np.ndarray]) -> None:
    """Lays maps, `[H, W]`, over grey pictures: the stronger, the less of the picture is left."""
    largest = max(float(np.abs(change).max()) for change in changes) or 1.0
    axes = part.subplots(1, 2)
    for ax, image, change in zip(axes, pair, changes, strict=True):
        show_picture(ax, np.broadcast_to(image.mean(0).astype(np.uint8), image.shape))
        look = {"cmap": "PuOr_r", "vmin": -largest, "vmax": largest}
        layer = ax.imshow(change, alpha=np.abs(change) / largest, **look)
    bar = part.colorbar(layer, ax=axes, shrink=0.8, ticks=[-largest, 0, largest], format="%+.2g")
    bar.ax.set_title("distance", fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _query_label(state: BrowserState) -> str:
    query, retrieval = state.result.query, state.retrieval
    pid, camid = state.pid_and_camid(query)
    if query.kind == "upload":
        return "your picture"
    if pid is None or camid is None:
        return f"picture {query.index}"
    return f"person {retrieval.person(pid)}\ncam. {retrieval.camera(camid)}"


def _draw_curves(ax: Axes, rankings: dict[str, RankedGallery]) -> None:
    for (name, ranked), (colour, _, line) in zip(rankings.items(), SERIES, strict=False):
        curve = ranked.curve()
        assert curve is not None  # drawn only where there is a right answer
        # Steps: the area below them is the AP by the rectangle rule.
        ax.plot(*curve, line, color=colour, lw=2, label=name, drawstyle="steps-pre")
    ax.set(title="Precision and recall", xlabel="recall", ylabel="precision")
    ax.set(xlim=(0, 1.02), ylim=(0, 1.05))
    ax.legend(loc="best")
