from itertools import pairwise

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from tripletlib import plots
from tripletlib.evaluation import average_precision, pair_curve


def area(polygon):
    """Area within a closed polygon, by the shoelace formula."""
    x, y = polygon.T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


def test_a_cmc_curve_begins_at_rank_1_and_names_it(ax):
    plots.draw_cmc(ax, {"one": np.array([0.5, 0.75]), "two": np.array([0.6, 0.9])}, "t")
    assert [line.get_xdata().tolist() for line in ax.lines] == [[1, 2], [1, 2]]
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.5, 0.75], [0.6, 0.9]]
    assert [line.get_label() for line in ax.lines] == ["one: rank-1 50.0%", "two: rank-1 60.0%"]
    low, high = ax.get_ylim()
    assert low < 0.5
    assert high > 1


def test_curves_differ_by_mark_line_and_colour():
    colours, marks, lines = zip(*plots.SERIES, strict=True)
    assert len(set(colours)) == len(set(marks)) == len(colours)
    assert all(one != other for one, other in pairwise(lines))


def test_verdicts_differ_by_more_than_colour():
    styles = plots.VERDICT_STYLES.values()
    assert len({(style.mark, style.line) for style in styles}) == len(styles)
    assert len({style.marker for style in styles}) == len(styles)


def test_queries_without_a_right_answer_are_in_no_histogram(ax):
    plots.draw_precisions(ax, {"one": np.array([0.02, 1.0, np.nan, 0.98])}, "title")
    counts, edges, _ = ax.patches[0].get_data()
    assert (counts[0], counts[-1], counts.sum()) == (1, 2, 3)
    assert (edges[0], edges[-1]) == (0, 1)
    assert ax.get_legend().get_texts()[0].get_text() == "one: mean 66.7%"


@pytest.mark.parametrize("rule", ["rectangle", "trapezoid"])
@pytest.mark.parametrize("places", [[1, 5, 9], [1], [3], [2, 3, 4], [1, 2, 3]])
def test_the_shaded_area_is_the_average_precision(ax, rule, places):
    right = np.isin(np.arange(1, 11), places)
    plots.draw_precision_recall(ax, right, rule, "title")
    shaded = [area(path.vertices[:-1]) for strip in ax.collections for path in strip.get_paths()]
    assert len(shaded) == len(places)
    assert sum(shaded) == pytest.approx(average_precision(right, rule=rule))


def test_a_list_without_a_right_answer_has_no_curve(ax):
    with pytest.raises(ValueError, match="10"):
        plots.draw_precision_recall(ax, np.zeros(10, bool), "rectangle", "title")


def test_distances_are_densities_over_one_scale(ax):
    rng = np.random.default_rng(0)
    right, wrong = rng.uniform(0, 1, 30), rng.uniform(0, 4, (50, 20))
    plots.draw_distances(ax, right, wrong, "title")
    curves = [patch.get_data() for patch in ax.patches]
    assert all(np.dot(data.values, np.diff(data.edges)) == pytest.approx(1) for data in curves)
    assert len({tuple(data.edges) for data in curves}) == 1
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["right: 30 pairs", "wrong: 1,000 pairs"]


def test_a_roc_marks_the_rates_at_the_threshold(ax):
    distances = np.concatenate([np.linspace(0, 1, 10), np.linspace(0.35, 2, 300)])
    pids = np.repeat([7, 8], [10, 300])
    curve = pair_curve(distances[None], np.array([7]), pids, camera_filter=False)
    plots.draw_roc(ax, {"one": curve}, 0.6, "title")
    line, mark = ax.lines
    assert line.get_xydata().tolist() == list(
        map(list, zip(curve.false_match_rate, curve.true_match_rate, strict=True))
    )
    accepted = distances <= curve.thresholds[5]  # 5/9, the last genuine distance up to 0.6
    (x,), (y,) = mark.get_data()
    assert (x, y) == pytest.approx((accepted[10:].mean(), accepted[:10].mean()))
    assert ax.get_xscale() == "log"
    ax.figure.canvas.draw()


def test_a_roc_without_pairs_of_two_people_is_drawn(ax):
    curve = pair_curve(np.array([[0.1]]), np.array([7]), np.array([7]), camera_filter=False)
    plots.draw_roc(ax, {"one": curve}, -np.inf, "title")  # what `threshold_at` gives
    ax.figure.canvas.draw()
    assert len(ax.lines[1].get_xdata()) == 0


