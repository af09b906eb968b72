import numpy as np
import pytest
from page_messages import click_point, end_drag, start_drag

from tripletlib.widgets import (
    Playground,
    Scene,
    draw_scene,
    example_scene,
    gradient_step,
    notebook_widget,
    playground,
    scene_loss,
)
from tripletlib.widgets.scene import LEARNING_RATE


@pytest.fixture
def shown():
    return Playground()


def marks(shown):
    """The marks of the figure: ring, two lines, their labels, arrows, and three clouds."""
    return shown.widget.children[0].marks


def shift(cloud, member, amount):
    """What the browser sends while a point is dragged: the whole column, one entry changed."""
    cloud.x = cloud.x + amount * (np.arange(len(cloud.x)) == member)


def test_it_opens_with_the_numbers_of_its_scene(shown):
    assert scene_loss(example_scene()).summary() in shown.text.value


def test_dragging_a_point_changes_the_loss_and_the_picture(shown):
    text, arrows = shown.text.value, marks(shown)[4].y.copy()
    shift(marks(shown)[6], member=2, amount=-1.5)
    moved = example_scene().points.copy()
    moved[5, 0] -= 1.5
    np.testing.assert_allclose(shown.scene.points, moved)
    assert shown.text.value != text
    assert scene_loss(shown.scene).summary() in shown.text.value
    assert not np.allclose(marks(shown)[4].y, arrows)


def test_lines_lead_from_the_anchor_to_its_pair_and_say_how_far(shown):
    shown.controls["anchor"].value = 7
    result = scene_loss(shown.scene)
    partners = (result.positive, result.negative)
    for line, partner in zip(marks(shown)[1:3], partners, strict=True):
        ends = np.stack([line.x, line.y], axis=1)
        np.testing.assert_allclose(ends, shown.scene.points[[7, partner]])
    distances = (result.positive_distance, result.negative_distance)
    expected = [f"d_{name} {d:.2f}" for name, d in zip(("pos", "neg"), distances, strict=True)]
    assert list(marks(shown)[3].text) == expected
    np.testing.assert_allclose([marks(shown)[0].x[0], marks(shown)[0].y[0]], shown.scene.points[7])


def test_a_click_chooses_the_anchor(shown):
    click_point(marks(shown)[7], 1)
    assert shown.controls["anchor"].value == shown.scene.anchor == 7


def test_margin_and_soft_margin_reach_the_loss(shown):
    shown.controls["margin"].value = 2.0
    assert shown.scene.margin == 2.0
    shown.controls["soft"].value = True
    assert shown.scene.margin == "soft"
    assert (
        scene_loss(Scene(**{**vars(example_scene()), "margin": "soft"})).summary()
        in shown.text.value
    )


def test_a_step_moves_all_points_to_their_arrows_tips_and_reset_brings_them_back(shown):
    tips = np.stack([marks(shown)[4].x[:, 1], marks(shown)[4].y[:, 1]], axis=1)
    shown.controls["step"].click()
    np.testing.assert_allclose(shown.scene.points, tips)
    np.testing.assert_allclose(shown.scene.points, gradient_step(example_scene()).points)
    np.testing.assert_allclose(marks(shown)[5].x, tips[:3, 0])
    shown.controls["soft"].value, shown.controls["anchor"].value = True, 0
    shown.controls["reset"].click()
    np.testing.assert_allclose(shown.scene.points, example_scene().points)
    assert (shown.scene.margin, shown.scene.anchor) == (0.5, 2)
    assert (shown.controls["soft"].value, shown.controls["anchor"].value) == (False, 2)


def test_an_error_in_a_callback_is_shown_until_the_next_success(shown, monkeypatch):
    def fail(scene):
        raise RuntimeError("the reader should see this")

    with monkeypatch.context() as broken:
        broken.setattr(playground, "scene_loss", fail)
        shown.controls["margin"].value = 1.0
    assert "RuntimeError: the reader should see this" in shown.message.text
    shown.controls["margin"].value = 1.5
    assert shown.message.text == ""


def test_the_plane_grows_when_a_point_is_let_go_outside_and_not_before(shown):
    cloud, scale = marks(shown)[5], shown.widget.children[0].axes[0].scale
    before = scale.min
    start_drag(cloud)
    shift(cloud, member=0, amount=-50)
    assert scale.min == before
    end_drag(cloud)
    assert scale.min < -50


def test_the_plane_grows_when_the_last_place_comes_after_the_point_was_let_go(shown):
    cloud, scale = marks(shown)[5], shown.widget.children[0].axes[0].scale
    start_drag(cloud)
    end_drag(cloud)
    shift(cloud, member=0, amount=-50)
    assert scale.min < -50


def test_the_anchor_can_be_moved_by_its_sliders(shown):
    shown.controls["anchor"].value = 7
    x, y = shown.scene.points[7]
    assert (shown.controls["x"].value, shown.controls["y"].value) == (x, y)
    shown.controls["x"].value = x - 0.5
    np.testing.assert_allclose(shown.scene.points[7], [x - 0.5, y])
    np.testing.assert_allclose(marks(shown)[7].x[1], x - 0.5)


def test_the_margin_cannot_be_moved_with_the_soft_margin(shown):
    shown.controls["soft"].value = True
    assert shown.controls["margin"].disabled
    shown.controls["reset"].click()
    assert not shown.controls["margin"].disabled


def test_arrows_of_points_at_rest_have_no_length():
    start = example_scene()
    shown = Playground(Scene(np.zeros((9, 2)), start.labels))
    np.testing.assert_array_equal(marks(shown)[4].x, np.zeros((9, 5)))


def test_a_saved_page_gets_a_sentence_and_an_open_notebook_the_widget(shown, monkeypatch):
    assert list(shown._repr_mimebundle_()) == ["text/plain"]
    monkeypatch.setattr(notebook_widget, "in_live_notebook", lambda: True)
    assert "application/vnd.jupyter.widget-view+json" in shown._repr_mimebundle_()


def test_static_picture_shows_the_same_scene(ax):
    scene = example_scene()
    draw_scene(ax, scene)
    result = scene_loss(scene)
    assert ax.get_title() == result.summary()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert f"{result.positive_distance:.2f}" in labels[0]
    assert f"{result.negative_distance:.2f}" in labels[1]
    quiver = next(item for item in ax.collections if hasattr(item, "U"))
    np.testing.assert_allclose(np.stack([quiver.U, quiver.V], 1), -LEARNING_RATE * result.gradient)
    assert [text.get_text() for text in ax.texts] == scene.names()
