"""Follows a training with pictures: the scatter of unseen images, or the curves of the log."""

import csv
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from tripletlib.datasets import LabelledImages
from tripletlib.embedding import embed
from tripletlib.losses import Margin
from tripletlib.plots.style import TEN_COLOURS
from tripletlib.plots.training import draw_embedding, draw_history
from tripletlib.runtime import AnyPath, explained_writing, from_repository, in_live_notebook
from tripletlib.training import EpochReport

NEIGHBOURS = 5  # k of the k-NN classifier


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
