"""Pictures and answers in the query browser's words: cards, sentences, tables."""

import base64
import io
import math
from collections.abc import Hashable
from html import escape

import numpy as np
from PIL import Image

from tripletlib.evaluation import DISTRACTOR, Place, RankedGallery, Verdict
from tripletlib.widgets.browsing import Browsing
from tripletlib.widgets.lookup import Asked, Sight
from tripletlib.widgets.pictures import Card, Group

_QUALITY = 85


class Thumbnails:
    """Encodes pictures when they are first shown and remembers the result.

    About 3 kB a picture of 128 x 64, so even all of Market-1501 stays below 100 MB.
    """

    def __init__(self) -> None:
        self._encoded: dict[Hashable, str] = {}

    def __call__(self, key: Hashable, image: np.ndarray) -> str:
        """The picture's address.

        Args:
            key: tells the picture apart; the same key always means the same picture.
            image: uint8 `[3, H, W]`.

        Example:
            >>> Thumbnails()("black", np.zeros((3, 8, 4), np.uint8))[:22]
            'data:image/jpeg;base64'
        """
        if key not in self._encoded:
            buffer = io.BytesIO()
            Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=_QUALITY)
            text = base64.b64encode(buffer.getvalue()).decode()
            self._encoded[key] = f"data:image/jpeg;base64,{text}"
        return self._encoded[key]


MARKS = {Verdict.RIGHT: "✓ ", Verdict.WRONG: "✗ ", Verdict.DISTRACTOR: "⊘ "}
LEGEND = (
    '<div class="legend"><span class="mark-right">✓ right</span>'
    '<span class="mark-wrong">✗ wrong</span>'
    '<span class="mark-distractor">⊘ distractor: nobody’s answer</span>'
    '<span class="mark-junk">junk: same person and camera, skipped</span></div>'
)

CURVE_LEGEND = (
    '<span class="line-before">━ by distance</span> <span class="line-after">╍ re-ranked</span>'
)
MAP_LEGEND = (
    "◇ query, <b class='right'>●</b> right, <b class='wrong'>✚</b> wrong, "
    "<b class='wrong'>▼</b> distractor, ■ unknown"
)


def key_of(asked: Asked) -> str:
    """A picture's name in messages to and from the page."""
    return f"{asked.kind}:{asked.index}"


def asked_by(key: str) -> Asked:
    """The picture that `key_of` named.

    Raises:
        ValueError: the page sent something else.
    """
    kind, _, index = key.partition(":")
    if kind not in ("query", "gallery", "upload") or not index.isdecimal():
        raise ValueError(f"the page chose {key!r}, which names no picture")
    return Asked(kind, int(index))  # type: ignore[arg-type]


