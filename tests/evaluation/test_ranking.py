import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tripletlib.evaluation import Verdict, average_precision, rank_gallery

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
