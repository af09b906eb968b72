"""Figures of scores and costs: CMC, AP and the area it is, distances, pairs (ROC), a sweep.

Each draws on the axes `ax`; `draw_sweep` needs several and makes a figure. Curves are at most
seven, given by the name that the legend shows.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator

from tripletlib.evaluation import PairCurve, Rule, precision_recall
from tripletlib.plots.style import BLACK, BLUE, SERIES, SKY, VERDICT_STYLES, VERMILION

_PERCENT = "{x:.0%}"
_DECADES_ONLY = 200  # from this ratio on an axis shows powers of ten, below also 2 and 5 times them


def draw_cmc(ax: Axes, curves: Mapping[str, np.ndarray], title: str) -> None:
    """Draws cumulative match characteristics: the share of queries answered within r places.

    Each curve is `[R]`, the share at rank 1, 2, ..., R, in [0, 1].
    """
    for (name, curve), (colour, marker, line) in zip(curves.items(), SERIES, strict=False):
        ranks = np.arange(1, len(curve) + 1)
        label = f"{name}: rank-1 {curve[0]:.1%}"
        ax.plot(ranks, curve, line, color=colour, marker=marker, ms=5, markevery=0.1, label=label)
    lowest = min(np.nan_to_num(float(curve[0])) for curve in curves.values())
    ax.set(title=title, xlabel="rank r", ylabel="queries with a right answer up to r")
    ax.set_ylim(max(0, lowest - 0.1), 1.02)
    ax.yaxis.set_major_formatter(_PERCENT)
    ax.legend(loc="lower right")


def draw_precisions(ax: Axes, precisions: Mapping[str, np.ndarray], title: str) -> None:
    """Draws the histogram of the queries' average precisions (AP), `[Q]` in [0, 1] each.

    NaN, a query without a right answer, is left out.
    """
    edges, highest = np.linspace(0, 1, 21), 1
    for (name, values), (colour, _, line) in zip(precisions.items(), SERIES, strict=False):
        known = values[~np.isnan(values)]
        counts, _ = np.histogram(known, edges)
        mean = f"mean {known.mean():.1%}" if len(known) else "no query has a right answer"
        label = f"{name}: {mean}"
        ax.stairs(counts, edges, color=colour, ls=line, lw=2, label=label)
        ax.stairs(counts, edges, color=colour, alpha=0.12, fill=True)
        highest = max(highest, int(counts.max()))
    ax.set(title=title, xlabel="average precision of a query", ylabel="queries", xlim=(0, 1))
    ax.set_ylim(0, highest * (1.12 + 0.12 * len(precisions)))  # room for the legend
    ax.xaxis.set_major_formatter(_PERCENT)
    ax.legend(loc="upper center")


def draw_precision_recall(ax: Axes, right: np.ndarray, rule: Rule, title: str) -> None:
    """Draws precision over recall for one ranked list and shades the area that is its AP.

    Every right answer adds one strip of width 1 / (number of right answers). The rectangle rule
    gives it the precision at the answer as its height; the trapezoid rule slopes from the precision
    one place earlier. `right` is bool `[G]`, nearest first, junk removed; a ValueError if none is.
    """
    precision, recall = precision_recall(right)
    for after in np.flatnonzero(right) + 1:  # point 0 is the one before the list begins
        start = precision[after] if rule == "rectangle" else precision[after - 1]
        ends, heights = recall[after - 1 : after + 1], (start, precision[after])
        ax.fill_between(ends, heights, color=SKY, alpha=0.5, ec=BLUE, hatch="//", lw=1)
    ax.plot(recall, precision, ".:", color=BLACK, lw=1, label="after each place")
    answers = np.concatenate([[False], right])
    _, colour, _, marker = VERDICT_STYLES["right"]
    at_right = recall[answers], precision[answers]
    ax.plot(*at_right, marker, color=colour, ms=8, label="at a right answer")
    ax.set(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1.03), ylim=(0, 1.08))
    ax.legend(loc="upper right")


def draw_distances(ax: Axes, right: np.ndarray, wrong: np.ndarray, title: str) -> None:
    """Draws how far right and wrong pairs lie apart, each histogram with an area of 1.

    `right` are distances of pairs that show one person, `wrong` of pairs that show two; any shape.
    """
    farthest = max(np.max(part, initial=0) for part in (right, wrong))
    edges = np.linspace(0, farthest or 1, 61)
    for name, distances, hatch in (("right", right, None), ("wrong", wrong, "//")):
        _, colour, line, _ = VERDICT_STYLES[name]
        density, _ = np.histogram(distances, edges, density=distances.size > 0)
        label = f"{name}: {distances.size:,} pairs"
        ax.stairs(density, edges, fill=True, fc=colour, ec=colour, alpha=0.2, hatch=hatch)
        ax.stairs(density, edges, color=colour, ls=line, lw=2, label=label)
    ax.set(title=title, xlabel="distance", ylabel="density", xlim=(0, edges[-1]))
    ax.legend()


def draw_roc(ax: Axes, curves: Mapping[str, PairCurve], threshold: float, title: str) -> None:
    """Draws receiver operating characteristics: true over false match rate, the latter as decades.

    A mark on each curve shows the rates at the threshold. A part of a curve without false matches
    has no place on a logarithmic axis.
    """
    for (name, curve), (colour, marker, line) in zip(curves.items(), SERIES, strict=False):
        false, true = curve.false_match_rate, curve.true_match_rate
        ax.plot(false, true, line, color=colour, label=name)
        last = np.flatnonzero(curve.thresholds <= threshold)[-1:]
        ax.plot(false[last], true[last], marker, color=colour, ms=9)
    ax.set(title=title, xlabel="false match rate", ylabel="true match rate", ylim=(0, 1.03))
    fewest = min(1 / max(curve.impostors, 10) for curve in curves.values())  # one false match
    ax.set(xscale="log", xlim=(fewest, 1))
    ax.xaxis.set_major_formatter(lambda rate, _: f"{100 * rate:g}%")
    ax.yaxis.set_major_formatter(_PERCENT)
    ax.legend(loc="lower right")


def draw_sweep(
    scores: np.ndarray,
    k1: Sequence[int],
    k2: Sequence[int],
    lambda_value: Sequence[float],
    title: str,
) -> Figure:
    """Draws scores over k1 and k2 as heat maps, one for each lambda, with one scale of colours.

    `scores` are `[lambdas, k1s, k2s]`, in [0, 1], and written into the cells in percent; another
    shape is a ValueError. The best cell of all has a frame.
    """
    shape = (len(lambda_value), len(k1), len(k2))
    if scores.shape != shape:
        raise ValueError(f"scores must be [lambdas, k1s, k2s] = {shape}, got {scores.shape}")
    size = (0.62 * shape[0] * shape[2] + 2.2, 0.42 * shape[1] + 1.5)
    figure, axes = plt.subplots(
        1, shape[0], figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    low, high = float(scores.min()), float(scores.max())
    for panel, ax, value in zip(scores, axes[0], lambda_value, strict=True):
        image = ax.imshow(panel, cmap="cividis", vmin=low, vmax=high, aspect="auto")
        for (row, column), score in np.ndenumerate(panel):
            centred = {"ha": "center", "va": "center"}
            colour = "white" if 2 * score < low + high else "black"
            ax.text(column, row, f"{100 * score:.1f}", centred, color=colour, fontsize=9)
        ax.set_xticks(range(shape[2]), k2)
        ax.set_yticks(range(shape[1]), k1)
        ax.set(title=f"λ = {value:g}", xlabel="k2")
        ax.grid(False)
    best = np.unravel_index(scores.argmax(), shape)
    corner = (best[2] - 0.5, best[1] - 0.5)
    axes[0, best[0]].add_patch(Rectangle(corner, 1, 1, fill=False, ec=VERMILION, lw=3))
    axes[0, 0].set_ylabel("k1")
    figure.colorbar(image, ax=axes[0, -1], format=lambda share, _: f"{share:.1%}")
    figure.suptitle(title)
    return figure


def draw_lists(
    ax: Axes, lists: Mapping[str, np.ndarray], title: str, names: Sequence[Sequence[str]] = ()
) -> None:
    """Draws ranked lists as rows of boxes, the first place at the left.

    Each list is bool `[G]`: whether the picture at each place is right. Right ones are green with a
    tick, wrong ones red, hatched, with a cross; `names`, G of each list, stand above the marks.
    """
    for row, right in enumerate(lists.values()):
        for place, good in enumerate(right):
            mark, colour, _, _ = VERDICT_STYLES["right" if good else "wrong"]
            corner, hatch = (place + 0.54, row - 0.4), "" if good else "///"
            ax.add_patch(Rectangle(corner, 0.92, 0.8, fc=colour, ec=colour, alpha=0.2, hatch=hatch))
            ax.add_patch(Rectangle(corner, 0.92, 0.8, fill=False, ec=colour, lw=2))
            text = f"{names[row][place]}\n{mark}" if names else mark
            ax.text(place + 1, row, text, ha="center", va="center", fontsize=11)
    longest = max(map(len, lists.values()))
    ax.set(title=title, xlabel="rank", xlim=(0.4, longest + 0.6), ylim=(len(lists) - 0.5, -0.5))
    ax.set_xticks(range(1, longest + 1))
    ax.set_yticks(range(len(lists)), list(lists))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(False)


def draw_growth(
    ax: Axes, sizes: Sequence[int], curves: Mapping[str, np.ndarray], title: str, ylabel: str
) -> None:
    """Draws how a cost grows with the number of pictures, on logarithmic axes.

    Each curve is `[S]`, above 0, for the S `sizes`; `ylabel` names the cost and its unit.
    """
    for (name, values), (colour, marker, line) in zip(curves.items(), SERIES, strict=False):
        ax.loglog(sizes, values, line, color=colour, marker=marker, label=name)
    ax.set(title=title, xlabel="pictures", ylabel=ylabel)
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    values = np.concatenate([np.asarray(curve, float) for curve in curves.values()])
    steps = (1,) if values.max() > _DECADES_ONLY * values.min() else (1, 2, 5)
    ax.yaxis.set_major_locator(LogLocator(subs=steps, numticks=20))
    ax.yaxis.set_major_formatter("{x:,g}")
    ax.minorticks_off()
    ax.legend()
