"""Both widgets under axe-core: no serious or critical finding; a new query is announced."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from small_cells import PHOTOS, PLAYGROUND, QUERY_BROWSER


@pytest.mark.parametrize(
    "source", [PLAYGROUND, QUERY_BROWSER, PHOTOS], ids=("playground", "browser", "photos")
)
def test_axe_finds_nothing_serious(run_cell, source):
    page = run_cell(source).page
    if source != PLAYGROUND:
        page.locator(".browser-rerank input").check()
        expect(page.locator(".browser-results .picture-group")).to_have_count(2)
    found = Axe().run(page, context=".tripletlib-widget").response
    assert len(found["passes"]) > 10
    serious = {
        (rule["id"], rule["impact"], node["html"][:120])
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    }
    assert serious == set()


def test_controls_have_names_and_a_new_query_is_announced(run_cell):
    page = run_cell(QUERY_BROWSER).page
    for role, name in (
        ("slider", "k1"), ("slider", "λ"), ("combobox", "order of the queries"),
        ("combobox", "camera"), ("combobox", "person"), ("button", "later queries"),
    ):  # fmt: skip
        expect(page.locator(".browser").get_by_role(role, name=name, exact=True)).to_have_count(1)
    page.locator('[data-key="query:3"]').click()
    announced = page.locator('.browser-facts [aria-live="polite"]')
    expect(announced).to_contain_text("Query 3")
