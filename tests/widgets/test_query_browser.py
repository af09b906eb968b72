import base64
import csv
import io
import json

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from toy_retrieval import make_retrieval, png

from tripletlib.evaluation import Verdict
from tripletlib.widgets import query_browser as browser_module
from tripletlib.widgets.browsing import Browsing
from tripletlib.widgets.cards import Thumbnails
from tripletlib.widgets.charts import GalleryMap
from tripletlib.widgets.lookup import Asked, Options
from tripletlib.widgets.messages import Messages
from tripletlib.widgets.panels import PAGE
from tripletlib.widgets.pictures import Card, Group, PictureGrid, PictureUpload
from tripletlib.widgets.query_browser import QueryBrowser
from tripletlib.widgets.static import draw_map, draw_sight

mpl.use("agg")
MARKS = {Verdict.RIGHT: "✓ ", Verdict.WRONG: "✗ ", Verdict.DISTRACTOR: "⊘ "}
SMALL = {"k1": 5, "k2": 3}


@pytest.fixture
def retrieval():
    return make_retrieval(queries=30)


@pytest.fixture
def shown(retrieval, tmp_path):
    return QueryBrowser(retrieval, tmp_path / "saved")


def click(grid, key):
    """What the page sends when a picture is clicked."""
    grid._handle_custom_msg({"chosen": key}, [])


def keys(grid, group=0):
    return [item["key"] for item in grid.groups[group]["items"]]


def items(grid, group=0):
    return grid.groups[group]["items"]


def test_it_opens_with_queries_answers_map_and_curve(shown):
    assert keys(shown.queries.grid) == [f"query:{i}" for i in range(PAGE)]
    assert shown.queries.grid.selected == "query:0"
    answers = shown.browsing.sight.answers
    expected = [f"gallery:{place.index}" for place in answers.top(20, with_junk=False)]
    assert keys(shown.results.grid) == expected
    assert f"{answers.average_precision:.1%}" in shown.results.facts.value
    recall, precision = answers.curve()
    np.testing.assert_allclose(shown.results.curve._lines[0].y, precision)
    np.testing.assert_allclose(shown.results.curve._lines[0].x, recall)
    assert shown.back.disabled


def test_cards_say_rank_verdict_person_camera_and_distance(shown, retrieval):
    for item, place in zip(
        items(shown.results.grid), shown.browsing.sight.answers.top(20, False), strict=True
    ):
        assert item["mark"] == f"{MARKS[place.verdict]}{place.rank}"
        assert item["verdict"] == place.verdict
        assert f"rank {place.rank}, {place.verdict}" in item["description"]
        camid = retrieval.gallery.camids[place.index]
        assert f"camera {camid}" in item["lines"]
        assert f"{place.distance:.3g}" in item["lines"][2]
        picture = Image.open(io.BytesIO(base64.b64decode(item["src"].split(",")[1])))
        assert picture.size == (64, 128)


def test_a_click_on_a_query_or_a_result_asks_for_it_and_back_returns(shown):
    click(shown.queries.grid, "query:5")
    assert shown.browsing.sight.asked == Asked("query", 5)
    assert shown.queries.grid.selected == "query:5"
    chosen = keys(shown.results.grid)[2]
    click(shown.results.grid, chosen)
    assert f"gallery:{shown.browsing.sight.asked.index}" == chosen
    assert chosen not in keys(shown.results.grid)
    assert "Gallery picture" in shown.results.facts.value
    assert shown.back.description == "back (2)"
    shown.back.click()
    assert shown.browsing.sight.asked == Asked("query", 5)


def test_reranking_shows_both_lists_and_how_far_each_picture_moved(shown):
    shown.results.controls["rerank"].value = True
    shown.results.controls["k1"].value = 5
    sight, grid = shown.browsing.sight, shown.results.grid
    assert (sight.options.rerank, sight.options.k1) == (True, 5)
    before, after = (a.rank_by_index(60) for a in (sight.before, sight.after))
    assert "Before" in grid.groups[0]["title"]
    assert "k1 5" in grid.groups[1]["title"]
    for item in items(grid, 1):
        index = int(item["key"].split(":")[1])
        up = before[index] - after[index]
        assert item["moved"] == ("=" if not up else f"{'▲' if up > 0 else '▼'}{abs(up)}")
    assert items(grid, 0)[0]["moved"] == f"→{after[sight.before[0].index]}" or (
        sight.before[0].rank == 0
    )
    shown.results.controls["compare"].value = False
    assert len(grid.groups) == 1
    assert "After" in grid.groups[0]["title"]
    shown.results.controls["rerank"].value = False
    assert "distance" in grid.groups[0]["title"]
    assert shown.results.controls["k1"].disabled


