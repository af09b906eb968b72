"""The playground in a real browser: computed by the page, without a kernel."""

import nbformat
import numpy as np
import pytest
import torch
from lab_driver import drag, middle
from nbconvert import HTMLExporter
from playwright.sync_api import expect

from tripletlib.losses import batch_all, batch_hard
from tripletlib.mining import mine_hardest
from tripletlib.widgets import Playground, example_scene
from tripletlib.widgets.pictures import page_file
from tripletlib.widgets.playground import LEARNING_RATE

POINT = ".playground-point path"
AT_THE_START = "batch hard: loss 1.727 · active 100%"


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """The playground in a notebook that was run headless and exported."""
    output = nbformat.v4.new_output("execute_result", Playground()._repr_mimebundle_())
    cell = nbformat.v4.new_code_cell("Playground()", outputs=[output], execution_count=1)
    html, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    file = tmp_path_factory.mktemp("export") / "page.html"
    file.write_text(html, encoding="utf-8")
    return file


@pytest.fixture
def exported(new_page, export):
    page = new_page(offline=True, viewport={"width": 1030, "height": 768})
    problems = []
    page.on("pageerror", lambda error: problems.append(error))
    page.goto(export.as_uri(), wait_until="domcontentloaded")
    yield page
    assert not problems


def random_scene(seed):
    rng = np.random.default_rng(seed)
    size, people = rng.integers(4, 13), rng.integers(2, 5)
    labels = rng.permutation(np.concatenate([[0, 0, 1], rng.integers(0, people, size - 3)]))
    margin = "soft" if seed % 4 == 0 else rng.uniform(0, 2)
    points = rng.normal(scale=10 ** rng.uniform(-2, 1), size=(size, 2))
    return {"points": points.tolist(), "labels": labels.tolist(), "margin": margin}


def by_kernels(scene):
    points = torch.tensor(scene["points"], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor(scene["labels"])
    found = {"choices": torch.stack(mine_hardest(points, labels), dim=1).tolist()}
    for name, kernel in (("hard", batch_hard), ("all", batch_all)):
        result = kernel(points, labels, scene["margin"])
        (gradient,) = torch.autograd.grad(result.loss, points)
        numbers = result.loss.item(), result.active_fraction.item()
        found[name] = [*gradient.flatten().tolist(), *numbers]
    return found


IN_THE_PAGE = """scenes => scenes.map(scene => {
    const {choices, hard, all} = measure(scene, allTriplets(scene.labels));
    const flat = ({gradient, loss, active}) => [...gradient.flat(), loss, active];
    return {choices, hard: flat(hard), all: flat(all)};
})"""


def test_the_page_computes_what_the_kernels_compute(new_page, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(f"<script>{page_file('triplets.js')}</script>", encoding="utf-8")
    page = new_page()
    page.goto(file.as_uri())
    scenes = [random_scene(seed) for seed in range(200)]
    for scene, found in zip(scenes, page.evaluate(IN_THE_PAGE, scenes), strict=True):
        expected = by_kernels(scene)
        assert found["choices"] == expected["choices"]
        for name in ("hard", "all"):
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-6)


def test_without_a_kernel_points_are_dragged_and_steps_taken(exported):
    text = exported.locator(".playground-text")
    expect(text).to_contain_text(AT_THE_START)
    drag(exported, by=(-60, 40))
    expect(text).not_to_contain_text(AT_THE_START)
    exported.locator(".playground-undo").click()
    expect(text).to_contain_text(AT_THE_START)
    exported.locator(".playground-walk").click()
    expect(text).to_contain_text("batch hard: loss 0.000 · active 0%")
    exported.locator(".playground-undo").click()
    expect(text).to_contain_text(AT_THE_START)
    exported.locator(".playground-pile").click()
    expect(text).to_contain_text("batch all: loss 0.494 · active 100%")
    exported.locator(".playground-follow").select_option("all")
    exported.locator(".playground-step").click()
    start = example_scene()
    packed = torch.tensor(start.points / 50, requires_grad=True)
    (gradient,) = torch.autograd.grad(batch_all(packed, start.labels).loss, packed)
    stepped = batch_hard(packed - LEARNING_RATE * gradient, start.labels)
    expect(text).to_contain_text(f"batch hard: loss {stepped.loss:.3f}")
    exported.locator(".playground-reset").click()
    expect(text).to_contain_text(AT_THE_START)


def test_the_losses_so_far_are_drawn(exported):
    trace = exported.locator(".playground-trace .playground-hard")
    lengths = [trace.evaluate("path => path.getTotalLength()")]
    for _ in range(2):
        exported.locator(".playground-step").click()
        lengths.append(trace.evaluate("path => path.getTotalLength()"))
    assert lengths == sorted(set(lengths))
    exported.locator(".playground-reset").click()
    assert trace.evaluate("path => path.getTotalLength()") == lengths[0]


def test_a_second_finger_is_ignored(exported):
    marks = [middle(exported.locator(POINT).nth(n)) for n in (0, 4)]
    touched = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(marks)]
    moved = [touched[0], touched[1] | {"x": touched[1]["x"] + 40}]
    labels = "points => points.map(point => point.getAttribute('aria-label'))"
    points = exported.locator(".playground-point")
    before = points.evaluate_all(labels)
    session = exported.context.new_cdp_session(exported)
    for kind, fingers in (("touchStart", touched), ("touchMove", moved), ("touchEnd", [])):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    expect(exported.locator(".playground-text")).to_contain_text("A1: loss")
    assert points.evaluate_all(labels) == before


def test_the_plane_stays_while_a_point_is_held_outside(exported):
    page, text = exported, exported.locator(".playground-text")
    ticks = page.locator(".playground-grid text")
    x, y = middle(page.locator(POINT).last)
    page.mouse.move(x, y)
    page.mouse.down()
    for distance in (400, 410, 420):
        before = text.inner_text()
        page.mouse.move(x + distance, y)
        expect(text).not_to_have_text(before)
    assert {tick.strip("-") for tick in ticks.all_text_contents()} == {"0", "1", "2", "3"}
    page.mouse.up()
    expect(ticks.first).to_have_text("-6")
    edge = right_edge(page.locator(".playground-plane"))
    assert right_edge(page.locator(POINT).last) < edge


def test_the_numbers_stand_beside_the_figure_and_nothing_jitters(exported):
    figure, text = (exported.locator(f".playground-{part}") for part in ("plane", "text"))
    assert text.bounding_box()["x"] > right_edge(figure)
    buttons = [exported.locator(f".playground-{name}") for name in ("step", "walk", "reset")]
    before = [button.bounding_box() for button in buttons]
    buttons[0].click()
    expect(text).not_to_contain_text(AT_THE_START)
    assert [button.bounding_box() for button in buttons] == before
    exported.locator(".playground-soft").check()
    expect(exported.locator(".playground-margin")).to_be_disabled()


def test_points_are_moved_and_chosen_by_keys(exported):
    text, point = exported.locator(".playground-text"), exported.locator(".playground-point").first
    point.focus()
    expect(point).to_have_attribute("aria-label", "A1 at -2.0, 1.2")
    exported.keyboard.press("ArrowRight")
    expect(point).to_have_attribute("aria-label", "A1 at -1.9, 1.2")
    expect(text).to_contain_text("A3: loss")
    exported.keyboard.press("Enter")
    expect(text).to_contain_text("A1: loss")


def right_edge(element):
    box = element.bounding_box()
    return box["x"] + box["width"]
