"""Figures for person re-identification: pictures of people, LuNet, ranked results.

Each takes the title from its caller, who knows what the pictures are: drawn pedestrians must be
called synthetic wherever they are shown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import nn

from tripletlib.models import LuNet
from tripletlib.plots.training import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    TEN_COLOURS,
    TEN_MARKERS,
    VERMILION,
)

Verdict = Literal["right", "wrong", "junk"]
# Mark, colour and line of the frame.
LOOKS: dict[Verdict, tuple[str, str, Any]] = {
    "right": ("✓", GREEN, "-"),
    "wrong": ("✗", VERMILION, (0, (2, 1))),
    "junk": ("–", GREY, ":"),
}


def draw_contact_sheet(
    images: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    axis_titles: tuple[str, str] = ("identity", "camera"),
    inches: float = 0.5,
) -> Figure:
    """Draws pictures as a table without gaps.

    Args:
        images: uint8 `[R * C, 3, H, W]`, row by row.
        rows: R names, at the left.
        columns: C names, above.
        title: stands above the table.
        axis_titles: what the rows and what the columns are.
        inches: width of a picture.
    """
    height, width = images.shape[2:]
    table = images.reshape(len(rows), len(columns), 3, height, width)
    sheet = table.transpose(0, 3, 1, 4, 2).reshape(len(rows) * height, len(columns) * width, 3)
    size = (len(columns) * inches + 1, len(rows) * inches * height / width + 1)
    figure, ax = plt.subplots(figsize=size)
    ax.imshow(sheet)
    _clear(ax)
    ax.set_xticks(width * (np.arange(len(columns)) + 0.5), columns)
    ax.set_yticks(height * (np.arange(len(rows)) + 0.5), rows)
    ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    ax.set(ylabel=axis_titles[0], xlabel=axis_titles[1])
    ax.xaxis.set_label_position("top")
    figure.suptitle(title)
    return figure


@dataclass(frozen=True)
class Ranking:
    """A query and the pictures that a network holds to be nearest.

    Attributes:
        query: uint8 `[3, H, W]`.
        found: uint8 `[k, 3, H, W]`, the nearest first.
        right: bool `[k]`.
        captions: k short texts.
        name: names the query.
        ranks: int `[k]`, the place that each has in the ranked list; 0 for junk, which the protocol
            skips. None: places 1 to k.
    """

    query: np.ndarray
    found: np.ndarray
    right: np.ndarray
    captions: Sequence[str]
    name: str
    ranks: np.ndarray | None = None


def draw_rankings(rankings: Sequence[Ranking], title: str) -> Figure:
    """Draws queries with their ranked results, one query a row.

    Right answers have a solid green frame and a tick, wrong ones a dashed red frame and a cross;
    junk is faded behind a dotted grey frame.

    Args:
        rankings: all of the same length.
        title: stands above.
    """
    columns = 1 + len(rankings[0].found)
    size = (columns * 0.64, len(rankings) * 1.45 + 0.4)
    figure, axes = plt.subplots(
        len(rankings), columns, figsize=size, squeeze=False, layout="constrained"
    )
    for row, ranking in zip(axes, rankings, strict=True):
        show_picture(row[0], ranking.query)
        row[0].set_title(ranking.name, fontsize=9)
        places = ranking.ranks if ranking.ranks is not None else range(1, columns)
        for ax, image, good, place, caption in zip(
            row[1:], ranking.found, ranking.right, places, ranking.captions, strict=True
        ):
            verdict: Verdict = "junk" if place == 0 else "right" if good else "wrong"
            draw_answer(ax, image, verdict, f"{place or ''}\n{caption}")
    figure.suptitle(title)
    return figure


def draw_answer(ax: Axes, image: np.ndarray, verdict: Verdict, text: str) -> Axes:
    """Draws a picture in the frame of its verdict, its mark and place above, the rest below.

    Args:
        ax: where to draw.
        image: uint8 `[3, H, W]`.
        verdict: `"right"`, `"wrong"` or `"junk"`.
        text: the first line stands behind the mark, above the picture; the others under it.
    """
    mark, colour, line = LOOKS[verdict]
    show_picture(ax, image)
    ax.images[0].set_alpha(0.35 if verdict == "junk" else 1)
    ax.spines[:].set(visible=True, color=colour, lw=3, ls=line, capstyle="butt")
    place, _, caption = text.partition("\n")
    ax.set_title(f"{mark} {place}", fontsize=9, color=colour)
    ax.set_xlabel(caption, fontsize=9, color=colour)
    return ax


def show_picture(ax: Axes, image: np.ndarray) -> None:
    """Shows a picture without ticks and frame.

    Args:
        ax: where to draw.
        image: uint8 `[3, H, W]`.
    """
    ax.imshow(image.transpose(1, 2, 0))
    _clear(ax)


def draw_people(ax: Axes, points: np.ndarray, pids: np.ndarray, title: str) -> Axes:
    """Scatters pictures of people in the plane; a legend names them.

    Args:
        ax: where to draw.
        points: `[N, 2]`; only their neighbourhood has a meaning, so the axes get no numbers.
        pids: `[N]`, at most ten different ones.
        title: stands above the axes.
    """
    for position, pid in enumerate(np.unique(pids)):
        mine = points[pids == pid]
        ax.scatter(
            mine[:, 0],
            mine[:, 1],
            s=28,
            color=TEN_COLOURS[position],
            marker=TEN_MARKERS[position],
            edgecolors="white",
            linewidths=0.3,
            label=str(pid),
        )
    ax.set(title=title, xticks=[], yticks=[])
    return ax


@dataclass(frozen=True)
class Stage:
    """A layer of a network and what comes out of it.

    Attributes:
        kind: what the layer does.
        channels: features that come out.
        size: height and width of the map that comes out; None behind the last map.
    """

    kind: str
    channels: int
    size: tuple[int, int] | None


STAGES = {
    nn.Conv2d: "convolution",
    nn.MaxPool2d: "max-pooling",
    nn.Flatten: "flatten",
    nn.Linear: "linear",
}
KIND_COLOURS = {
    "convolution": PURPLE,
    "residual block": BLUE,
    "max-pooling": ORANGE,
    "flatten": SKY,
    "linear": GREEN,
}


def trace(model: LuNet) -> list[Stage]:
    """Sends an empty image through a LuNet and notes the shape behind every layer.

    Batch-normalisations and ReLUs between the layers change no shape and are left out.

    Args:
        model: its weights and its mode stay as they are.
    """
    stages: list[Stage] = []

    def note(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        kind = STAGES.get(type(layer), "residual block")
        size = tuple(output.shape[2:]) if output.ndim == 4 else None
        stages.append(Stage(kind, output.shape[1], size))  # type: ignore[arg-type]

    layers = [
        layer
        for layer in (*model.body, *model.head)
        if type(layer) in STAGES or hasattr(layer, "residual")
    ]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    was_training = model.training
    device = next(model.parameters()).device
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, *model.image_size, device=device))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return stages


def draw_network(model: LuNet, title: str) -> Figure:
    """Draws a LuNet layer by layer: height stands for the map's height, width for channels.

    Channels stand above each layer, height x width of the map below wherever it changes.

    Args:
        model: any width and image size.
        title: stands above.
    """
    image = Stage("image", 3, (model.image_size[0], model.image_size[1]))
    stages = [image, *trace(model)]
    figure, ax = plt.subplots(figsize=(11, 3.4))
    left, before = 0.0, None
    for stage in stages:
        width, height = 0.35 + 0.09 * math.log2(stage.channels), _drawn_height(stage, image)
        colour = KIND_COLOURS.get(stage.kind, "white")
        box = Rectangle((left, -height / 2), width, height, fc=colour, ec="black", lw=0.6)
        ax.add_patch(box)
        middle = left + width / 2
        ax.annotate(str(stage.channels), (middle, height / 2), (0, 3), ha="center",
                    textcoords="offset points", fontsize=9)  # fmt: skip
        if stage.size and stage.size != before:
            text = f"{stage.size[0]}×{stage.size[1]}"
            ax.annotate(text, (middle, -height / 2), (0, -12), ha="center",
                        textcoords="offset points", fontsize=9, color="#444444")  # fmt: skip
        left, before = left + width + 0.22, stage.size
    ax.set(xlim=(-0.3, left), ylim=(-0.62, 0.62), title=title)
    _clear(ax)
    handles = [Patch(fc=colour, ec="black", label=kind) for kind, colour in KIND_COLOURS.items()]
    ax.legend(handles=handles, loc="lower right", ncols=3, frameon=False, fontsize=9)
    return figure


def _drawn_height(stage: Stage, image: Stage) -> float:
    if stage.size is None or image.size is None:
        return 0.3
    return math.sqrt(stage.size[0] / image.size[0])


def _clear(ax: Axes) -> None:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.grid(False)
