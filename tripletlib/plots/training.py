"""Figures of a training: the embeddings and the log."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tripletlib.losses import Margin, triplet_losses
from tripletlib.plots.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    SERIES,
    SKY,
    TEN_COLOURS,
    scatter_identities,
)
from tripletlib.training import PERCENTILES, History

NAME_SIZE = 21  # points, a name's circle in `draw_embedding` and some air around it


def draw_embedding(ax: Axes, points: np.ndarray, labels: np.ndarray, title: str) -> None:
    """Scatters embedded images, `[N, 2]`, each of up to ten identities named at its median.

    Names that would cover each other are moved apart, so the figure should have its final size; a
    line leads from a moved name to its median.
    """
    names = np.unique(labels)
    scatter_identities(ax, points, labels, s=9, alpha=0.5, linewidths=0)
    ax.set(title=title, xlabel="first coordinate", ylabel="second coordinate")
    ax.set_aspect("equal", adjustable="datalim")
    _name_identities(ax, names, np.stack([np.median(points[labels == name], 0) for name in names]))


def _name_identities(ax: Axes, names: np.ndarray, medians: np.ndarray) -> None:
    """Writes each identity's name at its median `[C, 2]`, or as near to it as there is room."""
    figure = ax.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()  # only then are the axes' final limits known
    dots = ax.transData.transform(medians)  # [C, 2]
    moves = (_apart(dots, NAME_SIZE * figure.dpi / 72) - dots) * 72 / figure.dpi  # in points
    for name, median, move, colour in zip(names, medians, moves, TEN_COLOURS, strict=False):
        length = np.linalg.norm(move)
        ax.annotate(
            str(name),
            median,
            move,
            textcoords="offset points",
            ha="center",
            va="center",
            fontweight="bold",
            bbox={"boxstyle": "circle,pad=0.2", "fc": "white", "ec": colour, "lw": 2},
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 1.5} if length > 1 else None,
            zorder=3 + 1 / (1 + length),  # the line of a far name runs below the nearer names
        )


def _apart(places: np.ndarray, gap: float, rounds: int = 500) -> np.ndarray:
    """Pushes places `[C, 2]` that are closer than `gap` away from each other, bit by bit."""
    turns = np.arange(len(places))
    # Places that coincide have no direction in which to part: a tiny shift gives them one.
    places = places + 0.01 * gap * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    for _ in range(rounds):
        offsets = places[:, None] - places  # [C, C, 2]
        lengths = np.linalg.norm(offsets, axis=2, keepdims=True)
        missing = np.where(lengths > 0, gap - lengths, 0).clip(0)  # [C, C, 1]
        if missing.max() < 0.01 * gap:
            break
        places = places + (0.25 * missing * offsets / lengths.clip(1e-9)).sum(axis=1)
    return places


def draw_history(history: History, margin: Margin) -> Figure:
    """Draws the four panels of a training log: loss, active share, embeddings and distances.

    The panel of the embeddings holds their norms and, below, their single entries; that of the loss
    shows the height at which all images lie in one point: the margin, or ln 2 for `"soft"`. The
    history has at least ten steps.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), appendix D.
    """
    figure, ((loss, active), (norms, distances)) = plt.subplots(
        2, 2, figsize=(10, 7.2), layout="constrained"
    )
    steps, collapsed = history["step"], _collapsed_loss(margin)
    loss.plot(steps, history["loss"], color=SKY, lw=0.7, label="each step")
    loss.plot(*_known(history, "mean_loss_100"), color=BLUE, lw=2, marker=".", label="mean of 100")
    loss.axhline(collapsed, color=BLACK, ls=":", label=f"all in one point: {collapsed:.3g}")
    loss.set(title="Loss", ylabel="loss", ylim=(0, None))
    active.plot(steps, history["active_fraction"], color=ORANGE, lw=0.7)
    active.set(title="Active triplets", ylabel="share of triplets", ylim=(0, 1.02))
    _draw_percentiles(norms, history, "norm", BLUE, "norms: ")
    _draw_percentiles(norms, history, "entry", ORANGE, "entries: ")
    norms.axhline(0, color=GREY, lw=0.8, zorder=0)
    norms.set(title="Embeddings in the batch: norms and entries", ylabel="length, value")
    _draw_percentiles(distances, history, "distance", BLUE)
    distances.set(title="All pairwise distances in the batch", ylabel="length")
    for ax in (loss, active, norms, distances):
        ax.set_xlabel("step")
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
    for ax, columns in ((loss, 3), (norms, 2), (distances, 3)):
        ax.legend(**below, borderaxespad=0, ncols=columns, fontsize="small", frameon=False)
    return figure


def draw_histories(runs: Mapping[str, tuple[History, Margin]]) -> Figure:
    """Draws how up to seven trainings leave, or do not leave, the loss of a single point.

    Left, the loss (mean of ten steps) divided by the loss that all images in one point would give:
    the margin, or ln 2 for `"soft"`. Right, the median distance in the batch. `runs` has the log
    and the margin of each name.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), appendix D.
    """
    figure, (losses, distances) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    for (name, (history, margin)), (colour, marker, _) in zip(runs.items(), SERIES, strict=False):
        look: dict[str, Any] = {"color": colour, "marker": marker, "markevery": 0.15, "lw": 1.5}
        smooth = np.convolve(history["loss"], np.ones(10) / 10, mode="valid")
        losses.plot(history["step"][-len(smooth) :], smooth / _collapsed_loss(margin), **look)
        distances.plot(*_known(history, "distance_p50"), label=name, **look)
    point = losses.axhline(1, color=BLACK, ls=":", label="all in one point (left)")
    losses.set(title="Loss against a single point's", ylabel="loss ÷ loss of a single point")
    losses.set(xlabel="step", ylim=(0, 2))
    distances.set(title="Median distance in the batch", ylabel="distance (log scale)")
    distances.set(xlabel="step", yscale="log", ylim=(1e-4, 5))
    lines = [*distances.lines, point]
    figure.legend(handles=lines, loc="outside lower center", ncols=min(4, len(lines)))
    return figure


def _collapsed_loss(margin: Margin) -> float:
    """The loss when all images lie in one point."""
    return triplet_losses(torch.zeros(()), margin)[0].item()


def _draw_percentiles(
    ax: Axes, history: History, spread: str, colour: str, prefix: str = ""
) -> None:
    columns = [_known(history, f"{spread}_p{percent}") for percent in PERCENTILES]
    steps, (low, lower, median, upper, high) = columns[0][0], [values for _, values in columns]
    for below, above, alpha, share in (
        (low, high, 0.25, "0 to 100 %"),
        (lower, upper, 0.45, "5 to 95 %"),
    ):
        label = f"{prefix}{share}"
        ax.fill_between(steps, below, above, color=colour, alpha=alpha, lw=0, label=label)
    style = "-" if colour == BLUE else "--"  # told apart without colour too
    ax.plot(steps, median, color=BLACK, ls=style, label=f"{prefix}median")


def _known(history: History, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the rows in which a column has a value."""
    known = ~np.isnan(history[column])
    return history["step"][known], history[column][known]
