"""Ranking scores against their definitions, scikit-learn, and a worked example."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, fields

import numpy as np
import oracles
import pytest
import torch
from drawn_tables import draw_case, draw_table
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import average_precision_score

from tripletlib.distances import pairwise_distances
from tripletlib.evaluation import (
    RetrievalScores,
    evaluate,
    evaluate_embeddings,
    rank_gallery,
)
from tripletlib.evaluation import scores as evaluation


@pytest.fixture(params=[0, 1], ids=["sorting", "counting"])
def ranked_both_ways(request, monkeypatch):
    monkeypatch.setattr(evaluation, "COUNTED_SHARE", request.param)


def ranked_by_definition(case, camera_filter=True):
    distances, query_pids, gallery_pids, query_camids, gallery_camids = (
        part.tolist() for part in case
    )
    if not camera_filter:
        query_camids = [None] * len(query_pids)
    return [
        oracles.ranked_list(row, pid, gallery_pids, camid, gallery_camids)
        for row, pid, camid in zip(distances, query_pids, query_camids, strict=True)
    ]


def assert_by_definition(scores, case, max_rank=50, camera_filter=True):
    ranked = ranked_by_definition(case, camera_filter)
    precisions = np.array([oracles.average_precisions(right) for right in ranked])  # [Q, 2]
    assert_allclose(scores.average_precision, precisions[:, 0], atol=1e-12)
    assert_allclose(scores.average_precision_market, precisions[:, 1], atol=1e-12)
    assert_allclose([scores.map, scores.map_market], np.nanmean(precisions, axis=0), atol=1e-12)
    depths = [max(i for i, hit in enumerate(right, 1) if hit) for right in ranked if any(right)]
    found = [sum(right) for right in ranked if any(right)]
    assert scores.minp == pytest.approx(np.mean(np.divide(found, depths)))
    length = min(max_rank, case[0].shape[1])
    assert_allclose(scores.cmc, oracles.cumulative_matches(ranked, length), atol=1e-12)
    assert scores.valid_queries.tolist() == [any(right) for right in ranked]
    assert scores.valid_count == sum(any(right) for right in ranked)
    assert scores.first_right.tolist() == [
        right.index(True) + 1 if any(right) else 0 for right in ranked
    ]


def assert_same_scores(actual, expected):
    for field in fields(RetrievalScores):
        one, other = getattr(actual, field.name), getattr(expected, field.name)
        assert_allclose(one, other, atol=1e-12, err_msg=field.name)


@pytest.mark.parametrize("camera_filter", [True, False])
@pytest.mark.parametrize("share", [0, 1], ids=["sorting", "counting"])
@settings(max_examples=60, deadline=None)
@given(
    queries=st.integers(1, 6),
    gallery=st.integers(1, 25),
    seed=st.integers(0, 2**31),
    levels=st.sampled_from([1, 2, 5, None]),
    max_rank=st.integers(1, 30),
)
def test_every_figure_is_the_defined_one(
    share, camera_filter, queries, gallery, seed, levels, max_rank
):
    case = draw_case(queries, gallery, seed, levels)
    answerable = any(map(any, ranked_by_definition(case, camera_filter)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "COUNTED_SHARE", share)
        if answerable:
            scores = evaluate(*case, max_rank=max_rank, camera_filter=camera_filter)
            assert_by_definition(scores, case, max_rank, camera_filter)
        else:
            with pytest.raises(ValueError, match=f"none of {queries} queries has a right answer"):
                evaluate(*case, max_rank=max_rank, camera_filter=camera_filter)


def test_a_large_case_by_definition(ranked_both_ways):
    case = draw_case(queries=150, gallery=300, seed=1)  # more queries than one inner block
    case[1][:20] = 9  # of whom the gallery has no picture
    scores = evaluate(*case)
    assert 0 < scores.valid_count < 150
    assert_by_definition(scores, case)


@pytest.mark.parametrize("seed", range(5))
def test_rectangle_rule_is_scikit_learns(seed):
    # Without ties: scikit-learn joins equal scores into one place.
    distances, query_pids, gallery_pids, query_camids, gallery_camids = draw_case(seed=seed)
    scores = evaluate(distances, query_pids, gallery_pids, query_camids, gallery_camids)
    for q in np.flatnonzero(scores.valid_queries):
        same = gallery_pids == query_pids[q]
        kept = (gallery_pids != -1) & ~(same & (gallery_camids == query_camids[q]))
        expected = average_precision_score(same[kept], -distances[q, kept])
        assert_allclose(scores.average_precision[q], expected, atol=1e-12)


def test_the_worked_example():
    pids = np.isin(np.arange(1, 10), [1, 5, 9]).astype(int)
    scores = evaluate(np.arange(9.0)[None], [1], pids, camera_filter=False)
    assert scores.map == pytest.approx((1 + 2 / 5 + 3 / 9) / 3)
    assert scores.map == pytest.approx(0.578, abs=5e-4)
    assert scores.map_market == pytest.approx(0.539, abs=5e-4)
    assert_array_equal(scores.cmc, np.ones(9))
    assert scores.first_right.tolist() == [1]


def test_a_perfect_ranking_scores_one():
    scores = evaluate(np.array([[0.1, 0.2, 0.3]]), [3], [3, 3, 9], camera_filter=False)
    assert (scores.map, scores.map_market) == pytest.approx((1, 1))
    assert_allclose(scores.cmc, 1)


def test_the_protocol_line_by_line():
    gallery_pids = np.array([7, 7, -1, 0, 8, 7])
    gallery_camids = np.array([1, 2, 2, 2, 2, 3])
    #                      own camera, right at rank 3: after 0 and 8; -1 does not count
    distances = np.array([[0.0, 0.9, 0.1, 0.2, 0.3, 1.0]])
    scores = evaluate(distances, [7], gallery_pids, [1], gallery_camids)
    assert scores.first_right.tolist() == [3]
    assert scores.map == pytest.approx((1 / 3 + 2 / 4) / 2)
    unfiltered = evaluate(distances, [7], gallery_pids, camera_filter=False)
    assert unfiltered.first_right.tolist() == [1]


def test_queries_without_a_right_answer_change_no_mean():
    distances, *labels = draw_case(seed=3)
    scores = evaluate(distances, *labels)
    more = np.concatenate([distances, distances[:2]])
    stranger = np.array([98, 99])  # unknown identities
    more_labels = [
        np.concatenate([labels[0], stranger]),
        labels[1],
        np.append(labels[2], [1, 1]),
        labels[3],
    ]
    widened = evaluate(more, *more_labels)
    assert_allclose(widened.cmc, scores.cmc)
    assert (widened.map, widened.map_market) == pytest.approx((scores.map, scores.map_market))
    assert widened.valid_count == scores.valid_count
    assert np.isnan(widened.average_precision[-2:]).all()
    assert np.isnan(widened.average_precision_market[-2:]).all()
    assert widened.first_right[-2:].tolist() == [0, 0]


def test_ties_keep_the_gallerys_order(ranked_both_ways):
    assert evaluate([[1.0, 1.0, 1.0]], [5], [6, 5, 6], camera_filter=False).first_right[0] == 2
    assert evaluate([[1.0, 1.0, 1.0]], [5], [6, 6, 5], camera_filter=False).first_right[0] == 3
    assert rank_gallery(np.zeros(4), 5, [6, 5, 6, 5], camera_filter=False).order.tolist() == [
        *range(4)
    ]


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_every_float_type_is_ranked_as_it_is(ranked_both_ways, dtype):
    distances, *labels = draw_case(queries=8, gallery=60, seed=4)
    rounded = torch.as_tensor(distances).to(dtype)
    expected = evaluate(rounded.double().numpy(), *labels)  # halves have ties, float64 none
    assert_same_scores(evaluate(rounded, *labels), expected)
    if dtype != torch.bfloat16:
        assert_same_scores(evaluate(rounded.numpy(), *labels), expected)


def test_neighbouring_float64_are_told_apart(ranked_both_ways):
    distances = np.array([[1.0, 1.0 - 1e-15]])
    assert evaluate(distances, [5], [6, 5], camera_filter=False).first_right[0] == 1


def test_tensors_with_gradients_or_any_memory_order(ranked_both_ways):
    distances, *labels = draw_case(seed=5)
    expected = evaluate(distances, *labels)
    tensors = [torch.as_tensor(label) for label in labels]
    leaf = torch.as_tensor(distances).requires_grad_()
    spread = torch.zeros(2 * distances.shape[1], 3 * len(distances), dtype=torch.float64)
    spread[::2, ::3] = torch.as_tensor(distances).T
    for variant in (leaf, leaf * 1, spread[::2, ::3].T, np.asfortranarray(distances)):
        assert_same_scores(evaluate(variant, *tensors), expected)
    assert_same_scores(evaluate(distances[:, ::-1], labels[0], labels[1][::-1], labels[2],
                                labels[3][::-1]), expected)  # fmt: skip


def test_the_input_stays_as_it_was():
    case = draw_case(seed=6)
    copies = [part.copy() for part in case]
    evaluate(*case)
    for part, copy in zip(case, copies, strict=True):
        assert_array_equal(part, copy)


def test_scores_are_numpy_frozen_and_as_long_as_the_gallery_allows():
    case = draw_case(gallery=12)
    scores = evaluate(*map(torch.as_tensor, case), max_rank=50)
    assert len(scores.cmc) == 12
    assert len(evaluate(*case, max_rank=3).cmc) == 3
    assert scores.valid_queries.dtype == bool
    assert isinstance(scores.map, float)
    for name in ("cmc", "average_precision", "average_precision_market", "first_right"):
        assert isinstance(getattr(scores, name), np.ndarray), name
    with pytest.raises(FrozenInstanceError):
        scores.map = 1.0


def test_one_query():
    distances, *_ = case = draw_case(queries=1, seed=1)
    assert distances.shape[0] == 1
    assert_by_definition(evaluate(*case), case)


@pytest.mark.parametrize("size", [1, 2, 5, 7, 100])
def test_blocks_of_every_size_give_the_same(size):
    distances, *labels = draw_case(queries=7, seed=7)
    expected = evaluate(distances, *labels)
    starts = [*range(0, 7, size)]
    by_start = [(start, distances[start : start + size]) for start in starts]
    for blocks in (by_start, by_start[::-1]):
        assert_same_scores(evaluate(iter(blocks), *labels), expected)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([(0, 4)], r"3 of 7 queries are in no block, first query 4"),
        ([(0, 4), (3, 4)], r"query 3 of 7 comes in two blocks"),
        ([(0, 4), (4, 4)], r"a block of 4 rows does not fit at 4 of 7 queries"),
        ([(-1, 7)], r"does not fit at -1"),
    ],
)
def test_blocks_must_hold_each_query_once(blocks, message):
    _, *labels = draw_case(queries=7)
    with pytest.raises(ValueError, match=message):
        evaluate(((where, np.zeros((rows, 40))) for where, rows in blocks), *labels)


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])
@pytest.mark.parametrize("block", [1, 4, 1000])
def test_embeddings_score_like_their_distances(metric, block, monkeypatch):
    monkeypatch.setattr(evaluation, "BLOCK", block)
    query, gallery = draw_table(11, seed=1), draw_table(60, seed=2)
    tensors = torch.as_tensor(query.embeddings), torch.as_tensor(gallery.embeddings)
    distances = pairwise_distances(*tensors, metric)
    labels = query.pids, gallery.pids, query.camids, gallery.camids
    for camera_filter in (True, False):
        assert_same_scores(
            evaluate_embeddings(query, gallery, metric, 20, "cpu", camera_filter),
            evaluate(distances, *labels, max_rank=20, camera_filter=camera_filter),
        )


def test_embeddings_never_meet_all_at_once(monkeypatch):
    shapes = []

    def watched(a, b, metric):
        distances = pairwise_distances(a, b, metric)
        shapes.append(tuple(distances.shape))
        return distances

    monkeypatch.setattr(evaluation, "pairwise_distances", watched)
    monkeypatch.setattr(evaluation, "BLOCK", 4)
    evaluate_embeddings(draw_table(11, seed=1), draw_table(60, seed=2), device="cpu")
    assert shapes == [(4, 60), (4, 60), (3, 60)]


GROWTH = """
import resource
import numpy as np
from tripletlib.embedding import EmbeddingTable
from tripletlib.evaluation import evaluate_embeddings

