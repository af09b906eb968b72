"""Pictures of ranked results: a query and its answers, before and after re-ranking.

Two protocols say what counts. Market-1501's is the honest one. The original TensorFlow project's is
kinder: it makes a network look better than it is, and is here so that its pictures can be compared.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tripletlib.distances import pairwise_distances
from tripletlib.evaluation import RankedGallery, rank_gallery
from tripletlib.experiments import Retrieval
from tripletlib.plots.people import Ranking, draw_rankings
from tripletlib.plots.style import (
    BLACK,
    BLUE,
    PICTURE_DPI,
    SERIES,
    SKY,
    draw_answer,
    literal,
    show_picture,
)
from tripletlib.reranking import k_reciprocal
from tripletlib.runtime import AnyPath, from_repository

Protocol = Literal["market1501", "original"]
PROTOCOLS: dict[Protocol, str] = {
    "market1501": "Market-1501's protocol: same person, same camera is junk",
    "original": "the TensorFlow original's protocol: same camera is right, no distractors",
}


def compute_distances(
    retrieval: Retrieval, k1: int, k2: int, lambda_value: float
) -> dict[str, np.ndarray]:
    """The queries' distances, `[Q, G]`: Euclidean `"before"`, `"re-ranked"` by `k_reciprocal`."""
    query, gallery = retrieval.query.embeddings, retrieval.gallery.embeddings
    before = pairwise_distances(torch.from_numpy(query), torch.from_numpy(gallery)).numpy()
    return {"before": before, "re-ranked": k_reciprocal(query, gallery, k1, k2, lambda_value)}


