"""The left side of the query browser: the queries, sorted, filtered and paged."""

from collections.abc import Callable
from html import escape
from typing import Any, get_args

import ipywidgets
import numpy as np

from tripletlib.widgets.browsing import Browsing, QueryOrder
from tripletlib.widgets.cards import (
    CURVE_LEGEND,
    LEGEND,
    Words,
    asked_by,
    facts,
    heading,
    key_of,
    why_sentences,
)
from tripletlib.widgets.charts import PrecisionRecallCurve
from tripletlib.widgets.lookup import K_MAX, Asked, Options, Sight
from tripletlib.widgets.messages import Messages
from tripletlib.widgets.pictures import Group, PictureGrid

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


_RERANKING = ("k1", "k2", "lambda_value", "compare")  # mean something with re-ranking only


class ResultPanel:
    """A query and its answers.

    Args:
        words: puts pictures into words.
        messages: shows errors.
        on_choose: is called with a chosen gallery picture.
        on_change: is called with the name and the new value of one of the `Options`.

    Attributes:
        controls: the control of each of the `Options`, by its name.
        query: the query's picture.
        facts: its name and scores.
        legend: explains frames and marks.
        grid: the ranked gallery.
        why: nearest wrong and farthest right answer.
        curve: precision and recall.
    """

    def __init__(
        self,
        words: Words,
        messages: Messages,
        on_choose: Callable[[Asked], None],
        on_change: Callable[[str, Any], None],
    ) -> None:
        self._words = words
        self._own_change = False
        self.controls = _make_controls(Options())
        for name, control in self.controls.items():
            control.add_class(f"browser-{name.replace('_', '-')}")
            control.observe(self._heard(name, messages, on_change), "value")
        choose = messages.guarded(lambda key: on_choose(asked_by(key)))
        self.query, self.facts = ipywidgets.HTML(), ipywidgets.HTML()
        self.legend = ipywidgets.HTML(LEGEND)
        self.grid = PictureGrid("ranked gallery", choose)
        self.why, self._why_text = PictureGrid("why", choose), ipywidgets.HTML()
        self.curve = PrecisionRecallCurve()
        names = {"query": self.query, "facts": self.facts, "results": self.grid, "why": self.why}
        for name, part in names.items():
            part.add_class(f"browser-{name}")

    def control_box(self) -> ipywidgets.Widget:
        """The controls."""
        shown = ipywidgets.HBox([self.controls["compare"], self.controls["show_junk"]])
        names = ("rerank", "k1", "k2", "lambda_value", "top_k")
        box = ipywidgets.VBox([*(self.controls[name] for name in names), shown])
        box.add_class("browser-controls")
        return box

    def why_box(self) -> ipywidgets.Widget:
        """The two pictures that explain the ranking, with a text."""
        title = ipywidgets.HTML(heading("Why?", "Nearest wrong and farthest right answer"))
        box = ipywidgets.VBox([title, self.why, self._why_text])
        box.add_class("browser-why-box")
        return box

    def curve_box(self) -> ipywidgets.Widget:
        """The curve with its title."""
        title = ipywidgets.HTML(heading("Precision and recall", CURVE_LEGEND))
        box = ipywidgets.VBox([title, self.curve.widget])
        box.add_class("browser-curve-box")
        return box

    def show(self, sight: Sight) -> None:
        """Draws everything and puts the controls where the options are."""
        name, source = escape(self._words.name(sight.asked)), self._words.source(sight.asked)
        self.query.value = f'<img src="{source}" alt="{name}">'
        self.facts.value = f"<h2>{name}</h2>{facts(sight)}"
        self.grid.show(self._words.result_groups(sight))
        self.why.show([self._words.why_group(sight.answers)])
        self._why_text.value = why_sentences(sight.answers, sight.after is not None)
        self.curve.show(sight.before, sight.after)
        self.show_options(sight.options)

    def show_options(self, options: Options) -> None:
        """Puts the controls where the options are."""
        self._own_change = True
        try:
            for name, control in self.controls.items():
                control.value = getattr(options, name)
                control.disabled = name in _RERANKING and not options.rerank
        finally:
            self._own_change = False

    def _heard(
        self, name: str, messages: Messages, on_change: Callable[[str, Any], None]
    ) -> Callable[..., None]:
        change = messages.guarded(lambda event: on_change(name, event["new"]))
        return lambda event: None if self._own_change else change(event)


def _make_controls(options: Options) -> dict[str, Any]:
    slider = {"continuous_update": False, "layout": ipywidgets.Layout(width="270px")}
    neighbours = {"min": 1, "max": K_MAX, **slider}
    box = {"indent": False, "layout": ipywidgets.Layout(width="auto")}
    return {
        "top_k": ipywidgets.IntSlider(
            options.top_k, min=5, max=50, step=5, description="top-k", **slider
        ),
        "rerank": ipywidgets.Checkbox(options.rerank, description="re-rank (k-reciprocal)", **box),
        "k1": ipywidgets.IntSlider(options.k1, description="k1", **neighbours),
        "k2": ipywidgets.IntSlider(options.k2, description="k2", **neighbours),
        "lambda_value": ipywidgets.FloatSlider(
            options.lambda_value, max=1, step=0.05, description="λ", **slider
        ),
        "show_junk": ipywidgets.Checkbox(options.show_junk, description="show junk", **box),
        "compare": ipywidgets.Checkbox(options.compare, description="before | after", **box),
    }
