import numpy as np
import pytest
from toy_retrieval import make_retrieval, png

from tripletlib.datasets.decoding import UnreadableImageError
from tripletlib.evaluation import Verdict, rank_gallery
from tripletlib.reranking.k_reciprocal import k_reciprocal
from tripletlib.widgets.browsing import Browsing
from tripletlib.widgets.lookup import Asked, Options, write_ranking

SMALL = {"k1": 5, "k2": 3, "lambda_value": 0.4}


@pytest.fixture
def retrieval():
    return make_retrieval()


@pytest.fixture
def browsing(retrieval):
    return Browsing(retrieval)


def euclidean(a, b):
    return np.linalg.norm(a - b, axis=1)


def test_it_opens_on_the_first_query_ranked_as_the_library_ranks(browsing, retrieval):
    query, gallery = retrieval.query, retrieval.gallery
    distances = euclidean(query.embeddings[0], gallery.embeddings)
    ranked = rank_gallery(distances, query.pids[0], gallery.pids, query.camids[0], gallery.camids)
    answers = browsing.sight.answers
    np.testing.assert_array_equal(answers.order, ranked.order)
    np.testing.assert_array_equal(answers.verdicts, ranked.verdicts)
    np.testing.assert_allclose(answers.distances, distances[ranked.order], rtol=1e-4)
    assert browsing.sight.after is None


def test_reranking_gives_the_query_s_row_of_the_full_result(browsing, retrieval):
    browsing.ask(Asked("query", 3))
    browsing.change(rerank=True, **SMALL)
    full = k_reciprocal(retrieval.query.embeddings, retrieval.gallery.embeddings, **SMALL)
    after = browsing.sight.after
    np.testing.assert_allclose(after.distances, full[3][after.order], atol=1e-5)
    assert (np.diff(after.distances) >= 0).all()
    assert browsing.sight.answers is after
    browsing.change(rerank=False)
    assert browsing.sight.answers is browsing.sight.before


def test_neighbours_are_searched_once(browsing, monkeypatch):
    browsing.change(rerank=True)
    index = browsing.lookup._index
    for change in ({"k1": 7}, {"k2": 2}, {"lambda_value": 0.9}, {"rerank": False}):
        browsing.change(**change)
    browsing.ask(Asked("gallery", 4))
    assert browsing.lookup._index is index


def test_walking_through_the_gallery_and_back(browsing):
    browsing.ask(Asked("gallery", 7))
    assert 7 not in browsing.sight.answers.order
    browsing.ask(Asked("gallery", 9))
    browsing.ask(Asked("gallery", 9))  # again: no step
    assert browsing.steps_back == 2
    browsing.back()
    assert browsing.sight.asked == Asked("gallery", 7)
    browsing.back()
    browsing.back()  # at the beginning: nothing
    assert (browsing.sight.asked, browsing.steps_back) == (Asked("query", 0), 0)


@pytest.mark.parametrize("rerank", [False, True])
def test_a_picture_is_judged_by_its_own_identity_and_camera(browsing, retrieval, rerank):
    browsing.change(rerank=rerank, **SMALL)
    browsing.ask(Asked("gallery", 8))
    answers, gallery = browsing.sight.answers, retrieval.gallery
    same = gallery.pids == gallery.pids[8]
    expected = np.flatnonzero(same & (gallery.camids != gallery.camids[8]))
    assert sorted(answers.order[answers.verdicts == Verdict.RIGHT]) == expected.tolist()
    assert 8 not in answers.order
    assert len(answers.order) == len(gallery) - 1


def test_a_distractor_has_no_right_answers(browsing):
    browsing.ask(Asked("gallery", 0))
    assert set(browsing.sight.answers.verdicts) == {Verdict.UNKNOWN}
    assert browsing.sight.answers.first_right == 0


