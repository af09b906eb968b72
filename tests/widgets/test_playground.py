import numpy as np
import pytest

from tripletlib.widgets import (
    Playground,
    Scene,
    draw_scene,
    example_scene,
    gradient_step,
    playground,
    scene_loss,
)
from tripletlib.widgets.playground import LEARNING_RATE


def naive_loss(scene):
    """Loss of every anchor and the chosen anchor's pair, written from the definition."""
    losses, pairs = [], []
    distances = np.linalg.norm(scene.points[:, None] - scene.points, axis=2)
    for anchor, label in enumerate(scene.labels):
        others = [i for i in range(len(scene.labels)) if i != anchor]
        positives = [i for i in others if scene.labels[i] == label]
        negatives = [i for i in others if scene.labels[i] != label]
        positive = max(positives, key=lambda i: distances[anchor, i])
        negative = min(negatives, key=lambda i: distances[anchor, i])
        difference = distances[anchor, positive] - distances[anchor, negative]
        soft = np.log1p(np.exp(difference))
        losses.append(soft if scene.margin == "soft" else max(0, scene.margin + difference))
        pairs.append((positive, negative))
    return np.array(losses), pairs


@pytest.mark.parametrize("margin", [0.0, 0.5, "soft"])
@pytest.mark.parametrize("anchor", range(9))
def test_the_loss_equals_the_definition(anchor, margin):
    start = example_scene()
    scene = Scene(start.points, start.labels, anchor, margin)
    losses, pairs = naive_loss(scene)
    result = scene_loss(scene)
    assert result.loss == pytest.approx(losses.mean())
    assert result.anchor_loss == pytest.approx(losses[anchor])
    assert (result.positive, result.negative) == pairs[anchor]
    distances = np.linalg.norm(scene.points[list(pairs[anchor])] - scene.points[anchor], axis=1)
    assert [result.positive_distance, result.negative_distance] == pytest.approx([*distances])


def test_the_gradient_is_the_slope_of_the_loss():
    scene, width = example_scene(), 1e-6
    slopes = np.zeros_like(scene.points)
    for place in np.ndindex(*scene.points.shape):
        shift = np.zeros_like(scene.points)
        shift[place] = width
        ahead, behind = (
            naive_loss(Scene(scene.points + sign * shift, scene.labels))[0].mean()
            for sign in (1, -1)
        )
        slopes[place] = (ahead - behind) / (2 * width)
    np.testing.assert_allclose(scene_loss(scene).gradient, slopes, atol=1e-6)


def test_steps_lead_the_example_to_a_loss_of_zero():
    scene = example_scene()
    moved = gradient_step(scene)
    np.testing.assert_allclose(
        moved.points, scene.points - LEARNING_RATE * scene_loss(scene).gradient
    )
    for _ in range(10):
        scene = gradient_step(scene)
    assert scene_loss(scene).loss == 0
    assert scene_loss(scene).active_fraction == 0


def test_points_in_one_place_have_a_finite_gradient_and_the_margin_as_loss():
    result = scene_loss(Scene(np.zeros((4, 2)), np.array([0, 0, 1, 1])))
    assert result.loss == pytest.approx(0.5)
    np.testing.assert_array_equal(result.gradient, 0)


def test_an_anchor_without_a_positive_is_named():
    scene = Scene(np.eye(3, 2), np.array([0, 0, 1]), anchor=2)
    with pytest.raises(ValueError, match="point 2 is alone"):
        scene_loss(scene)


def test_points_have_short_names():
    assert Scene(np.zeros((4, 2)), np.array([0, 1, 0, 2])).names() == ["A1", "B1", "A2", "C1"]


def test_what_the_page_sends_is_the_scene():
    shown = Playground()
    np.testing.assert_array_equal(shown.scene.points, example_scene().points)
    points = (example_scene().points + 0.125).tolist()
    shown.set_state({"now": {"points": points, "anchor": 7, "margin": "soft"}})
    np.testing.assert_array_equal(shown.scene.points, points)
    np.testing.assert_array_equal(shown.scene.labels, example_scene().labels)
    assert (shown.scene.anchor, shown.scene.margin) == (7, "soft")


def test_a_saved_page_gets_a_script_and_an_open_notebook_the_widget(monkeypatch):
    shown = Playground()
    saved = shown._repr_mimebundle_()
    assert list(saved) == ["text/html", "text/plain"]
    assert saved["text/html"].count("</script>") == 1  # else the script would end early
    monkeypatch.setattr(playground, "in_live_notebook", lambda: True)
    data, _ = shown._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data


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
