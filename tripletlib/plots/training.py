"""Figures of a training, its embeddings and its log: drawn after it, or by callbacks as it goes."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from tripletlib.datasets import LabelledImages
from tripletlib.embedding import embed
from tripletlib.losses import Margin, triplet_losses
from tripletlib.plots.style import BLACK, BLUE, ORANGE, SERIES, SKY, TEN_COLOURS, scatter_identities
from tripletlib.runtime import AnyPath, explained_writing, from_repository, in_live_notebook
from tripletlib.training import PERCENTILES, EpochReport, History

_SPREADS = {
    "norm": "Norms of the embeddings",
    "entry": "Single entries of the embeddings",
    "distance": "All pairwise distances",
}
NEIGHBOURS = 5  # k of the k-NN classifier
NAME_SIZE = 21  # points, a name's circle in `draw_embedding` and some air around it


def draw_embedding(
    ax: Axes,
    points: np.ndarray,
    labels: np.ndarray,
    title: str,
    axis: str = "coordinate",
    within: np.ndarray | None = None,
) -> None:
    """Scatters embedded images, `[N, 2]`, each of up to ten identities named at its median.

    Names that would cover each other are moved apart, so the figure should have its final size; a
    line leads from a moved name to its median. `axis` says what the two axes are: coordinates of
    the embedding, or principal axes. Views `within` the same points, `[M, 2]`, have one scale.
    """
    names = np.unique(labels)
    if within is not None:
        ax.update_datalim(within)
    scatter_identities(ax, points, labels, s=9, alpha=0.5, linewidths=0)
    ax.set(title=title, xlabel=f"first {axis}", ylabel=f"second {axis}")
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
    """Draws a training log: loss, active share; norms, entries of the embeddings and distances.

    The panel of the loss shows the height at which all images lie in one point: the margin, or ln 2
    for `"soft"`. The history has at least ten steps.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), appendix D.
    """
    rows: Any = [["loss"] * 3 + ["active"] * 3, ["norm"] * 2 + ["entry"] * 2 + ["distance"] * 2]
    figure, panels = plt.subplot_mosaic(rows, figsize=(10, 7.2), layout="constrained")
    loss, active = panels["loss"], panels["active"]
    steps, collapsed = history["step"], _collapsed_loss(margin)
    loss.plot(steps, history["loss"], color=SKY, lw=0.7, label="each step")
    loss.plot(*_known(history, "mean_loss_100"), color=BLUE, lw=2, marker=".", label="mean of 100")
    loss.axhline(collapsed, color=BLACK, ls=":", label=f"all in one point: {collapsed:.3g}")
    loss.set(title="Loss", ylabel="loss", ylim=(0, None))
    active.plot(steps, history["active_fraction"], color=ORANGE, lw=0.7)
    active.set(title="Active triplets", ylabel="share of triplets", ylim=(0, 1.02))
    for spread, title in _SPREADS.items():
        _draw_percentiles(panels[spread], history, spread)
        panels[spread].set_title(title)
    for ax in panels.values():
        ax.set_xlabel("step")
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
    for ax in (loss, panels["entry"]):
        ax.legend(**below, borderaxespad=0, ncols=3, fontsize="small", frameon=False)
    return figure


def draw_histories(runs: Mapping[str, tuple[History, Margin]]) -> Figure:
    """Draws how up to seven trainings leave, or do not leave, the loss of a single point.

    Left, how far the loss (mean of ten steps) is above or below that of all images in one point,
    the margin or ln 2 for `"soft"`, as a share of it; logarithmic but for the stretch around 0.
    Right, the median distance in the batch. `runs` has the log and the margin of each name.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), appendix D.
    """
    figure, (losses, distances) = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    for (name, (history, margin)), (colour, marker, _) in zip(runs.items(), SERIES, strict=False):
        look: dict[str, Any] = {"color": colour, "marker": marker, "markevery": 0.15, "lw": 1.5}
        smooth = np.convolve(history["loss"], np.ones(10) / 10, mode="valid")
        gap = smooth / _collapsed_loss(margin) - 1
        losses.plot(history["step"][-len(smooth) :], gap, **look)
        distances.plot(*_known(history, "distance_p50"), label=name, **look)
    point = losses.axhline(0, color=BLACK, ls=":", label="all in one point (left)")
    losses.set(
        title="Loss above or below a single point's", ylabel="share of a single point's loss"
    )
    losses.set_yscale("symlog", linthresh=1e-3)
    losses.yaxis.set_major_formatter(lambda share, _: f"{100 * share:+g} %")
    losses.set(xlabel="step", ylim=(-1, 3))
    distances.set(title="Median distance in the batch", ylabel="distance (log scale)")
    distances.set(xlabel="step", yscale="log", ylim=(1e-4, 5))
    lines = [*distances.lines, point]
    figure.legend(handles=lines, loc="outside lower center", ncols=min(4, len(lines)))
    return figure


def _collapsed_loss(margin: Margin) -> float:
    """The loss when all images lie in one point."""
    return triplet_losses(torch.zeros(()), margin)[0].item()


def _draw_percentiles(ax: Axes, history: History, spread: str) -> None:
    columns = [_known(history, f"{spread}_p{percent}") for percent in PERCENTILES]
    steps, (low, lower, median, upper, high) = columns[0][0], [values for _, values in columns]
    ax.fill_between(steps, low, high, color=BLUE, alpha=0.25, lw=0, label="0 to 100 %")
    ax.fill_between(steps, lower, upper, color=BLUE, alpha=0.45, lw=0, label="5 to 95 %")
    ax.plot(steps, median, color=BLACK, label="median")


def _known(history: History, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the rows in which a column has a value."""
    known = ~np.isnan(history[column])
    return history["step"][known], history[column][known]


