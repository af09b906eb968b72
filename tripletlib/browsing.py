"""What the query browser knows: who is looked up, how, the way back, and the answers.

Nothing here draws or needs a browser; `tripletlib.browser` shows it. A step that fails, such as an
upload that is no picture, raises its error and changes nothing.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import torch

from tripletlib.answers import Answers, judge
from tripletlib.decoding import decode_image
from tripletlib.distances import pairwise_distances
from tripletlib.embedding import EmbeddingTable
from tripletlib.evaluation import RetrievalScores, evaluate_embeddings
from tripletlib.reranking import NeighbourIndex
from tripletlib.retrieval import Retrieval

Kind = Literal["query", "gallery", "upload"]
QueryOrder = Literal["worst AP first", "best AP first", "as in the set", "random"]
K_MAX = 40  # the largest k1 and k2 on offer


@dataclass(frozen=True)
class Asked:
    """Who is looked up.

    Attributes:
        kind: `"query"`: a picture of the query set; `"gallery"`: one of the gallery; `"upload"`:
            one that the reader handed in.
        index: which one.
    """

    kind: Kind
    index: int


@dataclass(frozen=True)
class Options:
    """How the answers are computed and shown.

    Attributes:
        top_k: places shown.
        rerank: whether the gallery is re-ranked.
        k1: neighbours that count as reciprocal, see `tripletlib.reranking`.
        k2: neighbours in the query expansion.
        lambda_value: weight of the original distance, from 0 to 1.
        show_junk: whether skipped pictures are shown.
        compare: whether the list before re-ranking is shown beside the one after.
    """

    top_k: int = 20
    rerank: bool = False
    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3
    show_junk: bool = False
    compare: bool = True


@dataclass(frozen=True)
class Upload:
    """A picture that the reader handed in; it stays in this process.

    Attributes:
        name: its file name.
        image: to be shown, uint8 `[3, H, W]`.
        embedding: float32 `[D]`.
    """

    name: str
    image: np.ndarray
    embedding: np.ndarray


@dataclass(frozen=True)
class Sight:
    """All that is to be seen at one moment.

    Attributes:
        asked: who is looked up.
        options: how.
        before: the answers by distance.
        after: the re-ranked ones; None without re-ranking.
    """

    asked: Asked
    options: Options
    before: Answers
    after: Answers | None

    @property
    def answers(self) -> Answers:
        """The ranking that counts: re-ranked if that is switched on."""
        return self.before if self.after is None else self.after


class Browsing:
    """A walk through queries and gallery.

    Args:
        retrieval: what is browsed.
        asked: where the walk begins.
        options: what it begins with.

    Attributes:
        retrieval: as given.
        sight: what is to be seen now.
        uploads: the reader's own pictures.
    """

    def __init__(
        self,
        retrieval: Retrieval,
        asked: Asked = Asked("query", 0),  # noqa: B008, it cannot change
        options: Options = Options(),  # noqa: B008
    ) -> None:
        self.retrieval = retrieval
        self.uploads: list[Upload] = []
        self._way: list[Asked] = []
        self.sight = self._look(asked, options)

    def ask(self, asked: Asked) -> None:
        """Looks somebody up; what was looked up before is one step back.

        Raises:
            IndexError: there is no such picture.
        """
        before = self.sight.asked
        self.sight = self._look(asked, self.sight.options)
        if asked != before:
            self._way.append(before)

    def change(self, **options: Any) -> None:
        """Changes some of the `Options`; the query stays.

        Raises:
            ValueError: k1, k2 or lambda out of range, see `NeighbourIndex.rerank`.
        """
        self.sight = self._look(self.sight.asked, replace(self.sight.options, **options))

    @property
    def steps_back(self) -> int:
        """How many steps the way back has."""
        return len(self._way)

    def back(self) -> None:
        """Returns to what was looked up before; at the beginning it does nothing."""
        if self._way:
            self.sight = self._look(self._way[-1], self.sight.options)
            self._way.pop()

    def upload(self, data: bytes, name: str) -> None:
        """Looks up a picture of the reader's own.

        Args:
            data: the file's content.
            name: the file's name.

        Raises:
            UnreadableImageError: it is no picture, see `decode_image`.
        """
        height, width = self.retrieval.gallery_images.shape[2:]
        shown = decode_image(data, name, (height, width))
        seen_by_network = decode_image(data, name, self.retrieval.image_size)
        embedding = self.retrieval.embed(seen_by_network[None])[0]
        self.uploads.append(Upload(name, shown, embedding))
        self.ask(Asked("upload", len(self.uploads) - 1))

    def image(self, asked: Asked) -> np.ndarray:
        """The picture, uint8 `[3, H, W]`."""
        if asked.kind == "upload":
            return self.uploads[asked.index].image
        query = asked.kind == "query"
        images = self.retrieval.query_images if query else self.retrieval.gallery_images
        return images[asked.index]

    def embedding(self, asked: Asked) -> np.ndarray:
        """The picture's embedding, float32 `[D]`."""
        if asked.kind == "upload":
            return self.uploads[asked.index].embedding
        return self._table(asked).embeddings[asked.index]

    def pid_and_camid(self, asked: Asked) -> tuple[int | None, int]:
        """Identity and camera of a picture; None and 0 for the reader's own."""
        if asked.kind == "upload":
            return None, 0
        table = self._table(asked)
        return int(table.pids[asked.index]), int(table.camids[asked.index])

    def queries(
        self, order: QueryOrder = "as in the set", camid: int | None = None, pid: int | None = None
    ) -> np.ndarray:
        """Queries in an order; by AP, those without a right answer come last.

        Args:
            order: AP is that of plain distances, whatever the options say.
            camid: only those of this camera.
            pid: only those of this identity.

        Returns:
            Indices, int64 `[n]`.

        Raises:
            ValueError: an unknown order.
        """
        if order not in get_args(QueryOrder):
            raise ValueError(f"order must be one of {get_args(QueryOrder)}, got {order!r}")
        table = self.retrieval.query
        indices = np.arange(len(table))
        if order == "random":
            indices = np.random.default_rng(0).permutation(indices)
        elif order != "as in the set":
            precision = self.scores.average_precision
            indices = np.argsort(-precision if order.startswith("best") else precision, stable=True)
        fits = np.ones(len(table), dtype=bool)
        fits &= True if camid is None else table.camids == camid
        fits &= True if pid is None else table.pids == pid
        return indices[fits[indices]]

    @cached_property
    def scores(self) -> RetrievalScores:
        """AP of every query by plain distances; computed when first asked for."""
        return evaluate_embeddings(self.retrieval.query, self.retrieval.gallery)

    @property
    def knows_scores(self) -> bool:
        """Whether `scores` has been computed."""
        return "scores" in self.__dict__

    def _look(self, asked: Asked, options: Options) -> Sight:
        before = self._judge(asked, self._distances(asked))
        after = None
        if options.rerank:
            row = self._reranked_distances(asked, options)
            after = self._judge(asked, row)
        return Sight(asked, options, before, after)

    def _judge(self, asked: Asked, distances: np.ndarray) -> Answers:
        gallery, (pid, camid) = self.retrieval.gallery, self.pid_and_camid(asked)
        itself = asked.index if asked.kind == "gallery" else None
        return judge(distances, gallery.pids, gallery.camids, pid, camid, itself)

    def _distances(self, asked: Asked) -> np.ndarray:
        self._check(asked)
        query = torch.as_tensor(self.embedding(asked))[None]
        gallery = torch.as_tensor(self.retrieval.gallery.embeddings)
        return pairwise_distances(query, gallery)[0].numpy()

    @cached_property
    def _index(self) -> NeighbourIndex:
        """Everybody's neighbours: the part of re-ranking that does not depend on the query."""
        query, gallery = self.retrieval.query, self.retrieval.gallery
        return NeighbourIndex(query.embeddings, gallery.embeddings, k_max=K_MAX)

    def _reranked_distances(self, asked: Asked, options: Options) -> np.ndarray:
        parameters = options.k1, options.k2, options.lambda_value
        if asked.kind == "query":
            return self._index.rerank(asked.index, *parameters)
        if asked.kind == "gallery":
            return self._index.rerank_gallery(asked.index, *parameters)
        return self._index.rerank_embedding(self.uploads[asked.index].embedding, *parameters)

    def _table(self, asked: Asked) -> EmbeddingTable:
        return self.retrieval.query if asked.kind == "query" else self.retrieval.gallery

    def _check(self, asked: Asked) -> None:
        size = len(self.uploads) if asked.kind == "upload" else len(self._table(asked))
        if not 0 <= asked.index < size:  # a negative index would count from the end
            raise IndexError(f"there is no {asked.kind} picture {asked.index}, only {size:,}")
