"""Times what a reader waits for in the page: click to painted, and the playground's drag.

Run it with `make bench`, or as `python tests/benchmarks/bench_pages.py`. It needs Chromium. The
query browser stands in a JupyterLab of its own, at the size of Market-1501; a click ends when the
new query's answers are in the page and a frame was painted after that. A missed target is printed,
not an error: what a machine measures depends on what else it is doing.
"""

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.extend([str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "browser")])

from bench_browser import SIZES
from lab_driver import CHROMIUM_ARGUMENTS, LabPage, find_chromium, lab_server, patient_page
from playwright.sync_api import Page, sync_playwright
from small_cells import PLAYGROUND, write_cells

from tripletlib.runtime import runs_root

CLICKS = 20
CLICK, CLICK_RERANKED, DRAG = 100, 150, 16  # milliseconds we want the median to stay below
BROWSER = f"""import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from toy_retrieval import make_retrieval
from tripletlib.runtime import run_folder
from tripletlib.widgets import QueryBrowser
browser = QueryBrowser(make_retrieval(**{SIZES}), run_folder("bench"))
browser"""
# Clicks on the n-th query of the list, and waits for its name and for the frame after that.
CLICK_ONE = """async (number) => {
    const card = document.querySelectorAll(".browser-queries .picture-card")[number];
    const facts = document.querySelector(".browser-facts");
    const results = document.querySelector(".browser-results");
    const begun = performance.now();
    const change = (element) => new Promise((done) => {
        const look = new MutationObserver(() => { look.disconnect(); done(); });
        look.observe(element, { childList: true, subtree: true, characterData: true });
    });
    const both = Promise.all([change(facts), change(results)]);
    card.click();
    await both;
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - begun;
}"""
# Notes how long each move of the pointer takes, with the layout that it makes necessary.
NOTE_MOVES = """() => {
    window.moves = [];
    let begun = 0;
    document.addEventListener("pointermove", () => { begun = performance.now(); }, true);
    document.addEventListener("pointermove", () => {
        document.body.getBoundingClientRect();
        window.moves.push(performance.now() - begun);
    });
}"""


def clicks(page: Page) -> list[float]:
    """Milliseconds of clicks on queries, each another one than before."""
    return [page.evaluate(CLICK_ONE, 1 + number % 11) for number in range(CLICKS)]


def drags(page: Page) -> list[float]:
    """Milliseconds of a dragged point's moves."""
    page.evaluate(NOTE_MOVES)
    box = page.locator(".playground-point:visible").last.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate("window.moves.length = 0")
    page.mouse.move(x - 80, y + 60, steps=CLICKS)
    page.mouse.up()
    return page.evaluate("window.moves")


def measure(folder: Path) -> dict[str, list[float]]:
    """Milliseconds of every action."""
    arguments = {"executable_path": find_chromium(), "args": CHROMIUM_ARGUMENTS}
    with lab_server(folder) as lab, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**arguments)
        page = LabPage(patient_page(browser, viewport={"width": 1366, "height": 768}), folder)
        write_cells(lab.notebooks / "browser.ipynb", BROWSER)
        page.open(lab, "browser.ipynb")
        page.run_all()
        page.page.locator(".browser-results .picture-card").first.wait_for()
        results = {"click": clicks(page.page)}
        page.page.locator(".browser-rerank input").check()
        page.page.locator(".browser-results .picture-group").nth(1).wait_for()
        results["click, re-ranked"] = clicks(page.page)
        write_cells(lab.notebooks / "playground.ipynb", PLAYGROUND)
        page.open(lab, "playground.ipynb")
        page.run_all()
        page.page.locator(".playground-plane:visible").first.wait_for()
        results["drag in the playground"] = drags(page.page)
        browser.close()
    return results


def main() -> None:
    """Measures, prints, and keeps the numbers."""
    load = os.getloadavg()[0]  # above zero: other work shared the cores
    print(f"In the page, {SIZES}; {os.cpu_count()} cores, load before the start {load:.1f}")
    targets = {
        "click": CLICK,
        "click, re-ranked": CLICK_RERANKED,
        "drag in the playground": DRAG,
    }
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder))
    for name, times in results.items():
        median, target = statistics.median(times), targets[name]
        verdict = "met" if median < target else "*** MISSED ***"
        print(
            f"{name:24} median {median:6.1f} ms, slowest {max(times):6.1f} ms, "
            f"{len(times)} times  target {target} ms: {verdict}"
        )
    file = runs_root() / "bench" / "pages.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"load": load, "milliseconds": results}), encoding="utf-8")
    print(f"written to {file}")


if __name__ == "__main__":
    if find_chromium() is None:
        raise SystemExit("no Chromium found: install one or name it in TRIPLETLIB_CHROMIUM")
    main()
