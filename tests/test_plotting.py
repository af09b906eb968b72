import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from tripletlib import plotting
from tripletlib.history import History

mpl.use("agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


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
    figure = plotting.draw_batch(images, np.array([3, 3, 3, 8, 8, 8]), "title")
    assert [ax.get_ylabel() for ax in figure.axes] == ["3", "8"]
    second_row = figure.axes[1].images[0].get_array()
    assert second_row[0, ::4].tolist() == [3, 4, 5]


def test_each_identity_is_named_and_has_its_own_mark():
    points = np.random.default_rng(0).normal(size=(30, 2))
    labels = np.repeat([0, 4, 7], 10)
    ax = plotting.draw_embedding(plt.figure().gca(), points, labels, "title")
    assert [text.get_text() for text in ax.texts] == ["0", "4", "7"]
    marks = {collection.get_paths()[0].vertices.tobytes() for collection in ax.collections}
    assert len(marks) == 3


def test_ten_digits_have_ten_colours_and_ten_marks():
    assert len(set(plotting.TEN_COLOURS)) == len(set(plotting.TEN_MARKERS)) == 10


@pytest.mark.parametrize(("margin", "packed"), [(0.5, 0.5), ("soft", np.log(2))])
def test_the_log_shows_where_a_collapsed_training_would_stand(history, margin, packed):
    loss, active, norms, distances = plotting.draw_history(history, margin).axes
    heights = [line.get_ydata()[0] for line in loss.lines if line.get_linestyle() == ":"]
    assert heights == pytest.approx([packed])
    assert len(loss.lines[0].get_xdata()) == 120
    assert all(ax.get_xlabel() == "step" for ax in (loss, active, norms, distances))


def test_trainings_are_compared_by_their_distance_from_a_single_point(history):
    figure = plotting.draw_comparison({"hinge": (history, 0.5), "soft": (history, "soft")})
    losses, distances = figure.axes
    hinge, soft, one_point = losses.lines
    assert one_point.get_ydata()[0] == 1
    assert hinge.get_ydata()[0] == pytest.approx(history["loss"][:10].mean() / 0.5)
    assert soft.get_ydata()[-1] == pytest.approx(history["loss"][-10:].mean() / np.log(2))
    assert hinge.get_marker() != soft.get_marker()
    assert len(distances.lines[0].get_xdata()) == 12
