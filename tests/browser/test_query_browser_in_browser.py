"""The query browser of notebook 05 in a real browser, held against the library's own answers."""

import csv
import re

import nbformat
import numpy as np
import pytest
from lab_driver import SECOND, wait_until
from PIL import Image
from playwright.sync_api import expect

from tripletlib.evaluation import evaluate_embeddings, rank_gallery
from tripletlib.experiments.retrieval import open_retrieval
from tripletlib.reranking import k_reciprocal

RUN_ALL = 400 * SECOND  # the first time, the people are drawn
TOP = 20


@pytest.fixture(scope="module")
def library():
    """What the notebook shows, computed without it."""
    return Library(open_retrieval(progress="off"))


class Library:
    def __init__(self, retrieval):
        self.retrieval = retrieval
        self.reranked = {}

    def answers(self, kind, index, k1=None):
        query = self.retrieval.query if kind == "query" else self.retrieval.gallery
        gallery = self.retrieval.gallery
        if k1 is None:
            row = np.linalg.norm(gallery.embeddings - query.embeddings[index], axis=1)
        else:
            row = self.rerank(k1)[index]
        itself = index if kind == "gallery" else None
        who, where = query.pids[index], query.camids[index]
        return rank_gallery(row, who, gallery.pids, where, gallery.camids, leave_out=itself)

    def rerank(self, k1):
        if k1 not in self.reranked:
            tables = self.retrieval.query, self.retrieval.gallery
            self.reranked[k1] = k_reciprocal(*(t.embeddings for t in tables), k1=k1)
        return self.reranked[k1]


class Widget:
    """The parts of one of the query browsers on the page."""

    def __init__(self, page, number=0):
        self.page = page
        self.root = page.locator(".browser").nth(number)
        self.results = self.part("results").locator(".picture-group")
        self.queries = self.part("queries").locator(".picture-card")
        self.message = self.root.locator(".message-line")

    def part(self, name):
        return self.root.locator(f".browser-{name}")

    def cards(self, group=0):
        return self.results.nth(group).locator(".picture-card")

    def expect_answers(self, library, kind, index, k1=None):
        """The list on the page is the library's: pictures in order, verdicts, AP."""
        # The way is drawn after the answers: once it shows the picture, they are no longer of
        # another one.
        here = self.part("way").locator("[aria-current]").first
        expect(here).to_have_attribute("data-key", f"{kind}:{index}")
        answers, group = library.answers(kind, index, k1), 0 if k1 is None else 1
        places = answers.top(TOP, with_junk=False)
        cards = self.cards(group)
        # Neighbours at (nearly) equal distance may change places, so the first and the set count.
        expect(cards.first).to_have_attribute("data-key", f"gallery:{places[0].index}")
        expect(cards).to_have_count(TOP)
        shown = cards.evaluate_all("cards => cards.map(card => [card.dataset.key, card.title])")
        distances = dict(zip(answers.order.tolist(), answers.distances, strict=True))
        in_page_order = [distances[int(key.split(":")[1])] for key, _ in shown]
        np.testing.assert_allclose(
            in_page_order, [place.distance for place in places], rtol=1e-3, atol=1e-4
        )
        verdicts = dict(zip(answers.order.tolist(), answers.verdicts, strict=True))
        for rank, (key, title) in enumerate(shown, start=1):
            assert title.startswith(f"rank {rank}, {verdicts[int(key.split(':')[1])]},")
        if answers.first_right:
            expect(self.results.nth(group).locator(".picture-title")).to_contain_text(
                f"AP {answers.average_precision:.1%}"
            )


