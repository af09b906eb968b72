"""The playground of notebook 02 in a real browser."""

from playwright.sync_api import expect
from small_cells import PLAYGROUND


def test_dragging_a_point_changes_the_loss(open_notebook):
    lab = open_notebook("02_hard_mining_explained.ipynb")
    lab.run_up_to("Playground()")
    widget = lab.page.locator(".playground")
    text = widget.locator(".playground-text")
    expect(text).to_contain_text("loss")
    widget.scroll_into_view_if_needed()
    before = text.inner_text()
    lab.screenshot("start", widget)
    drag(lab.page, widget.locator(".dot").last, by=(-60, 40))
    expect(text).not_to_have_text(before)
    expect(text).to_contain_text("loss")
    lab.screenshot("dragged", widget)


def test_the_plane_stays_while_a_point_is_held_outside(run_cell):
    page = run_cell(PLAYGROUND).page
    text = page.locator(".playground-text")
    x, y = middle(page.locator(".dot").last)
    page.mouse.move(x, y)
    page.mouse.down()
    for distance in (700, 710, 720, 730):
        before = text.inner_text()
        page.mouse.move(x + distance, y)
        expect(text).not_to_have_text(before)
    ticks = page.locator(".bqplot .axis .tick text").all_text_contents()
    assert {tick.strip("-−") for tick in ticks} == {"0", "1", "2", "3"}
    page.mouse.up()
    page.wait_for_function(
        "Math.max(...[...document.querySelectorAll('.bqplot .dot')].map(dot =>"
        " dot.getBoundingClientRect().right)) < document.querySelector('.bqplot')"
        ".getBoundingClientRect().right"
    )


def test_the_numbers_stand_beside_the_figure_and_nothing_jitters(run_cell):
    page = run_cell(PLAYGROUND, width=1030, height=768).page  # 1280 less JupyterLab's side bar
    figure, text = (page.locator(f".playground {part}") for part in (".bqplot", ".playground-text"))
    assert text.bounding_box()["x"] > figure.bounding_box()["x"] + figure.bounding_box()["width"]
    step = page.locator(".playground-step")
    width = step.bounding_box()["width"]
    before = text.inner_text()
    step.click()
    expect(text).not_to_have_text(before)
    assert step.bounding_box()["width"] == width
    page.locator(".playground-soft input").check()
    expect(page.locator(".playground-margin [disabled]").first).to_be_attached()


def test_the_anchor_moves_by_the_arrow_keys(run_cell):
    page = run_cell(PLAYGROUND).page
    text = page.locator(".playground-text")
    before = text.inner_text()
    page.locator(".playground-x .noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    expect(text).not_to_have_text(before)


def middle(element):
    box = element.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page, point, by):
    x, y = middle(point)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by[0], y + by[1], steps=5)
    page.mouse.up()
