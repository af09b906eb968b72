from dataclasses import replace

import numpy as np
import pytest
from page_messages import hover
from toy_retrieval import calling, make_retrieval, png

from tripletlib.datasets.decoding import UnreadableImageError
from tripletlib.evaluation import Verdict, rank_gallery
from tripletlib.reranking import NeighbourIndex
from tripletlib.reranking.k_reciprocal import k_reciprocal
from tripletlib.widgets import BrowserState, Options, Picture, QueryBrowser, draw_result
from tripletlib.widgets import state as state_module
from tripletlib.widgets.cards import CardMaker

SMALL = {"k1": 5, "k2": 3, "lambda_value": 0.4}


@pytest.fixture
def retrieval():
    return make_retrieval()


@pytest.fixture
def state(retrieval):
    return BrowserState(retrieval)


def euclidean(a, b):
    return np.linalg.norm(a - b, axis=1)


def test_it_opens_on_the_first_query_ranked_as_the_library_ranks(state, retrieval):
    query, gallery = retrieval.query, retrieval.gallery
    distances = euclidean(query.embeddings[0], gallery.embeddings)
    ranked = rank_gallery(distances, query.pids[0], gallery.pids, query.camids[0], gallery.camids)
    ranked = state.result.ranked
    np.testing.assert_array_equal(ranked.order, ranked.order)
    np.testing.assert_array_equal(ranked.verdicts, ranked.verdicts)
    np.testing.assert_allclose(ranked.distances, distances[ranked.order], rtol=1e-4)
    assert state.result.after is None


def test_reranking_gives_the_query_s_row_of_the_full_result(state, retrieval):
    state.look_up(Picture("query", 3))
    state.change(rerank=True, **SMALL)
    full = k_reciprocal(retrieval.query.embeddings, retrieval.gallery.embeddings, **SMALL)
    after = state.result.after
    np.testing.assert_allclose(after.distances, full[3][after.order], atol=1e-5)
    assert (np.diff(after.distances) >= 0).all()
    assert state.result.ranked is after
    state.change(rerank=False)
    assert state.result.ranked is state.result.before


def test_neighbours_are_searched_once(state, monkeypatch):
    searches = []

    def search(*tables, **options):
        searches.append(options)
        return NeighbourIndex(*tables, **options)

    monkeypatch.setattr(state_module, "NeighbourIndex", search)
    state.change(rerank=True)
    for change in ({"k1": 7}, {"k2": 2}, {"lambda_value": 0.9}, {"rerank": False}):
        state.change(**change)
    state.look_up(Picture("gallery", 4))
    assert len(state.gains) == len(state.retrieval.query)
    assert len(searches) == 1


def test_walking_through_the_gallery_and_back(state):
    state.look_up(Picture("gallery", 7))
    assert 7 not in state.result.ranked.order
    state.look_up(Picture("gallery", 9))
    state.look_up(Picture("gallery", 9))  # again: no step
    assert state.steps_back == 2
    state.back()
    assert state.result.query == Picture("gallery", 7)
    state.back()
    state.back()  # at the beginning: nothing
    assert (state.result.query, state.steps_back) == (Picture("query", 0), 0)
    whole = [Picture("query", 0), Picture("gallery", 7), Picture("gallery", 9)]
    assert state.way == whole
    state.forward()
    assert (state.result.query, state.way) == (whole[1], whole)
    state.look_up(Picture("gallery", 3))  # another way from here
    state.forward()  # at the end: nothing
    assert state.way == [*whole[:2], Picture("gallery", 3)]


@pytest.mark.parametrize("rerank", [False, True])
def test_a_picture_is_judged_by_its_own_identity_and_camera(state, retrieval, rerank):
    state.change(rerank=rerank, **SMALL)
    state.look_up(Picture("gallery", 8))
    ranked, gallery = state.result.ranked, retrieval.gallery
    same = gallery.pids == gallery.pids[8]
    expected = np.flatnonzero(same & (gallery.camids != gallery.camids[8]))
    assert sorted(ranked.order[ranked.verdicts == Verdict.RIGHT]) == expected.tolist()
    assert 8 not in ranked.order
    assert len(ranked.order) == len(gallery) - 1


def test_a_distractor_has_no_right_ranked(state):
    state.look_up(Picture("gallery", 0))
    assert set(state.result.ranked.verdicts) == {Verdict.UNKNOWN}
    assert state.result.ranked.first_right == 0


@pytest.mark.parametrize("rerank", [False, True])
def test_an_own_picture_is_an_extra_query_without_ap(state, retrieval, rerank):
    state.change(rerank=rerank, **SMALL)
    state.upload(png(), "me.png")
    assert state.result.query == Picture("upload", 0)
    ranked = state.result.ranked
    assert set(ranked.verdicts) == {Verdict.UNKNOWN}
    assert np.isnan(ranked.average_precision)
    embedding = state.uploads[0].embedding
    np.testing.assert_allclose(embedding[:6], np.repeat([1, 0, 0], 2), atol=1e-6)
    by_distance = euclidean(embedding, retrieval.gallery.embeddings)
    np.testing.assert_allclose(state.result.before.distances, np.sort(by_distance), rtol=1e-4)
    if rerank:
        queries = np.vstack([retrieval.query.embeddings, embedding])
        full = k_reciprocal(queries, retrieval.gallery.embeddings, **SMALL)[-1]
        np.testing.assert_allclose(ranked.distances, full[ranked.order], atol=1e-5)
    assert state.image(Picture("upload", 0)).shape == (3, 128, 64)
    state.back()
    assert state.result.query == Picture("query", 0)