@pytest.fixture
def photos(tmp_path, lab):
    """A copy of notebook 05 that searches in a flat folder of 30 photos of one colour each."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(30):
        colour = f"hsl({12 * number}, 60%, 50%)"
        Image.new("RGB", (60, 130), colour).save(folder / f"holiday {number:02d}.jpg")
    notebook = nbformat.read(lab.notebooks / "05_query_browser.ipynb", as_version=4)
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    assert "pictures_root = None" in cell.source
    cell.source = cell.source.replace("pictures_root = None", f"pictures_root = {str(folder)!r}")
    nbformat.write(notebook, lab.notebooks / "05_photos.ipynb")
    return "05_photos.ipynb"


@pytest.fixture
def widget(open_notebook, photos):
    page = open_notebook(photos)
    page.run_up_to("if pictures_root is None", RUN_ALL)
    widget = Widget(page.page)
    widget.root.scroll_into_view_if_needed()
    widget.screenshot = page.screenshot
    expect(widget.cards()).to_have_count(TOP)
    return widget


def test_a_session_with_the_query_browser(widget, library, tmp_path, lab):
    widget.expect_answers(library, "query", 0)
    widget.screenshot("opened")

    sort_and_choose_a_query(widget, library)
    walk_with_the_keyboard_and_go_back(widget, library)
    rerank_and_change_k1(widget, library)
    hand_in_pictures(widget, tmp_path)
    choose_in_the_map(widget)
    save(widget, lab.folder)
    narrow_window(widget)
    search_in_photos_without_labels(widget)


def sort_and_choose_a_query(widget, library):
    widget.part("order").locator("select").select_option("best AP first")
    tables = library.retrieval.query, library.retrieval.gallery
    precision = evaluate_embeddings(*tables).average_precision
    expect(widget.queries.first).to_contain_text(f"AP {precision.max():.1%}")
    chosen = widget.queries.nth(3)
    kind, index = chosen.get_attribute("data-key").split(":")
    chosen.click()
    expect(widget.part("facts")).to_contain_text(f"Query {index} ")
    expect(widget.part("queries").locator("[aria-current]")).to_have_attribute(
        "data-key", f"{kind}:{index}"
    )
    answers = library.answers(kind, int(index))
    expect(widget.part("facts")).to_contain_text(f"{answers.average_precision:.1%}")
    widget.expect_answers(library, kind, int(index))
    widget.screenshot("query_chosen")
    widget.query = int(index)


def walk_with_the_keyboard_and_go_back(widget, library):
    widget.cards().first.focus()
    widget.page.keyboard.press("ArrowRight")
    widget.page.keyboard.press("ArrowRight")
    expect(widget.cards().nth(2)).to_be_focused()
    widget.page.keyboard.press("ArrowDown")
    widget.page.keyboard.press("ArrowUp")
    expect(widget.cards().nth(2)).to_be_focused()
    key = widget.cards().nth(2).get_attribute("data-key")
    widget.screenshot("keyboard_focus")
    widget.page.keyboard.press("Enter")
    index = int(key.split(":")[1])
    expect(widget.part("facts")).to_contain_text(f"Gallery picture {index} ")
    expect(widget.part("results").locator(f'[data-key="{key}"]')).to_have_count(0)
    widget.expect_answers(library, "gallery", index)
    widget.screenshot("walked")
    widget.cards().nth(1).click()
    expect(widget.part("back")).to_contain_text("back (3)")
    widget.part("back").click()
    expect(widget.part("facts")).to_contain_text(f"Gallery picture {index} ")
    widget.part("back").click()
    expect(widget.part("facts")).to_contain_text(f"Query {widget.query} ")
    widget.expect_answers(library, "query", widget.query)


def rerank_and_change_k1(widget, library):
    widget.part("rerank").locator("input").check()
    expect(widget.results).to_have_count(2)
    widget.expect_answers(library, "query", widget.query)
    widget.expect_answers(library, "query", widget.query, k1=20)
    expect(widget.cards(1).first).to_contain_text(re.compile("[▲▼=]"))
    widget.screenshot("reranked")
    expect(widget.part("k1").locator("[disabled]")).to_have_count(0)  # which comes last
    number = widget.part("k1").locator(".widget-readout")
    number.click()
    widget.page.keyboard.press("Control+a")
    widget.page.keyboard.type("8")
    widget.page.keyboard.press("Enter")
    expect(widget.results.nth(1)).to_contain_text("k1 8")
    widget.expect_answers(library, "query", widget.query, k1=8)
    widget.screenshot("k1_is_8")
    widget.part("show-junk").locator("input").check()
    expect(widget.part("results").locator(".verdict-junk").first).to_be_visible()
    widget.screenshot("with_junk")
    widget.part("show-junk").locator("input").uncheck()
    widget.part("rerank").locator("input").uncheck()
    expect(widget.results).to_have_count(1)


def hand_in_pictures(widget, tmp_path):
    good, broken = tmp_path / "me & you.png", tmp_path / "broken.png"
    Image.new("RGB", (60, 150), "darkgreen").save(good)
    broken.write_bytes(good.read_bytes()[:60])
    chooser = widget.part("upload").locator("input")
    chooser.set_input_files(broken)
    expect(widget.message.get_by_role("alert")).to_contain_text("broken.png cannot be read")
    expect(widget.part("facts")).to_contain_text(f"Query {widget.query} ")  # nothing is lost
    widget.screenshot("broken_upload")
    too_large = tmp_path / "large.png"
    too_large.write_bytes(bytes(8_000_001))
    chooser.set_input_files(too_large)
    expect(widget.message.get_by_role("alert")).to_contain_text("large.png has 8.0 MB")
    chooser.set_input_files(good)
    expect(widget.part("facts")).to_contain_text("Your picture me & you.png")
    expect(widget.cards()).to_have_count(TOP)
    expect(widget.message.get_by_role("alert")).to_have_count(0)
    expect(widget.part("results").locator(".verdict-unknown")).to_have_count(TOP)
    widget.screenshot("own_picture")


def choose_in_the_map(widget):
    plane = widget.part("map").locator("svg")
    plane.scroll_into_view_if_needed()
    dot = plane.locator(".answer").first
    dot.hover(force=True)  # another dot may lie above it: it answers just as well
    tip = widget.part("map").locator(".map-tip")
    expect(tip).to_contain_text("Gallery picture")
    widget.screenshot("map_hovered")
    before = plane.get_attribute("viewBox")
    widget.page.mouse.wheel(0, -300)
    expect(plane).not_to_have_attribute("viewBox", before)
    dot.hover(force=True)
    expect(tip).to_be_visible()
    widget.screenshot("map_zoomed")
    dot.click(force=True)
    expect(widget.part("facts")).to_contain_text("Gallery picture")
    widget.screenshot("map_chosen")


def save(widget, folder):
    for name, ending in (("save", "png"), ("export", "csv")):
        widget.part(name).click()
        expect(widget.message.get_by_role("status")).to_contain_text(f".{ending}")
        path = widget.message.inner_text().removeprefix("Saved ").partition(" · ")[0]
        file = folder / "runs" / "05_query_browser" / path.rsplit("/", 1)[1]
        assert path == str(file)
        with widget.page.expect_download() as download:
            widget.message.get_by_role("link", name="download").click()
        assert download.value.suggested_filename == file.name
        widget.screenshot(f"saved_{ending}")
        if ending == "png":
            with Image.open(file) as picture:
                picture.load()
        else:
            with file.open(encoding="utf-8", newline="") as stream:
                ranked = [row for row in csv.DictReader(stream) if row["rank"]]
            keys = [card.get_attribute("data-key") for card in widget.cards().all()]
            assert len(keys) == TOP < len(ranked)
            titles = [card.get_attribute("title") for card in widget.cards().all()]
            for row, title in zip(ranked, titles, strict=False):
                assert title.startswith(f"rank {row['rank']}, {row['verdict']}, ")


def narrow_window(widget):
    widget.page.set_viewport_size({"width": 900, "height": 1000})
    widget.root.scroll_into_view_if_needed()
    fits = "root => root.getBoundingClientRect().right <= innerWidth"
    wait_until(widget.page, fits, arg=widget.root.element_handle())
    edges = widget.root.evaluate("""root => {
        const right = root.getBoundingClientRect().right;
        return [...root.querySelectorAll(".browser-results .picture-card, .browser-controls")]
            .filter(part => part.getBoundingClientRect().right > right + 1).length;
    }""")
    assert edges == 0, "pictures stick out of a narrow page"
    widget.screenshot("narrow")


def search_in_photos_without_labels(widget):
    photos = Widget(widget.page, number=1)
    photos.root.scroll_into_view_if_needed()
    expect(photos.root).to_contain_text("photos, the LuNet that ships")
    expect(photos.root.locator(".legend")).to_contain_text("nobody has said whom these pictures")
    expect(photos.queries).to_have_count(12)
    expect(photos.cards()).to_have_count(TOP)
    photos.queries.nth(4).click()
    expect(photos.part("facts")).to_contain_text("holiday 04.jpg")
    neighbours = photos.cards().evaluate_all("cards => cards.map(card => card.title)")
    assert all(re.match(r"rank \d+, holiday \d\d\.jpg, distance", title) for title in neighbours)
    photos.part("rerank").locator("input").check()
    expect(photos.results).to_have_count(2)
    expect(photos.cards(1).first).to_contain_text(re.compile("[▲▼=]"))
    photos.cards(1).first.click()
    expect(photos.part("facts")).not_to_contain_text("holiday 04.jpg")
    for hidden in ("why-box", "curve-box", "show-junk", "filters"):
        expect(photos.part(hidden)).to_be_hidden()
    verdicts = ", ".join(f".verdict-{name}" for name in ("right", "wrong", "distractor", "junk"))
    expect(photos.part("results").locator(verdicts)).to_have_count(0)
    expect(photos.root).not_to_contain_text("average precision")
    expect(photos.message.get_by_role("alert")).to_have_count(0)
    widget.screenshot("photos_without_labels")
