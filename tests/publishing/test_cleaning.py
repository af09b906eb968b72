import base64
import io

import nbformat
import numpy as np
import pytest
from PIL import Image

from tripletlib.publishing.runner import clean, shrink_png


def png(pictures):
    file = io.BytesIO()
    first, *others = pictures
    first.save(file, "PNG", save_all=bool(others), append_images=others)
    return file.getvalue()


def photo(seed=0):
    noise = np.random.default_rng(seed).integers(0, 30, (64, 64, 3))
    ramp = np.linspace(0, 220, 64)[:, None, None]
    return Image.fromarray((noise + ramp).astype(np.uint8))


def test_pictures_shrink_and_stay_alike():
    before = png([photo()])
    kind, after = shrink_png(before)
    assert (kind, Image.open(io.BytesIO(after)).format) == ("image/jpeg", "JPEG")
    assert len(after) < 0.3 * len(before)
    difference = np.subtract(
        Image.open(io.BytesIO(after)).convert("RGB"), np.asarray(photo(), dtype=float)
    )
    assert np.abs(difference).mean() < 8


def test_plots_stay_sharp():
    plot = Image.new("RGB", (300, 200), "white")
    for x in range(0, 300, 7):
        plot.putpixel((x, 199 - x // 2), (0, 114, 178))
    kind, after = shrink_png(png([plot]))
    assert kind == "image/png"
    np.testing.assert_array_equal(Image.open(io.BytesIO(after)).convert("RGB"), plot)


def test_a_plot_with_pictures_gets_no_palette():
    """A palette of mostly ground and text would turn the pale picture into specks."""
    page = Image.new("RGB", (240, 160), "white")
    for number in range(2):
        page.paste(photo(number), (20 + 100 * number, 20))
    kind, after = shrink_png(png([page]))
    assert kind == "image/jpeg"
    change = np.subtract(Image.open(io.BytesIO(after)).convert("RGB"), np.asarray(page, float))
    assert np.abs(change).mean() < 2


@pytest.mark.parametrize(("colours", "palette"), [(20, 32), (50, 64), (100, 128)])
def test_a_plot_gets_the_smallest_palette_that_does_not_show(colours, palette):
    level = np.linspace(0, 250, colours).astype(np.uint8)
    shades = np.stack([level, level * 0, 250 - level], axis=1)
    stripes = shades[np.random.default_rng(0).integers(colours, size=2000)]  # [W, 3]
    plot = Image.fromarray(np.broadcast_to(stripes, (100, 2000, 3)).copy())
    kind, after = shrink_png(png([plot]))
    reduced = Image.open(io.BytesIO(after))
    assert (kind, reduced.mode) == ("image/png", "P")
    assert palette // 2 < len(reduced.getcolors()) <= palette


def test_animations_are_left_alone():
    animated = png([photo(0), photo(1)])
    assert shrink_png(animated) == ("image/png", animated)


def test_only_what_belongs_in_the_repository_stays():
    outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="one\n"),
        nbformat.v4.new_output("stream", name="stdout", text="two\n"),
        nbformat.v4.new_output("stream", name="stderr", text="three\n"),
        nbformat.v4.new_output(
            "display_data",
            data={
                "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
                "text/plain": "a widget",
                "image/png": base64.b64encode(png([photo()])).decode(),
            },
            metadata={"papermill": 1},
        ),
    ]
    cell = nbformat.v4.new_code_cell(
        "1", execution_count=1, outputs=outputs, metadata={"papermill": {}, "tags": ["parameters"]}
    )
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": 1}})
    clean(notebook)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    assert cell.metadata == {"tags": ["parameters"]}
    assert [output.get("text") for output in cell.outputs[:2]] == ["one\ntwo\n", "three\n"]
    assert set(cell.outputs[2].data) == {"text/plain", "image/jpeg"}
