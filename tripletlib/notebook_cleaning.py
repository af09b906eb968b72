"""Prepares an executed notebook for the repository: small, and the same on every machine."""

import base64
import io
from typing import Any

import numpy as np
from nbformat import NotebookNode
from PIL import Image

_PALETTES = 32, 64, 128, 256  # numbers of colours to try
_VISIBLE = 0.5  # mean change of a pixel, of 255, from which a palette shows
_QUALITY = 60  # with full resolution of the colours, so that coloured text stays crisp


def clean(notebook: NotebookNode) -> NotebookNode:
    """Drops what only this execution knows and shrinks the pictures.

    Widget state and papermill's times go; neighbouring pieces of printed text are joined; plots
    get a palette, which makes a third of them and does not show, and photographs become JPEG.

    Args:
        notebook: an executed notebook, changed in place.

    Returns:
        The same notebook.
    """
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            cell.outputs = _joined_streams(cell.outputs)
            for output in cell.outputs:
                _clean_output(output)
    return notebook


def shrink_png(data: bytes) -> tuple[str, bytes]:
    """Reduces a PNG to a palette if that does not show, and to a JPEG otherwise.

    A plot has few colours and stays a PNG. Photographs and drawn people have thousands, which a
    palette would turn into specks; figures that hold them become JPEG, and so does a picture that
    is smaller this way. An animated PNG is left as it is.

    Args:
        data: the file's bytes.

    Returns:
        The picture's MIME type, and its new bytes.
    """
    picture = Image.open(io.BytesIO(data))
    if getattr(picture, "is_animated", False):
        return "image/png", data
    rgb = picture.convert("RGB")
    photo = io.BytesIO()
    rgb.save(photo, "JPEG", quality=_QUALITY, subsampling=0, progressive=True, optimize=True)
    png = min(data, _with_palette(rgb) or data, key=len)
    if len(photo.getvalue()) < len(png):
        return "image/jpeg", photo.getvalue()
    return "image/png", png


def _with_palette(rgb: Image.Image) -> bytes | None:
    """The picture as a PNG of few colours; None if that would show."""
    before = np.asarray(rgb, np.int16)  # [H, W, 3]
    for colours in _PALETTES:
        reduced = rgb.quantize(colours, kmeans=1, dither=Image.Dither.NONE)
        change = np.abs(np.asarray(reduced.convert("RGB"), np.int16) - before)
        if change.max(2).mean() < _VISIBLE:
            file = io.BytesIO()
            reduced.save(file, "PNG", optimize=True)
            return file.getvalue()
    return None


def _clean_output(output: dict[str, Any]) -> None:
    output.pop("metadata", None)
    data = output.get("data", {})
    if output["output_type"] in ("display_data", "execute_result"):
        output["metadata"] = {}
    if "application/vnd.jupyter.widget-view+json" in data:
        # Without its state a saved widget shows as an error; the text beside it does not.
        del data["application/vnd.jupyter.widget-view+json"]
    if "image/png" in data:
        kind, picture = shrink_png(base64.b64decode(data.pop("image/png")))
        data[kind] = base64.b64encode(picture).decode()


def _joined_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if (
            last is not None
            and output.output_type == last.output_type == "stream"
            and output.name == last.name
        ):
            last.text += output.text
        else:
            joined.append(output)
    return joined
