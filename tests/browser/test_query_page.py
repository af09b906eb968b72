"""The query browser's page opens from a folder, without a kernel, and asks the network nothing."""

from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from toy_retrieval import calling, make_retrieval

from tripletlib.widgets import BrowserState, Picture, write_query_page

NAME = "toy </script> <!--<script {{SCRIPT}}"  # neither may end or fill the script that holds it


@pytest.fixture(scope="module")
def retrieval():
    toy = make_retrieval()
    toy.query.pids[4] = 98  # whom the gallery does not show
    return replace(toy, name=NAME, person=calling({1: NAME}))


@pytest.fixture(scope="module")
def file(retrieval, tmp_path_factory):
    file = tmp_path_factory.mktemp("query_page") / "page.html"
    write_query_page(retrieval, file, progress="off")
    return file


@pytest.fixture
def page(new_page, file):
    page = new_page(viewport={"width": 1366, "height": 768})
    asked, problems = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(file.as_uri())
    yield page
    assert not problems
    assert {address.partition(":")[0] for address in asked} <= {"file", "data"}


def keys(page, group=0):
    cards = page.locator("#results .picture-group").nth(group).locator(".picture-card")
    return cards.evaluate_all("cards => cards.map((card) => card.dataset.key)")


def test_it_shows_what_the_browser_shows(page, retrieval):
    state = BrowserState(retrieval, Picture("query", 3))
    page.locator('[data-key="query:3"]').click()
    expect(page.locator("h2").first).to_contain_text("Query 3 · person 4 · camera 1")
    assert keys(page) == [f"gallery:{place.index}" for place in state.result.top()]
    page.get_by_label("re-rank").check()
    state.change(rerank=True)
    assert keys(page, 1) == [f"gallery:{place.index}" for place in state.result.top()]
    before = state.result.before.rank_by_index(60)
    moved = next(p for p in state.result.top() if p.rank != before[p.index] <= 20)
    page.locator(f'#results .picture-group:last-child [data-key="gallery:{moved.index}"]').click()
    expect(page.get_by_role("dialog")).to_contain_text(f": rank {moved.rank}, ")
    page.keyboard.press("Escape")
    page.get_by_label("before | after").uncheck()
    expect(page.locator("#results .picture-group")).to_have_count(1)
    ap = f"{state.result.before.average_precision:.1%} → {state.result.after.average_precision:.1%}"
    expect(page.locator(".facts")).to_contain_text(ap)
    assert page.locator("#curve polyline").count() == 2
    assert page.locator("#map .answer").count() == len(state.result.top())
    page.get_by_label("show junk").check()
    expect(page.locator("#results .verdict-junk").first).to_be_visible()
    expect(page.locator(".undefined")).to_have_count(0)


def test_queries_are_sorted_filtered_and_found_again(page, retrieval):
    state = BrowserState(retrieval)
    shown = page.locator("#queries .picture-card")
    for order in ("most gained by re-ranking", "most lost by re-ranking", "worst AP first"):
        page.get_by_label("order of the queries").select_option(order)
        first, *_, last = state.queries(order)
        expect(shown.first).to_have_attribute("data-key", f"query:{first}")
        expect(shown.last).to_have_attribute("data-key", f"query:{last}")
    shown.last.click()
    expect(page.locator(".browser-about")).to_contain_text("No right answer is known")
    page.get_by_label("camera", exact=True).select_option("camera 2")
    expect(shown).to_have_count(int((retrieval.query.camids == 2).sum()))
    page.get_by_label("person", exact=True).fill("person 99")
    page.get_by_label("person", exact=True).blur()
    expect(page.locator("#queries")).to_contain_text("No query fits")
    for address, query in (("5", 5), ("-1", 0), ("1.5", 0), ("99", 11)):
        page.goto(f"{page.url.partition('#')[0]}#{address}")
        page.reload()
        expect(page.locator("h2").first).to_contain_text(f"Query {query} ")


def test_the_map_shows_and_compares_pictures(page):
    dot = page.locator("#map .answer").first
    dot.hover(force=True)  # another dot may lie above it
    expect(page.locator(".map-tip")).to_contain_text("Gallery picture")
    expect(page.locator("#results .linked, #map .near")).not_to_have_count(0)
    dot.click(force=True)
    expect(page.get_by_role("dialog")).to_contain_text("beside Gallery picture")
    page.keyboard.press("Escape")
    plane = page.locator("#map svg")
    whole = plane.get_attribute("viewBox")
    page.get_by_label("colours of the map").select_option("colours: camera")
    expect(plane.locator(".dots")).to_have_count(7)
    page.mouse.wheel(0, -300)
    expect(plane).not_to_have_attribute("viewBox", whole)
    plane.dblclick(position={"x": 2, "y": 2})
    expect(plane).to_have_attribute("viewBox", whole)


def test_the_keyboard_goes_everywhere(page):
    first, second = (page.locator("#queries .picture-card").nth(n) for n in (0, 1))
    first.focus()
    page.keyboard.press("ArrowRight")
    expect(second).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h2").first).to_contain_text("Query 1")
    page.get_by_role("button", name="back").press("Enter")
    expect(page.locator("h2").first).to_contain_text("Query 0")
    page.get_by_role("button", name="forward").press("Enter")
    expect(page.locator("h2").first).to_contain_text("Query 1")
    page.locator("#results .picture-card").first.press("Enter")
    pair = page.get_by_role("dialog")
    expect(pair.locator("img")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(pair).not_to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.get_by_label("re-rank").check()
    found = Axe().run(page).response
    assert len(found["passes"]) > 10
    serious = [
        (rule["id"], node["html"][:120])
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
    assert serious == []


def test_a_name_cannot_end_the_script(page):
    expect(page.locator("h1")).to_have_text(f"Query browser: {NAME}")
    expect(page.locator("h2").first).to_contain_text(f"Query 0 · person {NAME} · camera 1")
