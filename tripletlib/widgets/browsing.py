"""What the query browser knows: who is looked up, how, the way back, and the answers.

Nothing here draws or needs a browser; `tripletlib.browser` shows it. A step that fails, such as an
upload that is no picture, raises its error and changes nothing.
"""

from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from tripletlib.evaluation import RetrievalScores, evaluate_embeddings
from tripletlib.experiments import Retrieval
from tripletlib.widgets.lookup import DEFAULTS, FIRST_QUERY, Asked, Lookup, Options

QueryOrder = Literal["worst AP first", "best AP first", "as in the set", "random"]


class Browsing:
    """A walk through queries and gallery.

    Args:
        retrieval: what is browsed.
        asked: where the walk begins.
        options: what it begins with.

    Attributes:
        lookup: the pictures and their answers.
        sight: what is to be seen now.
    """

    def __init__(
        self,
        retrieval: Retrieval,
        asked: Asked = FIRST_QUERY,
        options: Options = DEFAULTS,
    ) -> None:
        self.lookup = Lookup(retrieval)
        self._way: list[Asked] = []
        self._shuffles = 0
        self.sight = self.lookup.look(asked, options)

    def ask(self, asked: Asked) -> None:
        """Looks somebody up; what was looked up before is one step back.

        Raises:
            IndexError: there is no such picture.
        """
        before = self.sight.asked
        self.sight = self.lookup.look(asked, self.sight.options)
        if asked != before:
            self._way.append(before)

    def change(self, **options: Any) -> None:
        """Changes some of the `Options`; the query stays.

        Raises:
            ValueError: k1, k2 or lambda out of range, see `NeighbourIndex.rerank`.
        """
        self.sight = self.lookup.look(self.sight.asked, replace(self.sight.options, **options))

    @property
    def steps_back(self) -> int:
        """How many steps the way back has."""
        return len(self._way)

    def back(self) -> None:
        """Returns to what was looked up before; at the beginning it does nothing."""
        if self._way:
            self.sight = self.lookup.look(self._way[-1], self.sight.options)
            self._way.pop()

    def upload(self, data: bytes, name: str) -> None:
        """Looks up a picture of the reader's own.

        Args:
            data: the file's content.
            name: the file's name.

        Raises:
            UnreadableImageError: it is no picture, see `decode_image`.
        """
        self.ask(self.lookup.add(data, name))

    def queries(
        self, order: QueryOrder = "as in the set", camid: int | None = None, pid: int | None = None
    ) -> np.ndarray:
        """Queries in an order; by AP, those without a right answer come last.

        Args:
            order: AP is that of plain distances, whatever the options say; `"random"` is another
                order each time.
            camid: only those of this camera.
            pid: only those of this identity.

        Returns:
            Indices, int64 `[n]`.

        Raises:
            ValueError: an unknown order.
        """
        if order not in get_args(QueryOrder):
            raise ValueError(f"order must be one of {get_args(QueryOrder)}, got {order!r}")
        table = self.lookup.retrieval.query
        indices = np.arange(len(table))
        if order == "random":
            indices = np.random.default_rng(self._shuffles).permutation(indices)
            self._shuffles += 1  # asked again, another order
        elif order != "as in the set":
            precision = self.scores.average_precision
            key = -precision if order.startswith("best") else precision
            indices = np.argsort(key, kind="stable")
        fits = np.ones(len(table), dtype=bool)
        fits &= True if camid is None else table.camids == camid
        fits &= True if pid is None else table.pids == pid
        return indices[fits[indices]]

    @cached_property
    def scores(self) -> RetrievalScores:
        """AP of every query by plain distances; computed when first asked for."""
        return evaluate_embeddings(self.lookup.retrieval.query, self.lookup.retrieval.gallery)

    @property
    def knows_scores(self) -> bool:
        """Whether `scores` has been computed."""
        return "scores" in self.__dict__
