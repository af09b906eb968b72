"""The right side of the query browser: the query, the controls and the ranked gallery."""

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets

from tripletlib.browser_curve import PrecisionRecallCurve
from tripletlib.browser_messages import Messages
from tripletlib.browser_text import (
    CURVE_LEGEND,
    LEGEND,
    Words,
    asked_by,
    facts,
    heading,
    why_sentences,
)
from tripletlib.lookup import K_MAX, Asked, Options, Sight
from tripletlib.picture_widgets import PictureGrid

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
