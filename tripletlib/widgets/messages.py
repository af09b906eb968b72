"""The line in which the query browser talks to its reader, errors of its callbacks included."""

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets


class Messages:
    """One line of text. Jupyter drops errors of callbacks; here they are shown.

    Attributes:
        widget: the line.
    """

    def __init__(self) -> None:
        self.widget = ipywidgets.HTML()
        self.widget.add_class("browser-message")

    def say(self, text: str) -> None:
        """Shows a text; an empty one clears the line."""
        self._show("status", "", text)

    def complain(self, text: str) -> None:
        """Shows what went wrong, so that it is seen and read aloud."""
        self._show("alert", "⚠ ", text)

    def guarded(self, action: Callable[..., None], clears: bool = True) -> Callable[..., None]:
        """Wraps a callback so that its error is shown.

        Args:
            action: does the work.
            clears: whether what was said before goes when the work begins.
        """

        def callback(*arguments: Any) -> None:
            if clears:
                self.say("")
            try:
                action(*arguments)
            except Exception as error:
                self.complain(f"{type(error).__name__}: {error}")

        return callback

    def _show(self, role: str, sign: str, text: str) -> None:
        line = f'<div class="{role}" role="{role}">{sign}{escape(text)}</div>' if text else ""
        self.widget.value = line
