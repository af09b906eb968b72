"""One deck of slides a lesson: its figures, and the few sentences that a lecturer says to each.

A lesson's cell whose figure is to be shown bears `slideshow.slide_type = "slide"` in its metadata,
and `lecture`: a title and sentences. What the lesson says of it becomes the speaker's notes.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbformat import NotebookNode

from tripletlib.publishing.runner import find_notebooks, folder_parser
from tripletlib.runtime import REPOSITORY, renew_folder

TEMPLATES = Path(__file__).parent
TEMPLATE = "deck"
SLIDES = REPOSITORY / "course" / "slides"


def deck(lesson: NotebookNode) -> NotebookNode:
    """The notebook that becomes a deck: a title, then a slide for each chosen figure.

    A ValueError if a chosen cell has no figure, or no sentences.
    """
    name, _, about = lesson.cells[0].source.partition("\n\n")
    cells = [_text(f"{name}\n\n{about.partition('. ')[0]}.", "slide")]
    for place, cell in enumerate(lesson.cells):
        if cell.metadata.get("slideshow", {}).get("slide_type") != "slide":
            continue
        words = cell.metadata.get("lecture", {})
        figures = [
            output
            for output in cell.get("outputs", [])
            if any(kind.startswith("image/") for kind in output.get("data", {}))
        ]
        if not figures or not words.get("say"):
            raise ValueError(f"the slide {cell.id} needs a figure and `lecture` with title and say")
        points = "\n".join(f"- {sentence}" for sentence in words["say"])
        cells.append(_text(f"## {words['title']}\n\n{points}", "slide"))
        cells.append(nbformat.v4.new_code_cell("", outputs=figures))
        following = lesson.cells[place + 1 : place + 2]
        cells += [_text(c.source, "notes") for c in following if c.cell_type == "markdown"]
    return nbformat.v4.new_notebook(cells=cells, metadata=lesson.metadata)


def _text(source: str, slide_type: str) -> NotebookNode:
    metadata = {"slideshow": {"slide_type": slide_type}}
    return nbformat.v4.new_markdown_cell(source, metadata=metadata)


def write_decks(folder: Path = SLIDES) -> list[Path]:
    """Writes the decks anew and, beside them, reveal.js with its licence; returns the decks.

    A browser opens them without a server and without a network. A FileExistsError if the folder
    holds other files.
    """
    renew_folder(folder)
    shutil.copytree(TEMPLATES / TEMPLATE / "reveal", folder / "reveal")
    exporter = SlidesExporter(
        template_name=TEMPLATE,
        extra_template_basedirs=[str(TEMPLATES)],
        reveal_url_prefix="reveal",
        reveal_theme="lecture",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    written = []
    for path in find_notebooks():
        lesson = nbformat.read(path, as_version=4)
        title = lesson.cells[0].source.partition("\n")[0].lstrip("# ")
        named = {"metadata": {"name": f"tripletlib {title}"}}
        page, _ = exporter.from_notebook_node(deck(lesson), resources=named)
        written.append(folder / f"{path.stem}.html")
        written[-1].write_text(page, encoding="utf-8")
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `tripletlib slides`; returns the exit status."""
    parser = folder_parser("slides", "Make a deck of slides of each lesson.", SLIDES)
    print(*write_decks(parser.parse_args(arguments).output), sep="\n")
    return 0
