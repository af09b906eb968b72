"""Figures for person re-identification: pictures of people, LuNet, ranked results.

Each takes the title from its caller, who knows what the pictures are: drawn pedestrians must be
called synthetic wherever they are shown.
"""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Self

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from torch import nn

from tripletlib.evaluation import Place, RankedGallery, Verdict
from tripletlib.experiments import Retrieval
from tripletlib.models import LuNet
from tripletlib.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PICTURE_DPI,
    PURPLE,
    SKY,
    clear_axes,
    draw_answer,
    literal,
    scatter_identities,
    show_picture,
)


def draw_contact_sheet(
    images: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    axis_titles: tuple[str, str] = ("identity", "camera"),
    inches: float = 0.5,
) -> Figure:
    """Draws pictures, uint8 `[R * C, 3, H, W]`, row by row as a table without gaps.

    `rows` and `columns` are R and C names, `axis_titles` says of what. A picture is `inches` wide.
    """
    height, width = images.shape[2:]
    table = images.reshape(len(rows), len(columns), 3, height, width)
    sheet = table.transpose(0, 3, 1, 4, 2).reshape(len(rows) * height, len(columns) * width, 3)
    size = (len(columns) * inches + 1, len(rows) * inches * height / width + 1)
    figure, ax = plt.subplots(figsize=size, dpi=PICTURE_DPI)
    ax.imshow(sheet)
    clear_axes(ax)
    ax.set_xticks(width * (np.arange(len(columns)) + 0.5), [*map(literal, columns)])
    ax.set_yticks(height * (np.arange(len(rows)) + 0.5), [*map(literal, rows)])
    ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    ax.set(ylabel=axis_titles[0], xlabel=axis_titles[1])
    ax.xaxis.set_label_position("top")
    figure.suptitle(title)
    return figure


