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
_AXES = "embedding, first entry", "embedding, second entry"
_HALF_WIDTH = 3.2  # the plane is shown from -_HALF_WIDTH to _HALF_WIDTH
_SENTENCE = (
    "The playground needs a live notebook: open this one in JupyterLab and run it to drag the "
    "points. The picture below shows where they start."
)


def draw_points(ax: Axes, scene: Scene) -> None:
    """Scatters the points of a scene, each with its name and the look of its identity."""
    for label in np.unique(scene.labels):
        colour, marker = _IDENTITIES[label]
        x, y = scene.points[scene.labels == label].T
        ax.scatter(x, y, s=90, color=colour, marker=marker)
    for name, point in zip(scene.names(), scene.points, strict=True):
        ax.annotate(name, point, xytext=(9, 9), textcoords="offset points")
    ax.set(xlabel=_AXES[0], ylabel=_AXES[1])


def draw_scene(ax: Axes, scene: Scene) -> None:
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
        self._held = False  # whether the reader holds a point
        self._make_marks()
        self._make_controls()
        self.text = ipywidgets.HTML()
        for name in ("playground-text", "announced"):
            self.text.add_class(name)
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
        look = {"colors": [PAPER], "stroke": TEXT, "stroke_width": 2, "default_size": 700}
        self._ring = bqplot.Scatter(**common, **look)
        self._arrows = bqplot.Lines(**common, colors=[TEXT], stroke_width=2)
        labels = self.scene.labels
        self._members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self._clouds = [self._make_cloud(members) for members in self._members]

    def _make_figure(self) -> Any:
        sides = zip(self._scales.values(), ("bottom", "left"), _AXES, strict=True)
        style = {"tick_values": np.arange(-3, 4), **AXIS}
        return bqplot.Figure(
            # The points come last: a mark above them would catch the mouse.
            marks=[self._ring, *self._pair_lines, self._pair_labels, self._arrows, *self._clouds],
            axes=[bqplot.Axis(scale=scale, side=side, label=label, **style)
                  for scale, side, label in sides],
            fig_margin={"top": 20, "bottom": 50, "left": 55, "right": 20},
            layout=ipywidgets.Layout(flex="0 1 560px", min_width="300px", height="560px"),
            min_aspect_ratio=1,
            max_aspect_ratio=1,
        )  # fmt: skip

    def _make_cloud(self, members: np.ndarray) -> Any:
        colour, marker = _IDENTITIES[self.scene.labels[members[0]]]
        names = self.scene.names()
        x, y = self.scene.points[members].T
        cloud = bqplot.Scatter(
            x=x, y=y, scales=self._scales, names=[names[i] for i in members],
            colors=[colour], marker=BQPLOT_MARKERS[marker], default_size=180,
            enable_move=True, update_on_move=True,
        )  # fmt: skip
        cloud.observe(self.guarded(lambda _: self._take_points()), ["x", "y"])
        cloud.on_drag_start(self.guarded(lambda *_: self._hold(True)))
        cloud.on_drag_end(self.guarded(lambda *_: self._hold(False)))
        cloud.on_element_click(lambda _, event: self._choose(int(members[event["data"]["index"]])))
        return cloud

    def _make_controls(self) -> None:
        wide = {"layout": ipywidgets.Layout(width="290px")}
        slider = {"max": 2, "step": 0.1, **wide}
        points = [(name, i) for i, name in enumerate(self.scene.names())]
        self.controls = {
            "anchor": ipywidgets.Dropdown(options=points, description="anchor", **wide),
            "x": ipywidgets.FloatSlider(description="its x", **slider),
            "y": ipywidgets.FloatSlider(description="its y", **slider),
            "margin": ipywidgets.FloatSlider(0.5, description="margin", **slider),
            "soft": ipywidgets.Checkbox(description="soft margin", **wide),
            "step": self.button(self._step, description="take a gradient step", **wide),
            "reset": self.button(lambda: self._go_to(self._start), description="reset", **wide),
        }
        for name, control in self.controls.items():
            control.add_class(f"playground-{name}")
            if name not in ("step", "reset"):
                take = self._move_anchor if name in ("x", "y") else self._take_controls
                control.observe(self.guarded(lambda _, take=take: take()), "value")

    def _step(self) -> None:
        self._go_to(gradient_step(self.scene))

    def _hold(self, held: bool) -> None:
        self._held = held
        if not held:
            self._go_to(self.scene)

    def _take_points(self) -> None:
        points = self.scene.points.copy()
        for members, cloud in zip(self._members, self._clouds, strict=True):
            points[members] = np.column_stack([cloud.x, cloud.y])
        # A busy page sends the last place of a point after the message that it was let go.
        go = self._draw if self._held else self._go_to
        go(replace(self.scene, points=points))

    def _take_controls(self) -> None:
        anchor, margin, soft = (self.controls[name].value for name in ("anchor", "margin", "soft"))
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