def rank(
    retrieval: Retrieval, index: int, distances: np.ndarray, protocol: Protocol = "market1501"
) -> RankedGallery:
    """Ranks the gallery for the query `index` by its distances, `[G]`; see `rank_gallery`.

    Beside pid -1, Market-1501's protocol takes the query's person in the query's camera for junk;
    the original's takes the distractors (pid 0), and raises the AP. Another is a ValueError.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {tuple(PROTOCOLS)}, got {protocol!r}")
    query, gallery, honest = retrieval.query, retrieval.gallery, protocol == "market1501"
    labels = int(query.pids[index]), gallery.pids, int(query.camids[index]), gallery.camids
    return rank_gallery(distances, *labels, camera_filter=honest, rank_distractors=honest)


def draw_before_after(
    retrieval: Retrieval,
    index: int,
    distances: Mapping[str, np.ndarray],
    top_k: int = 10,
    protocol: Protocol = "market1501",
) -> Figure:
    """Draws the query `index` and its first `top_k` places under several distances, row by row.

    `distances` are `[Q, G]` by name, as `compute_distances` gives them. The protocol says what is
    junk, see `rank`, and the title names it.
    """
    rankings, image = [], retrieval.query_images[index]
    for name, table in distances.items():
        ranked = rank(retrieval, index, table[index], protocol)
        precision = ranked.average_precision  # by the rectangle rule
        score = "no right answer" if np.isnan(precision) else f"AP {precision:.1%}"
        found = Ranking.of(retrieval, image, ranked, f"{name}\n{score}", top_k)
        rankings.append(found)
    who = f"person {retrieval.person(retrieval.query.pids[index])}"
    where = f"camera {retrieval.camera(retrieval.query.camids[index])}"
    title = f"{retrieval.name}\nquery {index}: {who}, {where}\n{PROTOCOLS[protocol]}"
    figure = draw_rankings(rankings, "")
    width, height = figure.get_size_inches()
    figure.set_size_inches(1.25 * width, 1.5 * height)  # few pictures, which are compared
    figure.suptitle(literal(title), fontsize=11)
    return figure


def save_ranking_pictures(
    retrieval: Retrieval,
    distances: Mapping[str, np.ndarray],
    folder: AnyPath,
    n_query: int,
    top_k: int = 10,
    protocol: Protocol = "market1501",
    seed: int = 0,
) -> list[Path]:
    """Saves what `draw_before_after` draws for `n_query` random queries, or all if there are fewer.

    The seed chooses them; the files, `query_00042.png` and so on, go to the folder, which is made
    if it is missing, and are returned in the order of the queries.

    Source:
        The original project's `viz_ranking`.
    """
    folder = from_repository(folder)
    folder.mkdir(parents=True, exist_ok=True)
    queries = len(retrieval.query)
    chosen = np.random.default_rng(seed).choice(queries, min(n_query, queries), replace=False)
    files = []
    for index in sorted(map(int, chosen)):
        figure = draw_before_after(retrieval, index, distances, top_k, protocol)
        files.append(folder / f"query_{index:05d}.png")
        figure.savefig(files[-1], dpi=150, bbox_inches="tight")
        plt.close(figure)
    return files


def draw_hardest(
    retrieval: Retrieval, distances: np.ndarray, indices: Sequence[int], title: str
) -> Figure:
    """Draws queries with their nearest wrong and their farthest right answer, one a column.

    `indices` are the queries, `distances` `[Q, G]`. A place stays empty where there is no answer.

    Source:
        After the hardest queries of Hermans et al. 2017 (arXiv 1703.07737).
    """
    columns = len(indices)
    size = (columns * 0.9 + 0.8, 5.8)
    figure, axes = plt.subplots(
        3, columns, figsize=size, dpi=PICTURE_DPI, squeeze=False, layout="constrained"
    )
    for column, index in zip(axes.T, indices, strict=True):
        show_picture(column[0], retrieval.query_images[index])
        column[0].set_title(f"query {index}", fontsize=9)
        ranked = rank(retrieval, index, distances[index])
        places = ranked.nearest_wrong(), ranked.farthest_right()
        for ax, place in zip(column[1:], places, strict=True):
            if place is None:
                ax.axis("off")
                continue
            image, caption = retrieval.gallery_images[place.index], f"{place.distance:.3g}"
            draw_answer(ax, image, place.verdict, str(place.rank), caption)
    for ax, name in zip(axes[:, 0], ("query", "nearest wrong", "farthest right"), strict=True):
        ax.set_ylabel(name)
    figure.suptitle(title)
    return figure


_LARGEST_DISC = 27  # its width in points of the page


def draw_members(
    ax: Axes,
    points: np.ndarray,
    names: Sequence[str],
    groups: Mapping[str, Sequence[int]],
    title: str,
) -> None:
    """Draws points of the plane, `[N, 2]`, with N short names, and marks groups of them.

    `groups` are at most seven: the name for the legend and the points that belong to it. A point in
    several has several rings.
    """
    _draw_points(ax, points, names, title)
    for ring, ((name, members), look) in enumerate(zip(groups.items(), SERIES, strict=False)):
        x, y = points[list(members)].T
        rings = ax.scatter(x, y, s=110 + 130 * ring, marker=look[1], lw=2, label=name)
        rings.set(facecolors="none", edgecolors=look[0])


def draw_values(
    ax: Axes, points: np.ndarray, names: Sequence[str], values: np.ndarray, title: str
) -> None:
    """Draws points of the plane, `[N, 2]`, with N short names, in discs whose areas are `values`.

    These are `[N]`, not negative, and written behind the names, unless they are below a tenth of
    the largest: small discs often stand close together.
    """
    shares = values / max(float(values.max()), 1e-12)
    texts = [
        f"{name} {value:.2f}" if share >= 0.1 else name
        for name, value, share in zip(names, values, shares, strict=True)
    ]
    widths = _LARGEST_DISC * np.sqrt(shares)  # points of the page
    _draw_points(ax, points, texts, title, np.maximum(widths / 2 + 3, 7))
    ax.scatter(points[:, 0], points[:, 1], s=widths**2, color=SKY, edgecolors=BLUE, alpha=0.5)


def _draw_points(
    ax: Axes, points: np.ndarray, texts: Sequence[str], title: str, heights: Any = 9.0
) -> None:
    """Draws the points and writes each text some points of the page above its own."""
    ax.scatter(points[:, 0], points[:, 1], s=22, color=BLACK, zorder=3)
    heights = np.broadcast_to(heights, len(points))
    for point, text, height in zip(points, texts, heights, strict=True):
        ax.annotate(text, point, (0, height), textcoords="offset points", ha="center", fontsize=10)
    ax.set(title=title, xticks=[], yticks=[])
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.12)
    ax.spines[:].set_visible(False)