def percent(value: float) -> str:
    """A share in percent; a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.1%}"


class Words:
    """Puts pictures of one walk into words.

    Args:
        browsing: the walk.
        thumbnails: what encodes its pictures.
    """

    def __init__(self, browsing: Browsing, thumbnails: Thumbnails) -> None:
        self._browsing, self._thumbnails = browsing, thumbnails

    def source(self, asked: Asked) -> str:
        """The picture's `data:` address."""
        return self._thumbnails(asked, self._browsing.lookup.image(asked))

    def who(self, asked: Asked) -> str:
        """Whom a picture shows."""
        pid, _ = self._browsing.lookup.pid_and_camid(asked)
        if pid is None:
            return "unknown person"
        return "distractor" if pid == DISTRACTOR else f"person {pid}"

    def name(self, asked: Asked) -> str:
        """What a picture is called in a title."""
        if asked.kind == "upload":
            return f"Your picture {self._browsing.lookup.uploads[asked.index].name}"
        _, camid = self._browsing.lookup.pid_and_camid(asked)
        kind = "Query" if asked.kind == "query" else "Gallery picture"
        return f"{kind} {asked.index} · {self.who(asked)} · camera {camid}"

    def query_card(self, index: int) -> Card:
        """A query in the list of queries, with its AP if that is known."""
        asked, mark = Asked("query", index), ""
        if self._browsing.knows_scores:
            mark = f"AP {percent(self._browsing.scores.average_precision[index])}"
        _, camid = self._browsing.lookup.pid_and_camid(asked)
        description = " · ".join(filter(None, (self.name(asked), mark)))
        lines = (self.who(asked), f"camera {camid}")
        return Card(key_of(asked), self.source(asked), description, mark=mark, lines=lines)

    def place_card(self, place: Place, moved: str = "", moved_words: str = "") -> Card:
        """A gallery picture in a ranked list."""
        asked = Asked("gallery", place.index)
        _, camid = self._browsing.lookup.pid_and_camid(asked)
        position = "junk, not ranked" if place.verdict == Verdict.JUNK else f"rank {place.rank}"
        facts = (position, place.verdict, self.who(asked), f"camera {camid}")
        description = ", ".join((*facts, f"distance {place.distance:.3f}"))
        if moved_words:
            description += f"; {moved_words}"
        return Card(
            key_of(asked),
            self.source(asked),
            description,
            verdict=place.verdict,
            mark=mark_of(place),
            moved=moved,
            lines=(self.who(asked), f"camera {camid}", f"dist. {place.distance:.3g}"),
        )

    def result_groups(self, sight: Sight) -> list[Group]:
        """The ranked list; re-ranked, with the way each picture went, beside the one before."""
        after, options = sight.after, sight.options
        if after is None:
            return [
                self._group(sight, sight.before, self._title("Ranked by distance", sight.before))
            ]
        size = len(self._browsing.lookup.retrieval.gallery)
        old, new = sight.before.rank_by_index(size), after.rank_by_index(size)
        settings = f"k1 {options.k1}, k2 {options.k2}, λ {options.lambda_value:g}"
        title = self._title(f"After re-ranking ({settings})", after)
        groups = [self._group(sight, after, title, old - new, new)]
        if options.compare:
            title = self._title("Before, by distance", sight.before)
            groups.insert(0, self._group(sight, sight.before, title, old - new, new, leads_to=True))
        return groups

    def why_group(self, answers: RankedGallery) -> Group:
        """The two pictures that say why a ranking is as good or bad as it is."""
        places = answers.nearest_wrong(), answers.farthest_right()
        cards = [self.place_card(place) for place in places if place is not None]
        return Group(
            cards, empty="Nobody knows whom the query shows, so nothing is right or wrong."
        )

    def _group(
        self,
        sight: Sight,
        answers: RankedGallery,
        title: str,
        gained: np.ndarray | None = None,
        new: np.ndarray | None = None,
        leads_to: bool = False,
    ) -> Group:
        cards = []
        for place in answers.top(sight.options.top_k, sight.options.show_junk):
            moved = words = ""
            if gained is not None and new is not None and place.rank:
                up = int(gained[place.index])
                words = f"{abs(up)} places {'up' if up > 0 else 'down'}" if up else "stays"
                moved = f"{'▲' if up > 0 else '▼'}{abs(up)}" if up else "="
                if leads_to:
                    moved = f"→{new[place.index]}"
            cards.append(self.place_card(place, moved, words))
        return Group(cards, title, "The gallery has no other picture.")

    def _title(self, title: str, answers: RankedGallery) -> str:
        has_answer = bool(answers.first_right)
        return f"{title} · AP {percent(answers.average_precision)}" if has_answer else title


def mark_of(place: Place) -> str:
    """The verdict's mark, if it has one, and the rank."""
    if place.verdict == Verdict.JUNK:
        return "junk"
    return f"{MARKS.get(place.verdict, '')}{place.rank}"


def facts(sight: Sight) -> str:
    """AP, rank of the first right answer and their number, as HTML."""
    lists = [answers for answers in (sight.before, sight.after) if answers is not None]
    if not sight.before.first_right:
        return "<p>No right answer is known for this picture, so it has no AP.</p>"
    precisions = [percent(answers.average_precision) for answers in lists]
    firsts = [str(answers.first_right) for answers in lists]
    junk = int((sight.before.verdicts == Verdict.JUNK).sum())
    rows = {
        "average precision (AP)": " → ".join(precisions),
        "first right answer at rank": " → ".join(firsts),
        "right answers (junk)": f"{int(sight.before.right.sum())} ({junk})",
    }
    tiles = (f"<div><span>{name}</span><b>{value}</b></div>" for name, value in rows.items())
    return f'<div class="facts">{"".join(tiles)}</div>'


def why_sentences(answers: RankedGallery, reranked: bool = False) -> str:
    """Nearest wrong and farthest right answer, as HTML.

    Args:
        answers: the list that is judged.
        reranked: whether it is the re-ranked one, for the text.
    """
    wrong, right = answers.nearest_wrong(), answers.farthest_right()
    if wrong is None or right is None:
        return ""
    late = int((answers.right[wrong.rank - 1 :]).sum())
    total = int(answers.right.sum())
    return (
        f"<p>{'After re-ranking' if reranked else 'By distance'}, "
        f"the <b>nearest wrong</b> answer is at rank {wrong.rank}, "
        f"{wrong.distance:.3g} away; the <b>farthest right</b> one at rank {right.rank}, "
        f"{right.distance:.3g} away. {late} of {total} right answers come after the nearest "
        f"wrong one.</p>"
    )


def heading(title: str, note: str = "") -> str:
    """A small heading as HTML.

    Args:
        title: any text.
        note: HTML of a line below; empty for none.
    """
    return f"<h3>{escape(title)}</h3>" + (f"<p>{note}</p>" if note else "")
