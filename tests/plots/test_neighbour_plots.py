import numpy as np
import pytest

from tripletlib import plots

POINTS = np.array([[0.0, 0], [1, 0], [0, 1]])


def test_members_of_a_group_are_ringed_and_all_points_named(ax):
    groups = {"near": [0, 1], "friends": [0]}
    plots.draw_members(ax, POINTS, ["q", "a", "b"], groups, "title")
    assert [text.get_text() for text in ax.texts] == ["q", "a", "b"]
    near, friends = ax.collections[1:]
    assert near.get_offsets().tolist() == [[0, 0], [1, 0]]
    assert friends.get_offsets().tolist() == [[0, 0]]
    assert [near.get_label(), friends.get_label()] == ["near", "friends"]


def test_discs_have_areas_in_proportion_and_nothing_has_none(ax):
    plots.draw_values(ax, POINTS, ["q", "a", "b"], np.array([0.5, 0, 0.25]), "title")
    areas = ax.collections[1].get_sizes()
    assert areas[0] == pytest.approx(2 * areas[2])
    assert areas[1] == 0
    heights = [text.xyann[1] for text in ax.texts]  # above the discs, in points of the page
    assert heights[0] > np.sqrt(areas[0]) / 2
    assert heights[0] > heights[2] > heights[1] > 0
    assert [text.get_text() for text in ax.texts] == ["q 0.50", "a", "b 0.25"]


def test_small_values_are_drawn_but_not_written(ax):
    plots.draw_values(ax, POINTS, ["q", "a", "b"], np.array([1, 0.09, 0]), "title")
    assert [text.get_text() for text in ax.texts] == ["q 1.00", "a", "b"]
    assert ax.collections[1].get_sizes()[1] > 0
