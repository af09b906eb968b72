"""A notebook as a page that a browser shows without a network, for eyes and for screen readers."""

import os
import re
from html import escape
from itertools import pairwise
from pathlib import Path

import nbformat
from jinja2 import pass_context
from jinja2.runtime import Context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

WITHOUT = "a figure without a description"
_TEMPLATES = Path(__file__).parent
_HEADLINE = re.compile(r"^# (.+)$", re.MULTILINE)
_MARKUP = re.compile(r"[`$]|\]\([^)]*\)|\[")


class _Renderer(IPythonRenderer):
    """Writes formulas as MathML, which browsers show, and links as they lead from the page."""

    def __init__(self, notebooks: str, page: str) -> None:
        super().__init__(escape=False, embed_images=True, path=notebooks)
        self._notebooks, self._page = notebooks, page

    def link(self, text: str, url: str, title: str | None = None) -> str:
        place, mark, anchor = url.partition("#")
        target = Path(self._notebooks, place)
        if place and target.exists():  # beside the notebook, not in the world
            url = Path(os.path.relpath(target, self._page)).as_posix() + mark + anchor
        return super().link(text, url, title)

    def inline_math(self, body: str) -> str:
        return _formula(body, "inline")

    def block_math(self, body: str) -> str:
        return _formula(body, "block")


def _formula(body: str, display: str) -> str:
    try:
        return convert(body, display=display)
    except Exception:  # latex2mathml's errors have no common class; the page shows what was written
        return f"<code>{escape(body)}</code>"


@pass_context
def _markdown_to_html(context: Context, source: str) -> str:
    about = context["resources"]["metadata"]
    return MarkdownWithMath(renderer=_Renderer(about["path"], about["page"])).render(source)


def write_page(executed: Path, folder: Path) -> None:
    """Writes an HTML page beside an executed notebook: its title, its formulas, described figures.

    A figure's description is the emphasised sentence that begins the next text cell. Pictures and
    files that text cells name are looked for from `folder`, where the notebook came from.
    """
    notebook = nbformat.read(executed, as_version=4)
    for cell, text in pairwise([*notebook.cells, None]):
        cell.metadata["alt"] = _description(text)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    headline = _HEADLINE.search("\n".join(texts))
    title = f"{headline[1]} – tripletlib" if headline else executed.stem
    exporter = HTMLExporter(
        template_name="page",
        extra_template_basedirs=[str(_TEMPLATES)],
        filters={"markdown2html": _markdown_to_html},
    )
    about = {"metadata": {"name": title, "path": str(folder), "page": str(executed.parent)}}
    page, _ = exporter.from_notebook_node(notebook, resources=about)
    executed.with_suffix(".html").write_text(page, encoding="utf-8")


def _description(text: NotebookNode | None) -> str:
    """What a text cell says of the figure above it, if it begins with that."""
    if text is None or text.cell_type != "markdown" or not text.source.startswith("*The "):
        return WITHOUT
    return _MARKUP.sub("", text.source[1:].partition("*")[0])