def draw_batch(images: np.ndarray, labels: np.ndarray, title: str) -> Figure:
    """Draws a P x K batch of digits, uint8 `[P * K, 1, H, W]`, one identity a row.

    In `labels`, `[P * K]`, the K of each identity follow each other.
    """
    names = [str(label) for label in dict.fromkeys(labels)]
    columns = [""] * (len(images) // len(names))
    ink = 255 - images.repeat(3, axis=1)
    return draw_contact_sheet(ink, names, columns, title, ("identity (here: the digit)", ""))


@dataclass(frozen=True)
class Ranking:
    """A query and its answers, the k nearest pictures.

    Attributes:
        query: uint8 `[3, H, W]`.
        found: uint8 `[k, 3, H, W]`, the nearest first.
        verdicts: k keys of `VERDICT_STYLES`.
        captions: k texts, below the pictures.
        name: stands above the query.
        places: k texts, above the pictures. None: the ranks, from 1, which junk has none of.
    """

    query: np.ndarray
    found: np.ndarray
    verdicts: Sequence[str]
    captions: Sequence[str]
    name: str
    places: Sequence[str] | None = None

    @classmethod
    def of(
        cls,
        retrieval: Retrieval,
        query: np.ndarray,
        ranked: RankedGallery,
        name: str,
        count: int,
        show_junk: bool = False,
        before: np.ndarray | None = None,
    ) -> Self:
        """The first `count` places of a ranked gallery.

        With the ranks of an earlier ranking, `[G]`, it is said how far each picture has moved.
        """
        places = ranked.top(count, show_junk)[:count]
        found = [place.index for place in places]
        cameras = map(retrieval.camera, retrieval.gallery.camids[found])
        captions = [f"{place.distance:.3g}" for place in places]
        if retrieval.labelled:
            labels = zip(cameras, captions, strict=True)
            captions = [f"cam. {camera}\n{distance}" for camera, distance in labels]
        ways = ["" if before is None else moved_by(place, before) for place in places]
        texts = [f"{p.rank or 'junk'}  {way}".strip() for p, way in zip(places, ways, strict=True)]
        images, verdicts = retrieval.gallery_images[found], [place.verdict for place in places]
        return cls(query, images, verdicts, captions, name, texts)


def moved_by(place: Place, before: np.ndarray) -> str:
    """How many ranks a picture of the re-ranked list went up or down; empty for junk.

    `before` holds the rank of each gallery picture by distance, `[G]`.
    """
    up = int(before[place.index]) - place.rank
    if not place.rank:
        return ""
    return f"{'▲' if up > 0 else '▼'}{abs(up)}" if up else "="


def draw_rankings(rankings: Sequence[Ranking], title: str) -> Figure:
    """Draws queries with their answers, one query a row, framed and marked by verdict."""
    columns = 1 + max(len(ranking.found) for ranking in rankings)
    size = (columns * 0.64, len(rankings) * 1.45 + 0.4)
    figure, axes = plt.subplots(
        len(rankings), columns, figsize=size, dpi=PICTURE_DPI, squeeze=False, layout="constrained"
    )
    for row, ranking in zip(axes, rankings, strict=True):
        draw_ranking(row, ranking)
    figure.suptitle(title)
    return figure


def draw_ranking(axes: Sequence[Axes], ranking: Ranking) -> None:
    """Draws a query and its answers on a row of axes; those left over stay empty."""
    show_picture(axes[0], ranking.query)
    axes[0].set_title(literal(ranking.name), fontsize=9)
    ranks = np.cumsum([verdict != Verdict.JUNK for verdict in ranking.verdicts])
    for place, ax in enumerate(axes[1:]):
        if place >= len(ranking.found):
            ax.axis("off")
            continue
        verdict = ranking.verdicts[place]
        text = "junk" if verdict == Verdict.JUNK else str(ranks[place])
        text = text if ranking.places is None else ranking.places[place]
        draw_answer(ax, ranking.found[place], verdict, text, ranking.captions[place])


def draw_people(
    ax: Axes, points: np.ndarray, pids: np.ndarray, title: str, name: Callable[[int], str] = str
) -> None:
    """Scatters pictures of up to ten people, `[N, 2]`, for a legend that names their pids, `[N]`.

    Only who is near to whom has a meaning, so the axes get no numbers. `name` gives what to call a
    pid, such as `ReidDataset.person`.
    """
    scatter_identities(ax, points, pids, name, s=28, edgecolors="white", linewidths=0.3)
    ax.set(title=title, xticks=[], yticks=[])


_LAYERS: dict[type[nn.Module], tuple[str, str]] = {  # what a layer does, and its colour
    nn.Conv2d: ("convolution", PURPLE),
    nn.MaxPool2d: ("max-pooling", ORANGE),
    nn.Flatten: ("flatten", SKY),
    nn.Linear: ("linear", GREEN),
}
_RESIDUAL = ("residual block", BLUE)
_SUM: dict[str, Any] = {"ls": "", "color": BLACK, "marker": "$\\oplus$", "ms": 9}


def draw_network(model: LuNet, title: str) -> Figure:
    """Draws a LuNet layer by layer: height stands for the map's height, width for channels.

    A vector is as high as a map of 1 x 1. Channels stand above each layer, height x width of the
    map below wherever it changes; a line round a residual block leads to the sum behind it.
    Batch-normalisations and ReLUs, which change no shape, are left out. The network stays as it is.
    """
    height = model.image_size[0]
    figure, ax = plt.subplots(figsize=(11, 3.4))
    left, before = 0.0, list[int]()
    line: dict[str, Any] = {"color": BLACK, "lw": 1, "zorder": 0}
    note: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 9}
    for colour, (channels, *size) in [("white", (3, *model.image_size)), *_trace(model)]:
        box_width = 0.35 + 0.09 * math.log2(channels)
        box_height = math.sqrt((size[0] if size else 1) / height)
        corner, middle = (left, -box_height / 2), left + box_width / 2
        ax.add_patch(Rectangle(corner, box_width, box_height, fc=colour, ec="black", lw=0.6))
        round_it = box_height / 2 + 0.04  # of a residual block: its input's way to the sum
        if colour == _RESIDUAL[1]:
            start, end = left - 0.15, left + box_width + 0.15
            ax.plot([start, start, end, end], [0, round_it, round_it, 0], **line)
            ax.plot(end, 0, **_SUM)
        ax.annotate(str(channels), (middle, round_it), (0, 4), **note)
        if size and size != before:
            text = f"{size[0]}×{size[1]}"
            ax.annotate(text, (middle, -box_height / 2), (0, -12), color="#444444", **note)
        left, before = left + box_width + 0.3, size
    ax.plot([0, left - 0.3], [0, 0], **line)
    ax.set(xlim=(-0.3, left), ylim=(-0.62, 0.62), title=title)
    clear_axes(ax)
    kinds = (*_LAYERS.values(), _RESIDUAL)
    handles: list[Artist] = [Patch(fc=colour, ec="black", label=kind) for kind, colour in kinds]
    handles.append(Line2D([], [], label="sum with the block's input", **_SUM))
    ax.legend(handles=handles, loc="lower right", ncols=3, frameon=False, fontsize=9)
    return figure


def _trace(model: LuNet) -> list[tuple[str, tuple[int, ...]]]:
    """Colour of every layer and the shape of what comes out: channels, and a map's two sizes."""
    copy, stages = deepcopy(model).eval(), list[tuple[str, tuple[int, ...]]]()

    def note(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        stages.append((_LAYERS.get(type(layer), _RESIDUAL)[1], tuple(output.shape[1:])))

    for layer in (*copy.body, *copy.head):
        if type(layer) in _LAYERS or hasattr(layer, "residual"):
            layer.register_forward_hook(note)
    with torch.inference_mode():
        copy(next(copy.parameters()).new_zeros(1, 3, *model.image_size))
    return stages
