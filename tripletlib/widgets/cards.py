"""What the query browser says: captions, sentences and legends for pictures and rankings."""

import base64
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tripletlib.evaluation import DISTRACTOR, Place, RankedGallery, Verdict
from tripletlib.plots import VERDICT_STYLES, moved_by
from tripletlib.widgets.pictures import Card, Group
from tripletlib.widgets.state import NO_LABELS, BrowserState, Picture, SearchResult

MISSED = 4  # right answers behind the top-k that are shown
_MEANINGS = {
    Verdict.RIGHT: "right",
    Verdict.WRONG: "wrong",
    Verdict.DISTRACTOR: "distractor: nobody’s answer",
    Verdict.JUNK: "junk: same person and camera, skipped",
}
LEGEND = "".join(
    f'<span class="verdict-{verdict}">{VERDICT_STYLES[verdict].mark} {meaning}</span>'
    for verdict, meaning in _MEANINGS.items()
)
CURVE_LEGEND = (
    '<b class="before">━</b> by distance <b class="after">╍</b> re-ranked; the area below is the AP'
)
_GLYPHS = {"o": "●", "P": "✚", "v": "▼", "^": "▲", "s": "■"}


def map_legend(labelled: bool) -> str:
    """What the marks of the map mean, as HTML."""
    return "◇ query" + "".join(
        f', <b class="verdict-{verdict}">{_GLYPHS[style.marker]}</b> '
        f"{verdict if labelled else 'nearest'}"
        for verdict, style in VERDICT_STYLES.items()
        if labelled or verdict == Verdict.UNKNOWN
    )


def no_scores(state: BrowserState) -> str:
    """Why there is no AP."""
    if not state.retrieval.labelled:
        return f"No verdicts and no AP: {NO_LABELS}."
    return "No right answer is known for this picture, so it has no AP."


def key_of(picture: Picture) -> str:
    """A picture's name in messages to and from the page."""
    return f"{picture.kind}:{picture.index}"


def picture_of(key: str) -> Picture:
    """The picture that `key_of` named; a ValueError if the page sent something else."""
    kind, _, index = key.partition(":")
    if kind not in ("query", "gallery", "upload") or not index.isdecimal():
        raise ValueError(f"the page chose {key!r}, which names no picture")
    return Picture(kind, int(index))  # type: ignore[arg-type]


