"""The playground of notebook 02: drag points in the plane, see what batch hard makes of them.

`page/triplets.js` computes and `page/playground.js` draws, in the reader's browser: with a kernel,
without one, and while it is busy. `scene_loss` computes the same by the kernels of
`tripletlib.losses`, and `draw_scene` draws it on paper.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from IPython.display import display
from matplotlib.axes import Axes

from tripletlib.losses import Margin, batch_hard, triplet_losses
from tripletlib.mining import mine_hardest
from tripletlib.plots import BLACK, BLUE, DARK_ORANGE, PURPLE, VERDICT_STYLES
from tripletlib.runtime import in_live_notebook
from tripletlib.widgets.pictures import SAVED_STYLE, page_file

LEARNING_RATE = 1.0  # long, since the mean shares the gradient among all anchors
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


@dataclass(frozen=True)
class Scene:
    """Embeddings in the plane and the question that is asked about them."""

    points: np.ndarray  # float64 [N, 2]
    labels: np.ndarray  # identity of each point, [N], counted from 0
    anchor: int = 0  # index of the point that is looked at
    margin: Margin = 0.5  # as in `batch_hard`

    def names(self) -> list[str]:
        """A letter for the identity and a number for the point within it: A1, A2, B1 ..."""
        letters = [chr(ord("A") + label) for label in self.labels]
        return [f"{letter}{letters[: i + 1].count(letter)}" for i, letter in enumerate(letters)]


@dataclass(frozen=True)
class SceneLoss:
    """What batch hard says about a scene."""

    loss: float  # mean over all anchors
    active_fraction: float  # share of anchors whose hardest triplet is active
    anchor_loss: float  # of the chosen anchor's hardest triplet
    positive: int  # index of the anchor's farthest positive
    negative: int  # index of its nearest negative
    positive_distance: float
    negative_distance: float
    gradient: np.ndarray  # of the loss at every point, [N, 2]

    def summary(self) -> str:
        """The numbers in one line."""
        of_anchor = f"(this anchor {self.anchor_loss:.3f})"
        return f"loss {self.loss:.3f} {of_anchor} · active {self.active_fraction:.0%}"


def example_scene() -> Scene:
    """Nine points of three identities that stand in each other's way."""
    points = [(-2.0, 1.2), (-1.4, -0.9), (0.6, 0.9), (1.9, 1.6), (-0.3, 0.2), (2.2, -0.2)]
    points += [(-0.9, -2.0), (0.7, -1.6), (1.2, 0.0)]
    return Scene(points=np.array(points), labels=np.repeat([0, 1, 2], 3), anchor=2)


def scene_loss(scene: Scene) -> SceneLoss:
    """Applies batch hard to a scene, with the kernels of `tripletlib.losses`.

    Raises:
        ValueError: the anchor has no positive, or the points have no valid triplet.

    Example:
        >>> scene = Scene(np.array([[0.0, 0.0], [0.0, 2.0], [1.0, 0.0]]), np.array([0, 0, 1]))
        >>> scene_loss(scene).anchor_loss, scene_loss(scene).negative
        (1.5, 2)
    """
    points = torch.tensor(scene.points, dtype=torch.float64, requires_grad=True)  # [N, 2]
    labels = torch.as_tensor(scene.labels)
    result = batch_hard(points, labels, scene.margin)
    (gradient,) = torch.autograd.grad(result.loss, points)
    anchors, positives, negatives = mine_hardest(points, labels)  # [N'] each
    if scene.anchor not in anchors:
        raise ValueError(f"point {scene.anchor} is alone in its identity: it has no positive")
    row = anchors.tolist().index(scene.anchor)
    positive, negative = int(positives[row]), int(negatives[row])
    d_pos, d_neg = (points[scene.anchor] - points[[positive, negative]]).norm(dim=1).detach()
    return SceneLoss(
        loss=result.loss.item(),
        active_fraction=result.active_fraction.item(),
        anchor_loss=triplet_losses(d_pos - d_neg, scene.margin)[0].item(),
        positive=positive,
        negative=negative,
        positive_distance=d_pos.item(),
        negative_distance=d_neg.item(),
        gradient=gradient.numpy(),
    )


def gradient_step(scene: Scene, learning_rate: float = LEARNING_RATE) -> Scene:
    """The scene after one step of gradient descent on its points."""
    return replace(scene, points=scene.points - learning_rate * scene_loss(scene).gradient)


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
