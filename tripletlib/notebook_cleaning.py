"""Prepares an executed notebook for the repository: small, and the same on every machine."""

import base64
import io
from typing import Any

from nbformat import NotebookNode
from PIL import Image

_COLOURS = 128
_QUALITY = 75


def clean(notebook: NotebookNode) -> NotebookNode:
    """Drops what only this execution knows and shrinks the pictures.

    Widget state and papermill's times go; neighbouring pieces of printed text are joined; plots
    get a palette of 128 colours, which halves them and hardly shows, and photographs become JPEG.

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
    """Reduces a PNG to a palette, or to a JPEG if that is smaller.

    A plot has few colours and stays a PNG; sheets of pictures become JPEG. An animated PNG is left
    as it is.

    Args:
        data: the file's bytes.

    Returns:
        The picture's MIME type, and its new bytes.
    """
    picture = Image.open(io.BytesIO(data))
    if getattr(picture, "is_animated", False):
        return "image/png", data
    rgb = picture.convert("RGB")
    palette, photo = io.BytesIO(), io.BytesIO()
    rgb.quantize(_COLOURS, dither=Image.Dither.NONE).save(palette, "PNG", optimize=True)
    rgb.save(photo, "JPEG", quality=_QUALITY, optimize=True)
    png = min(data, palette.getvalue(), key=len)
    if len(photo.getvalue()) < len(png):
        return "image/jpeg", photo.getvalue()
    return "image/png", png


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
