import numpy as np

from tripletlib.widgets import Playground, draw_scene, example_scene, playground, scene_loss
from tripletlib.widgets.scene import LEARNING_RATE


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
