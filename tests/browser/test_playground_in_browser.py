"""The playground of notebook 02 in a real browser."""

from playwright.sync_api import expect


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


def drag(page, point, by):
    box = point.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by[0], y + by[1], steps=5)
    page.mouse.up()
