"""Rates of genuine and impostor pairs against their definition and scikit-learn."""

import tracemalloc

import numpy as np
import pytest
import torch
from drawn_tables import draw_case
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_curve

from tripletlib.evaluation import pair_curve

CASES = [(6, 40, None), (6, 40, 5), (150, 30, None), (150, 30, 3)]  # queries, gallery, levels


def pairs_by_definition(case, camera_filter=True):
    """Distances of genuine and of impostor pairs, the protocol as a loop."""
    distances, query_pids, gallery_pids, query_camids, gallery_camids = case
    genuine, impostors = [], []
    for q, g in np.ndindex(distances.shape):
        same = query_pids[q] == gallery_pids[g]
        skipped = camera_filter and same and query_camids[q] == gallery_camids[g]
        if gallery_pids[g] != -1 and not skipped:
            (genuine if same else impostors).append(distances[q, g])
    return np.array(genuine), np.array(impostors)


@pytest.mark.parametrize("camera_filter", [True, False])
@pytest.mark.parametrize(("queries", "gallery", "levels"), CASES)
def test_rates_are_the_defined_ones(queries, gallery, levels, camera_filter):
    case = draw_case(queries, gallery, seed=1, levels=levels)
    genuine, impostors = pairs_by_definition(case, camera_filter)
    curve = pair_curve(*case, camera_filter=camera_filter)
    assert (curve.genuine, curve.impostors) == (len(genuine), len(impostors))
    assert curve.thresholds.tolist() == sorted(set(genuine.tolist()))
    for threshold, false, true in zip(
        curve.thresholds, curve.false_match_rate, curve.true_match_rate, strict=True
    ):
        assert false == pytest.approx(sum(d <= threshold for d in impostors) / len(impostors))
        assert true == pytest.approx(sum(d <= threshold for d in genuine) / len(genuine))


@pytest.mark.parametrize(("queries", "gallery", "levels"), CASES)
def test_rates_are_scikit_learns(queries, gallery, levels):
    case = draw_case(queries, gallery, seed=2, levels=levels)
    genuine, impostors = pairs_by_definition(case)
    curve = pair_curve(*map(torch.as_tensor, case))
    is_genuine = np.repeat([True, False], [len(genuine), len(impostors)])
    scores = -np.concatenate([genuine, impostors])
    false, true, thresholds = roc_curve(is_genuine, scores, drop_intermediate=False)
    at = np.isin(-thresholds, curve.thresholds)
    assert_array_equal(-thresholds[at], curve.thresholds)
    assert_allclose(curve.false_match_rate, false[at])
    assert_allclose(curve.true_match_rate, true[at])
    best = true[false <= 0.2].max()  # no threshold between two genuine pairs does better
    assert true[thresholds == -curve.threshold_at(0.2)] == pytest.approx(best)


def test_same_camera_and_junk_are_no_pairs_and_distractors_are_impostors():
    pids, camids = np.array([7, 7, -1, 0, 8]), np.array([1, 2, 2, 2, 1])
    distances = np.array([[0.1, 0.5, 0.2, 0.3, 0.9]])
    curve = pair_curve(distances, np.array([7]), pids, np.array([1]), camids)
    assert (curve.genuine, curve.impostors) == (1, 2)
    assert (curve.thresholds, curve.false_match_rate, curve.true_match_rate) == (0.5, 0.5, 1)


def test_the_threshold_keeps_to_the_rate():
    genuine, impostors = np.array([1.0, 2, 3, 4]), np.array([2.5, 3.5, 5, 6, 7])
    distances, pids = np.concatenate([genuine, impostors])[None], np.repeat([7, 8], [4, 5])
    curve = pair_curve(distances, np.array([7]), pids, camera_filter=False)
    assert [curve.threshold_at(rate) for rate in (0, 0.19, 0.2, 0.39, 0.4, 1)] == [2, 2, 3, 3, 4, 4]


def test_where_nothing_can_be_accepted_the_threshold_accepts_nothing():
    apart = pair_curve([[0.1, 0.2]], [7], [8, 7], camera_filter=False)
    assert apart.threshold_at(0.5) == -np.inf  # the only impostor is nearer
    alone = pair_curve([[0.1, 0.2]], [7], [7, 7], camera_filter=False)
    assert alone.impostors == 0
    assert np.isnan(alone.false_match_rate).all()
    assert alone.threshold_at(0.5) == -np.inf
    strangers = pair_curve([[0.1, 0.2]], [7], [8, 9], camera_filter=False)
    assert (strangers.genuine, len(strangers.thresholds)) == (0, 0)
    assert strangers.threshold_at(0.5) == -np.inf


def test_all_pairs_are_never_held_at_once():
    rng = np.random.default_rng(0)
    distances = rng.random((2000, 4000), np.float32)
    labels = rng.integers(1, 500, 2000), rng.integers(1, 500, 4000)
    tracemalloc.start()
    curve = pair_curve(distances, *labels, camera_filter=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert curve.genuine + curve.impostors == distances.size
    assert peak < distances.nbytes / 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"distances": np.zeros(3)}, r"distances must be \[Q, G\], got \[3\]"),
        ({"distances": np.zeros((4, 3))}, r"\[4, 3\].*each of 2 query_pids"),
        ({"distances": np.zeros((2, 4))}, r"G = 3, the number of gallery_pids; got \[2, 4\]"),
        ({"distances": np.full((2, 3), np.nan)}, r"6 of the 6 distances .* are NaN"),
        ({"query_pids": [5, 0]}, r"query_pids holds 0: .* number identities from 1"),
        ({"query_camids": None}, r"camera_filter=False"),
    ],
)
def test_errors_say_what_was_given(valid, changed, message):
    with pytest.raises(ValueError, match=message):
        pair_curve(**valid | changed)
