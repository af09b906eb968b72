"""What surrounds the query browser: messages, guarded callbacks, saved pages."""

import base64
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets
from IPython.display import display

from tripletlib.runtime import in_live_notebook, return_freed_memory
from tripletlib.widgets.pictures import STYLE_SHEET, page_file

_EXPECTED = (OSError, ValueError, IndexError)  # their texts are written for readers


class MessageLine(anywidget.AnyWidget):
    """One line of text; while it is on the page, keys typed in its widget stay there."""

    _esm = page_file("message_line.js")
    _css = STYLE_SHEET
    role = traitlets.Enum(("status", "alert"), "status").tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    file = traitlets.Unicode().tag(sync=True)  # the name of a file that the line links to
    content = traitlets.Unicode().tag(sync=True)  # of that file, as a `data:` address


class NotebookWidget:
    """A widget with a line in which it talks to its reader.

    Show it by making it the last line of a cell. Where nobody watches (papermill, nbval), and in a
    page that was saved, there is the `sentence` instead, since only a kernel can run the widget.

    Attributes:
        widget: the ipywidgets box.
        message: the line, made to be put into the box.
    """

    _moves_controls = False  # late callbacks ask for it when `close` has emptied the widget

    def __init__(self, sentence: str) -> None:
        self.widget = ipywidgets.VBox()
        self.widget.add_class("tripletlib-widget")
        self.message = MessageLine()
        self._sentence = sentence

    def say(self, text: str, role: str = "status", file: Path | None = None) -> None:
        """Shows a text; an empty one clears the line. An `"alert"` is read aloud at once.

        A link behind it brings the `file` to the reader, whose browser may see another disk.
        """
        message, content = vars(self).get("message"), file.read_bytes() if file else b""
        if message is None:  # closed meanwhile: JupyterLab runs callbacks beside the cells
            return
        with message.hold_sync():
            message.role, message.text = role, text
            message.file = file.name if file else ""
            message.content = f"data:;base64,{base64.b64encode(content).decode()}" if file else ""

    def guarded(self, action: Callable[..., None], clears: bool = True) -> Callable[..., None]:
        """Wraps a callback: its error, which Jupyter would drop, is shown in the line.

        It is not called while the widget moves its own controls. `clears` says whether what was
        said before goes when the work begins.
        """

        def callback(*arguments: Any) -> None:
            if self._moves_controls:
                return
            if clears:
                self.say("")
            try:
                action(*arguments)
            except Exception as error:
                kind = "" if isinstance(error, _EXPECTED) else f"{type(error).__name__}: "
                self.say(f"⚠ {kind}{error}", "alert")

        return callback

    def button(self, action: Callable[[], None], **look: Any) -> Any:
        """A button that does something, guarded."""
        button = ipywidgets.Button(**look)
        button.on_click(self.guarded(lambda _: action()))
        return button

    @contextmanager
    def moving_controls(self) -> Iterator[None]:
        """Inside, guarded callbacks stay silent: the widget moves its controls, not the reader."""
        self._moves_controls = True
        try:
            yield
        finally:
            self._moves_controls = False

    def close(self) -> None:
        """Takes the widget off the page for good; the memory of all it held is given back."""
        _close(self.widget, set())
        vars(self).clear()  # an output cache of the notebook may keep the empty shell
        self._sentence = "This widget is closed: a newer one has taken its place."
        gc.collect()  # widgets and their callbacks refer to each other
        return_freed_memory()

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        if in_live_notebook() and hasattr(self, "widget"):
            html = f'<p class="tripletlib-saved">{escape(self._sentence)}</p>'
            # Stays in the saved page; the style sheet hides it as long as the widget lives.
            display({"text/html": html, "text/plain": self._sentence}, raw=True)
            return {**self.widget._repr_mimebundle_(**options), "text/plain": ""}
        return {"text/plain": self._sentence}


def _close(widget: ipywidgets.Widget, closed: set[Any]) -> None:
    """Closes a widget and all that it is made of, layouts and styles too."""
    closed.add(widget)
    for value in widget.trait_values().values():
        for piece in value if isinstance(value, list | tuple) else [value]:
            if isinstance(piece, ipywidgets.Widget) and piece not in closed:
                _close(piece, closed)
    widget.close()


def titled(title: str, note: str = "") -> Any:
    """A small heading; the note is HTML."""
    return ipywidgets.HTML(f"<h3>{escape(title)}</h3>" + (f"<p>{note}</p>" if note else ""))


def part(name: str, widget: Any) -> Any:
    """Names a widget for style sheet and tests."""
    widget.add_class(f"browser-{name}")
    return widget


def row(name: str, *parts: Any) -> Any:
    return part(name, ipywidgets.HBox(parts))


def column(name: str, *parts: Any) -> Any:
    return part(name, ipywidgets.VBox(parts))
