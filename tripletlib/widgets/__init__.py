"""The playground of nine points and the query browser."""

from tripletlib.widgets.charts import draw_explanation, draw_map, draw_result
from tripletlib.widgets.playground import (
    Playground,
    Scene,
    draw_points,
    draw_scene,
    example_scene,
    gradient_step,
    scene_loss,
)
from tripletlib.widgets.query_browser import QueryBrowser
from tripletlib.widgets.query_page import write_query_page
from tripletlib.widgets.state import BrowserState, Options, Picture

__all__ = [
    "BrowserState",
    "Options",
    "Picture",
    "Playground",
    "QueryBrowser",
    "Scene",
    "draw_explanation",
    "draw_map",
    "draw_points",
    "draw_result",
    "draw_scene",
    "example_scene",
    "gradient_step",
    "scene_loss",
    "write_query_page",
]
