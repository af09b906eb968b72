"""The map of the gallery and the precision-recall curve as Jupyter widgets."""

from collections.abc import Callable, Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets
from sklearn.decomposition import PCA

from tripletlib.embedding import EmbeddingTable
from tripletlib.evaluation import Place, RankedGallery
from tripletlib.widgets.pictures import STYLE_SHEET, on_pointing, page_file


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


def short(points: np.ndarray) -> list[Any]:
    """Coordinates as a page gets them: four digits are finer than it can draw."""
    return np.round(points.astype(float), 4).tolist()


def map_kinds(gallery: EmbeddingTable) -> dict[str, list[int]]:
    """What the map's dots may be coloured by: a number for each picture, counted from 0."""
    kinds = {"camera": gallery.camids, "person": gallery.pids}
    return {name: np.unique(k, return_inverse=True)[1].tolist() for name, k in kinds.items()}


class GalleryMap(anywidget.AnyWidget):
    """A scatter of the gallery in the plane, to be zoomed and clicked; query and answers stand out.

    The dots may be coloured by what `kinds` holds, see `map_kinds`. `on_hover` and `on_choose` are
    called with the key of the dot under the mouse or clicked (an empty one once the mouse has
    left); the first may `describe` it.
    """

    _esm = page_file("gallery_map.js")
    _css = STYLE_SHEET
    points: traitlets.List[list[float]] = traitlets.List().tag(sync=True)
    kinds: Any = traitlets.Dict().tag(sync=True)
    answers: traitlets.List[tuple[int, str]] = traitlets.List().tag(sync=True)
    query: traitlets.List[float] = traitlets.List([0.0, 0.0]).tag(sync=True)
    linked = traitlets.Unicode().tag(sync=True)  # key of a picture that is ringed for the moment
    tip: Any = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        plane: GalleryPlane,
        kinds: dict[str, list[int]],
        on_choose: Callable[[str], None],
        on_hover: Callable[[str], None],
    ) -> None:
        super().__init__(points=short(plane.points), kinds=kinds)
        self._plane = plane
        on_pointing(self, on_choose, on_hover)

    def show(self, query: np.ndarray, places: Sequence[Place]) -> None:
        """Marks a query, by its embedding `[D]`, and its answers."""
        with self.hold_sync():
            self.query = short(self._plane.project(query[None]))[0]
            self.answers = [(place.index, str(place.verdict)) for place in places]

    def describe(self, key: str, src: str, text: str) -> None:
        """Shows a picture and its name beside the dot with the key, if the mouse is still there."""
        self.tip = {"key": key, "src": src, "text": text}


class PrecisionRecallCurve(anywidget.AnyWidget):
    """Up to two curves, by distance and re-ranked; each is a list of recall and precision."""

    _esm = page_file("curve.js")
    _css = STYLE_SHEET
    curves: traitlets.List[list[Any]] = traitlets.List().tag(sync=True)

    def show(self, *rankings: RankedGallery | None) -> None:
        """Draws the curves by distance and re-ranked; None for no curve."""
        curves = [ranked.curve() for ranked in rankings if ranked is not None]
        self.curves = [short(np.column_stack(curve)) for curve in curves if curve is not None]
