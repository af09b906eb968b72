"""The query browser of notebook 05: look somebody up, see why the answers are what they are.

`tripletlib.browsing` knows and decides; here its parts are put on the page and wired together.
"""

from pathlib import Path
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt

from tripletlib.experiments import Retrieval
from tripletlib.runtime import in_live_notebook
from tripletlib.widgets.browsing import Browsing
from tripletlib.widgets.cards import MAP_LEGEND, Thumbnails, Words, heading
from tripletlib.widgets.charts import GalleryMap
from tripletlib.widgets.lookup import DEFAULTS, FIRST_QUERY, Asked, Options, write_ranking
from tripletlib.widgets.messages import Messages
from tripletlib.widgets.panels import QueryPanel, ResultPanel
from tripletlib.widgets.pictures import MAX_UPLOAD_BYTES, PictureUpload
from tripletlib.widgets.static import draw_sight


class QueryBrowser:
    """Queries, their ranked gallery and a map of it, to be clicked through.

    Show it by making it the last line of a cell. Where nobody watches (papermill, nbval) it shows
    a line of text instead, since a saved page cannot run the widget.

    Args:
        retrieval: what is browsed.
        folder: where saved pictures and rankings go.
        asked: who is looked up first.
        options: what the controls begin with.

    Attributes:
        browsing: the walk: what is seen now, and the way back.
        widget: the ipywidgets box.
    """

    def __init__(
        self,
        retrieval: Retrieval,
        folder: Path,
        asked: Asked = FIRST_QUERY,
        options: Options = DEFAULTS,
    ) -> None:
        self.browsing = Browsing(retrieval, asked, options)
        self._folder = folder
        self._words = Words(self.browsing, Thumbnails())
        self.messages = Messages()
        self.queries = QueryPanel(self.browsing, self._words, self.messages, self._ask)
        self.results = ResultPanel(self._words, self.messages, self._ask, self._change)
        self.map = GalleryMap(retrieval.gallery.embeddings, self._tip, self.messages, self._clicked)
        self._make_buttons()
        self.widget = self._lay_out()
        self._draw()

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        if in_live_notebook():
            return self.widget._repr_mimebundle_(**options)
        return {
            "text/plain": "The query browser needs a live notebook: open this one in JupyterLab "
            "and run it to click through the pictures. The picture below shows where it begins."
        }

    def _make_buttons(self) -> None:
        guarded = self.messages.guarded
        self.back = ipywidgets.Button(description="back", icon="arrow-left")
        self.save = ipywidgets.Button(description="save as PNG", icon="image")
        self.export = ipywidgets.Button(description="ranking as CSV", icon="table")
        self.upload = PictureUpload(
            "look up a picture of your own", guarded(self._upload), guarded(self._refuse)
        )
        actions = {self.back: self._go_back, self.save: self._save, self.export: self._export}
        for button, action in actions.items():
            button.on_click(guarded(lambda _, action=action: action()))
        for name in ("back", "save", "export", "upload"):
            getattr(self, name).add_class(f"browser-{name}")

    def _lay_out(self) -> ipywidgets.Widget:
        buttons = ipywidgets.HBox([self.back, self.save, self.export])
        about = ipywidgets.VBox([self.results.facts, buttons])
        top = ipywidgets.HBox([self.results.query, about, self.results.control_box()])
        note = f"{self.map.note}<br>{MAP_LEGEND}"
        map_box = ipywidgets.VBox([ipywidgets.HTML(heading("Gallery map", note)), self.map.widget])
        bottom = ipywidgets.HBox([self.results.why_box(), self.results.curve_box(), map_box])
        right = ipywidgets.VBox([top, self.results.legend, self.results.grid, bottom])
        left = ipywidgets.VBox([self.queries.widget, self.upload])
        retrieval = self.browsing.lookup.retrieval
        sizes = f"{len(retrieval.query):,} queries · {len(retrieval.gallery):,} gallery pictures"
        title = ipywidgets.HTML(heading(f"Query browser: {retrieval.name}", sizes))
        body = ipywidgets.HBox([left, right])
        browser = ipywidgets.VBox([title, self.messages.widget, body])
        names = {"browser": browser, "browser-title": title, "browser-top": top,
                 "browser-left": left, "browser-right": right, "browser-bottom": bottom,
                 "browser-body": body, "browser-buttons": buttons,
                 "browser-about": about, "browser-map-box": map_box}  # fmt: skip
        for name, box in names.items():
            box.add_class(name)
        return browser

    def _draw(self) -> None:
        sight = self.browsing.sight
        self.queries.show()
        self.results.show(sight)
        places = sight.answers.top(sight.options.top_k, sight.options.show_junk)
        self.map.show(self.browsing.lookup.embedding(sight.asked), places)
        steps = self.browsing.steps_back
        self.back.disabled, self.back.description = (
            not steps,
            f"back ({steps})" if steps else "back",
        )

    def _ask(self, asked: Asked) -> None:
        self.browsing.ask(asked)
        self._draw()

    def _clicked(self, index: int) -> None:
        self._ask(Asked("gallery", index))

    def _change(self, name: str, value: Any) -> None:
        try:
            if name == "rerank" and value:
                self.messages.say("Finding everybody's neighbours for re-ranking, once …")
            self.browsing.change(**{name: value})
            self.messages.say("")
        finally:  # also after a failure: back where the state is
            self._draw()

    def _go_back(self) -> None:
        self.browsing.back()
        self._draw()

    def _upload(self, data: bytes, name: str) -> None:
        self.browsing.upload(data, name)
        self._draw()

    def _refuse(self, name: str, size: int) -> None:
        raise ValueError(
            f"{name} has {size / 1e6:.1f} MB and at most {MAX_UPLOAD_BYTES / 1e6:.0f} are taken; "
            "save it smaller"
        )

    def _save(self) -> None:
        figure = draw_sight(self.browsing)
        file = self._file("png")
        figure.savefig(file, dpi=150)
        plt.close(figure)
        self.messages.say(f"Saved {file}")

    def _export(self) -> None:
        file = self._file("csv")
        write_ranking(file, self.browsing.sight, self.browsing.lookup.retrieval.gallery)
        self.messages.say(f"Saved {file}")

    def _file(self, ending: str) -> Path:
        """Named by what is seen, so that another view goes to another file."""
        asked, options = self.browsing.sight.asked, self.browsing.sight.options
        name = f"{asked.kind}_{asked.index:05d}"
        if options.rerank:
            name += f"_reranked_{options.k1}_{options.k2}_{options.lambda_value:g}"
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"{name}.{ending}"

    def _tip(self, index: int) -> str:
        asked = Asked("gallery", index)
        name = self._words.name(asked).replace(" · ", "<br>")
        return f'<img src="{self._words.source(asked)}" alt="" width="64"><br>{name}'
