"""Keys typed in a widget stay there; JupyterLab deletes and changes cells by single keys."""

import pytest
from small_cells import PLAYGROUND, QUERY_BROWSER

CONTROLS = {
    PLAYGROUND: (
        ".playground-point",
        ".playground-soft",
        ".playground-margin",
        ".playground-follow",
        ".playground-step",
    ),
    QUERY_BROWSER: (
        ".browser-results .picture-card",
        ".browser-order select",
        ".browser-rerank input",
        ".browser-top-k .noUi-handle",
        ".browser-save",
        ".browser-upload input",
    ),
}


@pytest.mark.parametrize("source", CONTROLS, ids=("playground", "query browser"))
def test_keys_in_a_widget_do_not_reach_jupyterlab(run_cell, source):
    lab = run_cell(source)
    before = cells(lab)
    for control in CONTROLS[source]:
        lab.page.locator(f".tripletlib-widget {control}").first.focus()
        for key in "mbdd":
            lab.page.keyboard.press(key)
        assert cells(lab) == before, control
    figure = lab.page.locator(".tripletlib-widget :is(.gallery-map svg, .playground-plane)").first
    figure.click(position={"x": 5, "y": 5})
    for key in "mbdd":
        lab.page.keyboard.press(key)
    assert cells(lab) == before


def cells(lab):
    return lab.page.evaluate(
        "window.jupyterapp.shell.currentWidget.content.widgets.map(cell => cell.model.type)"
    )
