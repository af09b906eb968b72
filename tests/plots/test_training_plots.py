import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from tripletlib import plots
from tripletlib.training.history import History


@pytest.fixture
def history():
    history = History()
    for step in range(1, 121):
        history.record(
            step=step,
            learning_rate=1e-3,
            loss=2 / step,
            active_fraction=1 / step,
            embeddings=torch.randn(6, 2),
        )
    return history


def test_a_batch_is_drawn_one_identity_a_row():
    images = np.arange(6, dtype=np.uint8)[:, None, None, None].repeat(4, 2).repeat(4, 3)
    (ax,) = plots.draw_batch(images, np.array([3, 3, 3, 8, 8, 8]), "title").axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["3", "8"]
    ink = 255 - ax.images[0].get_array()[::4, ::4, 0]
    assert ink.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_each_identity_is_named_and_has_its_own_mark(ax):
    points = np.random.default_rng(0).normal(size=(30, 2))
    labels = np.repeat([0, 4, 7], 10)
    plots.draw_embedding(ax, points, labels, "title")
    assert [text.get_text() for text in ax.texts] == ["0", "4", "7"]
    marks = {collection.get_paths()[0].vertices.tobytes() for collection in ax.collections}
    assert len(marks) == 3


def draw_names(medians):
    """Ten identities around `medians` [10, 2]: the axes, the names' centres and their radii."""
    figure, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained")
    labels = np.arange(10).repeat(5)
    cross = np.array([[0, 0], [0.3, 0], [-0.3, 0], [0, 0.3], [0, -0.3]])
    points = medians[labels] + np.tile(cross, (10, 1))
    ax = axes[0]
    plots.draw_embedding(ax, points, labels, "title")
    figure.canvas.draw()
    circles = [text.get_bbox_patch().get_window_extent() for text in ax.texts]
    centres = [((circle.x0 + circle.x1) / 2, (circle.y0 + circle.y1) / 2) for circle in circles]
    radii = np.array([max(circle.width, circle.height) / 2 for circle in circles])
    return ax, np.array(centres), radii


@pytest.mark.parametrize("spread", [0, 0.1, 1, 10])
def test_names_never_cover_each_other(spread):
    ax, centres, radii = draw_names(spread * np.random.default_rng(0).normal(size=(10, 2)))
    gaps = np.linalg.norm(centres[:, None] - centres, axis=2) - radii[:, None] - radii
    assert gaps[~np.eye(10, dtype=bool)].min() > 0
    if spread < 1:
        assert any(text.arrow_patch for text in ax.texts)  # leads from a moved name to its median


def test_names_with_room_stand_at_their_medians():
    medians = 10 * np.argwhere(np.ones((2, 5))).astype(float)
    ax, centres, _ = draw_names(medians)
    np.testing.assert_allclose(centres, ax.transData.transform(medians), atol=1.5)
    assert not any(text.arrow_patch for text in ax.texts)


def test_ten_digits_have_ten_colours_and_ten_marks(ax):
    plots.draw_embedding(ax, np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 10, "t")
    marks = {part.get_paths()[0].vertices.tobytes() for part in ax.collections}
    colours = {part.get_facecolor().tobytes() for part in ax.collections}
    assert len(marks) == len(colours) == 10


@pytest.mark.parametrize(("margin", "packed"), [(0.5, 0.5), ("soft", np.log(2))])
def test_the_log_shows_where_a_collapsed_training_would_stand(history, margin, packed):
    loss, active, *spreads = plots.draw_history(history, margin).axes
    heights = [line.get_ydata()[0] for line in loss.lines if line.get_linestyle() == ":"]
    assert heights == pytest.approx([packed])
    assert len(loss.lines[0].get_xdata()) == 120
    assert all(ax.get_xlabel() == "step" for ax in (loss, active, *spreads))
    medians = [ax.lines[0].get_ydata()[-1] for ax in spreads]
    columns = [history[f"{spread}_p50"][-1] for spread in ("norm", "entry", "distance")]
    assert medians == pytest.approx(columns)


def test_no_legend_lies_on_the_curves(history):
    figure = plots.draw_history(history, 0.5)
    comparison = plots.draw_histories({"one": (history, 0.5), "other": (history, "soft")})
    for drawn in (figure, comparison):
        drawn.canvas.draw()
        legends = [ax.get_legend() for ax in drawn.axes] + drawn.legends
        boxes = [legend.get_window_extent() for legend in legends if legend]
        assert boxes
        assert not any(box.overlaps(ax.get_window_extent()) for box in boxes for ax in drawn.axes)


def test_trainings_are_compared_by_their_distance_from_a_single_point(history):
    figure = plots.draw_histories({"hinge": (history, 0.5), "soft": (history, "soft")})
    losses, distances = figure.axes
    hinge, soft, one_point = losses.lines
    assert one_point.get_ydata()[0] == 0
    assert losses.get_ylabel()
    assert distances.get_ylabel()
    assert hinge.get_ydata()[0] == pytest.approx(history["loss"][:10].mean() / 0.5 - 1)
    assert soft.get_ydata()[-1] == pytest.approx(history["loss"][-10:].mean() / np.log(2) - 1)
    assert hinge.get_marker() != soft.get_marker()
    assert len(distances.lines[0].get_xdata()) == 12