def test_top_k_and_junk(shown):
    shown.results.controls["top_k"].value = 50
    shown.results.controls["show_junk"].value = True
    assert [i["mark"] for i in items(shown.results.grid)].count("junk") > 0
    ranked = [i for i in items(shown.results.grid) if i["mark"] != "junk"]
    assert len(ranked) == 50
    shown.results.controls["show_junk"].value = False
    assert len(items(shown.results.grid)) == 50


def test_sorting_filtering_and_paging_the_queries(shown):
    shown.queries.order.value = "worst AP first"
    worst = shown.browsing.queries("worst AP first")
    assert keys(shown.queries.grid) == [f"query:{i}" for i in worst[:PAGE]]
    precision = shown.browsing.scores.average_precision[worst[0]]
    assert items(shown.queries.grid)[0]["mark"] == f"AP {precision:.1%}"
    shown.queries.later.click()
    assert keys(shown.queries.grid) == [f"query:{i}" for i in worst[PAGE : 2 * PAGE]]
    shown.queries.later.click()
    assert shown.queries.later.disabled
    shown.queries.earlier.click()
    shown.queries.camera.value = 2
    shown.queries.person.value = "3"
    assert keys(shown.queries.grid) == ["query:8", "query:26"] or keys(shown.queries.grid) == [
        "query:26",
        "query:8",
    ]
    shown.queries.person.value = "99"
    assert shown.queries.grid.groups[0]["empty"] == "No query fits these filters."
    assert not items(shown.queries.grid)
    shown.queries.person.value = "anna"
    assert "a person is a number" in shown.messages.widget.value
    shown.queries.camera.value, shown.queries.person.value = -1, ""
    assert len(keys(shown.queries.grid)) == PAGE


def send_file(upload, name, data):
    upload._handle_custom_msg({"name": name}, [memoryview(data)])


def test_an_own_picture_good_broken_and_too_large(shown):
    send_file(shown.upload, "<b>me</b>.png", png())
    assert shown.browsing.sight.asked == Asked("upload", 0)
    assert "&lt;b&gt;me&lt;/b&gt;.png" in shown.results.facts.value
    assert "no AP" in shown.results.facts.value
    assert not len(shown.results.curve._lines[0].x)
    assert items(shown.results.why) == []
    send_file(shown.upload, "<i>note</i>.txt", b"no picture")
    assert "&lt;i&gt;note&lt;/i&gt;.txt cannot be read" in shown.messages.widget.value
    assert 'role="alert"' in shown.messages.widget.value
    assert shown.browsing.sight.asked == Asked("upload", 0)
    shown.upload._handle_custom_msg({"refused": "big.png", "bytes": 12_300_000}, [])
    assert "big.png has 12.3 MB and at most 8" in shown.messages.widget.value
    send_file(shown.upload, "huge.png", bytes(8_000_001))
    assert "huge.png has 8.0 MB" in shown.messages.widget.value
    shown.back.click()
    assert shown.messages.widget.value == ""
    assert shown.browsing.sight.asked == Asked("query", 0)


def test_the_map_marks_query_and_answers_and_its_points_can_be_chosen(shown, retrieval):
    places = shown.browsing.sight.answers.top(20, with_junk=False)
    for verdict, mark in shown.map._answers.items():
        mine = [place.index for place in places if place.verdict == verdict]
        np.testing.assert_allclose(mark.x, shown.map.points[mine, 0])
    # a plane of principal components: the map's distances never exceed the true ones
    query = shown.map._query
    for place in places[:5]:
        x, y = shown.map.points[place.index]
        assert np.hypot(x - query.x[0], y - query.y[0]) <= place.distance + 1e-4
    message = {"event": "element_click", "data": {"index": 17}}
    shown.map._background._handle_custom_msgs(shown.map._background, message)
    assert shown.browsing.sight.asked == Asked("gallery", 17)
    message = {"event": "hover", "data": {"index": 3}}
    shown.map._background._handle_custom_msgs(shown.map._background, message)
    assert "Gallery picture 3<br>" in shown.map._tip.value
    assert "data:image/jpeg" in shown.map._tip.value


