"""What a reader sees of the query browser without scrolling, on small screens."""

import pytest
from playwright.sync_api import expect
from small_cells import QUERY_BROWSER

IN_SIGHT = """element => {
    const box = element.getBoundingClientRect();
    const panel = document.querySelector(".jp-WindowedPanel-outer").getBoundingClientRect();
    return box.top >= panel.top - 1 && box.bottom <= panel.bottom + 1
        && box.left >= panel.left - 1 && box.right <= panel.right + 1;
}"""
TO_THE_TOP = "element => element.scrollIntoView({block: 'start', behavior: 'instant'})"


def in_sight(locator):
    """Whether all of an element lies within the notebook's panel."""
    return locator.evaluate(IN_SIGHT)


# 1366 x 768 is a common laptop; 1030 is what JupyterLab's side bar leaves of 1280.
@pytest.mark.parametrize(("width", "height"), [(1366, 768), (1030, 768), (700, 900)])
def test_query_and_first_row_of_answers_are_seen_at_once(run_cell, width, height):
    lab = run_cell(QUERY_BROWSER, width=width, height=height)
    browser, first = lab.page.locator(".browser"), lab.page.locator('[data-key^="gallery"]').first
    expect(first).to_be_visible()
    browser.evaluate(TO_THE_TOP)
    lab.screenshot(f"{width}", None)
    query = lab.page.locator(".browser-query img")
    assert in_sight(query)
    assert in_sight(first)
    outside = browser.evaluate("""root => [...root.querySelectorAll("button, input, img, select")]
        .filter(part => part.getBoundingClientRect().right >
                        root.getBoundingClientRect().right + 1).length""")
    assert outside == 0


def test_a_query_chosen_far_below_is_in_sight(run_cell):
    lab = run_cell(QUERY_BROWSER, width=1366, height=768)
    gallery_map = lab.page.locator(".browser-map")
    gallery_map.scroll_into_view_if_needed()
    gallery_map.locator(".answer").first.click(force=True)
    expect(lab.page.locator(".browser-facts")).to_contain_text("Gallery picture")
    lab.screenshot("chosen_in_the_map")
    assert in_sight(lab.page.locator(".browser-query img"))
    assert in_sight(lab.page.locator(".browser-facts h2"))