def test_a_sweep_writes_its_scores_and_frames_the_best():
    scores = np.arange(12).reshape(2, 3, 2) / 100
    scores[0, 1, 1] = 0.5
    figure = plots.draw_sweep(scores, [5, 10, 20], [1, 6], [0.0, 0.3], "title")
    left, right, _ = figure.axes
    assert [text.get_text() for text in left.texts] == ["0.0", "1.0", "2.0", "50.0", "4.0", "5.0"]
    assert (left.get_title(), right.get_title()) == ("λ = 0", "λ = 0.3")
    assert left.images[0].get_clim() == right.images[0].get_clim() == (0, 0.5)
    frames = [patch for ax in (left, right) for patch in ax.patches if isinstance(patch, Rectangle)]
    assert [frame.get_xy() for frame in frames] == [(0.5, 0.5)]
    assert frames[0].axes is left


def test_a_sweep_of_another_shape_names_both():
    with pytest.raises(ValueError, match=r"\(1, 2, 3\), got \(2, 3\)"):
        plots.draw_sweep(np.zeros((2, 3)), [1, 2], [1, 2, 3], [0.3], "title")


def test_a_list_is_a_row_of_marked_boxes(ax):
    lists = {"one": np.array([True, False]), "two": np.array([False, False])}
    plots.draw_lists(ax, lists, "title", ["ab", "cd"])
    assert [text.get_text() for text in ax.texts] == ["a\n✓", "b\n✗", "c\n✗", "d\n✗"]
    frames = [patch for patch in ax.patches if not patch.get_fill()]
    assert frames[0].get_edgecolor() != frames[1].get_edgecolor() == frames[2].get_edgecolor()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "two"]
    top, bottom = ax.texts[0].get_position()[1], ax.texts[2].get_position()[1]
    assert ax.transData.transform((1, top))[1] > ax.transData.transform((1, bottom))[1]


def test_growth_has_a_line_for_each_name_and_a_tick_for_each_size(ax):
    curves = {"slow": np.array([3.0, 48]), "fast": np.array([2.0, 8])}
    plots.draw_growth(ax, [250, 1000], curves, "title", "MB")
    assert [line.get_label() for line in ax.lines] == ["slow", "fast"]
    assert ax.lines[0].get_ydata().tolist() == [3, 48]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert [f"{tick:g}" for tick in ax.get_yticks() if 3 <= tick <= 48] == ["5", "10", "20"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["250", "1,000"]


def test_growth_over_many_decades_has_a_tick_for_each(ax):
    plots.draw_growth(ax, [1, 2], {"one": np.array([0.7, 4300])}, "title", "GB")
    ax.figure.canvas.draw()
    low, high = ax.get_ylim()
    texts = zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)
    shown = [text.get_text() for tick, text in texts if low <= tick <= high]
    assert shown == ["1", "10", "100", "1,000"]


def test_shares_are_in_percent(ax):
    plots.draw_cmc(ax, {"one": np.array([0.5, 0.75])}, "title")
    assert ax.yaxis.get_major_formatter()(0.5) == "50%"
    ax.clear()
    plots.draw_precisions(ax, {"one": np.array([0.1, 0.9])}, "title")
    assert ax.xaxis.get_major_formatter()(0.5) == "50%"


def test_a_set_in_which_nothing_is_right_can_be_drawn(ax):
    nothing = np.full(3, np.nan)
    plots.draw_precisions(ax, {"one": nothing}, "t")
    assert ax.get_legend().get_texts()[0].get_text() == "one: no query has a right answer"
    ax.clear()
    plots.draw_distances(ax, np.zeros(0), np.array([1.0, 2]), "t")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["right: 0 pairs", "wrong: 2 pairs"]
    assert ax.patches[1].get_data().values.sum() == 0
    ax.clear()
    plots.draw_cmc(ax, {"one": nothing}, "t")
    assert ax.get_ylim()[0] == 0


def test_a_gallery_of_three_has_a_short_curve(ax):
    plots.draw_cmc(ax, {"one": np.array([0.5, 0.5, 1.0])[:30]}, "t")
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 3]