class EmbeddingFilm:
    """A callback for `fit` that embeds held-out images after every epoch and draws them.

    Each epoch's scatter is saved as `scatter/epoch_001.png` and so on in the run folder, in place
    of an earlier film's, and the accuracy as a line of `accuracy.csv`; in an open notebook one
    picture moves with the training. The accuracy is the share of `held_out` images whose identity
    most of their five nearest `reference` images have, a few thousand at most.

    Attributes:
        points: after each epoch, the held-out images in the plane, `[N, 2]`.
        accuracies: after each epoch, from the embeddings in all their dimensions.
    """

    def __init__(
        self, held_out: LabelledImages, reference: LabelledImages, run_folder: AnyPath
    ) -> None:
        self.held_out, self.reference = held_out, reference
        self.points: list[np.ndarray] = []
        self.accuracies: list[float] = []
        self._titles: list[str] = []
        self._files: list[Path] = []
        run_folder = from_repository(run_folder)
        self._folder = run_folder / "scatter"
        self._folder.mkdir(parents=True, exist_ok=True)
        for earlier in self._folder.glob("epoch_*.png"):
            earlier.unlink()
        self._accuracy_file = run_folder / "accuracy.csv"
        self._write_accuracy("w", "epoch", "step", "accuracy")
        self._screen = _Screen()

    def __call__(self, report: EpochReport) -> None:
        """Adds the frame of one epoch."""
        known = embed(report.model, self.reference.images)
        embeddings = embed(report.model, self.held_out.images)
        classifier = KNeighborsClassifier(NEIGHBOURS).fit(known, self.reference.labels)
        self.accuracies.append(classifier.score(embeddings, self.held_out.labels))
        self._write_accuracy("a", report.epoch, report.step, self.accuracies[-1])
        self.points.append(to_plane(embeddings, self.points[-1] if self.points else None))
        self._titles.append(
            f"Held-out digits, epoch {report.epoch} of {report.epochs}\n"
            f"{NEIGHBOURS}-NN accuracy {self.accuracies[-1]:.1%}"
        )
        self._files.append(self._folder / f"epoch_{report.epoch:03d}.png")
        self._axis = "coordinate" if embeddings.shape[1] == 2 else "principal axis"
        self._screen.show(self._draw(-1, self.points[-1]))

    def _draw(self, frame: int, within: np.ndarray) -> Figure:
        """Draws and saves a frame, on axes that hold the points `within`, `[M, 2]`."""
        figure, ax = plt.subplots(figsize=(4.6, 4.6), dpi=80)
        points, title = self.points[frame], self._titles[frame]
        draw_embedding(ax, points, self.held_out.labels, title, self._axis, within)
        figure.savefig(self._files[frame])
        return figure

    def _write_accuracy(self, mode: Literal["w", "a"], *cells: object) -> None:
        file = self._accuracy_file
        with explained_writing(file), file.open(mode, newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerow(cells)

    def save_animation(self, seconds_per_frame: float = 0.5) -> Path:
        """Draws all epochs at one scale and joins them into `scatter.png`, an animated PNG.

        A viewer that cannot play it shows the last frame. A ValueError before the first epoch ends.
        """
        if not self.points:
            raise ValueError(f"no frames in {self._folder}: train for at least one epoch first")
        everywhere = np.concatenate(self.points)
        for frame in range(len(self.points)):
            plt.close(self._draw(frame, everywhere))
        # One palette for all frames: an animated PNG of palette images is much smaller.
        palette = _palette()
        frames = [
            Image.open(file).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
            for file in self._files
        ]
        durations = [1000 * seconds_per_frame] * (len(frames) - 1) + [2000]
        options: dict[str, Any] = {"default_image": True, "duration": durations, "loop": 0}
        file = self._folder.parent / "scatter.png"
        frames[-1].save(file, save_all=True, append_images=frames, **options)
        return file


class LiveCurves:
    """A callback for `fit` that keeps the curves of the log on the screen.

    It draws every few seconds, and at once when a run is resumed, but only in a notebook that
    somebody has open; headless, the lines of `fit` tell. For the margin see `draw_history`.
    """

    between_epochs = True  # see `fit`

    def __init__(self, margin: Margin) -> None:
        self.margin = margin
        self._screen = _Screen()

    def __call__(self, report: EpochReport) -> None:
        """Draws the log as far as it goes."""
        if in_live_notebook() and len(report.history) >= report.history.detail_every:
            figure = draw_history(report.history, self.margin)
            figure.suptitle(str(report))
            self._screen.show(figure)


def _palette() -> Image.Image:
    """What a scatter is made of: ten colours, each in eight shades towards white, and greys."""
    colours = 255 * np.array([to_rgb(colour) for colour in TEN_COLOURS])  # [10, 3]
    strength = np.linspace(1, 0, 8, endpoint=False)[:, None, None]
    shades = (strength * colours + (1 - strength) * 255).reshape(-1, 3)  # [80, 3]
    greys = np.linspace(0, 255, 16)[:, None].repeat(3, axis=1)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([shades, greys]).round().astype(np.uint8).tobytes())
    return palette


class _Screen:
    """One place in an open notebook's output, where each figure replaces the one before."""

    def __init__(self) -> None:
        self._display = None

    def show(self, figure: Figure) -> None:
        """Shows a figure where somebody watches, and closes it."""
        if in_live_notebook():
            from IPython.display import display

            if self._display is None:
                self._display = display(figure, display_id=True)
            else:
                self._display.update(figure)
        plt.close(figure)


def to_plane(embeddings: np.ndarray, previous: np.ndarray | None = None) -> np.ndarray:
    """Embeddings `[N, D]` as points `[N, 2]`: as they are if D is 2, else by PCA.

    A principal axis has no sign, so the view is turned and mirrored to lie as `previous` does, an
    earlier view of the same images, `[N, 2]`. A ValueError if D is 1.
    """
    if embeddings.shape[1] < 2:
        raise ValueError(f"a view in the plane needs at least 2 dimensions, got {embeddings.shape}")
    if embeddings.shape[1] == 2:
        return embeddings
    points = PCA(n_components=2).fit_transform(embeddings)
    if previous is None:
        return points
    rotation, _ = orthogonal_procrustes(points, previous - previous.mean(0))
    return points @ rotation
