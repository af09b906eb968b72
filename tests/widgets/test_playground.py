import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from tripletlib.widgets import playground
from tripletlib.widgets.playground import Playground, draw_static
from tripletlib.widgets.scene import LEARNING_RATE, Scene, example_scene, read, stepped

mpl.use("agg")


@pytest.fixture
def shown():
    return Playground()


def shift(cloud, member, amount):
    """What the browser sends while a point is dragged: the whole column, one entry changed."""
    cloud.x = cloud.x + amount * (np.arange(len(cloud.x)) == member)


def test_it_opens_with_the_numbers_of_its_scene(shown):
    assert read(example_scene()).summary() in shown._text.value


def test_dragging_a_point_changes_the_loss_and_the_picture(shown):
    text, arrows = shown._text.value, shown._arrows.y.copy()
    shift(shown._clouds[1], member=2, amount=-1.5)
    moved = example_scene().points.copy()
    moved[5, 0] -= 1.5
    np.testing.assert_allclose(shown.scene.points, moved)
    assert shown._text.value != text
    assert read(shown.scene).summary() in shown._text.value
    assert not np.allclose(shown._arrows.y, arrows)


def test_lines_lead_from_the_anchor_to_its_pair_and_say_how_far(shown):
    shown._anchor.value = 7
    reading = read(shown.scene)
    partners = (reading.positive, reading.negative)
    for line, partner in zip(shown._pair_lines, partners, strict=True):
        ends = np.stack([line.x, line.y], axis=1)
        np.testing.assert_allclose(ends, shown.scene.points[[7, partner]])
    distances = (reading.positive_distance, reading.negative_distance)
    expected = [f"d_{name} {d:.2f}" for name, d in zip(("pos", "neg"), distances, strict=True)]
    assert list(shown._pair_labels.text) == expected
    np.testing.assert_allclose([shown._ring.x[0], shown._ring.y[0]], shown.scene.points[7])


def test_a_click_chooses_the_anchor(shown):
    message = {"event": "element_click", "data": {"index": 1}}
    shown._clouds[2]._handle_custom_msgs(shown._clouds[2], message)
    assert shown._anchor.value == shown.scene.anchor == 7


def test_margin_and_soft_margin_reach_the_loss(shown):
    shown._margin.value = 2.0
    assert shown.scene.margin == 2.0
    shown._soft.value = True
    assert shown.scene.margin == "soft"
    assert read(Scene(**{**vars(example_scene()), "margin": "soft"})).summary() in shown._text.value


def test_a_step_moves_all_points_to_their_arrows_tips_and_reset_brings_them_back(shown):
    tips = np.stack([shown._arrows.x[:, 1], shown._arrows.y[:, 1]], axis=1)
    shown._step.click()
    np.testing.assert_allclose(shown.scene.points, tips)
    np.testing.assert_allclose(shown.scene.points, stepped(example_scene()).points)
    np.testing.assert_allclose(shown._clouds[0].x, tips[:3, 0])
    shown._soft.value, shown._anchor.value = True, 0
    shown._reset.click()
    np.testing.assert_allclose(shown.scene.points, example_scene().points)
    assert (shown.scene.margin, shown.scene.anchor) == (0.5, 2)
    assert (shown._soft.value, shown._anchor.value) == (False, 2)


def test_an_error_in_a_callback_is_shown_until_the_next_success(shown, monkeypatch):
    def fail(scene):
        raise RuntimeError("the reader should see this")

    with monkeypatch.context() as broken:
        broken.setattr(playground, "read", fail)
        shown._margin.value = 1.0
    assert "RuntimeError: the reader should see this" in shown._errors.outputs[0]["text"]
    shown._margin.value = 1.5
    assert shown._errors.outputs == ()


def test_a_point_dragged_out_stays_in_view(shown):
    shift(shown._clouds[0], member=0, amount=-50)
    assert shown._scales["x"].min < -50


def test_arrows_of_points_at_rest_have_no_length():
    paths = playground._arrow_paths(np.ones((2, 2)), np.zeros((2, 2)))
    np.testing.assert_array_equal(paths, np.ones((2, 5, 2)))


def test_a_saved_page_gets_a_sentence_and_an_open_notebook_the_widget(shown, monkeypatch):
    assert list(shown._repr_mimebundle_()) == ["text/plain"]
    monkeypatch.setattr(playground, "in_live_notebook", lambda: True)
    assert "application/vnd.jupyter.widget-view+json" in shown._repr_mimebundle_()


def test_static_picture_shows_the_same_scene():
    scene = example_scene()
    ax = draw_static(scene)
    reading = read(scene)
    assert ax.get_title() == reading.summary()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert f"{reading.positive_distance:.2f}" in labels[0]
    assert f"{reading.negative_distance:.2f}" in labels[1]
    quiver = next(item for item in ax.collections if hasattr(item, "U"))
    np.testing.assert_allclose(np.stack([quiver.U, quiver.V], 1), LEARNING_RATE * reading.pull)
    assert [text.get_text() for text in ax.texts] == scene.names()
    plt.close(ax.figure)