def test_what_fails_changes_nothing(state):
    state.look_up(Picture("gallery", 7))
    result = state.result
    with pytest.raises(UnreadableImageError, match=r"note\.txt"):
        state.upload(b"not a picture", "note.txt")
    with pytest.raises(ValueError, match="k1"):
        state.change(rerank=True, k1=1000)
    for picture in (Picture("gallery", 60), Picture("query", -1), Picture("upload", 0)):
        with pytest.raises(IndexError, match="there is no"):
            state.look_up(picture)
    assert state.result is result
    assert state.steps_back == 1
    assert not state.uploads


def test_queries_by_ap_camera_and_person(state, retrieval):
    assert not state.knows_scores
    assert state.queries().tolist() == list(range(12))
    assert not state.knows_scores  # only AP needs them
    worst = state.queries("worst AP first")
    precisions = []
    for index in worst:
        state.look_up(Picture("query", int(index)))
        precisions.append(state.result.before.average_precision)
    assert (np.diff(precisions) >= -1e-9).all()
    best = state.queries("best AP first")
    np.testing.assert_allclose(state.scores.average_precision[best], precisions[::-1])
    assert sorted(state.queries("random")) == list(range(12))
    assert state.queries("random").tolist() != state.queries("random").tolist()
    chosen = state.queries("worst AP first", camid=2, pid=3)
    assert chosen.tolist() == [8]
    assert len(state.queries(pid=99)) == 0
    for wrong in ({"order": "by name"}, {"only": "some"}):
        with pytest.raises(ValueError, match="is none of"):
            state.queries(**wrong)


def test_queries_by_what_re_ranking_gives_them(state):
    state.change(**SMALL)
    gains = []
    for index in range(12):
        state.look_up(Picture("query", index))
        state.change(rerank=True)
        before, after = (ranked.average_precision for ranked in state.result.rankings.values())
        gains.append(after - before)
        state.change(rerank=False)
    np.testing.assert_allclose(state.gains, gains, atol=1e-6)
    most = state.queries("most gained by re-ranking")
    assert (np.diff(state.gains[most]) <= 0).all()
    np.testing.assert_allclose(state.gains[state.queries("most lost by re-ranking")], sorted(gains))
    gained, lost = (state.queries(only=f"{what} by re-ranking") for what in ("gained", "lost"))
    assert (state.gains[gained] > 0).all()
    assert (state.gains[lost] < 0).all()
    assert len(gained) + len(lost) == np.count_nonzero(state.gains)
    wrong = state.queries(only="first answer wrong")
    assert set(wrong) == {i for i in range(12) if state.scores.first_right[i] != 1}
    earlier = state.gains
    state.change(k1=7)
    assert not np.array_equal(state.gains, earlier)


def test_queries_without_a_right_answer_come_last(retrieval):
    retrieval.query.pids[4] = 99
    state = BrowserState(retrieval)
    for order in ("worst AP first", "best AP first"):
        assert state.queries(order)[-1] == 4


def test_the_ranking_as_csv(state, retrieval, tmp_path):
    state.change(show_junk=True)
    file = tmp_path / "ranking.csv"
    state.save_ranking(file)
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "rank,distance,verdict,pid,camid,path"
    assert len(lines) == 61
    ranked = state.result.ranked
    for line, position in zip(lines[1:], range(60), strict=True):
        rank, distance, verdict, pid, _, path = line.split(",")
        index = ranked.order[position]
        assert rank == (str(ranked.ranks[position]) if verdict != "junk" else "")
        assert float(distance) == pytest.approx(ranked.distances[position], rel=1e-5)
        assert (int(pid), path) == (retrieval.gallery.pids[index], retrieval.gallery.paths[index])


def test_it_can_open_anywhere(retrieval):
    options = Options(top_k=5, rerank=True, **SMALL)
    state = BrowserState(retrieval, Picture("gallery", 20), options)
    assert state.result.query == Picture("gallery", 20)
    assert len(state.result.ranked.top(5, with_junk=False)) == 5


@pytest.mark.parametrize("wrong", [{"top_k": 0}, {"k1": 0}, {"k2": 0}, {"lambda_value": 1.5}])
def test_options_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Options(**wrong)


def test_a_browser_opened_with_a_large_k1_takes_it(retrieval):
    state = BrowserState(retrieval, options=Options(rerank=True, k1=50))
    state.change(k1=45)
    with pytest.raises(ValueError, match="go up to 50"):
        state.change(k1=51)


def test_names_that_numbers_stand_for_are_shown(retrieval, tmp_path):
    named = replace(retrieval, person=calling({3: "anna"}), camera=calling({1: "door"}))
    state = BrowserState(named, Picture("query", 2))
    cards = CardMaker(state)
    assert cards.labels(Picture("query", 2)) == ("person anna", "camera door")
    assert cards.labels(Picture("query", 9)) == ("person 4", "camera 2")
    figure = draw_result(state)
    labels = [ax.get_xlabel() for part in figure.subfigs for ax in part.axes]
    assert labels[0] == "person anna\ncamera door"
    shown = QueryBrowser(replace(named, person=calling({3: "<b>anna", 4: "person_a"})), tmp_path)
    for name, keys in (("<b>anna", ["query:2", "query:8"]), ("person_a", ["query:3", "query:9"])):
        shown.queries.person.value = name
        assert [card["key"] for card in shown.queries.grid.groups[0]["items"]] == keys
    hover(shown.map, f"gallery:{np.flatnonzero(retrieval.gallery.pids == 3)[0]}")
    assert "person <b>anna" in shown.map.tip["text"]  # as text, see gallery_map.js
