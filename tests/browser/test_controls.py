"""Controls of the query browser agree with what is shown, and answer while they are dragged."""

import re

from playwright.sync_api import expect
from small_cells import QUERY_BROWSER

LARGE = QUERY_BROWSER.replace(
    'run_folder("browser"))',
    'run_folder("browser"), options=Options(top_k=100, rerank=True, k1=60))',
).replace("import QueryBrowser", "import Options, QueryBrowser")


def test_options_beyond_the_usual_range_are_shown_as_they_are(run_cell):
    page = run_cell(LARGE).page
    after = page.locator(".browser-results .picture-group").nth(1)
    expect(after.locator(".picture-card")).to_have_count(100)
    expect(page.locator(".browser-top-k .widget-readout")).to_have_text("100")
    expect(page.locator(".browser-k1 .widget-readout")).to_have_text("60")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_re_ranking_answers_while_k1_is_dragged(run_cell):
    page = run_cell(QUERY_BROWSER).page
    page.locator(".browser-rerank input").check()
    title = page.locator(".browser-results .picture-title").nth(1)
    expect(title).to_contain_text("k1 20,")
    box = page.locator(".browser-k1 .noUi-handle").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 20, y, steps=4)
    expect(title).not_to_contain_text("k1 20,")  # the button is still held
    page.mouse.up()


def test_a_card_under_the_mouse_is_ringed_in_the_map(run_cell):
    page = run_cell(QUERY_BROWSER).page
    ring = page.locator(".browser-map .ring")
    expect(ring).to_have_count(0)
    page.locator(".browser-results .picture-card").nth(2).hover()
    expect(ring).to_have_count(1)


def test_the_network_is_asked_where_it_looks(run_cell):
    page = run_cell(QUERY_BROWSER).page
    rank = page.locator(".browser-explain-controls input")
    rank.fill("2")
    rank.press("Tab")
    page.get_by_role("button", name="where does it look?").click()
    picture = page.locator(".browser-explain-box img")
    expect(picture).to_have_attribute("alt", re.compile("at rank 2$"))
    page.locator(".browser-queries .picture-card").nth(1).click()
    expect(picture).to_have_count(0)