def table(n):
    rng = np.random.default_rng(n)
    labels = rng.integers(1, 1500, n), rng.integers(1, 4, n)
    return EmbeddingTable(rng.random((n, 4), np.float32), *labels, np.zeros(n, str), 0, "none")

query, gallery = table(8192), table(16000)
evaluate_embeddings(table(500), table(500), device="cpu")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
evaluate_embeddings(query, gallery, device="cpu")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads kilobytes, as Linux counts them")
def test_memory_stays_far_below_the_whole_matrix():
    # In a process of its own: a peak is never taken back.
    command = [sys.executable, "-c", GROWTH]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert float(answer) * 1024 < 0.5 * 8192 * 16000 * 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same():
    query, gallery = draw_table(11, seed=1), draw_table(60, seed=2)
    expected = evaluate_embeddings(query, gallery, device="cpu")
    assert_same_scores(evaluate_embeddings(query, gallery, device="cuda"), expected)
    distances, *labels = draw_case()
    on_gpu = [torch.as_tensor(part, device="cuda") for part in (distances, *labels)]
    assert_same_scores(evaluate(*on_gpu), evaluate(distances, *labels))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"distances": np.zeros(3)}, r"distances must be \[Q, G\], got \[3\]"),
        ({"distances": np.zeros((4, 3))}, r"\[4, 3\].*each of 2 query_pids"),
        ({"distances": np.zeros((2, 4))}, r"G = 3, the number of gallery_pids; got \[2, 4\]"),
        ({"distances": np.zeros((2, 0)), "gallery_pids": [], "gallery_camids": []},
         r"2 queries, 0 images"),
        ({"distances": np.zeros((0, 3)), "query_pids": [], "query_camids": []}, r"0 queries"),
        ({"distances": np.zeros((2, 3), dtype=complex)}, r"real numbers, got complex128"),
        ({"distances": np.full((2, 3), np.nan)}, r"6 of the 6 distances .*\[2, 3\] are NaN"),
        ({"query_camids": [1]}, r"query_camids has 1 entries for 2 images"),
        ({"gallery_camids": [1, 2]}, r"gallery_camids has 2 entries for 3 images"),
        ({"query_pids": [0.5, 1.5]}, r"query_pids must be integers \[N\], got float64 .*\[2\]"),
        ({"gallery_pids": [[5, 5, 6]]}, r"gallery_pids must be integers \[N\].*\[1, 3\]"),
        ({"query_camids": None}, r"camera_filter=False"),
        ({"gallery_camids": None}, r"camera_filter=False"),
        ({"max_rank": 0}, r"max_rank must be at least 1, got 0"),
        ({"query_pids": [5, 0]}, r"query_pids holds 0: .* number identities from 1"),
        ({"query_pids": [-1, -2]}, r"query_pids holds -2, -1: "),
        ({"query_pids": [9, 8]}, r"none of 2 queries has a right answer among 3 gallery images"),
        ({"gallery_pids": [-1, -1, -1]}, r"none of 2 queries has a right answer"),
        ({"query_camids": [1, 2], "gallery_camids": [1, 1, 2]}, r"camera_filter=True"),
    ],
)  # fmt: skip
def test_errors_say_what_was_given(valid, changed, message):
    evaluate(**valid)
    with pytest.raises(ValueError, match=message):
        evaluate(**valid | changed)


