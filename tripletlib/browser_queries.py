"""The left side of the query browser: the queries, sorted, filtered and paged."""

from collections.abc import Callable
from typing import get_args

import ipywidgets
import numpy as np

from tripletlib.browser_messages import Messages
from tripletlib.browser_text import Words, asked_by, heading, key_of
from tripletlib.browsing import Browsing, QueryOrder
from tripletlib.lookup import Asked
from tripletlib.picture_widgets import Group, PictureGrid

PAGE = 12  # queries shown at once
_ALL = -1  # the camera menu's first entry; with None as its value, nothing would be shown
_WIDE = ipywidgets.Layout(width="auto", flex="1 1 0%", min_width="0")


class QueryPanel:
    """Thumbnails of the queries to choose from.

    Args:
        browsing: whose queries.
        words: puts them into cards.
        messages: shows errors.
        on_choose: is called with a chosen query.

    Attributes:
        widget: what to show.
    """

    def __init__(
        self,
        browsing: Browsing,
        words: Words,
        messages: Messages,
        on_choose: Callable[[Asked], None],
    ) -> None:
        self._browsing, self._words, self._messages = browsing, words, messages
        self._first = 0  # place of the page's first query in the list
        self._list = browsing.queries()
        table = browsing.lookup.retrieval.query
        cameras = [
            ("all cameras", _ALL),
            *((f"camera {c}", int(c)) for c in np.unique(table.camids)),
        ]
        people = [str(pid) for pid in np.unique(table.pids)]
        self.order = ipywidgets.Dropdown(
            options=get_args(QueryOrder), value="as in the set", layout=_WIDE
        )
        self.camera = ipywidgets.Dropdown(options=cameras, layout=_WIDE)
        self.person = ipywidgets.Combobox(
            options=people,
            placeholder="all people",
            continuous_update=False,
            layout=_WIDE,
        )
        self.grid = PictureGrid("queries", messages.guarded(lambda key: on_choose(asked_by(key))))
        self.earlier = ipywidgets.Button(icon="chevron-left", tooltip="earlier queries")
        self.later = ipywidgets.Button(icon="chevron-right", tooltip="later queries")
        self._position = ipywidgets.HTML()
        for control in (self.order, self.camera, self.person):
            control.observe(messages.guarded(lambda _: self._sort()), "value")
        self.earlier.on_click(messages.guarded(lambda _: self._turn(-PAGE)))
        self.later.on_click(messages.guarded(lambda _: self._turn(PAGE)))
        self.widget = self._box()

    def _box(self) -> ipywidgets.Widget:
        pager = ipywidgets.HBox([self.earlier, self._position, self.later])
        for name, part in {"order": self.order, "camera": self.camera, "person": self.person,
                           "queries": self.grid, "pager": pager}.items():  # fmt: skip
            part.add_class(f"browser-{name}")
        title = ipywidgets.HTML(heading("Queries"))
        filters = ipywidgets.HBox([self.camera, self.person])
        return ipywidgets.VBox([title, self.order, filters, self.grid, pager])

    def show(self) -> None:
        """Draws the page; the query that is looked up is marked."""
        page = self._list[self._first : self._first + PAGE]
        cards = [self._words.query_card(int(index)) for index in page]
        empty = "No query fits these filters."
        self.grid.show([Group(cards, empty=empty)], key_of(self._browsing.sight.asked))
        last, total = self._first + len(page), len(self._list)
        self.earlier.disabled, self.later.disabled = self._first == 0, last == total
        self._position.value = f"{self._first + 1:,}–{last:,} of {total:,}" if total else "none"

    def _turn(self, by: int) -> None:
        self._first = max(0, self._first + by)
        self.show()

    def _sort(self) -> None:
        order, person = self.order.value, self.person.value.strip()
        if "AP" in order and not self._browsing.knows_scores:
            self._messages.say("Computing the AP of every query, once …")
        pid = int(person) if person.isdecimal() else None
        if person and pid is None:
            raise ValueError(
                f"a person is a number such as {self.person.options[0]}, not {person!r}"
            )
        camid = None if self.camera.value == _ALL else self.camera.value
        self._list = self._browsing.queries(order, camid, pid)
        self._first = 0
        self._messages.say("")
        self.show()
