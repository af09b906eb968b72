"""Clickable pictures and a file chooser as Jupyter widgets; `page/` holds what the browser runs.

One widget holds a whole grid: a redraw is one message, however many pictures there are.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from tripletlib.plots import BLUE, DARK_ORANGE, VERDICT_STYLES

MAX_UPLOAD_BYTES = 8_000_000  # Jupyter's web socket takes messages of up to 10 MB


def page_file(name: str) -> str:
    """The text of a file of `page/`. Of a path, anywidget would keep every widget for ever."""
    return (Path(__file__).parent / "page" / name).read_text(encoding="utf-8")


def _style_sheet() -> str:
    """`browser.css` behind the colours and lines of verdicts and curves.

    Text takes some of the page's own colour, which makes it readable in a light and a dark theme.
    """
    colours, looks = [f"--before: {BLUE}; --after: {DARK_ORANGE};"], []
    for verdict, style in VERDICT_STYLES.items():
        text = f"color-mix(in srgb, {style.colour} 50%, var(--text))"
        colours.append(f"--{verdict}: {style.colour}; --{verdict}-text: {text};")
        look = f"--verdict: {style.colour}; --verdict-text: var(--{verdict}-text)"
        looks.append(f".verdict-{verdict} {{ {look}; --verdict-line: {style.line}; }}")
    root = f".tripletlib-widget {{ {' '.join(colours)} }}"
    return "\n".join([root, *looks, page_file("browser.css"), SAVED_STYLE])


SAVED_STYLE = page_file("saved.css")
STYLE_SHEET = _style_sheet()


@dataclass(frozen=True)
class Card:
    """A picture with its captions. All texts are shown as they are, nothing in them is HTML."""

    key: str  # tells the picture apart; the same picture in two groups has the same key
    src: str  # the picture as a `data:` address
    description: str  # what a screen reader says and the mouse shows
    verdict: str = ""  # how it is framed, a key of `VERDICT_STYLES`; empty for no frame
    mark: str = ""  # short text above the picture, at the left
    moved: str = ""  # short text above the picture, at the right
    lines: tuple[str, ...] = ()  # texts below the picture


@dataclass(frozen=True)
class Group:
    """Cards under one title."""

    items: Sequence[Card]
    title: str = ""  # empty for none
    empty: str = "nothing to show"  # what stands there when there is no card


def on_pointing(
    widget: anywidget.AnyWidget, on_choose: Callable[[str], None], on_hover: Callable[[str], object]
) -> None:
    """Calls one of the two with the key that the page sends: of a picture clicked or hovered."""

    def receive(_: Any, content: dict[str, Any], __: Any) -> None:
        act, key = (on_hover, "hovered") if "hovered" in content else (on_choose, "chosen")
        act(str(content[key]))

    widget.on_msg(receive)


class PictureGrid(anywidget.AnyWidget):
    """Groups of pictures to be walked with the arrow keys and chosen with Enter or a click.

    `label` names the grid to a screen reader; `on_choose` is called with a chosen picture's key,
    `on_hover` with that of the picture under the mouse, or an empty one.
    """

    _esm = page_file("picture_grid.js")
    _css = STYLE_SHEET
    label = traitlets.Unicode().tag(sync=True)
    groups: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    selected = traitlets.Unicode().tag(sync=True)
    linked = traitlets.Unicode().tag(sync=True)  # key of a picture that is marked for the moment

    def __init__(
        self, label: str, on_choose: Callable[[str], None], on_hover: Callable[[str], object] = str
    ) -> None:
        super().__init__(label=label)
        on_pointing(self, on_choose, on_hover)

    def show(self, groups: Sequence[Group], selected: str = "") -> None:
        """Draws the groups; the card with the key `selected` is marked."""
        with self.hold_sync():
            self.selected = selected
            self.groups = [asdict(group) for group in groups]


class PictureUpload(anywidget.AnyWidget):
    """A button, with the text `label`, that lets the reader choose one file.

    `on_file` is called with content and name of the file; `on_too_large` with name and size in
    bytes of a file that was not sent.
    """

    _esm = page_file("picture_upload.js")
    _css = STYLE_SHEET
    label = traitlets.Unicode().tag(sync=True)
    max_bytes = traitlets.Int(MAX_UPLOAD_BYTES).tag(sync=True)

    def __init__(
        self,
        label: str,
        on_file: Callable[[bytes, str], None],
        on_too_large: Callable[[str, int], None],
    ) -> None:
        super().__init__(label=label)

        def receive(_: Any, content: dict[str, Any], buffers: list[Any]) -> None:
            if "refused" in content:
                on_too_large(str(content["refused"]), int(content["bytes"]))
            elif len(buffers[0]) > self.max_bytes:  # a page can send what it likes
                on_too_large(str(content["name"]), len(buffers[0]))
            else:
                on_file(bytes(buffers[0]), str(content["name"]))

        self.on_msg(receive)
