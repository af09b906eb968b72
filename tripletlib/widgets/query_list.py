"""The list of queries beside the query browser's answers."""

from collections.abc import Callable
from functools import partial
from typing import get_args

import ipywidgets
import numpy as np

from tripletlib.widgets.cards import CardMaker, key_of, picture_of
from tripletlib.widgets.notebook_widget import NotebookWidget, part, row, titled
from tripletlib.widgets.pictures import Group, PictureGrid
from tripletlib.widgets.state import BrowserState, Picture, QueryFilter, QueryOrder

PAGE = 12  # queries shown at once
_ALL = -1  # the camera menu's first entry; with None as its value, nothing would be shown


class QueryList:
    """The queries, sorted, filtered and paged: their pictures in `grid`, all of it in `widget`.

    The owner shows errors; `on_choose` is called with a chosen query.
    """

    def __init__(
        self,
        state: BrowserState,
        cards: CardMaker,
        owner: NotebookWidget,
        on_choose: Callable[[Picture], None],
    ) -> None:
        self._state, self._cards, self._owner = state, cards, owner
        self._first = 0  # place of the page's first query in the list
        self._list = state.queries()
        choose = owner.guarded(lambda key: on_choose(picture_of(key)))
        self.grid = part("queries", PictureGrid("queries", choose))
        self._make_filters()
        self.earlier, self.later = (
            owner.button(partial(self._turn, by), icon=f"chevron-{side}", tooltip=f"{name} queries")
            for by, side, name in ((-PAGE, "left", "earlier"), (PAGE, "right", "later"))
        )
        self._position = ipywidgets.HTML()
        filters = row("filters", self.camera, self.person)
        pager = row("pager", self.earlier, self._position, self.later)
        title = titled("Queries" if state.listed == "query" else "Pictures")
        self.widget = ipywidgets.VBox([title, self.order, self.only, filters, self.grid, pager])

    def _make_filters(self) -> None:
        retrieval, table = self._state.retrieval, self._state.retrieval.query
        look = {"layout": ipywidgets.Layout(min_width="0", width="auto", flex="1 1 0%")}
        cameras = [("all cameras", _ALL)]
        cameras += [(f"camera {retrieval.camera(c)}", c) for c in np.unique(table.camids).tolist()]
        self._pids = {retrieval.person(pid): pid for pid in np.unique(table.pids).tolist()}
        orders = get_args(QueryOrder) if retrieval.labelled else ("as in the set", "random")
        self.order = ipywidgets.Dropdown(options=orders, value="as in the set", **look)
        self.only = ipywidgets.Dropdown(options=get_args(QueryFilter), **look)
        self.camera = ipywidgets.Dropdown(options=cameras, **look)
        self.person = ipywidgets.Combobox(
            options=list(self._pids), placeholder="all people", continuous_update=False, **look
        )
        tooltips = "order of the queries", "which queries", "camera", "person"
        for name, tooltip in zip(("order", "only", "camera", "person"), tooltips, strict=True):
            control = part(name, getattr(self, name))
            control.tooltip = tooltip
            control.observe(self._owner.guarded(lambda _: self._sort()), "value")

    def show(self) -> None:
        """Draws the page; the query that is looked up is marked."""
        page = self._list[self._first : self._first + PAGE]
        cards = [self._cards.query_card(int(index)) for index in page]
        group = Group(cards, empty="No query fits these filters.")
        self.grid.show([group], key_of(self._state.result.query))
        last, total = self._first + len(page), len(self._list)
        self.earlier.disabled, self.later.disabled = self._first == 0, last == total
        self._position.value = f"{self._first + 1:,}–{last:,} of {total:,}" if total else "none"

    def _turn(self, by: int) -> None:
        self._first = max(0, self._first + by)
        self.show()

    def _sort(self) -> None:
        person = self.person.value.strip()
        if person not in self._pids:
            person = person.removeprefix("person").strip()  # as the cards say
        if person and person not in self._pids:
            example = self.person.options[0]
            raise ValueError(f"no query shows person {person!r}; one of them is {example}")
        if "re-ranking" in self.order.value + self.only.value:
            self._owner.say("Re-ranking for every query, once for each k1, k2 and λ …")
        elif "AP" in self.order.value and not self._state.knows_scores:
            self._owner.say("Computing the AP of every query, once …")
        camid = None if self.camera.value == _ALL else self.camera.value
        pid = self._pids[person] if person else None
        self._list = self._state.queries(self.order.value, camid, pid, self.only.value)
        self._first = 0
        self._owner.say("")
        self.show()