def percent(value: float) -> str:
    """A share in percent; a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.1%}"


class CardMaker:
    """Makes the cards of a browser's pictures; each is encoded once, as a JPEG of some quality.

    An encoded picture of 128 x 64 has about 3 kB, so all of Market-1501 stays below 100 MB.

    Attributes:
        sources: of the pictures that were encoded, as `data:` addresses.
    """

    def __init__(self, state: BrowserState, quality: int = 85) -> None:
        self._state, self._quality = state, quality
        self.sources: dict[Picture, str] = {}

    def source(self, picture: Picture) -> str:
        """The picture as a `data:` address."""
        if picture not in self.sources:
            buffer = io.BytesIO()
            image = Image.fromarray(self._state.image(picture).transpose(1, 2, 0))
            image.save(buffer, "JPEG", quality=self._quality, optimize=True)
            text = base64.b64encode(buffer.getvalue()).decode()
            self.sources[picture] = f"data:image/jpeg;base64,{text}"
        return self.sources[picture]

    def labels(self, picture: Picture) -> tuple[str, ...]:
        """Whom a picture shows, and its camera; without labels its file."""
        retrieval, (pid, camid) = self._state.retrieval, self._state.pid_and_camid(picture)
        if picture.kind == "upload":
            return "unknown person", "unknown camera"
        if pid is None or camid is None:
            return (Path(self._state.path(picture)).name,)
        person = "distractor" if pid == DISTRACTOR else f"person {retrieval.person(pid)}"
        return person, f"camera {retrieval.camera(camid)}"

    def name(self, picture: Picture) -> str:
        """What a picture is called in a title."""
        if picture.kind == "upload":
            return f"Your picture {self._state.uploads[picture.index].name}"
        in_gallery = "Gallery picture" if self._state.retrieval.labelled else "Picture"
        kind = "Query" if picture.kind == "query" else in_gallery
        return " · ".join((f"{kind} {picture.index}", *self.labels(picture)))

    def query_card(self, index: int) -> Card:
        """A picture in the list of queries, with its AP if that is known."""
        picture, mark = Picture(self._state.listed, index), ""
        if self._state.knows_scores:
            mark = f"AP {percent(self._state.scores.average_precision[index])}"
        description = " · ".join(filter(None, (self.name(picture), mark)))
        lines = self.labels(picture)
        return Card(key_of(picture), self.source(picture), description, mark=mark, lines=lines)

    def way_card(self, picture: Picture) -> Card:
        """A picture that was looked up, without captions."""
        return Card(key_of(picture), self.source(picture), self.name(picture))

    def ranked_card(self, place: Place, moved: str = "", note: str = "") -> Card:
        """A gallery picture in a ranked list.

        `moved` stands at the right above the picture; `note` says the same to a screen reader.
        """
        picture = Picture("gallery", place.index)
        labels = self.labels(picture)
        rank = f"rank {place.rank}" if place.rank else "not ranked"
        verdict = [place.verdict] if self._state.retrieval.labelled else []
        facts = ", ".join((rank, *verdict, *labels, f"distance {place.distance:.3f}"))
        mark = f"{VERDICT_STYLES[place.verdict].mark} {place.rank}".strip()
        return Card(
            key_of(picture),
            self.source(picture),
            "; ".join(filter(None, (facts, note))),
            verdict=place.verdict,
            mark=mark if place.rank else "junk",
            moved=moved,
            lines=(*labels, f"dist. {place.distance:.3g}"),
        )

    def result_groups(self, result: SearchResult) -> list[Group]:
        """The ranked list; re-ranked, with the way each picture went, beside the one before."""
        options, size = result.options, len(self._state.retrieval.gallery)
        if result.after is None:
            return [self._group(result, result.before, "Ranked by distance")]
        before, after = (ranked.rank_by_index(size) for ranked in result.rankings.values())

        def went(place: Place) -> tuple[str, str]:
            return moved_by(place, before), f"rank {before[place.index]} by distance"

        def goes(place: Place) -> tuple[str, str]:
            rank = after[place.index]
            return f"→{rank}", f"rank {rank} after re-ranking"

        title = f"After re-ranking ({result.settings})"
        groups = [self._group(result, result.after, title, went)]
        if options.compare:
            groups.insert(0, self._group(result, result.before, "Before, by distance", goes))
        return groups

    def why_groups(self, result: SearchResult) -> list[Group]:
        """Nearest wrong and farthest right answer, and the first right ones that are not shown."""
        ranked, top_k = result.ranked, result.options.top_k
        places = ranked.nearest_wrong(), ranked.farthest_right()
        cards = [self.ranked_card(place) for place in places if place is not None]
        empty = "Nobody knows whom the query shows, so nothing is right or wrong."
        empty = empty if Verdict.UNKNOWN in ranked.verdicts else "There is no such answer."
        missed = np.flatnonzero((ranked.verdicts == Verdict.RIGHT) & (ranked.ranks > top_k))
        late = [self.ranked_card(ranked[int(position)]) for position in missed[:MISSED]]
        title = f"Missed: {len(missed)} right answers behind rank {top_k}"
        return [Group(cards, empty=empty), *([Group(late, title)] if late else [])]

    def _group(
        self,
        result: SearchResult,
        ranked: RankedGallery,
        title: str,
        move: Callable[[Place], tuple[str, str]] | None = None,
    ) -> Group:
        places = ranked.top(result.options.top_k, result.options.show_junk)
        cards = [
            self.ranked_card(place, *(move(place) if move and place.rank else ()))
            for place in places
        ]
        if ranked.first_right:
            title = f"{title} · AP {percent(ranked.average_precision)}"
        return Group(cards, title, "The gallery has no other picture.")


def score_texts(result: SearchResult) -> dict[str, str]:
    """AP, rank of the first right answer and the number of them, by name; nothing without one."""
    if not result.before.first_right:
        return {}
    rankings = result.rankings.values()
    junk = int((result.before.verdicts == Verdict.JUNK).sum())
    return {
        "AP (rectangle rule)": " → ".join(percent(r.average_precision) for r in rankings),
        "first right answer at rank": " → ".join(str(r.first_right) for r in rankings),
        "right answers (junk)": f"{int(result.before.right.sum())} ({junk})",
    }


def why_text(result: SearchResult) -> str:
    """Where nearest wrong and farthest right answer lie."""
    wrong, right = result.ranked.nearest_wrong(), result.ranked.farthest_right()
    if wrong is None or right is None:
        return ""
    late, total = result.ranked.right[wrong.rank - 1 :].sum(), result.ranked.right.sum()
    how = "By distance" if result.after is None else "After re-ranking"
    return (
        f"{how}, the nearest wrong answer is at rank {wrong.rank}, {wrong.distance:.3g} away; the "
        f"farthest right one at rank {right.rank}, {right.distance:.3g} away. {late} of {total} "
        "right answers come after the nearest wrong one."
    )
