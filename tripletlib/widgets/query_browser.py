"""The query browser of notebook 05: look somebody up, see why the ranking is what it is.

`state.py` knows and decides; here its pictures and controls are put on the page.
"""

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, get_args

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np

from tripletlib.experiments import Retrieval
from tripletlib.runtime import AnyPath, from_repository
from tripletlib.widgets.cards import (
    CURVE_LEGEND,
    LEGEND,
    MAP_LEGEND,
    NO_SCORES,
    CardMaker,
    heading,
    key_of,
    picture_of,
    score_texts,
    why_text,
)
from tripletlib.widgets.charts import GalleryMap, GalleryPlane, PrecisionRecallCurve, draw_result
from tripletlib.widgets.notebook_widget import NotebookWidget
from tripletlib.widgets.pictures import MAX_UPLOAD_BYTES, Group, PictureGrid, PictureUpload
from tripletlib.widgets.state import (
    DEFAULTS,
    FIRST_QUERY,
    BrowserState,
    Options,
    Picture,
    QueryOrder,
)

PAGE = 12  # queries shown at once
_ALL = -1  # the camera menu's first entry; with None as its value, nothing would be shown
_RERANKING = ("k1", "k2", "lambda_value", "compare")  # mean something with re-ranking only
_SENTENCE = (
    "The query browser needs a live notebook: open this one in JupyterLab and run it to click "
    "through the pictures. The picture below shows where it begins."
)