def test_hovering_shows_its_errors_and_leaves_messages_alone(shown):
    shown.messages.say("Saved a file")
    event = {"event": "hover", "data": {"index": 3}}
    shown.map._background._handle_custom_msgs(shown.map._background, event)
    assert "Saved a file" in shown.messages.widget.value
    shown.browsing.lookup.retrieval.gallery.pids.resize(0, refcheck=False)
    event["data"]["index"] = 4
    shown.map._background._handle_custom_msgs(shown.map._background, event)
    assert "IndexError" in shown.messages.widget.value


@pytest.mark.parametrize("event", ["hover", "element_click"])
def test_a_point_that_is_not_there_is_said(shown, event):
    message = {"event": event, "data": {"index": 10_000}}
    shown.map._background._handle_custom_msgs(shown.map._background, message)
    assert "IndexError" in shown.messages.widget.value


def test_a_large_gallery_s_map_shows_a_sample_and_all_answers(monkeypatch):
    monkeypatch.setattr("tripletlib.widgets.charts.SHOWN", 10)
    chosen = []
    embeddings = np.random.default_rng(0).normal(size=(100, 4))
    shown = GalleryMap(embeddings, str, Messages(), chosen.append)
    assert len(shown._background.x) == 10
    assert shown.note.endswith(", 10 of 100 pictures drawn")
    message = {"event": "element_click", "data": {"index": 9}}
    shown._background._handle_custom_msgs(shown._background, message)
    assert chosen == [99]


def test_embeddings_of_one_dimension_have_a_map_too():
    shown = GalleryMap(np.arange(5.0)[:, None], str, Messages(), print)
    assert shown.points.shape == (5, 2)
    assert shown.explained == pytest.approx(1)


def test_why_names_nearest_wrong_and_farthest_right(shown):
    answers = shown.browsing.sight.answers
    wrong, right = answers.nearest_wrong(), answers.farthest_right()
    assert keys(shown.results.why) == [f"gallery:{wrong.index}", f"gallery:{right.index}"]
    text = shown.results._why_text.value
    assert f"rank {wrong.rank}" in text
    assert f"rank {right.rank}" in text
    late = answers.right[wrong.rank :].sum()
    assert f"{late} of {answers.right.sum()} right answers" in text
    assert "By distance" in text
    shown.results.controls["rerank"].value = True
    assert "After re-ranking" in shown.results._why_text.value


def test_saving_names_the_files(shown, tmp_path):
    shown.results.controls["rerank"].value = True
    shown.save.click()
    picture = tmp_path / "saved" / "query_00000_reranked_20_6_0.3.png"
    assert str(picture) in shown.messages.widget.value
    with Image.open(picture) as saved:
        assert saved.width > 1000
    shown.export.click()
    text = picture.with_suffix(".csv").read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines()))
    assert [int(row[0]) for row in rows[1:] if row[0]] == list(
        range(1, 1 + len(shown.browsing.sight.answers.right))
    )
    assert not plt.get_fignums()


def test_an_error_is_shown_and_the_controls_go_back_to_the_state(shown, monkeypatch):
    def fail(**options):
        raise RuntimeError("the <reader> should see this")

    with monkeypatch.context() as broken:
        broken.setattr(shown.browsing, "change", fail)
        shown.results.controls["top_k"].value = 50
    assert "RuntimeError: the &lt;reader&gt; should see this" in shown.messages.widget.value
    assert shown.results.controls["top_k"].value == 20
    shown.results.controls["top_k"].value = 10
    assert shown.messages.widget.value == ""
    assert len(keys(shown.results.grid)) == 10


@pytest.mark.parametrize("key", ["gallery", "gallery:-1", "elsewhere:3", "gallery:9999", ""])
def test_a_page_that_chooses_what_is_not_there_gets_an_error(shown, key):
    click(shown.results.grid, key)
    assert 'role="alert"' in shown.messages.widget.value
    assert shown.browsing.sight.asked == Asked("query", 0)


def test_names_cannot_smuggle_in_html(shown):
    titles = [box.value for box in shown.widget.children if hasattr(box, "value")]
    assert any("toy &lt;people&gt;" in value for value in titles)
    assert not any("<people>" in value for value in titles)


