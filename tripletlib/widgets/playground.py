"""The playground of notebook 02: drag points, see what batch hard makes of them.

`scene.py` holds the numbers; `Playground` draws them on the page and `draw_scene` on paper.
"""

from dataclasses import replace
from typing import Any

import bqplot
import ipywidgets
import numpy as np
from matplotlib.axes import Axes

from tripletlib.plots import BLACK, BLUE, BQPLOT_MARKERS, DARK_ORANGE, PURPLE, VERDICT_STYLES
from tripletlib.widgets.notebook_widget import AXIS, PAPER, TEXT, NotebookWidget, move_mark
from tripletlib.widgets.scene import (
    LEARNING_RATE,
    Scene,
    example_scene,
    gradient_step,
    scene_loss,
)

_IDENTITIES = ((BLUE, "o"), (DARK_ORANGE, "^"), (PURPLE, "s"))  # colour and marker
_PAIRS = [VERDICT_STYLES[name] for name in ("right", "wrong")]  # hardest positive and negative
_HALF_WIDTH = 3.2  # the plane is shown from -_HALF_WIDTH to _HALF_WIDTH
_FULL_WIDTH = ipywidgets.Layout(width="290px")
_SENTENCE = (
    "The playground needs a live notebook: open this one in JupyterLab and run it to drag the "
    "points. The picture below shows where they start."
)


def draw_points(ax: Axes, scene: Scene) -> Axes:
    """Scatters the points of a scene, each with its name and the look of its identity."""
    for label in np.unique(scene.labels):
        colour, marker = _IDENTITIES[label]
        x, y = scene.points[scene.labels == label].T
        ax.scatter(x, y, s=90, color=colour, marker=marker)
    for name, point in zip(scene.names(), scene.points, strict=True):
        ax.annotate(name, point, xytext=(9, 9), textcoords="offset points")
    ax.set(xlabel="embedding, first entry", ylabel="embedding, second entry")
    return ax


def draw_scene(ax: Axes, scene: Scene) -> Axes:
    """Draws a scene as the playground shows it.

    Arrows end where one step with `LEARNING_RATE` takes each point.
    """
    result = scene_loss(scene)
    for (name, partner, distance), style in zip(result.pairs(), _PAIRS, strict=True):
        label = f"hardest {name}: {distance:.2f} away"
        ends = scene.points[[scene.anchor, partner]].T
        ax.plot(*ends, color=style.colour, ls=style.line, lw=2.5, zorder=1, label=label)
    ax.plot(*scene.points[scene.anchor], "o", ms=24, mfc="none", mec=BLACK)
    draw_points(ax, scene)
    (x, y), (u, v) = scene.points.T, -LEARNING_RATE * result.gradient.T
    ax.quiver(x, y, u, v, angles="xy", scale_units="xy", scale=1, width=0.006, zorder=3)
    limit = _half_width(scene)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=result.summary())
    ax.legend(loc="lower left")
    return ax


