"""Ranked pictures, precision-recall curve and map of the gallery on paper."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from tripletlib.evaluation import RankedGallery
from tripletlib.plots import (
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
from tripletlib.widgets.gallery_map import GalleryPlane
from tripletlib.widgets.state import BrowserState, Picture


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
    retrieval, cards = state.retrieval, CardMaker(state)
    label = "\n".join(cards.labels(result.query)) if retrieval.labelled else ""
    ranks = result.before.rank_by_index(len(retrieval.gallery))
    for row, (name, ranked) in zip(rows, rankings.items(), strict=True):
        options = result.options.show_junk, None if ranked is result.before else ranks
        image = state.image(result.query)
        draw_ranking(row, Ranking.of(retrieval, image, ranked, name, columns, *options))
        row[0].set_xlabel(literal(label), fontsize=9)
    if has_curve:
        text, curve = below.subplots(1, 2, gridspec_kw={"width_ratios": [1, 1.3]})
        text.axis("off")
        facts = [f"{name}: {value}" for name, value in score_texts(result).items()]
        lines = [*facts, *textwrap.wrap(why_text(result), 5 * columns + 5)]
        text.text(0, 0.95, "\n".join(lines), va="top", linespacing=1.7)
        _draw_curves(curve, rankings)
    else:
        below.text(0.02, 0.4, textwrap.fill(no_scores(state), 11 * columns + 11), va="center")
    title = f"{retrieval.name}\n{cards.name(result.query)}"
    title = title if result.after is None else f"{title}, re-ranked: {result.settings}"
    figure.suptitle(literal(title))
    return figure


def draw_explanation(state: BrowserState, rank: int = 1) -> Figure:
    """Draws which regions make what is looked up and its answer at a rank alike, or set them apart.

    Left, both as the network takes them; then their occlusion maps by the trained network and, as a
    sanity check, by one with random weights. Each network has a scale of its own.
    """
    result = state.result
    place = result.place(rank)
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


def _draw_curves(ax: Axes, rankings: dict[str, RankedGallery]) -> None:
    for (name, ranked), (colour, _, line) in zip(rankings.items(), SERIES, strict=False):
        curve = ranked.curve()
        assert curve is not None  # drawn only where there is a right answer
        # Steps: the area below them is the AP by the rectangle rule.
        ax.plot(*curve, line, color=colour, lw=2, label=name, drawstyle="steps-pre")
    ax.set(title="Precision and recall", xlabel="recall", ylabel="precision")
    ax.set(xlim=(0, 1.02), ylim=(0, 1.05))
    ax.legend(loc="best")