def test_a_saved_page_gets_a_sentence_and_an_open_notebook_the_widget(shown, monkeypatch):
    assert list(shown._repr_mimebundle_()) == ["text/plain"]
    monkeypatch.setattr(browser_module, "in_live_notebook", lambda: True)
    assert "application/vnd.jupyter.widget-view+json" in shown._repr_mimebundle_()


def test_a_grid_redraws_with_one_message(monkeypatch):
    grid = PictureGrid("pictures", print)
    sent = []
    monkeypatch.setattr(grid, "send_state", lambda key=None: sent.append(set(key)))
    grid.show([Group([Card("a:1", "data:", "text")])], selected="a:1")
    assert sent == [{"groups", "selected"}]
    json.dumps(grid.groups)


def test_an_upload_over_the_limit_is_refused_whatever_the_page_says():
    taken, refused = [], []
    upload = PictureUpload(
        "own", lambda data, name: taken.append(name), lambda name, size: refused.append(size)
    )
    upload.max_bytes = 3
    send_file(upload, "a", b"123")
    send_file(upload, "b", b"1234")
    assert (taken, refused) == (["a"], [4])


def test_thumbnails_are_encoded_once(monkeypatch):
    thumbnails = Thumbnails()
    image = np.zeros((3, 8, 4), np.uint8)
    first = thumbnails("key", image)
    monkeypatch.setattr(Image, "fromarray", None)  # would fail if it were called
    assert thumbnails("key", image) is first


@pytest.mark.parametrize("rerank", [False, True])
@pytest.mark.parametrize("kind", ["query", "gallery", "upload"])
def test_the_static_figure_shows_the_same(retrieval, kind, rerank):
    browsing = Browsing(retrieval, options=Options(rerank=rerank, show_junk=True, **SMALL))
    if kind == "upload":
        browsing.upload(png(), "me.png")
    else:
        browsing.ask(Asked(kind, 5))
    figure = draw_sight(browsing, columns=8)
    figure.canvas.draw()
    titles = [ax.get_title() for part in figure.subfigs for ax in part.axes]
    for answers in filter(None, (browsing.sight.before, browsing.sight.after)):
        for place in answers.top(8, with_junk=True)[:8]:
            mine = [title for title in titles if f"\n{place.distance:.3g} · " in title]
            start = f"{MARKS.get(place.verdict, '')}{place.rank}" if place.rank else "junk"
            assert any(title.startswith(start) for title in mine)
    curves = [ax.lines for part in figure.subfigs for ax in part.axes if ax.get_ylabel()]
    assert [len(lines) for lines in curves] == ([] if kind == "upload" else [1 + rerank])
    plt.close(figure)


@pytest.mark.parametrize("kind", ["query", "upload"])
def test_the_static_map_is_the_widget_s(shown, kind):
    if kind == "upload":
        send_file(shown.upload, "me.png", png())
    ax = draw_map(plt.figure().gca(), shown.browsing)
    marks = {part.get_label(): part.get_offsets() for part in ax.collections}
    np.testing.assert_allclose(marks.pop("gallery"), shown.map.points, atol=1e-5)
    query = shown.map._query
    np.testing.assert_allclose(marks.pop("query"), [[query.x[0], query.y[0]]], atol=1e-5)
    for verdict, mark in shown.map._answers.items():
        mine = marks.pop(verdict.value, np.zeros((0, 2)))
        np.testing.assert_allclose(mine, np.column_stack([mark.x, mark.y]), atol=1e-5)
    assert not marks
    assert f"{shown.map.explained:.0%} of the variance" in ax.get_title()
    plt.close("all")


def test_the_static_figure_says_which_list_the_two_ends_are_of(retrieval):
    browsing = Browsing(retrieval, options=Options(**SMALL))
    for name in ("by distance", "re-ranked"):
        figure = draw_sight(browsing, columns=8)
        axes = [ax for part in figure.subfigs for ax in part.axes]
        facts = "\n".join(text.get_text() for ax in axes for text in ax.texts)
        answers = browsing.sight.answers
        assert f"{name}, nearest wrong: rank {answers.nearest_wrong().rank}," in facts
        assert f"{name}, farthest right: rank {answers.farthest_right().rank}," in facts
        browsing.change(rerank=True)
    plt.close("all")