class Playground(NotebookWidget):
    """The scene on the page: drag points, choose the anchor and the margin, take steps.

    Args:
        scene: what to start with and what "reset" returns to.

    Attributes:
        scene: the scene as it is now.
        controls: anchor, its x and y (for the keyboard), margin, soft, step and reset.
        text: loss, share of active triplets and the hardest pairs.
    """

    def __init__(self, scene: Scene | None = None) -> None:
        super().__init__(_SENTENCE)
        self._start = self.scene = example_scene() if scene is None else scene
        self._make_marks()
        self._make_controls()
        hint = ipywidgets.HTML("Drag a point. Click one to make it the anchor.")
        parts = [hint, *self.controls.values(), self.text, self.message]
        side = ipywidgets.VBox(parts, layout=ipywidgets.Layout(flex="0 0 300px"))
        self.widget.children = [self._make_figure(), side]
        self.widget.add_class("playground")
        self._go_to(self.scene)

    def _make_marks(self) -> None:
        self._scales = {"x": bqplot.LinearScale(), "y": bqplot.LinearScale()}
        common = {"scales": self._scales, "x": [0.0], "y": [0.0]}
        self._pair_lines = [
            bqplot.Lines(**common, colors=[style.colour], line_style=style.line, stroke_width=3)
            for style in _PAIRS
        ]
        self._pair_labels = bqplot.Label(
            **common,
            text=[""],
            colors=["var(--right-text)", "var(--wrong-text)"],
            default_size=15,
            align="middle",
            y_offset=28,  # pixels: under the partner, where neither its name nor a line is
        )
        self._ring = bqplot.Scatter(
            **common, colors=[PAPER], stroke=TEXT, stroke_width=2, default_size=700
        )
        self._arrows = bqplot.Lines(**common, colors=[TEXT], stroke_width=2)
        self._members = [
            np.flatnonzero(self.scene.labels == label) for label in np.unique(self.scene.labels)
        ]
        self._clouds = [self._make_cloud(members) for members in self._members]

    def _make_figure(self) -> Any:
        style = {"tick_values": np.arange(-3, 4), **AXIS}
        sides = {
            "x": ("bottom", "embedding, first entry"),
            "y": ("left", "embedding, second entry"),
        }
        axes = [
            bqplot.Axis(scale=self._scales[name], side=side, label=label, **style)
            for name, (side, label) in sides.items()
        ]
        return bqplot.Figure(
            # The points come last: a mark above them would catch the mouse.
            marks=[self._ring, *self._pair_lines, self._pair_labels, self._arrows, *self._clouds],
            axes=axes,
            fig_margin={"top": 20, "bottom": 50, "left": 55, "right": 20},
            layout=ipywidgets.Layout(flex="0 1 560px", min_width="300px", height="560px"),
            min_aspect_ratio=1,
            max_aspect_ratio=1,
        )

    def _make_cloud(self, members: np.ndarray) -> Any:
        colour, marker = _IDENTITIES[self.scene.labels[members[0]]]
        names = self.scene.names()
        cloud = bqplot.Scatter(
            x=self.scene.points[members, 0],
            y=self.scene.points[members, 1],
            scales=self._scales,
            colors=[colour],
            marker=BQPLOT_MARKERS[marker],
            default_size=180,
            names=[names[i] for i in members],
            enable_move=True,
            update_on_move=True,
        )
        cloud.observe(self.guarded(lambda _: self._take_points()), ["x", "y"])
        cloud.on_drag_end(self.guarded(lambda *_: self._go_to(self.scene)))
        cloud.on_element_click(lambda _, event: self._choose(int(members[event["data"]["index"]])))
        return cloud

    def _make_controls(self) -> None:
        names = self.scene.names()
        slider = {"max": 2, "step": 0.1, "layout": _FULL_WIDTH}
        self.controls = {
            "anchor": ipywidgets.Dropdown(
                options=[(name, i) for i, name in enumerate(names)],
                description="anchor",
                layout=_FULL_WIDTH,
            ),
            "x": ipywidgets.FloatSlider(description="its x", **slider),
            "y": ipywidgets.FloatSlider(description="its y", **slider),
            "margin": ipywidgets.FloatSlider(0.5, description="margin", **slider),
            "soft": ipywidgets.Checkbox(description="soft margin", layout=_FULL_WIDTH),
            "step": ipywidgets.Button(description="take a gradient step", layout=_FULL_WIDTH),
            "reset": ipywidgets.Button(description="reset", layout=_FULL_WIDTH),
        }
        self.text = ipywidgets.HTML()
        for name, control in self.controls.items():
            control.add_class(f"playground-{name}")
        for name in ("playground-text", "announced"):
            self.text.add_class(name)
        for name in ("anchor", "margin", "soft"):
            self.controls[name].observe(self.guarded(lambda _: self._take_controls()), "value")
        for name in ("x", "y"):
            self.controls[name].observe(self.guarded(lambda _: self._move_anchor()), "value")
        step, reset = self.controls["step"], self.controls["reset"]
        step.on_click(self.guarded(lambda _: self._go_to(gradient_step(self.scene))))
        reset.on_click(self.guarded(lambda _: self._go_to(self._start)))

    def _take_points(self) -> None:
        points = self.scene.points.copy()
        for members, cloud in zip(self._members, self._clouds, strict=True):
            points[members] = np.column_stack([cloud.x, cloud.y])
        self._draw(replace(self.scene, points=points))

    def _take_controls(self) -> None:
        soft, margin = self.controls["soft"].value, self.controls["margin"].value
        anchor = self.controls["anchor"].value
        self._go_to(replace(self.scene, anchor=anchor, margin="soft" if soft else margin))

    def _move_anchor(self) -> None:
        points = self.scene.points.copy()
        points[self.scene.anchor] = self.controls["x"].value, self.controls["y"].value
        self._go_to(replace(self.scene, points=points))

    def _choose(self, anchor: int) -> None:
        self.controls["anchor"].value = anchor

    def _go_to(self, scene: Scene) -> None:
        """Puts points, the shown part of the plane and controls where the scene has them."""
        limit = _half_width(scene)
        for scale in self._scales.values():
            scale.min, scale.max = -limit, limit
        with self.moving_controls():
            for members, cloud in zip(self._members, self._clouds, strict=True):
                move_mark(cloud, scene.points[members])
            self.controls["anchor"].value = scene.anchor
            for name in ("x", "y"):
                self.controls[name].max, self.controls[name].min = limit, -limit
            self.controls["soft"].value = self.controls["margin"].disabled = scene.margin == "soft"
            if scene.margin != "soft":
                self.controls["margin"].value = scene.margin
        self._draw(scene)

    def _draw(self, scene: Scene) -> None:
        """Draws what follows from the points.

        The points themselves belong to the reader, and the shown part of the plane stays as it is:
        were it to grow while a point is held outside, the point would run away.
        """
        result = scene_loss(scene)
        self.scene = scene
        anchor = scene.points[scene.anchor]
        ends = np.array([[anchor, scene.points[partner]] for _, partner, _ in result.pairs()])
        for line, path in zip(self._pair_lines, ends, strict=True):  # path: [2 ends, x and y]
            move_mark(line, path)
        move_mark(self._pair_labels, ends[:, 1])
        self._pair_labels.text = [f"d_{name[:3]} {far:.2f}" for name, _, far in result.pairs()]
        move_mark(self._ring, anchor[None])
        move_mark(self._arrows, _arrow_paths(scene.points, -LEARNING_RATE * result.gradient))
        with self.moving_controls():
            self.controls["x"].value, self.controls["y"].value = anchor
        names = scene.names()
        pairs = [f"hardest {kind}: {names[i]}, {far:.2f} away" for kind, i, far in result.pairs()]
        self.text.value = "<br>".join([f"<b>{result.summary()}</b>", *pairs])


def _arrow_paths(tails: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Shaft and head of an arrow as one line each: tail, tip, barb, tip, barb; `[N, 5, 2]`."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    back = -np.minimum(0.15, length / 2) * vectors / np.where(length == 0, 1, length)  # [N, 2]
    side = back[:, ::-1] * (0.5, -0.5)  # at right angles to the shaft
    tips = tails + vectors
    return np.stack([tails, tips, tips + back + side, tips, tips + back - side], axis=1)


def _half_width(scene: Scene) -> float:
    return max(_HALF_WIDTH, 1.1 * float(np.abs(scene.points).max()))
