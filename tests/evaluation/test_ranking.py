"""One ranked list against its definition, and its average precision."""

import math

import numpy as np
import oracles
import pytest
import torch
from drawn_tables import draw_case
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tripletlib.evaluation import (
    Verdict,
    average_precision,
    evaluate,
    precision_recall,
    rank_gallery,
)

PIDS = np.array([5, 5, 5, 0, 6, 5, -1])
CAMIDS = np.array([1, 2, 3, 1, 2, 2, 3])
DISTANCES = np.array([0.1, 0.5, 0.3, 0.2, 0.4, 0.6, 0.05])


@pytest.fixture
def answers():
    return rank_gallery(DISTANCES, 5, PIDS, 1, CAMIDS)


def test_every_picture_gets_its_verdict_and_junk_gets_no_rank(answers):
    assert answers.order.tolist() == [6, 0, 3, 2, 4, 1, 5]
    assert answers.verdicts.tolist() == [
        "junk", "junk", "distractor", "right", "wrong", "right", "right",
    ]  # fmt: skip
    assert answers.ranks.tolist() == [0, 0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(answers.distances, [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_ap_and_first_right_answer_by_hand(answers):
    assert answers.average_precision == pytest.approx((1 / 2 + 2 / 4 + 3 / 5) / 3)
    assert answers.first_right == 2


def test_the_curve_ends_at_the_last_right_answer(answers):
    recall, precision = answers.curve()
    np.testing.assert_allclose(recall, [0, 0, 1 / 3, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(precision, [1, 0, 1 / 2, 1 / 3, 2 / 4, 3 / 5])


def test_the_top_counts_ranks_and_not_junk(answers):
    assert [place.index for place in answers.top(2, with_junk=False)] == [3, 2]
    assert [place.index for place in answers.top(2, with_junk=True)] == [6, 0, 3, 2]
    assert len(answers.top(100, with_junk=True)) == 7


def test_why(answers):
    wrong, right = answers.nearest_wrong(), answers.farthest_right()
    assert (wrong.index, wrong.rank, wrong.verdict) == (3, 1, Verdict.DISTRACTOR)
    assert (right.index, right.rank, right.distance) == (5, 5, pytest.approx(0.6))


def test_a_gallery_picture_leaves_its_own_list():
    answers = rank_gallery(DISTANCES, 5, PIDS, 1, CAMIDS, leave_out=0)
    assert 0 not in answers.order
    assert answers.rank_by_index(7).tolist() == [0, 4, 2, 1, 3, 5, 0]


def test_distractors_and_the_own_camera_may_count_otherwise():
    # As the original project ranks: the own camera is right, a distractor is skipped.
    ranked = rank_gallery(DISTANCES, 5, PIDS, camera_filter=False, rank_distractors=False)
    assert ranked.verdicts.tolist() == [
        "junk", "right", "junk", "right", "wrong", "right", "right",
    ]  # fmt: skip
    assert ranked.ranks.tolist() == [0, 1, 0, 2, 3, 4, 5]


@pytest.mark.parametrize("pid", [None, 0])
def test_without_an_identity_nothing_is_right_wrong_or_of_the_same_camera(pid):
    answers = rank_gallery(DISTANCES, pid, PIDS, 1, CAMIDS)
    assert set(answers.verdicts[1:]) == {"unknown"}
    assert answers.verdicts[0] == "junk"  # pid -1 is a bad box whoever asks
    assert np.isnan(answers.average_precision)
    assert answers.first_right == 0
    assert answers.curve() is answers.nearest_wrong() is answers.farthest_right() is None


@given(
    st.lists(
        st.tuples(st.integers(-1, 3), st.integers(1, 2), st.integers(0, 5)), min_size=1, max_size=20
    )
)
@settings(deadline=None)
def test_the_definitions_hold_picture_by_picture(gallery):
    pids, camids, distances = map(np.array, zip(*gallery, strict=True))
    answers = rank_gallery(distances, 1, pids, 1, camids)
    expected = sorted(range(len(gallery)), key=lambda i: (distances[i], i))
    assert answers.order.tolist() == expected
    rank = 0
    for index, verdict, given_rank in zip(expected, answers.verdicts, answers.ranks, strict=True):
        junk = pids[index] == -1 or (pids[index] == 1 and camids[index] == 1)
        rank += not junk
        assert given_rank == (0 if junk else rank)
        by_pid = {1: "right", 0: "distractor"}
        assert verdict == ("junk" if junk else by_pid.get(pids[index], "wrong"))
    np.testing.assert_equal(answers.average_precision, average_precision(answers.right))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), levels=st.sampled_from([2, 5, None]), gallery=st.integers(1, 20))
def test_one_ranked_gallery_agrees_with_the_scores(seed, levels, gallery):
    case = draw_case(3, gallery, seed, levels)
    distances, query_pids, gallery_pids, query_camids, gallery_camids = case
    for q in range(3):
        arguments = query_pids[q], gallery_pids, query_camids[q], gallery_camids
        right = rank_gallery(distances[q], *arguments).right
        expected = oracles.ranked_list(distances[q].tolist(), *(
            part.tolist() for part in arguments
        ))  # fmt: skip
        assert right.tolist() == expected
        by_definition = oracles.average_precisions(expected)
        rules = [average_precision(right, rule) for rule in ("rectangle", "trapezoid")]
        assert_allclose(rules, by_definition, atol=1e-12)
    assume(any(expected))
    scores = evaluate(distances[2:], query_pids[2:], gallery_pids, query_camids[2:], gallery_camids)
    assert_allclose([scores.map, scores.map_market], by_definition, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(right=st.lists(st.booleans(), min_size=1, max_size=30).filter(any))
def test_both_rules_are_areas_under_the_curve(right):
    precision, recall = precision_recall(np.array(right))
    assert len(precision) == len(recall) == len(right) + 1
    assert (precision[0], recall[0], recall[-1]) == (1, 0, pytest.approx(1))
    rectangle, trapezoid = oracles.average_precisions(right)
    steps = np.diff(recall)
    assert np.sum(steps * precision[1:]) == pytest.approx(rectangle)
    assert np.sum(steps * (precision[1:] + precision[:-1]) / 2) == pytest.approx(trapezoid)
    assert average_precision(torch.tensor(right)) == pytest.approx(rectangle)
    assert average_precision(np.array(right), "trapezoid") == pytest.approx(trapezoid)


def test_a_list_without_a_right_answer_has_no_precision():
    assert math.isnan(average_precision(np.zeros(3, dtype=bool)))
    with pytest.raises(ValueError, match="none of the 3 places is right"):
        precision_recall(np.zeros(3, dtype=bool))


def test_errors_about_one_list_say_what_was_given():
    with pytest.raises(ValueError, match=r"got \[4\] and 3 gallery_pids"):
        rank_gallery(np.zeros(4), 5, [5, 5, 6], camera_filter=False)
    with pytest.raises(ValueError, match=r"got \[0\] and 0"):
        rank_gallery(np.zeros(0), 5, np.zeros(0, dtype=int), camera_filter=False)
    with pytest.raises(ValueError, match="are NaN"):
        rank_gallery(np.array([np.nan, 0]), 5, [5, 6], camera_filter=False)
    with pytest.raises(ValueError, match="camera_filter=False"):
        rank_gallery(np.zeros(2), 5, [5, 6])
    with pytest.raises(ValueError, match=r"gallery_camids has 1 entries for 2 images"):
        rank_gallery(np.zeros(2), 5, [5, 6], 1, [1])
    with pytest.raises(ValueError, match=r"truth values \[G\], got int64 of shape \[2\]"):
        average_precision(np.array([0, 1]))
    with pytest.raises(ValueError, match=r"shape \[1, 2\]"):
        precision_recall(np.array([[True, False]]))
    with pytest.raises(ValueError, match=r"rule must be one of .*'trapezoid'.*got 'linear'"):
        average_precision(np.array([True]), "linear")