def test_errors_about_tables_say_what_was_given():
    query, gallery = draw_table(5, 1), draw_table(20, 2)
    with pytest.raises(ValueError, match="metric must be one of"):
        evaluate_embeddings(query, gallery, metric="manhattan")
    for changed, message in (
        ({"dim": 3}, "not of one network: dimension 8 and 3"),
        ({"step": 4}, "step 3 and 4"),
        ({"tta": "flip"}, "tta 'none' and 'flip'"),
        ({"weights": "ab12", "precision": "bfloat16"}, "precision '' and 'bfloat16', weights ''"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_embeddings(query, draw_table(20, 2, **changed))
    broken = draw_table(20, 2)
    broken.embeddings[7] = np.nan
    with pytest.raises(ValueError, match="are NaN"):
        evaluate_embeddings(query, broken)
    broken = draw_table(20, 2)
    broken.embeddings[7] = np.nan
    with pytest.raises(ValueError, match="are NaN"):
        evaluate_embeddings(query, broken)


@pytest.mark.parametrize("renamed", [False, True])
def test_without_a_camera_filter_shared_pictures_are_told(renamed):
    gallery = draw_table(40, seed=1)
    names = np.array([f"query/{i}.jpg" for i in range(10)]) if renamed else gallery.paths[:10]
    columns = {"pids": gallery.pids[:10], "camids": gallery.camids[:10], "paths": names}
    embeddings = gallery.embeddings[:10] if renamed else gallery.embeddings[10:20]
    query = draw_table(10, seed=2, embeddings=embeddings, **columns)
    with pytest.warns(UserWarning, match="10 of 10 queries lie in the gallery too"):
        evaluate_embeddings(query, gallery, device="cpu", camera_filter=False)
    evaluate_embeddings(query, gallery, device="cpu")  # which skips them
    collapsed = [draw_table(n, seed, embeddings=np.ones((n, 8), np.float32))
                 for seed, n in ((3, 10), (4, 40))]  # fmt: skip
    evaluate_embeddings(*collapsed, device="cpu", camera_filter=False)
