"""The playground of notebook 02: drag points, see what batch hard makes of them.

`page/triplets.js` computes and `page/playground.js` draws, in the reader's browser: with a kernel,
without one, and while it is busy. `draw_scene` draws a scene on paper, by the kernels.
"""

import json
from typing import Any

import anywidget
import numpy as np
import traitlets
from IPython.display import display
from matplotlib.axes import Axes

from tripletlib.plots import BLACK, BLUE, DARK_ORANGE, PURPLE, VERDICT_STYLES
from tripletlib.runtime import in_live_notebook
from tripletlib.widgets.pictures import SAVED_STYLE, page_file
from tripletlib.widgets.scene import LEARNING_RATE, Scene, example_scene, scene_loss

_IDENTITIES = ((BLUE, "o"), (DARK_ORANGE, "^"), (PURPLE, "s"))  # colour and marker
_PAIRS = [VERDICT_STYLES[name] for name in ("right", "wrong")]  # hardest positive and negative
_HALF_WIDTH = 3.2  # the plane is shown from -_HALF_WIDTH to _HALF_WIDTH
_SCRIPT = page_file("triplets.js") + page_file("playground.js")
_STYLE = (
    f".playground {{ --positive: {_PAIRS[0].colour}; --negative: {_PAIRS[1].colour}; }}\n"
    + page_file("playground.css")
    + SAVED_STYLE
)
_SENTENCE = (
    "The playground needs a page that runs scripts: open this notebook in JupyterLab and run it to "
    "drag the points. The picture below shows where they start."
)


def draw_points(ax: Axes, scene: Scene) -> None:
    """Scatters the points of a scene, each with its name and the look of its identity."""
    for label in np.unique(scene.labels):
        colour, marker = _IDENTITIES[label]
        x, y = scene.points[scene.labels == label].T
        ax.scatter(x, y, s=90, color=colour, marker=marker)
    for name, point in zip(scene.names(), scene.points, strict=True):
        ax.annotate(name, point, xytext=(9, 9), textcoords="offset points")
    ax.set(xlabel="embedding, first entry", ylabel="embedding, second entry")


def draw_scene(ax: Axes, scene: Scene) -> None:
    """Draws a scene as the playground shows it.

    Arrows end where one step with `LEARNING_RATE` takes each point.
    """
    result = scene_loss(scene)
    for name, style in zip(("positive", "negative"), _PAIRS, strict=True):
        label = f"hardest {name}: {getattr(result, f'{name}_distance'):.2f} away"
        ends = scene.points[[scene.anchor, getattr(result, name)]].T
        ax.plot(*ends, color=style.colour, ls=style.line, lw=2.5, zorder=1, label=label)
    ax.plot(*scene.points[scene.anchor], "o", ms=24, mfc="none", mec=BLACK)
    draw_points(ax, scene)
    (x, y), (u, v) = scene.points.T, -LEARNING_RATE * result.gradient.T
    ax.quiver(x, y, u, v, angles="xy", scale_units="xy", scale=1, width=0.006, zorder=3)
    limit = max(_HALF_WIDTH, 1.1 * float(np.abs(scene.points).max()))
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=result.summary())
    ax.legend(loc="lower left")


class Playground(anywidget.AnyWidget):
    """The example scene on the page: drag points, choose the anchor and the margin, take steps.

    Show it by making it the last line of a cell. A page without a kernel gets the same playground,
    as a script in the cell's output.
    """

    _esm = f"""{_SCRIPT}export default {{ render(context) {{
        context.el.classList.add("tripletlib-widget"); // hides the copy for the saved page
        return render(context);
    }} }};"""
    _css = _STYLE
    fixed = traitlets.Dict().tag(sync=True)  # what no reader can change
    start = traitlets.Dict().tag(sync=True)
    now = traitlets.Dict().tag(sync=True)  # the page's; as `start` has it: points, anchor, margin

    def __init__(self) -> None:
        scene = example_scene()
        start = {"points": scene.points.tolist(), "anchor": scene.anchor, "margin": scene.margin}
        looks = []
        for name, label in zip(scene.names(), scene.labels, strict=True):
            colour, marker = _IDENTITIES[label]
            looks.append({"name": name, "colour": colour, "marker": marker})
        fixed = {"labels": scene.labels.tolist(), "looks": looks}
        fixed |= {"learning_rate": LEARNING_RATE, "half_width": _HALF_WIDTH}
        super().__init__(fixed=fixed, start=start, now=start)

    @property
    def scene(self) -> Scene:
        """The scene as it is now."""
        points, labels = np.array(self.now["points"], dtype=float), np.array(self.fixed["labels"])
        return Scene(points, labels, self.now["anchor"], self.now["margin"])

    def _repr_mimebundle_(self, **options: Any) -> Any:
        saved = {"text/html": self._page(), "text/plain": _SENTENCE}
        if not in_live_notebook():
            return saved
        display(saved, raw=True)  # stays in the saved page, hidden as long as the widget lives
        bundle = super()._repr_mimebundle_(**options)
        assert bundle is not None  # as it would be of a widget without a view
        return {**bundle[0], "text/plain": ""}, bundle[1]

    def _page(self) -> str:
        values = json.dumps({"fixed": self.fixed, "start": self.start, "now": self.now})
        return (
            f'<style>{_STYLE}</style>\n<div class="tripletlib-saved"><p>{_SENTENCE}</p></div>\n'
            f"<script>(() => {{\n{_SCRIPT}\n"
            f"const model = pageModel({values});\n"
            "render({ model, el: document.currentScript.previousElementSibling });\n})();</script>"
        )
