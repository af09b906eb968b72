"""The query browser's view as static figures: what its button saves and a printed page shows."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from tripletlib.evaluation import Place, RankedGallery, Verdict
from tripletlib.plots import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION
from tripletlib.widgets.browsing import Browsing
from tripletlib.widgets.lookup import Asked

_LOOKS = {  # frame's colour, its dashes, mark
    Verdict.RIGHT: (GREEN, "-", "✓ "),
    Verdict.WRONG: (VERMILION, (0, (2, 1)), "✗ "),
    Verdict.DISTRACTOR: (VERMILION, (0, (1, 1)), "⊘ "),
    Verdict.JUNK: (GREY, "-", ""),
    Verdict.UNKNOWN: (GREY, "-", ""),
}
_MAP_LOOKS = {  # colour, marker: those of the widget's map
    Verdict.UNKNOWN: (BLUE, "s"),
    Verdict.JUNK: (BLACK, "P"),
    Verdict.DISTRACTOR: (VERMILION, "v"),
    Verdict.WRONG: (VERMILION, "P"),
    Verdict.RIGHT: (GREEN, "o"),
}


def draw_sight(browsing: Browsing, columns: int = 10) -> Figure:
    """Draws the query, its ranked gallery and its precision-recall curve.

    Re-ranked, there is a row before and a row after, and small arrows say how many places a picture
    went up or down.

    Args:
        browsing: what is seen.
        columns: answers in a row, at most those of `top_k`.
    """
    sight = browsing.sight
    lists = [("by distance", sight.before)]
    if sight.after is not None:
        lists.append(("re-ranked", sight.after))
    columns = min(columns, sight.options.top_k)
    has_curve = bool(sight.before.first_right)
    heights = [1.8 * len(lists), 2.6 if has_curve else 0.4]
    figure = plt.figure(figsize=((columns + 1) * 0.88, sum(heights) + 0.3))
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    rows = above.subplots(len(lists), columns + 1, squeeze=False)
    ranks = sight.before.rank_by_index(len(browsing.lookup.retrieval.gallery))
    for row, (name, answers) in zip(rows, lists, strict=True):
        _draw_query(row[0], browsing, name)
        places = answers.top(columns, sight.options.show_junk)[:columns]
        before = ranks if answers is sight.after else None
        _draw_row(row[1:], browsing, places, before)
    if has_curve:
        text, curve = below.subplots(1, 2, gridspec_kw={"width_ratios": [1, 1.3]})
        _draw_facts(text, lists)
        _draw_curve(curve, lists)
    else:
        below.text(0.02, 0.5, "No right answer is known, so there is no AP and no curve.")
    figure.suptitle(browsing.lookup.retrieval.name)
    return figure


def draw_map(ax: Axes, browsing: Browsing) -> Axes:
    """Draws the gallery in the plane of its first two principal components, as the widget does.

    The query and its first places, down to `top_k`, stand out.

    Args:
        ax: where to draw.
        browsing: what is seen; its gallery has two pictures and two dimensions at least.
    """
    sight, lookup = browsing.sight, browsing.lookup
    gallery = lookup.retrieval.gallery.embeddings
    plane = PCA(2, random_state=0).fit(gallery)
    points = plane.transform(gallery)  # [G, 2]
    x, y = points.T
    ax.scatter(x, y, s=6, color=GREY, alpha=0.45, linewidths=0, label="gallery")
    places = sight.answers.top(sight.options.top_k, sight.options.show_junk)
    for verdict, (colour, marker) in _MAP_LOOKS.items():
        mine = [place.index for place in places if place.verdict == verdict]
        if mine:
            mark = ax.scatter(x[mine], y[mine], s=60, color=colour, marker=marker, ec="white")
            mark.set_label(verdict.value)
    left, up = plane.transform(lookup.embedding(sight.asked)[None])[0]
    ax.scatter(left, up, s=110, color="white", marker="D", ec="black", lw=2, label="query")
    share = plane.explained_variance_ratio_.sum()
    ax.set_title(f"Two principal components (PCA),\n{share:.0%} of the variance")
    ax.set(xticks=[], yticks=[])  # only who is near to whom means something
    ax.grid(False)
    ax.legend(fontsize=9)
    return ax


def _draw_query(ax: Axes, browsing: Browsing, name: str) -> None:
    asked = browsing.sight.asked
    pid, camid = browsing.lookup.pid_and_camid(asked)
    who = "your picture" if pid is None else f"person {pid}\ncamera {camid}"
    _show(ax, browsing.lookup.image(asked), f"{who}\n{name}", "black")


def _draw_row(
    row: Sequence[Axes], browsing: Browsing, places: list[Place], before: np.ndarray | None
) -> None:
    for ax in row[len(places) :]:
        ax.axis("off")
    for ax, place in zip(row, places, strict=False):
        colour, dashes, mark = _LOOKS[place.verdict]
        text = "junk" if place.verdict == Verdict.JUNK else f"{mark}{place.rank}"
        if before is not None and place.rank:
            up = int(before[place.index]) - place.rank
            text += f"  {'▲' if up > 0 else '▼'}{abs(up)}" if up else "  ="
        asked = Asked("gallery", place.index)
        _, camid = browsing.lookup.pid_and_camid(asked)
        _show(ax, browsing.lookup.image(asked), f"{text}\n{place.distance:.3g} · c{camid}", colour)
        ax.spines[:].set(visible=True, color=colour, lw=2.5, ls=dashes, capstyle="butt")
        if place.verdict == Verdict.JUNK:
            ax.images[0].set_alpha(0.4)


def _draw_facts(ax: Axes, lists: list[tuple[str, RankedGallery]]) -> None:
    ax.axis("off")
    lines = [
        f"{name}: AP {answers.average_precision:.1%}, first right at rank {answers.first_right}"
        for name, answers in lists
    ]
    name, last = lists[-1]
    ends = ("nearest wrong", last.nearest_wrong()), ("farthest right", last.farthest_right())
    for which, place in ends:
        if place is not None:
            lines.append(f"{name}, {which}: rank {place.rank}, {place.distance:.3g} away")
    ax.text(0, 0.95, "\n".join(lines), va="top", linespacing=1.7)


def _draw_curve(ax: Axes, lists: list[tuple[str, RankedGallery]]) -> None:
    for (name, answers), (colour, style) in zip(lists, ((BLUE, "-"), (ORANGE, "--")), strict=False):
        curve = answers.curve()
        assert curve is not None  # drawn only where there is a right answer
        ax.plot(*curve, style, color=colour, lw=2, label=name)
    ax.set(title="Precision and recall", xlabel="recall", ylabel="precision")
    ax.set(xlim=(0, 1.02), ylim=(0, 1.05))
    ax.legend(loc="best")


def _show(ax: Axes, image: np.ndarray, text: str, colour: str) -> None:
    ax.imshow(image.transpose(1, 2, 0))
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.grid(False)
    ax.set_title(text, fontsize=9, color=colour)
