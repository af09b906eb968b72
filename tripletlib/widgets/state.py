"""What the query browser knows: who is looked up, how, the way back, and the ranked gallery.

Nothing here draws; `query_browser.py` shows it. A step that fails, such as an upload that is no
picture, raises its error and changes nothing.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch

from tripletlib.datasets import decode_image
from tripletlib.distances import full_precision
from tripletlib.embedding import EmbeddingTable
from tripletlib.evaluation import (
    Place,
    RankedGallery,
    RetrievalScores,
    Verdict,
    evaluate,
    evaluate_embeddings,
    rank_gallery,
)
from tripletlib.experiments import Retrieval
from tripletlib.occlusion import occlusion_map
from tripletlib.reranking import RERANKING, NeighbourIndex
from tripletlib.runtime import AnyPath, atomic_write

Kind = Literal["query", "gallery", "upload"]  # the last are the reader's own
QueryOrder = Literal[
    "worst AP first",
    "best AP first",
    "most gained by re-ranking",
    "most lost by re-ranking",
    "as in the set",
    "random",
]
QueryFilter = Literal[
    "all queries", "first answer wrong", "gained by re-ranking", "lost by re-ranking"
]
K_MAX = 40  # the largest k1 and k2 on offer, unless a browser is opened with larger ones
NO_LABELS = (
    "nobody has said whom these pictures show, so none is right or wrong, and no score, AP or "
    "curve can be computed. Near means alike to the network"
)


@dataclass(frozen=True)
class Picture:
    """A picture that can be looked up."""

    kind: Kind
    index: int


@dataclass(frozen=True)
class Options:
    """How the gallery is ranked and shown. A value out of range is a ValueError."""

    top_k: int = 20  # ranks shown
    rerank: bool = False
    k1: int = RERANKING[0]  # neighbours that count as reciprocal, see `tripletlib.reranking`
    k2: int = RERANKING[1]  # neighbours in the query expansion
    lambda_value: float = RERANKING[2]  # weight of the original distance, from 0 to 1
    show_junk: bool = False
    compare: bool = True  # whether the list before re-ranking is shown beside the one after

    def __post_init__(self) -> None:
        for name in ("top_k", "k1", "k2"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.lambda_value <= 1:
            raise ValueError(f"lambda_value must be from 0 to 1, got {self.lambda_value}")


DEFAULTS = Options()


@dataclass(frozen=True)
class Upload:
    """A picture that the reader handed in; it stays in this process."""

    name: str  # of the file
    image: np.ndarray  # to be shown, uint8 [3, H, W]
    embedding: np.ndarray  # float32 [D]
    input: np.ndarray  # as the network takes it, uint8 [3, H, W]


@dataclass(frozen=True)
class SearchResult:
    """The gallery, ranked for a picture."""

    query: Picture
    options: Options
    before: RankedGallery  # by distance
    after: RankedGallery | None  # None without re-ranking

    @property
    def ranked(self) -> RankedGallery:
        """The ranking that counts: re-ranked if that is switched on."""
        return self.before if self.after is None else self.after

    @property
    def rankings(self) -> dict[str, RankedGallery]:
        """One or two rankings by their names."""
        named = {"by distance": self.before, "re-ranked": self.after}
        return {name: ranked for name, ranked in named.items() if ranked is not None}

    @property
    def settings(self) -> str:
        """How the gallery is re-ranked, in one line."""
        options = self.options
        return f"k1 {options.k1}, k2 {options.k2}, λ {options.lambda_value:g}"

    def place(self, rank: int) -> Place:
        """The answer at a rank; a ValueError if there is none."""
        for place in self.ranked.top(rank)[-1:]:
            if place.rank == rank:
                return place
        raise ValueError(f"there is no answer at rank {rank}")

    def top(self) -> list[Place]:
        """The places to show of the ranking that counts."""
        return self.ranked.top(self.options.top_k, self.options.show_junk)


class BrowserState:
    """Looks pictures up, one after the other; it remembers the way, and the reader's own pictures.

    It begins with `query`, by default the first one. Where there are no queries, the gallery's own
    pictures are looked up.

    Attributes:
        retrieval: queries and gallery.
        listed: where the pictures to look up come from.
        uploads: the reader's own pictures.
        way: what was looked up, in this order, and what was gone back from.
        steps_back: how many steps the way back has: the place on the way.
        k_max: the largest k1 and k2.
        result: what is to be seen now.
    """

    def __init__(
        self, retrieval: Retrieval, query: Picture | None = None, options: Options = DEFAULTS
    ) -> None:
        self.retrieval = retrieval
        self.listed: Kind = "query" if len(retrieval.query) else "gallery"
        self.uploads: list[Upload] = []
        self._gains: dict[tuple[int, int, float], np.ndarray] = {}
        self._shuffles = 0
        self.k_max = max(K_MAX, options.k1, options.k2)
        self.way, self.steps_back = [query or Picture(self.listed, 0)], 0
        self.result = self._search(self.way[0], options)

    def look_up(self, picture: Picture) -> None:
        """Ranks the gallery for a picture; what was looked up before is one step back.

        An IndexError if there is no such picture.
        """
        before = self.result.query
        self.result = self._search(picture, self.result.options)
        if picture != before:
            self.steps_back += 1
            self.way[self.steps_back :] = [picture]

    def change(self, **options: Any) -> None:
        """Changes some of the `Options`; a ValueError if one is out of range or above `k_max`."""
        self.result = self._search(self.result.query, replace(self.result.options, **options))

    def back(self) -> None:
        """Returns to what was looked up before; at the beginning it does nothing."""
        self._go_to(self.steps_back - 1)

    def forward(self) -> None:
        """Goes again where `back` came from; at the end it does nothing."""
        self._go_to(self.steps_back + 1)

    def _go_to(self, place: int) -> None:
        if 0 <= place < len(self.way):
            self.result = self._search(self.way[place], self.result.options)
            self.steps_back = place

    def upload(self, data: bytes, name: str) -> None:
        """Looks up a picture of the reader's own: a file's content and name, see `decode_image`."""
        height, width = self.retrieval.gallery_images.shape[2:]
        shown = decode_image(data, name, (height, width))
        seen_by_network = decode_image(data, name, self.retrieval.image_size)
        embedding = self.retrieval.embed(seen_by_network[None])[0]
        self.uploads.append(Upload(name, shown, embedding, seen_by_network))
        self.look_up(Picture("upload", len(self.uploads) - 1))

    def queries(
        self,
        order: QueryOrder = "as in the set",
        camid: int | None = None,
        pid: int | None = None,
        only: QueryFilter = "all queries",
    ) -> np.ndarray:
        """Indices of what is listed, int64 `[n]`: of one camera or identity, or all of them.

        AP is that of plain distances, and `gains` is what re-ranking adds to it; those without a
        right answer come last. `"random"` is another order each time. An unknown order or filter is
        a ValueError.
        """
        for value, known in ((order, QueryOrder), (only, QueryFilter)):
            if value not in get_args(known):
                raise ValueError(f"{value!r} is none of {get_args(known)}")
        table = self._table(Picture(self.listed, 0))
        indices = np.arange(len(table))
        if order == "random":
            indices = np.random.default_rng(self._shuffles).permutation(indices)
            self._shuffles += 1
        elif order != "as in the set":
            values = self.scores.average_precision if "AP" in order else self.gains
            sign = -1 if order.startswith(("best", "most gained")) else 1
            indices = np.argsort(sign * values, kind="stable")
        if only == "first answer wrong":
            indices = indices[self.scores.first_right[indices] != 1]
        elif only != "all queries":
            sign = 1 if only.startswith("gained") else -1
            indices = indices[sign * self.gains[indices] > 0]
        for column, wanted in ((table.camids, camid), (table.pids, pid)):
            if wanted is not None:
                indices = indices[column[indices] == wanted]
        return indices

    @cached_property
    def scores(self) -> RetrievalScores:
        """AP of every query by plain distances; computed when first asked for.

        A ValueError where it is not known whom the pictures show.
        """
        if not self.retrieval.labelled:
            raise ValueError(f"there is no AP: {NO_LABELS}")
        return evaluate_embeddings(self.retrieval.query, self.retrieval.gallery)

    @property
    def gains(self) -> np.ndarray:
        """AP after re-ranking less that before, of every query, float64 `[Q]`; NaN without one.

        It is re-ranked as the options say; computed when first asked for.
        """
        options = self.result.options
        settings = options.k1, options.k2, options.lambda_value
        if settings not in self._gains:
            before = self.scores.average_precision  # first, since it says whether there is any
            query, gallery = self.retrieval.query, self.retrieval.gallery
            labels = query.pids, gallery.pids, query.camids, gallery.camids
            after = evaluate(self._neighbours.blocks(*settings), *labels).average_precision
            self._gains[settings] = after - before
        return self._gains[settings]

    @property
    def knows_scores(self) -> bool:
        """Whether `scores` has been computed."""
        return "scores" in self.__dict__

    def image(self, picture: Picture) -> np.ndarray:
        """The picture, uint8 `[3, H, W]`."""
        return self._of(picture, "image")

    def embedding(self, picture: Picture) -> np.ndarray:
        """The picture's embedding, float32 `[D]`."""
        if picture.kind == "upload":
            return self.uploads[picture.index].embedding
        return self._table(picture).embeddings[picture.index]

    def input(self, picture: Picture) -> np.ndarray:
        """The picture as the network takes it, uint8 `[3, H, W]`."""
        return self._of(picture, "input")

    def _of(self, picture: Picture, name: str) -> np.ndarray:
        if picture.kind == "upload":
            return getattr(self.uploads[picture.index], name)
        return getattr(self.retrieval, f"{picture.kind}_{name}s")[picture.index]

    def explain(self, answer: Picture) -> dict[str, list[np.ndarray]]:
        """Occlusion maps, `[H, W]`, of what is looked up and of an answer, see `occlusion_map`.

        By the `"trained network"`, and by one with `"random weights"` to be held against.
        """
        pair = [self.input(picture) for picture in (self.result.query, answer)]
        trained, untrained = self.retrieval.embed, self.retrieval.embed_randomised
        maps = {}
        for name, embed in (("trained network", trained), ("random weights", untrained)):
            others = embed(np.stack(pair))[::-1]  # each is compared with the other
            maps[name] = [
                occlusion_map(embed, image, other)
                for image, other in zip(pair, others, strict=True)
            ]
        return maps

    def pid_and_camid(self, picture: Picture) -> tuple[int | None, int | None]:
        """Identity and camera of a picture; None where nobody knows them."""
        if picture.kind == "upload" or not self.retrieval.labelled:
            return None, None
        table = self._table(picture)
        return int(table.pids[picture.index]), int(table.camids[picture.index])

    def path(self, picture: Picture) -> str:
        """The file of a picture of the set, as its table names it."""
        return str(self._table(picture).paths[picture.index])

    def save_ranking(self, file: AnyPath) -> None:
        """Writes the gallery in the order that is seen, nearest first, as CSV.

        The columns are rank (empty for junk), distance (re-ranked, the final one), verdict, pid,
        camid and path; without labels rank, distance and path.
        """
        ranked, gallery = self.result.ranked, self.retrieval.gallery
        table = pd.DataFrame(
            {
                "rank": np.where(ranked.verdicts == Verdict.JUNK, "", ranked.ranks.astype(str)),
                "distance": ranked.distances,
                "verdict": ranked.verdicts,
                "pid": gallery.pids[ranked.order],
                "camid": gallery.camids[ranked.order],
                "path": gallery.paths[ranked.order],
            }
        )
        if not self.retrieval.labelled:
            table = table[["rank", "distance", "path"]]
        with atomic_write(file) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")

    def _search(self, query: Picture, options: Options) -> SearchResult:
        size = len(self.uploads) if query.kind == "upload" else len(self._table(query))
        if not 0 <= query.index < size:  # a negative index would count from the end
            raise IndexError(f"there is no {query.kind} picture {query.index}, only {size:,}")
        if max(options.k1, options.k2) > self.k_max:
            raise ValueError(
                f"k1 and k2 go up to {self.k_max} here; open the browser with larger ones to go on"
            )
        sets = self.embedding(query), self.retrieval.gallery.embeddings  # [D] and [G, D]
        embedding, gallery = full_precision(*map(torch.as_tensor, sets))
        distances = torch.linalg.vector_norm(gallery - embedding, dim=1)
        before = self._rank(query, distances.numpy())
        after = None
        if options.rerank:
            after = self._rank(query, self._reranked_distances(query, options))
        return SearchResult(query, options, before, after)

    def _rank(self, query: Picture, distances: np.ndarray) -> RankedGallery:
        gallery, (pid, camid) = self.retrieval.gallery, self.pid_and_camid(query)
        itself = query.index if query.kind == "gallery" else None
        return rank_gallery(distances, pid, gallery.pids, camid, gallery.camids, leave_out=itself)

    def _reranked_distances(self, query: Picture, options: Options) -> np.ndarray:
        parameters = options.k1, options.k2, options.lambda_value
        if query.kind == "upload":
            return self._neighbours.rerank_embedding(self.embedding(query), *parameters)
        return self._neighbours.rerank(query.index, *parameters, query.kind)

    @cached_property
    def _neighbours(self) -> NeighbourIndex:
        """Everybody's neighbours: the part of re-ranking that does not depend on the query."""
        query, gallery = self.retrieval.query, self.retrieval.gallery
        return NeighbourIndex(query.embeddings, gallery.embeddings, k_max=self.k_max)

    def _table(self, picture: Picture) -> EmbeddingTable:
        return self.retrieval.query if picture.kind == "query" else self.retrieval.gallery
