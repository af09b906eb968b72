"""The query browser of notebook 05: look somebody up, see why the ranking is what it is.

`state.py` knows and decides; here its pictures and controls are put on the page.
"""

import base64
import io
import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt

from tripletlib.experiments import Retrieval
from tripletlib.runtime import AnyPath, atomic_write, explained_writing, from_repository
from tripletlib.widgets.cards import (
    CURVE_LEGEND,
    LEGEND,
    CardMaker,
    key_of,
    map_legend,
    no_scores,
    picture_of,
    score_texts,
    why_text,
)
from tripletlib.widgets.charts import draw_explanation, draw_result
from tripletlib.widgets.gallery_map import GalleryMap, GalleryPlane, PrecisionRecallCurve, map_kinds
from tripletlib.widgets.notebook_widget import NotebookWidget, column, part, row, titled
from tripletlib.widgets.pictures import MAX_UPLOAD_BYTES, Group, PictureGrid, PictureUpload
from tripletlib.widgets.query_list import QueryList
from tripletlib.widgets.state import DEFAULTS, NO_LABELS, BrowserState, Options, Picture

WAY = 12  # pictures of the way that are shown
_RERANKING = ("k1", "k2", "lambda_value", "compare")  # mean something with re-ranking only
_SENTENCE = (
    "The query browser needs a live notebook: open this one in JupyterLab and run it to click "
    "through the pictures. The picture below shows what it looks like."
)

_OPEN: dict[Path, "QueryBrowser"] = {}  # the browsers of this kernel, by their folders