@pytest.mark.parametrize("rerank", [False, True])
def test_an_own_picture_is_an_extra_query_without_ap(browsing, retrieval, rerank):
    browsing.change(rerank=rerank, **SMALL)
    browsing.upload(png(), "me.png")
    assert browsing.sight.asked == Asked("upload", 0)
    answers = browsing.sight.answers
    assert set(answers.verdicts) == {Verdict.UNKNOWN}
    assert np.isnan(answers.average_precision)
    embedding = browsing.lookup.uploads[0].embedding
    np.testing.assert_allclose(embedding[:6], np.repeat([1, 0, 0], 2), atol=1e-6)
    by_distance = euclidean(embedding, retrieval.gallery.embeddings)
    np.testing.assert_allclose(browsing.sight.before.distances, np.sort(by_distance), rtol=1e-4)
    if rerank:
        queries = np.vstack([retrieval.query.embeddings, embedding])
        full = k_reciprocal(queries, retrieval.gallery.embeddings, **SMALL)[-1]
        np.testing.assert_allclose(answers.distances, full[answers.order], atol=1e-5)
    assert browsing.lookup.image(Asked("upload", 0)).shape == (3, 128, 64)
    browsing.back()
    assert browsing.sight.asked == Asked("query", 0)


def test_what_fails_changes_nothing(browsing):
    browsing.ask(Asked("gallery", 7))
    sight = browsing.sight
    with pytest.raises(UnreadableImageError, match=r"note\.txt"):
        browsing.upload(b"not a picture", "note.txt")
    with pytest.raises(ValueError, match="k1"):
        browsing.change(rerank=True, k1=1000)
    for asked in (Asked("gallery", 60), Asked("query", -1), Asked("upload", 0)):
        with pytest.raises(IndexError, match="there is no"):
            browsing.ask(asked)
    assert browsing.sight is sight
    assert browsing.steps_back == 1
    assert not browsing.lookup.uploads


def test_queries_by_ap_camera_and_person(browsing, retrieval):
    assert not browsing.knows_scores
    assert browsing.queries().tolist() == list(range(12))
    assert not browsing.knows_scores  # only AP needs them
    worst = browsing.queries("worst AP first")
    precisions = []
    for index in worst:
        browsing.ask(Asked("query", int(index)))
        precisions.append(browsing.sight.before.average_precision)
    assert (np.diff(precisions) >= -1e-9).all()
    best = browsing.queries("best AP first")
    np.testing.assert_allclose(browsing.scores.average_precision[best], precisions[::-1])
    assert sorted(browsing.queries("random")) == list(range(12))
    assert browsing.queries("random").tolist() != browsing.queries("random").tolist()
    chosen = browsing.queries("worst AP first", camid=2, pid=3)
    assert chosen.tolist() == [8]
    assert len(browsing.queries(pid=99)) == 0
    with pytest.raises(ValueError, match="order must be one of"):
        browsing.queries("by name")


def test_queries_without_a_right_answer_come_last(retrieval):
    retrieval.query.pids[4] = 99
    browsing = Browsing(retrieval)
    for order in ("worst AP first", "best AP first"):
        assert browsing.queries(order)[-1] == 4


def test_the_ranking_as_csv(browsing, retrieval, tmp_path):
    browsing.change(show_junk=True)
    file = tmp_path / "ranking.csv"
    write_ranking(file, browsing.sight, retrieval.gallery)
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "rank,distance,verdict,pid,camid,path"
    assert len(lines) == 61
    answers = browsing.sight.answers
    for line, position in zip(lines[1:], range(60), strict=True):
        rank, distance, verdict, pid, _, path = line.split(",")
        index = answers.order[position]
        assert rank == (str(answers.ranks[position]) if verdict != "junk" else "")
        assert float(distance) == pytest.approx(answers.distances[position], rel=1e-5)
        assert (int(pid), path) == (retrieval.gallery.pids[index], retrieval.gallery.paths[index])


def test_it_can_open_anywhere(retrieval):
    options = Options(top_k=5, rerank=True, **SMALL)
    browsing = Browsing(retrieval, Asked("gallery", 20), options)
    assert browsing.sight.asked == Asked("gallery", 20)
    assert len(browsing.sight.answers.top(5, with_junk=False)) == 5
