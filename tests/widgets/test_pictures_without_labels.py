"""The query browser on pictures of which nobody knows whom they show."""

import numpy as np
import pytest
from page_messages import choose, send_file
from toy_retrieval import make_retrieval, png

from tripletlib.evaluation import Verdict
from tripletlib.reranking import k_reciprocal
from tripletlib.widgets import BrowserState, Options, Picture, QueryBrowser, draw_map, draw_result

SMALL = {"k1": 5, "k2": 3, "lambda_value": 0.4}


@pytest.fixture
def pictures():
    return make_retrieval().without_labels()


@pytest.fixture
def shown(pictures, tmp_path):
    return QueryBrowser(pictures, tmp_path)


def texts(shown):
    """Everything that the page says, in HTML and on the cards."""
    html = [
        shown.facts.value,
        *(box.value for box in shown.widget.children if hasattr(box, "value")),
    ]
    grids = shown.queries.grid.groups + shown.results.groups
    cards = [card for group in grids for card in group["items"]]
    return " ".join(html + [group["title"] for group in grids] + [repr(card) for card in cards])


def test_every_picture_can_be_looked_up_and_finds_the_others(pictures):
    state = BrowserState(pictures)
    assert state.queries().tolist() == list(range(60))
    assert state.result.query == Picture("gallery", 0)
    ranked, embeddings = state.result.ranked, pictures.gallery.embeddings
    distances = np.linalg.norm(embeddings - embeddings[0], axis=1)
    np.testing.assert_allclose(ranked.distances, np.sort(distances)[1:], rtol=1e-4)
    assert sorted(ranked.order) == list(range(1, 60))
    assert set(ranked.verdicts) == {Verdict.UNKNOWN}
    with pytest.raises(ValueError, match="nobody has said whom these pictures show"):
        _ = state.scores


def test_re_ranking_is_that_of_the_same_pictures(pictures):
    state = BrowserState(pictures, Picture("gallery", 7), Options(rerank=True, **SMALL))
    embeddings = pictures.gallery.embeddings
    others = np.delete(np.arange(60), 7)
    expected = k_reciprocal(embeddings[[7]], embeddings[others], **SMALL)[0]
    after = state.result.after
    np.testing.assert_allclose(after.distances, np.sort(expected), atol=1e-5)
    np.testing.assert_allclose(
        expected[np.searchsorted(others, after.order)], after.distances, atol=1e-5
    )


def test_the_page_shows_no_verdict_and_no_score_and_says_why(shown):
    shown.controls["rerank"].value = True
    said = texts(shown)
    assert "nobody has said whom these pictures show" in shown.facts.value
    for word in ("person", "camera", "distractor", "wrong'", "AP ", "unknown,"):
        assert word not in said.replace("score, AP or curve", ""), word
    assert "00000.jpg" in said
    assert shown.queries.order.options == ("as in the set", "random")
    assert len(shown.results.groups) == 2
    chosen = shown.results.groups[1]["items"][2]["key"]
    choose(shown.results, chosen)
    assert shown.queries.grid.selected == chosen
    send_file(shown.upload, "me.png", png())
    assert shown.state.result.query == Picture("upload", 0)


def test_a_ranking_is_saved_without_what_nobody_knows(shown, tmp_path):
    shown.export.click()
    (file,) = tmp_path.glob("*.csv")
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "rank,distance,path"
    assert [line.split(",")[0] for line in lines[1:]] == [str(rank) for rank in range(1, 60)]


def test_figures_say_that_there_is_no_score(shown, ax):
    figure = draw_result(shown.state)
    said = " ".join(text.get_text() for part in figure.subfigs for text in part.texts)
    assert "no score" in said.replace("\n", " ")
    titles = [answer.get_title() for part in figure.subfigs for answer in part.axes]
    assert titles[:3] == ["by distance", "1", "2"]
    draw_map(ax, shown.state)
    assert {part.get_label() for part in ax.collections} == {"gallery", "query", "unknown"}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("labelled", [True, False])
def test_tiny_galleries_are_shown(tmp_path, ax, count, labelled):
    tiny = make_retrieval(people=3, queries=3, gallery=count)
    tiny = tiny if labelled else tiny.without_labels()
    shown = QueryBrowser(tiny, tmp_path, options=Options(rerank=True))
    cards = sum(len(group["items"]) for group in shown.results.groups)
    assert cards == 2 * (count if labelled else count - 1)
    assert shown.message.text == ""
    draw_result(shown.state)
    draw_map(ax, shown.state)
