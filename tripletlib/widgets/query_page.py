"""The query browser as one page without a kernel: everything is ranked before it is opened."""

import argparse
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from html import escape
from typing import Any

import numpy as np

from tripletlib.experiments import Retrieval, open_retrieval
from tripletlib.runtime import (
    AnyPath,
    Progress,
    atomic_write,
    explained_writing,
    from_repository,
    progress_bar,
)
from tripletlib.widgets.cards import (
    CURVE_LEGEND,
    LEGEND,
    CardMaker,
    key_of,
    map_legend,
    no_scores,
    score_texts,
    why_text,
)
from tripletlib.widgets.gallery_map import GalleryPlane, map_kinds, short
from tripletlib.widgets.pictures import STYLE_SHEET, Group, page_file
from tripletlib.widgets.state import DEFAULTS, BrowserState, Options, Picture, SearchResult

_QUALITY = 55  # of the JPEGs: a page that is sent around holds some thousands of them
_WIDGETS = {  # the same as in a notebook, by their names in query_page.js
    "pictureGrid": "picture_grid.js",
    "precisionRecall": "curve.js",
    "galleryMap": "gallery_map.js",
}
_REFUSAL = (
    "the page would hold the pictures of {name}, and whoever gets it could pass them on; "
    "Market-1501's licence forbids that, and people in other pictures have a say. If these may be "
    "passed on, add --pictures-may-be-passed-on"
)


def write_query_page(
    retrieval: Retrieval, file: AnyPath, options: Options = DEFAULTS, progress: Progress = "auto"
) -> None:
    """Writes the page: every query with its ranked gallery, before and after re-ranking.

    Pictures, script and rankings lie inside: it opens from a folder and asks nobody for anything.
    The options say how many ranks are shown, and how the gallery is re-ranked; the retrieval needs
    labels, and a relative path of the file is meant from the repository.

    Raises:
        ValueError: there are no queries, or nobody knows whom they show.
        OSError: the file cannot be written.
    """
    file = from_repository(file)
    if not retrieval.labelled or not len(retrieval.query):
        raise ValueError(f"{retrieval.name} has no queries with labels, which the page would show")
    content = json.dumps(_content(retrieval, options, progress), separators=(",", ":"))
    parts = {
        "TITLE": escape(f"Query browser: {retrieval.name}"),
        "STYLE": STYLE_SHEET,
        "LEGEND": LEGEND,
        "CURVE": CURVE_LEGEND,
        "MAP": map_legend(labelled=True),
        "CONTENT": content.replace("<", "\\u003c"),  # nothing may end the script that holds it
        "WIDGETS": "\n".join(_as_script(name, file) for name, file in _WIDGETS.items()),
        "SCRIPT": page_file("query_page.js"),
    }
    page = re.sub(r"{{(\w+)}}", lambda found: parts[found[1]], page_file("query_page.html"))
    with explained_writing(file, "name another file"), atomic_write(file) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _as_script(name: str, file: str) -> str:
    """A widget's module as a classic script: from a folder, a browser refuses modules."""
    return f"const {name} = (() => {{{page_file(file).replace('export default', 'return')}}})();"


def _content(retrieval: Retrieval, options: Options, progress: Progress) -> dict[str, Any]:
    """What the page's script reads."""
    shown_options = replace(options, rerank=True, show_junk=True, compare=True)
    state = BrowserState(retrieval, options=shown_options)
    gallery, cards = retrieval.gallery, CardMaker(state, _QUALITY)
    plane = GalleryPlane(gallery.embeddings)
    queries = []
    with progress_bar(len(retrieval.query), "queries", progress) as bar:
        for index in range(len(retrieval.query)):
            state.look_up(query := Picture("query", index))
            cards.source(query)  # all that is encoded comes into the page
            queries.append(_query(state, cards, plane))
            bar.update()
    return {
        "queries": queries,
        "noScores": no_scores(state),
        "pictures": {key_of(picture): source for picture, source in cards.sources.items()},
        "gallery": {
            "points": short(plane.points),
            "kinds": map_kinds(gallery),
            "names": [", ".join(cards.labels(Picture("gallery", i))) for i in range(len(gallery))],
            "explained": f"{plane.explained:.0%}",
        },
    }


def _query(state: BrowserState, cards: CardMaker, plane: GalleryPlane) -> dict[str, Any]:
    """A query, and what is to be seen of it by distance and re-ranked."""
    result, query = state.result, state.result.query
    rankings = result.rankings.values()
    aps = [ranked.average_precision for ranked in rankings]
    curves = [ranked.curve() for ranked in rankings]
    return {
        "key": key_of(query),
        "name": cards.name(query),
        "lines": cards.labels(query),
        "ap": [None if math.isnan(ap) else round(ap, 4) for ap in aps],
        "firstRight": [ranked.first_right for ranked in rankings],
        "views": [_view(seen, cards) for seen in (replace(result, after=None), result)],
        "curves": [short(np.column_stack(curve)) if curve else [] for curve in curves],
        "point": short(plane.project(state.embedding(query)[None]))[0],
    }


def _view(result: SearchResult, cards: CardMaker) -> dict[str, Any]:
    return {
        "facts": score_texts(result),
        "groups": [_without_pictures(group) for group in cards.result_groups(result)],
        "why": [_without_pictures(group) for group in cards.why_groups(result)],
        "whyText": why_text(result),
    }


def _without_pictures(group: Group) -> dict[str, Any]:
    """A group whose cards name their pictures by key alone: each is in the page once."""
    items = [{k: v for k, v in asdict(card).items() if k != "src"} for card in group.items]
    return {"title": group.title, "empty": group.empty, "items": items}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `tripletlib query-page`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="tripletlib query-page",
        description="Write the query browser of a run as one page without a kernel.",
    )
    parser.add_argument("run", help="a run, a parameter file, or 'shipped' for what ships")
    parser.add_argument("file", type=from_repository, help="the page, such as out.html")
    parser.add_argument(
        "--pictures-may-be-passed-on",
        action="store_true",
        help="for pictures of real people: you have their consent and a licence that allows it",
    )
    options = parser.parse_args(arguments)
    retrieval = open_retrieval("" if options.run == "shipped" else options.run)
    if not (retrieval.drawn or options.pictures_may_be_passed_on):
        raise PermissionError(_REFUSAL.format(name=retrieval.name))
    write_query_page(retrieval, options.file)
    print(options.file)
    return 0