class QueryBrowser(NotebookWidget):
    """Queries, their ranked gallery and a map of it, to be clicked through.

    It begins with `query` and `options`; what the reader saves goes to the folder.

    Attributes:
        state: what is seen now, and the way back.
        queries: the list of queries.
        controls: the control of each of the `Options`, by its name.
        results: the ranked gallery.
        why: nearest wrong and farthest right answer.
        facts: the query's name and scores.
    """

    def __init__(
        self,
        retrieval: Retrieval,
        folder: AnyPath,
        query: Picture = FIRST_QUERY,
        options: Options = DEFAULTS,
    ) -> None:
        super().__init__(_SENTENCE)
        self.state = BrowserState(retrieval, query, options)
        self._folder, self._cards = from_repository(folder), CardMaker(self.state)
        self.queries = QueryList(self.state, self._cards, self, self._look_up)
        choose = self.guarded(lambda key: self._look_up(picture_of(key)))
        self.results = _part("results", PictureGrid("ranked gallery", choose))
        self.why = _part("why", PictureGrid("why", choose))
        self.why_text = ipywidgets.HTML()
        self.facts, self._query = _part("facts", ipywidgets.HTML()), ipywidgets.HTML()
        self.curve = PrecisionRecallCurve()
        plane = GalleryPlane(retrieval.gallery.embeddings)
        self.map = GalleryMap(
            plane, self._describe, self, lambda index: self._look_up(Picture("gallery", index))
        )
        self.controls = _option_controls(self.state.result.options, self.state.k_max)
        for name, control in self.controls.items():
            control.observe(self.guarded(lambda event, n=name: self._change(n, event)), "value")
        self.back = self._button("back", "back", "arrow-left", self._go_back)
        self.save = self._button("save", "save as PNG", "image", self._save)
        self.export = self._button("export", "ranking as CSV", "table", self._export)
        upload = "look up a picture of your own"
        self.upload = PictureUpload(upload, self.guarded(self._upload), self.guarded(self._refuse))
        self._lay_out()
        self._draw()

    def _button(self, name: str, text: str, icon: str, action: Callable[[], None]) -> Any:
        button = ipywidgets.Button(description=text, icon=icon)
        button.on_click(self.guarded(lambda _: action()))
        return _part(name, button)

    def _lay_out(self) -> None:
        retrieval = self.state.retrieval
        sizes = f"{len(retrieval.query):,} queries, {len(retrieval.gallery):,} gallery pictures"
        title = ipywidgets.HTML(heading(f"Query browser: {retrieval.name}", sizes))
        legend = ipywidgets.HTML(f'<div class="legend">{LEGEND}</div>')
        buttons = _row("buttons", self.back, self.save, self.export)
        about = _column("about", self.facts, self.message)
        header = _row("header", _part("query", self._query), about, buttons)
        controls = [_part(name.replace("_", "-"), one) for name, one in self.controls.items()]
        left = _column("left", self.queries.widget, _part("upload", self.upload))
        right = _column("right", legend, self.results, self._bottom())
        body = _row("body", left, right)
        self.widget.children = [_part("title", title), header, _row("controls", *controls), body]
        self.widget.add_class("browser")
        self.facts.add_class("announced")

    def _bottom(self) -> ipywidgets.Widget:
        why, curve, gallery_map = (
            ipywidgets.HTML(heading(title, note))
            for title, note in (
                ("Why?", "Nearest wrong and farthest right answer"),
                ("Precision and recall", CURVE_LEGEND),
                ("Gallery map", f"{self.map.note}<br>{MAP_LEGEND}"),
            )
        )
        return _row(
            "bottom",
            _column("why-box", why, self.why, self.why_text),
            _column("curve-box", curve, _part("curve", self.curve.widget)),
            _column("map-box", gallery_map, _part("map", self.map.widget)),
        )

    def _draw(self) -> None:
        result = self.state.result
        self.queries.show()
        name, source = escape(self._cards.name(result.query)), self._cards.source(result.query)
        self._query.value = f'<img src="{source}" alt="{name}">'
        tiles = (
            f"<div><span>{what}</span><b>{value}</b></div>"
            for what, value in score_texts(result).items()
        )
        scores = "".join(tiles) or f"<p>{NO_SCORES}</p>"
        self.facts.value = f'<h2>{name}</h2><div class="facts">{scores}</div>'
        self.results.show(self._cards.result_groups(result))
        self.why.show([self._cards.why_group(result.ranked)])
        self.why_text.value = why_text(result)
        self.curve.show(result.before, result.after)
        self.map.show(self.state.embedding(result.query), result.top())
        steps = self.state.steps_back
        self.back.disabled = not steps
        self.back.description = f"back ({steps})" if steps else "back"
        with self.moving_controls():
            for name, control in self.controls.items():
                control.value = getattr(result.options, name)
                control.disabled = name in _RERANKING and not result.options.rerank

    def _look_up(self, picture: Picture) -> None:
        self.state.look_up(picture)
        self._draw()

    def _change(self, name: str, event: dict[str, Any]) -> None:
        try:
            if name == "rerank" and event["new"]:
                self.say("Finding everybody's neighbours for re-ranking, once …")
            self.state.change(**{name: event["new"]})
            self.say("")
        finally:  # also after a failure: back where the state is
            self._draw()

    def _go_back(self) -> None:
        self.state.back()
        self._draw()

    def _upload(self, data: bytes, name: str) -> None:
        self.state.upload(data, name)
        self._draw()

    def _refuse(self, name: str, size: int) -> None:
        raise ValueError(
            f"{name} has {size / 1e6:.1f} MB and at most {MAX_UPLOAD_BYTES / 1e6:.0f} are taken; "
            "save it smaller"
        )

    def _save(self) -> None:
        figure, file = draw_result(self.state), self._file("png")
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=150)
        plt.close(figure)
        self.say(f"Saved {file}")

    def _export(self) -> None:
        file = self._file("csv")
        self.state.save_ranking(file)
        self.say(f"Saved {file}")

    def _file(self, suffix: str) -> Path:
        """Named by what is seen, so that another view goes to another file."""
        query, options = self.state.result.query, self.state.result.options
        name = f"{query.kind}_{query.index:05d}"
        if options.rerank:
            name += f"_reranked_{options.k1}_{options.k2}_{options.lambda_value:g}"
        return self._folder / f"{name}.{suffix}"

    def _describe(self, index: int) -> str:
        picture = Picture("gallery", index)
        name = self._cards.name(picture).replace(" · ", "<br>")
        return f'<img src="{self._cards.source(picture)}" alt="" width="64"><br>{name}'


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
        self.grid = _part("queries", PictureGrid("queries", choose))
        self._make_filters()
        self.earlier = self._turner("chevron-left", "earlier queries", -PAGE)
        self.later = self._turner("chevron-right", "later queries", PAGE)
        self._position = ipywidgets.HTML()
        filters = ipywidgets.HBox([self.camera, self.person])
        pager = _row("pager", self.earlier, self._position, self.later)
        title = ipywidgets.HTML(heading("Queries"))
        self.widget = ipywidgets.VBox([title, self.order, filters, self.grid, pager])

    def _make_filters(self) -> None:
        table = self._state.retrieval.query
        layout = ipywidgets.Layout(min_width="0", width="auto", flex="1 1 0%")
        cameras = [(f"camera {camid}", int(camid)) for camid in np.unique(table.camids)]
        people = [str(pid) for pid in np.unique(table.pids)]
        orders, cameras = get_args(QueryOrder), [("all cameras", _ALL), *cameras]
        self.order = ipywidgets.Dropdown(options=orders, value="as in the set", layout=layout)
        self.camera = ipywidgets.Dropdown(options=cameras, layout=layout)
        self.person = ipywidgets.Combobox(
            options=people, placeholder="all people", continuous_update=False, layout=layout
        )
        tooltips = {"order": "order of the queries", "camera": "camera", "person": "person"}
        for name, tooltip in tooltips.items():
            control = _part(name, getattr(self, name))
            control.tooltip = tooltip
            control.observe(self._owner.guarded(lambda _: self._sort()), "value")

    def _turner(self, icon: str, tooltip: str, by: int) -> Any:
        button = ipywidgets.Button(icon=icon, tooltip=tooltip)
        button.on_click(self._owner.guarded(lambda _: self._turn(by)))
        return button

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
        if person and not person.isdecimal():
            example = self.person.options[0]
            raise ValueError(f"a person is a number such as {example}, not {person!r}")
        if "AP" in self.order.value and not self._state.knows_scores:
            self._owner.say("Computing the AP of every query, once …")
        camid = None if self.camera.value == _ALL else self.camera.value
        pid = int(person) if person else None
        self._list = self._state.queries(self.order.value, camid, pid)
        self._first = 0
        self._owner.say("")
        self.show()


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


def _part(name: str, widget: Any) -> Any:
    """Names a widget for style sheet and tests."""
    widget.add_class(f"browser-{name}")
    return widget


def _row(name: str, *parts: Any) -> Any:
    return _part(name, ipywidgets.HBox(parts))


def _column(name: str, *parts: Any) -> Any:
    return _part(name, ipywidgets.VBox(parts))
