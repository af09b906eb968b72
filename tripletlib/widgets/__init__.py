"""The playground of nine points and the query browser."""

from tripletlib.widgets.browsing import Browsing
from tripletlib.widgets.lookup import Asked, Options
from tripletlib.widgets.playground import LOOKS, Playground, draw_static
from tripletlib.widgets.query_browser import QueryBrowser
from tripletlib.widgets.scene import Scene, example_scene, read, stepped
from tripletlib.widgets.static import draw_map, draw_sight

__all__ = [
    "LOOKS",
    "Asked",
    "Browsing",
    "Options",
    "Playground",
    "QueryBrowser",
    "Scene",
    "draw_map",
    "draw_sight",
    "draw_static",
    "example_scene",
    "read",
    "stepped",
]
