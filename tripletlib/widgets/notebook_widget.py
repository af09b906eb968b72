"""What the playground and the query browser share: messages, guarded callbacks, saved pages."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anywidget
import ipywidgets
import numpy as np
import traitlets

from tripletlib.runtime import in_live_notebook
from tripletlib.widgets.pictures import PAGE, STYLE_SHEET

# JupyterLab's colours of the theme that the reader has chosen, for bqplot.
TEXT, PAPER = "var(--jp-ui-font-color1)", "var(--jp-layout-color1)"
AXIS = {"grid_color": "var(--jp-border-color2)", "label_color": TEXT}


class MessageLine(anywidget.AnyWidget):
    """One line of text; while it is on the page, keys typed in its widget stay there."""

    _esm = PAGE / "message_line.js"
    _css = STYLE_SHEET
    role = traitlets.Enum(("status", "alert"), "status").tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)


class NotebookWidget:
    """A widget with a line in which it talks to its reader.

    Show it by making it the last line of a cell. Where nobody watches (papermill, nbval) the cell
    shows the `sentence` instead, since a saved page cannot run the widget.

    Attributes:
        widget: the ipywidgets box.
        message: the line, made to be put into the box.
    """

    def __init__(self, sentence: str) -> None:
        self.widget = ipywidgets.VBox()
        self.widget.add_class("tripletlib-widget")
        self.message = MessageLine()
        self._sentence = sentence
        self._moves_controls = False

    def say(self, text: str, role: str = "status") -> None:
        """Shows a text; an empty one clears the line. An `"alert"` is read aloud at once."""
        with self.message.hold_sync():
            self.message.role, self.message.text = role, text

    def guarded(self, action: Callable[..., None], clears: bool = True) -> Callable[..., None]:
        """Wraps a callback: its error, which Jupyter would drop, is shown in the line.

        Args:
            action: does the work; not called while the widget moves its own controls.
            clears: whether what was said before goes when the work begins.
        """

        def callback(*arguments: Any) -> None:
            if self._moves_controls:
                return
            if clears:
                self.say("")
            try:
                action(*arguments)
            except Exception as error:
                self.say(f"⚠ {type(error).__name__}: {error}", "alert")

        return callback

    @contextmanager
    def moving_controls(self) -> Iterator[None]:
        """Inside, guarded callbacks stay silent: the widget moves its controls, not the reader."""
        self._moves_controls = True
        try:
            yield
        finally:
            self._moves_controls = False

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        if in_live_notebook():
            return self.widget._repr_mimebundle_(**options)
        return {"text/plain": self._sentence}


def move_mark(mark: Any, points: np.ndarray) -> None:
    """Moves a bqplot mark to points, whose last axis is x and y, in one message to the page."""
    with mark.hold_sync():
        mark.x, mark.y = points[..., 0], points[..., 1]
