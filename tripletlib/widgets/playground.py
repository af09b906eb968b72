"""The playground of notebook 02: drag points, see what batch hard makes of them.

`tripletlib.scene` holds the numbers; `Playground` draws them in the browser and `draw_static` on
paper.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import bqplot
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from tripletlib.losses import Margin
from tripletlib.plots import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILION
from tripletlib.runtime import in_live_notebook
from tripletlib.widgets.scene import LEARNING_RATE, Scene, example_scene, read, stepped

# One look per identity: colour, bqplot's marker, matplotlib's marker.
LOOKS = ((BLUE, "circle", "o"), (ORANGE, "triangle-up", "^"), (PURPLE, "square", "s"))
PAIR_LOOKS = ((GREEN, "solid"), (VERMILION, "dashed"))  # hardest positive, hardest negative
HALF_WIDTH = 3.2  # the plane is shown from -HALF_WIDTH to HALF_WIDTH


def draw_static(scene: Scene, ax: Axes | None = None) -> Axes:
    """The playground's picture of a scene, with matplotlib.

    Args:
        scene: what to draw.
        ax: where; a new figure when left out.

    Returns:
        The axes. Arrows end where one step with `LEARNING_RATE` takes each point.
    """
    if ax is None:
        ax = plt.subplots(figsize=(6.4, 6))[1]
    reading = read(scene)
    for (name, partner, distance), (colour, style) in zip(
        reading.chosen(), PAIR_LOOKS, strict=True
    ):
        label = f"hardest {name}: {distance:.2f} away"
        x, y = scene.points[[scene.anchor, partner]].T
        ax.plot(x, y, color=colour, linestyle=style, linewidth=2.5, zorder=1, label=label)
    ax.plot(*scene.points[scene.anchor], "o", ms=24, mfc="none", mec=BLACK)
    for label in np.unique(scene.labels):
        colour, _, marker = LOOKS[label]
        x, y = scene.points[scene.labels == label].T
        ax.scatter(x, y, s=90, color=colour, marker=marker)
    (x, y), (u, v) = scene.points.T, LEARNING_RATE * reading.pull.T
    ax.quiver(x, y, u, v, angles="xy", scale_units="xy", scale=1, width=0.006, zorder=3)
    for name, point in zip(scene.names(), scene.points, strict=True):
        ax.annotate(name, point, xytext=(9, 9), textcoords="offset points")
    limit = _half_width(scene)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=reading.summary())
    ax.set(xlabel="embedding, first entry", ylabel="embedding, second entry")
    ax.legend(loc="lower left")
    return ax


class Playground:
    """The scene in the browser: drag points, choose the anchor and the margin, take steps.

    Show it by making it the last line of a cell. Where nobody watches (papermill, nbval) it shows
    a line of text instead, since a saved page cannot run the widget.

    Args:
        scene: what to start with and what "reset" returns to.

    Attributes:
        scene: the scene as it is now.
        widget: the ipywidgets box.
    """

    def __init__(self, scene: Scene | None = None) -> None:
        self._start = self.scene = example_scene() if scene is None else scene
        self._own_change = False
        self._make_marks()
        self._make_controls()
        controls = [self._anchor, self._margin, self._soft, self._step, self._reset]
        hint = ipywidgets.HTML("Drag a point. Click one to make it the anchor.")
        side = ipywidgets.VBox([hint, *controls, self._text, self._errors])
        layout = ipywidgets.Layout(flex_flow="row wrap", align_items="center")
        self.widget = ipywidgets.HBox([self._make_figure(), side], layout=layout)
        self.widget.add_class("playground")
        self._draw(self.scene)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        if in_live_notebook():
            return self.widget._repr_mimebundle_(**options)
        return {
            "text/plain": "The playground needs a live notebook: open this one in JupyterLab and "
            "run it to drag the points. The picture below shows where they start."
        }

    def _make_marks(self) -> None:
        self._scales = {"x": bqplot.LinearScale(), "y": bqplot.LinearScale()}
        common = {"scales": self._scales, "x": [0.0], "y": [0.0]}
        self._pair_lines = [
            bqplot.Lines(**common, colors=[colour], line_style=style, stroke_width=3)
            for colour, style in PAIR_LOOKS
        ]
        self._pair_labels = bqplot.Label(
            **common,
            text=[""],
            colors=[GREEN, VERMILION],
            default_size=15,
            align="middle",
            y_offset=28,  # pixels: under the partner, where neither its name nor a line is
        )
        self._ring = bqplot.Scatter(
            **common, colors=["white"], stroke=BLACK, stroke_width=2, default_size=700
        )
        self._arrows = bqplot.Lines(**common, colors=[BLACK], stroke_width=2)
        self._members = [
            np.flatnonzero(self.scene.labels == label) for label in np.unique(self.scene.labels)
        ]
        self._clouds = [self._make_cloud(members) for members in self._members]

    def _make_figure(self) -> Any:
        style = {"tick_values": np.arange(-3, 4), "grid_color": "#E5E5E5"}
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
            layout=ipywidgets.Layout(width="560px", height="560px"),
            min_aspect_ratio=1,
            max_aspect_ratio=1,
        )

    def _make_cloud(self, members: np.ndarray) -> Any:
        colour, marker, _ = LOOKS[self.scene.labels[members[0]]]
        names = self.scene.names()
        cloud = bqplot.Scatter(
            x=self.scene.points[members, 0],
            y=self.scene.points[members, 1],
            scales=self._scales,
            colors=[colour],
            marker=marker,
            default_size=180,
            names=[names[i] for i in members],
            enable_move=True,
            update_on_move=True,
        )
        cloud.observe(self._guarded(self._moved), ["x", "y"])
        cloud.on_element_click(lambda _, event: self._choose(int(members[event["data"]["index"]])))
        return cloud

    def _make_controls(self) -> None:
        soft = self.scene.margin == "soft"
        anchors = [(name, i) for i, name in enumerate(self.scene.names())]
        margin = 0.5 if soft else self.scene.margin
        self._anchor = ipywidgets.Dropdown(options=anchors, description="anchor")
        self._anchor.value = self.scene.anchor
        self._margin = ipywidgets.FloatSlider(margin, max=2, step=0.1, description="margin")
        self._soft = ipywidgets.Checkbox(soft, description="soft margin")
        wide = ipywidgets.Layout(width="auto")
        self._step = ipywidgets.Button(description="take a gradient step", layout=wide)
        self._reset = ipywidgets.Button(description="reset")
        self._text = ipywidgets.HTML()
        self._errors = ipywidgets.Output()
        for control in (self._anchor, self._margin, self._soft):
            control.observe(self._guarded(self._asked), "value")
        self._step.on_click(self._guarded(lambda _: self._go_to(stepped(self.scene))))
        self._reset.on_click(self._guarded(lambda _: self._go_to(self._start)))
        for name in ("anchor", "margin", "soft", "step", "reset", "text", "errors"):
            getattr(self, f"_{name}").add_class(f"playground-{name}")  # handles for tests

    def _guarded(self, action: Callable[[Any], None]) -> Callable[[Any], None]:
        """Shows an error of a callback, which Jupyter would drop, and ignores our own changes."""

        def callback(event: Any) -> None:
            if self._own_change:
                return
            try:
                action(event)
                self._errors.outputs = ()
            except Exception as error:
                text = f"{type(error).__name__}: {error}\n"
                message = {"output_type": "stream", "name": "stderr", "text": text}
                self._errors.outputs = (message,)

        return callback

    def _moved(self, _: Any) -> None:
        points = self.scene.points.copy()
        for members, cloud in zip(self._members, self._clouds, strict=True):
            points[members] = np.column_stack([cloud.x, cloud.y])
        self._draw(replace(self.scene, points=points))

    def _asked(self, _: Any) -> None:
        margin: Margin = "soft" if self._soft.value else self._margin.value
        self._draw(replace(self.scene, anchor=self._anchor.value, margin=margin))

    def _choose(self, anchor: int) -> None:
        self._anchor.value = anchor

    def _go_to(self, scene: Scene) -> None:
        """Puts points and controls where the scene has them, then draws it."""
        self._own_change = True
        try:
            for members, cloud in zip(self._members, self._clouds, strict=True):
                _place(cloud, scene.points[members])
            self._anchor.value, self._soft.value = scene.anchor, scene.margin == "soft"
            if scene.margin != "soft":
                self._margin.value = scene.margin
        finally:
            self._own_change = False
        self._draw(scene)

    def _draw(self, scene: Scene) -> None:
        """Draws what follows from the points; the points themselves belong to the reader."""
        reading = read(scene)
        self.scene = scene
        anchor = scene.points[scene.anchor]
        ends = np.array([[anchor, scene.points[partner]] for _, partner, _ in reading.chosen()])
        for line, path in zip(self._pair_lines, ends, strict=True):  # path: [2 ends, x and y]
            _place(line, path)
        _place(self._pair_labels, ends[:, 1])
        self._pair_labels.text = [f"d_{name[:3]} {far:.2f}" for name, _, far in reading.chosen()]
        _place(self._ring, anchor[None])
        _place(self._arrows, _arrow_paths(scene.points, LEARNING_RATE * reading.pull))
        limit = _half_width(scene)
        for scale in self._scales.values():
            scale.min, scale.max = -limit, limit
        names = scene.names()
        pairs = [f"hardest {kind}: {names[i]}, {far:.2f} away" for kind, i, far in reading.chosen()]
        self._text.value = "<br>".join([f"<b>{reading.summary()}</b>", *pairs])


def _place(mark: Any, positions: np.ndarray) -> None:
    """Moves a mark to `positions`, whose last axis is x and y, in one message to the browser."""
    with mark.hold_sync():
        mark.x, mark.y = positions[..., 0], positions[..., 1]


def _arrow_paths(tails: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Shaft and head of an arrow as one line each: tail, tip, barb, tip, barb; `[N, 5, 2]`."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    back = -np.minimum(0.15, length / 2) * vectors / np.where(length == 0, 1, length)  # [N, 2]
    side = back[:, ::-1] * (0.5, -0.5)  # at right angles to the shaft
    tips = tails + vectors
    return np.stack([tails, tips, tips + back + side, tips, tips + back - side], axis=1)


def _half_width(scene: Scene) -> float:
    return max(HALF_WIDTH, 1.1 * float(np.abs(scene.points).max()))