class QueryBrowser(NotebookWidget):
    """Queries, their ranked gallery and a map of it, to be clicked through.

    It begins with `query` and `options`; what the reader saves goes to the folder. An earlier
    browser with the same folder is closed, and its memory given back. Where it is not known whom
    the pictures show, each can be looked up, but there are no verdicts and no scores.

    Attributes:
        state: what is seen now, and the way that led there.
        way: what was looked up, in this order.
        queries: the list of queries.
        controls: the control of each of the `Options`, by its name.
        results: the ranked gallery.
        why: nearest wrong and farthest right answer.
        facts: the query's name and scores.
        rank: the answer that the buttons `compare` and `explain` show beside the query in
            `explanation`, large, or with what makes the two alike.
        map: the gallery in the plane; `map_note` says which plane that is.
    """

    def __init__(
        self,
        retrieval: Retrieval,
        folder: AnyPath,
        query: Picture | None = None,
        options: Options = DEFAULTS,
    ) -> None:
        super().__init__(_SENTENCE)
        self._folder = from_repository(folder)
        self.state = BrowserState(retrieval, query, options)
        # An earlier one, of the same cell, is still there if the new one cannot be opened.
        if earlier := _OPEN.pop(self._folder, None):
            earlier.close()
        _OPEN[self._folder] = self
        self._cards = CardMaker(self.state)
        look_up = partial(self._do, self.state.look_up)
        self.queries = QueryList(self.state, self._cards, self, look_up)
        choose = self.guarded(lambda key: look_up(picture_of(key)))
        hover = self.guarded(lambda key: setattr(self.map, "linked", key), clears=False)
        self.results = part("results", PictureGrid("ranked gallery", choose, hover))
        self.why = part("why", PictureGrid("why", choose))
        self.why_text = ipywidgets.HTML()
        self.facts, self._query = part("facts", ipywidgets.HTML()), ipywidgets.HTML()
        self.curve = PrecisionRecallCurve()
        plane = GalleryPlane(retrieval.gallery.embeddings)
        kinds = map_kinds(retrieval.gallery) if retrieval.labelled else {}
        describe = self.guarded(self._describe, clears=False)  # the mouse may be on its way
        self.map = GalleryMap(plane, kinds, choose, describe)
        self.map_note = f"Two principal components, {plane.explained:.0%} of the variance"
        self.controls = _option_controls(self.state.result.options, self.state.k_max)
        for name, control in self.controls.items():
            control.observe(self.guarded(lambda event, n=name: self._change(n, event)), "value")
        self.way = part("way", PictureGrid("the way here", choose))
        back, forward = (partial(self._do, go) for go in (self.state.back, self.state.forward))
        self.back = self.button(back, description="back", icon="arrow-left")
        self.forward = self.button(forward, description="forward", icon="arrow-right")
        self.save = self.button(self._save, description="save as PNG", icon="image")
        self.export = self.button(self._export, description="ranking as CSV", icon="table")
        self.rank = ipywidgets.BoundedIntText(
            1, min=1, description="rank", layout={"width": "150px"}
        )
        self.compare = self.button(self._compare, description="side by side", icon="columns")
        self.explain = self.button(self._explain, description="where does it look?", icon="eye")
        self.explanation = ipywidgets.HTML()
        upload = self.guarded(partial(self._do, self.state.upload))
        text = "look up a picture of your own"
        self.upload = PictureUpload(text, upload, self.guarded(self._refuse))
        self._lay_out()
        self._draw()

    def _lay_out(self) -> None:
        retrieval = self.state.retrieval
        sizes = f"{len(retrieval.query):,} queries, {len(retrieval.gallery):,} gallery pictures"
        if self.state.listed == "gallery":
            sizes = f"{len(retrieval.gallery):,} pictures"
        title = titled(f"Query browser: {retrieval.name}", sizes)
        meanings = LEGEND if retrieval.labelled else f"No labels: {NO_LABELS}."
        legend = ipywidgets.HTML(f'<div class="legend">{meanings}</div>')
        named = ("back", "forward", "save", "export")
        buttons = row("buttons", *(part(name, getattr(self, name)) for name in named))
        about = column("about", self.facts, self.message)
        header = row("header", part("query", self._query), about, buttons)
        controls = [part(name.replace("_", "-"), one) for name, one in self.controls.items()]
        upload, way = part("upload", self.upload), titled("The way here")
        left = column("left", self.queries.widget, upload, way, self.way)
        right = column("right", legend, self.results, self._bottom(), self._explanation_row())
        body = row("body", left, right)
        self.widget.children = [part("title", title), header, row("controls", *controls), body]
        self.widget.add_class("browser")
        if not retrieval.labelled:
            self.widget.add_class("without-labels")  # hides what could only be empty
        self.facts.add_class("announced")

    def _bottom(self) -> ipywidgets.Widget:
        why = titled("Why?", "Nearest wrong and farthest right answer")
        curve = titled("Precision and recall", CURVE_LEGEND)
        legend = map_legend(self.state.retrieval.labelled)
        gallery_map = titled("Gallery map", f"{self.map_note}<br>{legend}")
        return row(
            "bottom",
            column("why-box", why, self.why, self.why_text),
            column("curve-box", curve, part("curve", self.curve)),
            column("map-box", gallery_map, part("map", self.map)),
        )

    def _explanation_row(self) -> ipywidgets.Widget:
        note = "What makes the two alike: an occlusion map"
        title = titled("The query and its answer at a rank", note)
        controls = row("explain-controls", self.rank, self.compare, self.explain)
        return column("explain-box", title, controls, self.explanation)

    def _draw(self) -> None:
        result = self.state.result
        self.queries.show()
        self._query.value = self._as_html(result.query)
        tiles = (
            f"<div><span>{what}</span><b>{value}</b></div>"
            for what, value in score_texts(result).items()
        )
        scores = "".join(tiles) or f"<p>{no_scores(self.state)}</p>"
        name = escape(self._cards.name(result.query))
        self.facts.value = f'<h2>{name}</h2><div class="facts">{scores}</div>'
        self.results.show(self._cards.result_groups(result))
        self.why.show(self._cards.why_groups(result))
        self.why_text.value = why_text(result)
        self.explanation.value = ""
        self.rank.max = int(result.ranked.ranks.max(initial=1))
        self.curve.show(result.before, result.after)
        self.map.show(self.state.embedding(result.query), result.top())
        steps = self.state.steps_back
        self.forward.disabled = steps == len(self.state.way) - 1
        first = max(0, steps - WAY + 1)
        cards = [self._cards.way_card(picture) for picture in self.state.way[first : first + WAY]]
        self.way.show([Group(cards)], key_of(result.query))
        self.back.disabled = not steps
        self.back.description = f"back ({steps})" if steps else "back"
        with self.moving_controls():
            for name, control in self.controls.items():
                control.value = getattr(result.options, name)
                control.disabled = name in _RERANKING and not result.options.rerank

    def _compare(self) -> None:
        answer = Picture("gallery", self.state.result.place(self.rank.value).index)
        images = self._as_html(self.state.result.query) + self._as_html(answer)
        self.explanation.value = f'<div class="browser-beside">{images}</div>'

    def _as_html(self, picture: Picture) -> str:
        source, name = self._cards.source(picture), escape(self._cards.name(picture))
        return f'<img src="{source}" alt="{name}">'

    def _explain(self) -> None:
        self.say("Covering both pictures, patch by patch …")
        figure, buffer = draw_explanation(self.state, self.rank.value), io.BytesIO()
        try:
            figure.savefig(buffer)
        finally:
            plt.close(figure)
        source = base64.b64encode(buffer.getvalue()).decode()
        what = f"occlusion maps of the query and its answer at rank {self.rank.value}"
        self.explanation.value = f'<img src="data:image/png;base64,{source}" alt="{what}">'
        self.say("")

    def _do(self, action: Callable[..., None], *arguments: Any) -> None:
        action(*arguments)
        self._draw()

    def _change(self, name: str, event: dict[str, Any]) -> None:
        try:
            if name == "rerank" and event["new"]:
                self.say("Finding everybody's neighbours for re-ranking, once …")
            self.state.change(**{name: event["new"]})
            result = self.state.result
            has_junk = any(place.rank == 0 for place in result.top())
            nothing = name == "show_junk" and event["new"] and not has_junk
            self.say(f"No junk down to rank {result.options.top_k}." if nothing else "")
        finally:  # also after a failure: back where the state is
            self._draw()

    def _refuse(self, name: str, size: int) -> None:
        raise ValueError(
            f"{name} has {size / 1e6:.1f} MB and at most {MAX_UPLOAD_BYTES / 1e6:.0f} are taken; "
            "save it smaller"
        )

    def _save(self) -> None:
        figure = draw_result(self.state)
        try:
            with self._new_file("png") as file, atomic_write(file) as unfinished:
                figure.savefig(unfinished, dpi=150)
        finally:
            plt.close(figure)

    def _export(self) -> None:
        with self._new_file("csv") as file:
            self.state.save_ranking(file)

    @contextmanager
    def _new_file(self, suffix: str) -> Iterator[Path]:
        """A file named by what is seen, with a number where there is one of that name already."""
        query, options = self.state.result.query, self.state.result.options
        name = f"{query.kind}_{query.index:05d}"
        if query.kind == "upload":  # their numbers begin anew in every kernel
            stem = Path(self.state.uploads[query.index].name).stem
            name = f"upload_{re.sub(r'[^a-zA-Z0-9]+', '_', stem)[:60]}"
        if options.rerank:
            name += f"_reranked_{options.k1}_{options.k2}_{options.lambda_value:g}"
        endings = (f"_{number}" if number > 1 else "" for number in itertools.count(1))
        files = (self._folder / f"{name}{ending}.{suffix}" for ending in endings)
        file = next(file for file in files if not file.exists())
        with explained_writing(file, "open the browser with another folder"):
            yield file
        self.say(f"Saved {file}", file=file)

    def _describe(self, key: str) -> None:
        self.results.linked = key
        if key:
            picture = picture_of(key)
            self.map.describe(key, self._cards.source(picture), self._cards.name(picture))


def _option_controls(options: Options, k_max: int) -> dict[str, Any]:
    """The control of each option, in the order of the page."""
    slider = {"layout": ipywidgets.Layout(width="190px")}
    neighbours = {"min": 1, "max": k_max, **slider}
    ranks = {"min": 1, "max": max(50, options.top_k), "continuous_update": False, **slider}
    box = {"indent": False, "layout": ipywidgets.Layout(width="auto")}
    return {
        "rerank": ipywidgets.Checkbox(options.rerank, description="re-rank", **box),
        "k1": ipywidgets.IntSlider(options.k1, description="k1", **neighbours),
        "k2": ipywidgets.IntSlider(options.k2, description="k2", **neighbours),
        "lambda_value": ipywidgets.FloatSlider(
            options.lambda_value, max=1, step=0.01, description="λ", **slider
        ),
        "compare": ipywidgets.Checkbox(options.compare, description="before | after", **box),
        "top_k": ipywidgets.IntSlider(options.top_k, description="top-k", **ranks),
        "show_junk": ipywidgets.Checkbox(options.show_junk, description="show junk", **box),
    }
