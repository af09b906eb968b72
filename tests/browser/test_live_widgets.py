"""Both widgets with a kernel: in JupyterLab, in Notebook 7 and in Voila.

All lie in one file, so that one process runs them, most of them in one page and one kernel.
"""

import re
import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from contrast import MEASURE
from lab_driver import WIDGET_IS_DRAWN, LabPage, drag, wait_until
from playwright.sync_api import expect
from small_cells import PHOTOS, PLAYGROUND, QUERY_BROWSER, write_cells

TEXT, MARK = 4.5, 3  # WCAG 2.1, levels 1.4.3 and 1.4.11
LARGE = QUERY_BROWSER.replace(
    'run_folder("browser"))',
    'run_folder("browser"), options=Options(top_k=100, rerank=True, k1=60))',
).replace("import QueryBrowser", "import Options, QueryBrowser")
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
IN_SIGHT = """element => {
    const box = element.getBoundingClientRect();
    const panel = document.querySelector(".jp-WindowedPanel-outer").getBoundingClientRect();
    return box.top >= panel.top - 1 && box.bottom <= panel.bottom + 1
        && box.left >= panel.left - 1 && box.right <= panel.right + 1;
}"""
TO_THE_TOP = "element => element.scrollIntoView({block: 'start', behavior: 'instant'})"
WITH_KERNEL = """from IPython.display import display
from ipywidgets import Label
from tripletlib.widgets import Playground, scene_loss
playground, label = Playground(), Label()
label.add_class("from-python")
playground.observe(lambda _: setattr(label, "value", f"{scene_loss(playground.scene).loss:.3f}"))
display(label)
playground"""

AT_THE_START = "batch hard: loss 1.727 · active 100%"
KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
LIVE = ".tripletlib-widget"  # and not the hidden copy for the saved page


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


# The theme stays until it is changed, so the usual one comes last.
@pytest.mark.parametrize("source", [PLAYGROUND, QUERY_BROWSER], ids=("playground", "browser"))
@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_text_and_marks_stand_out(run_cell, source, theme):
    lab = run_cell(source)
    lab.choose_theme(theme)
    if source == QUERY_BROWSER:
        lab.page.locator('[data-key="query:3"]').click()
        lab.page.locator(".browser-rerank input").check()
        lab.page.locator(".browser-show-junk input").check()
        expect(lab.page.locator(".verdict-junk .picture").first).to_be_visible()
    root = lab.page.locator(".tripletlib-widget")
    lab.screenshot(theme, root)
    found = root.evaluate(MEASURE)
    assert len(found["texts"]) > 10
    assert len(found["marks"]) > 5
    assert [item for item in found["texts"] if item[0] < TEXT] == []
    assert [item for item in found["marks"] if item[0] < MARK] == []


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
    expect(page.locator(".browser-k1 [disabled]")).to_have_count(0)  # which comes after the titles
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
    lab.screenshot(f"{width}")
    assert in_sight(lab.page.locator(".browser-query img"))
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
    wait_until(lab.page, WIDGET_IS_DRAWN)
    lab.screenshot("chosen_in_the_map")
    assert in_sight(lab.page.locator(".browser-query img"))
    assert in_sight(lab.page.locator(".browser-facts h2"))


def test_it_answers_while_the_kernel_is_busy_and_python_learns_of_it_later(run_cell):
    lab = run_cell(WITH_KERNEL)
    sleep = "label.value = 'asleep'; import time; time.sleep(600)"
    lab.page.evaluate(f"code => {KERNEL}.requestExecute({{code}}) && null", sleep)
    expect(lab.page.locator(".from-python")).to_have_text("asleep")
    text = lab.page.locator(f"{LIVE} .playground-text")
    lab.screenshot("start", lab.page.locator(LIVE))
    drag(lab.page, by=(-60, 40), within=LIVE)
    expect(text).not_to_contain_text(AT_THE_START)
    loss = text.inner_text().split()[3]
    lab.screenshot("dragged", lab.page.locator(LIVE))
    assert lab.page.evaluate(f"{KERNEL}.status") == "busy"
    lab.page.evaluate(f"{KERNEL}.interrupt()")
    expect(lab.page.locator(".from-python")).to_have_text(loss)
    assert lab.page.evaluate("window.kernelErrors.splice(0)") == [""]  # KeyboardInterrupt


def take_a_step(page):
    """The playground answers: a gradient step changes the loss."""
    text = page.locator(".tripletlib-widget .playground-text")
    expect(text).to_contain_text("loss 1.727")
    page.locator(".tripletlib-widget .playground-step").click()
    expect(text).not_to_contain_text("loss 1.727")


def test_voila_shows_the_widgets(new_page, lab):
    write_cells(lab.notebooks / "voila.ipynb", PLAYGROUND, QUERY_BROWSER)
    page = new_page()
    page.goto(lab.link("voila.ipynb", "voila/render"))
    take_a_step(page)
    page.locator(".browser-queries .picture-card").nth(2).click()
    expect(page.locator(".browser-facts")).to_contain_text("Query 2")


def test_a_saved_notebook_keeps_the_playground(new_page, run_cell, lab, screenshots):
    live = run_cell(PLAYGROUND)
    expect(live.page.locator(".tripletlib-saved")).to_be_hidden()
    live.save()
    shutil.copy(live.file, lab.notebooks / "saved.ipynb")  # no kernel knows this one
    page = LabPage(new_page(), screenshots)
    page.open(lab, "saved.ipynb")
    complaint = page.page.get_by_text("Error displaying widget")
    expect(complaint).to_be_attached()
    expect(complaint).to_be_hidden()
    saved = page.page.locator(".tripletlib-saved")
    expect(saved.locator(".playground-text")).to_contain_text("loss 1.727")
    saved.locator(".playground-step").click()
    expect(saved.locator(".playground-text")).to_contain_text("loss 1.248")


def test_notebook_7_shows_the_playground(new_page, lab, screenshots):
    write_cells(lab.notebooks / "notebook_7.ipynb", PLAYGROUND)
    page = LabPage(new_page(), screenshots)  # errors of Notebook 7's own are not judged here
    page.open(lab, "notebook_7.ipynb", "notebooks")
    page.run_all()
    take_a_step(page.page)
    page.shut_down()
