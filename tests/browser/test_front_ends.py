"""The widgets are live in Voila and in Notebook 7, too."""

import shutil

from lab_driver import new_page, voila_server
from playwright.sync_api import expect
from small_cells import PLAYGROUND, QUERY_BROWSER, write_cell


def take_a_step(page):
    """The playground answers: a gradient step changes the loss."""
    text = page.locator(".tripletlib-widget .playground-text")
    expect(text).to_contain_text("loss 1.727")
    page.locator(".tripletlib-widget .playground-step").click()
    expect(text).not_to_contain_text("loss 1.727")


def test_voila_shows_the_widgets(chromium, tmp_path):
    for source, act in ((PLAYGROUND, take_a_step), (QUERY_BROWSER, look_somebody_up)):
        write_cell(source, tmp_path / "page.ipynb")
        with voila_server(tmp_path, tmp_path / "page.ipynb") as address:
            page = new_page(chromium)
            page.goto(address)
            act(page)
            page.close()


def look_somebody_up(page):
    page.locator(".browser-queries .picture-card").nth(2).click()
    expect(page.locator(".browser-facts")).to_contain_text("Query 2")


def test_a_saved_notebook_keeps_the_playground(chromium, run_cell, lab, lab_folder):
    live = run_cell(PLAYGROUND)
    expect(live.page.locator(".tripletlib-saved")).to_be_hidden()
    live.save()
    notebooks = lab_folder / "notebooks"
    shutil.copy(notebooks / "one_cell.ipynb", notebooks / "saved.ipynb")  # no kernel knows this one
    address, token = lab
    page = new_page(chromium)
    page.goto(f"{address}/doc/tree/saved.ipynb?token={token}")
    saved = page.locator(".tripletlib-saved")
    expect(saved.locator(".playground-text")).to_contain_text("loss 1.727")
    saved.locator(".playground-step").click()
    expect(saved.locator(".playground-text")).to_contain_text("loss 1.248")
    complaint = page.get_by_text("Error displaying widget")
    expect(complaint).to_be_attached()
    expect(complaint).to_be_hidden()
    page.close()


def test_notebook_7_shows_the_playground(chromium, lab, lab_folder):
    address, token = lab
    write_cell(PLAYGROUND, lab_folder / "notebooks" / "page.ipynb")
    page = new_page(chromium)
    page.goto(f"{address}/notebooks/page.ipynb?token={token}")
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
    page.locator(".jp-Cell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    take_a_step(page)
    page.close()
