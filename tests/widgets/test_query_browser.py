import base64
import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from page_messages import (
    choose,
    hover,
    refuse_file,
    send_file,
)
from PIL import Image
from toy_retrieval import make_retrieval, png

from tripletlib.plots import VERDICT_STYLES
from tripletlib.widgets import (
    BrowserState,
    Options,
    Picture,
    QueryBrowser,
    draw_explanation,
    draw_map,
    draw_result,
    notebook_widget,
)
from tripletlib.widgets.gallery_map import GalleryPlane
from tripletlib.widgets.pictures import Card, Group, PictureGrid, PictureUpload
from tripletlib.widgets.query_list import PAGE

SOURCE = re.compile('src="data:image/png;base64,([^"]+)"')
SMALL = {"k1": 5, "k2": 3}


@pytest.fixture
def retrieval():
    return make_retrieval(queries=30)


@pytest.fixture
def shown(retrieval, tmp_path):
    return QueryBrowser(retrieval, tmp_path / "saved")


def keys(grid, group=0):
    return [item["key"] for item in grid.groups[group]["items"]]


def items(grid, group=0):
    return grid.groups[group]["items"]


def test_it_opens_with_queries_ranked_map_and_curve(shown):
    assert keys(shown.queries.grid) == [f"query:{i}" for i in range(PAGE)]
    assert shown.queries.grid.selected == "query:0"
    ranked = shown.state.result.ranked
    expected = [f"gallery:{place.index}" for place in ranked.top(20, with_junk=False)]
    assert keys(shown.results) == expected
    assert f"{ranked.average_precision:.1%}" in shown.facts.value
    recall, precision = ranked.curve()
    (curve,) = shown.curve.curves
    np.testing.assert_allclose(curve, np.column_stack([recall, precision]), atol=1e-4)
    assert shown.back.disabled


def test_cards_say_rank_verdict_person_camera_and_distance(shown, retrieval):
    for item, place in zip(
        items(shown.results), shown.state.result.ranked.top(20, False), strict=True
    ):
        assert item["mark"] == f"{VERDICT_STYLES[place.verdict].mark} {place.rank}"
        assert item["verdict"] == place.verdict
        assert f"rank {place.rank}, {place.verdict}" in item["description"]
        camid = retrieval.gallery.camids[place.index]
        assert f"camera {camid}" in item["lines"]
        assert f"{place.distance:.3g}" in item["lines"][2]
        picture = Image.open(io.BytesIO(base64.b64decode(item["src"].split(",")[1])))
        assert picture.size == (64, 128)


def test_a_click_on_a_query_or_a_result_looks_it_up_and_back_returns(shown):
    choose(shown.queries.grid, "query:5")
    assert shown.state.result.query == Picture("query", 5)
    assert shown.queries.grid.selected == "query:5"
    chosen = keys(shown.results)[2]
    choose(shown.results, chosen)
    assert f"gallery:{shown.state.result.query.index}" == chosen
    assert chosen not in keys(shown.results)
    assert "Gallery picture" in shown.facts.value
    assert shown.back.description == "back (2)"
    shown.back.click()
    assert shown.state.result.query == Picture("query", 5)


def test_reranking_shows_both_lists_and_how_far_each_picture_moved(shown):
    shown.controls["rerank"].value = True
    shown.controls["k1"].value = 5
    result, grid = shown.state.result, shown.results
    assert (result.options.rerank, result.options.k1) == (True, 5)
    before, after = (a.rank_by_index(60) for a in (result.before, result.after))
    assert "Before" in grid.groups[0]["title"]
    assert "k1 5" in grid.groups[1]["title"]
    for item in items(grid, 1):
        index = int(item["key"].split(":")[1])
        up = before[index] - after[index]
        assert item["moved"] == ("=" if not up else f"{'▲' if up > 0 else '▼'}{abs(up)}")
    assert items(grid, 0)[0]["moved"] == f"→{after[result.before[0].index]}" or (
        result.before[0].rank == 0
    )
    shown.controls["compare"].value = False
    assert len(grid.groups) == 1
    assert "After" in grid.groups[0]["title"]
    shown.controls["rerank"].value = False
    assert "distance" in grid.groups[0]["title"]
    assert shown.controls["k1"].disabled


def test_top_k_and_junk(shown):
    shown.controls["top_k"].value = 50
    shown.controls["show_junk"].value = True
    assert [i["mark"] for i in items(shown.results)].count("junk") > 0
    ranked = [i for i in items(shown.results) if i["mark"] != "junk"]
    assert len(ranked) == 50
    shown.controls["show_junk"].value = False
    assert len(items(shown.results)) == 50


def test_sorting_filtering_and_paging_the_queries(shown):
    shown.queries.order.value = "worst AP first"
    worst = shown.state.queries("worst AP first")
    assert keys(shown.queries.grid) == [f"query:{i}" for i in worst[:PAGE]]
    precision = shown.state.scores.average_precision[worst[0]]
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
    shown.queries.person.value = "person 3"  # as the cards call somebody
    assert len(items(shown.queries.grid)) == 2
    for nobody in ("99", "anna"):
        shown.queries.person.value = nobody
        assert f"no query shows person '{nobody}'; one of them is 1" in shown.message.text
        assert len(items(shown.queries.grid)) == 2
    shown.queries.camera.value, shown.queries.person.value = -1, ""
    assert len(keys(shown.queries.grid)) == PAGE


def test_an_own_picture_good_broken_and_too_large(shown):
    send_file(shown.upload, "<b>me</b>.png", png())
    assert shown.state.result.query == Picture("upload", 0)
    assert "&lt;b&gt;me&lt;/b&gt;.png" in shown.facts.value
    assert "no AP" in shown.facts.value
    assert shown.curve.curves == []
    assert items(shown.why) == []
    send_file(shown.upload, "<i>note</i>.txt", b"no picture")
    assert "<i>note</i>.txt cannot be read" in shown.message.text
    assert shown.message.role == "alert"
    assert shown.state.result.query == Picture("upload", 0)
    refuse_file(shown.upload, "big.png", 12_300_000)
    assert "big.png has 12.3 MB and at most 8" in shown.message.text
    send_file(shown.upload, "huge.png", bytes(8_000_001))
    assert "huge.png has 8.0 MB" in shown.message.text
    shown.back.click()
    assert shown.message.text == ""
    assert shown.state.result.query == Picture("query", 0)


def test_the_map_marks_query_and_answers_and_its_dots_can_be_chosen(shown):
    places = shown.state.result.top()
    assert shown.map.answers == [(place.index, place.verdict) for place in places]
    points, query = np.array(shown.map.points), np.array(shown.map.query)
    # a plane of principal components: the map's distances never exceed the true ones
    for place in places[:5]:
        assert np.linalg.norm(points[place.index] - query) <= place.distance + 1e-3
    choose(shown.map, "gallery:17")
    assert shown.state.result.query == Picture("gallery", 17)
    hover(shown.map, "gallery:3")
    assert shown.map.tip["key"] == "gallery:3"
    assert "Gallery picture 3 · " in shown.map.tip["text"]
    assert shown.map.tip["src"].startswith("data:image/jpeg")


def test_the_way_can_be_gone_back_and_forward(shown):
    assert (shown.back.disabled, shown.forward.disabled) == (True, True)
    choose(shown.results, "gallery:17")
    assert keys(shown.way) == ["query:0", "gallery:17"]
    shown.back.click()
    assert (shown.back.disabled, shown.forward.disabled) == (True, False)
    assert shown.way.selected == "query:0"
    shown.forward.click()
    assert shown.state.result.query == Picture("gallery", 17)
    choose(shown.way, "query:0")
    assert keys(shown.way) == ["query:0", "gallery:17", "query:0"]
    for index in range(1, 40):
        choose(shown.results, f"gallery:{index}")
    assert keys(shown.way)[-1] == "gallery:39"
    assert len(keys(shown.way)) < 15


def test_query_and_answer_are_shown_side_by_side(shown):
    shown.rank.value = 2
    shown.compare.click()
    answer = shown.state.result.place(2)
    assert shown.explanation.value.count("<img") == 2
    assert f"Gallery picture {answer.index} · " in shown.explanation.value


def test_a_saved_file_can_be_had_from_the_page(shown):
    shown.export.click()
    saved = Path(shown.message.text.removeprefix("Saved "))
    assert shown.message.file == saved.name
    content = base64.b64decode(shown.message.content.partition(",")[2])
    assert content == saved.read_bytes()
    shown.say("")
    assert (shown.message.file, shown.message.content) == ("", "")


def test_dots_have_numbers_for_person_and_camera(shown):
    gallery = shown.state.retrieval.gallery
    for name, labels in (("camera", gallery.camids), ("person", gallery.pids)):
        numbers = np.array(shown.map.kinds[name])
        assert ((numbers[:, None] == numbers) == (labels[:, None] == labels)).all()


def test_hovering_shows_its_errors_and_leaves_messages_alone(shown):
    shown.say("Saved a file")
    hover(shown.map, "gallery:3")
    assert "Saved a file" in shown.message.text
    shown.state.retrieval.gallery.pids.resize(0, refcheck=False)
    hover(shown.map, "gallery:4")
    assert shown.message.role == "alert"
    assert "out of bounds" in shown.message.text


def test_a_card_and_its_dot_mark_each_other(shown):
    key = keys(shown.results)[3]
    hover(shown.results, key)
    assert shown.map.linked == key
    hover(shown.results, "")
    assert shown.map.linked == ""
    hover(shown.map, "gallery:17")
    assert shown.results.linked == "gallery:17"
    hover(shown.map, "")
    assert shown.results.linked == ""


@pytest.mark.parametrize("send", [hover, choose])
@pytest.mark.parametrize("key", ["gallery:10000", "gallery:-1", "nothing"])
def test_a_dot_that_is_not_there_is_said(shown, send, key):
    send(shown.map, key)
    assert shown.message.role == "alert"


def test_embeddings_of_one_dimension_have_a_plane_too():
    plane = GalleryPlane(np.arange(5.0)[:, None])
    assert plane.points.shape == (5, 2)
    assert plane.explained == pytest.approx(1)


def test_why_names_nearest_wrong_and_farthest_right(shown):
    ranked = shown.state.result.ranked
    wrong, right = ranked.nearest_wrong(), ranked.farthest_right()
    assert keys(shown.why) == [f"gallery:{wrong.index}", f"gallery:{right.index}"]
    text = shown.why_text.value
    assert f"rank {wrong.rank}" in text
    assert f"rank {right.rank}" in text
    late = ranked.right[wrong.rank :].sum()
    assert f"{late} of {ranked.right.sum()} right answers" in text
    assert "By distance" in text
    shown.controls["rerank"].value = True
    assert "After re-ranking" in shown.why_text.value


def test_saving_names_the_files(shown, tmp_path):
    shown.controls["rerank"].value = True
    shown.save.click()
    picture = tmp_path / "saved" / "query_00000_reranked_20_6_0.3.png"
    assert str(picture) in shown.message.text
    with Image.open(picture) as saved:
        assert saved.width > 1000
    shown.export.click()
    text = picture.with_suffix(".csv").read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines()))
    assert [int(row[0]) for row in rows[1:] if row[0]] == list(
        range(1, 1 + len(shown.state.result.ranked.right))
    )
    assert not plt.get_fignums()


def test_an_error_is_shown_and_the_controls_go_back_to_the_state(shown, monkeypatch):
    def fail(**options):
        raise RuntimeError("the <reader> should see this")

    with monkeypatch.context() as broken:
        broken.setattr(shown.state, "change", fail)
        shown.controls["top_k"].value = 50
    assert "RuntimeError: the <reader> should see this" in shown.message.text
    assert shown.controls["top_k"].value == 20
    shown.controls["top_k"].value = 10
    assert shown.message.text == ""
    assert len(keys(shown.results)) == 10


@pytest.mark.parametrize("key", ["gallery", "gallery:-1", "elsewhere:3", "gallery:9999", ""])
def test_a_page_that_chooses_what_is_not_there_gets_an_error(shown, key):
    choose(shown.results, key)
    assert shown.message.role == "alert"
    assert shown.state.result.query == Picture("query", 0)


def test_names_cannot_smuggle_in_html(shown):
    titles = [box.value for box in shown.widget.children if hasattr(box, "value")]
    assert any("toy &lt;people&gt;" in value for value in titles)
    assert not any("<people>" in value for value in titles)


def test_a_headless_page_gets_a_sentence_and_an_open_notebook_both(shown, monkeypatch):
    sentence = shown._repr_mimebundle_()
    assert list(sentence) == ["text/plain"]
    kept = []
    monkeypatch.setattr(notebook_widget, "in_live_notebook", lambda: True)
    monkeypatch.setattr(notebook_widget, "display", lambda data, raw: kept.append(data))
    assert "application/vnd.jupyter.widget-view+json" in shown._repr_mimebundle_()
    assert kept[0]["text/plain"] == sentence["text/plain"]  # for whoever opens the saved page
    assert 'class="tripletlib-saved"' in kept[0]["text/html"]


def test_right_answers_that_are_not_shown_are_named_with_their_ranks(shown):
    shown.controls["top_k"].value = 3
    ranked = shown.state.result.ranked
    late = [rank for rank, right in enumerate(ranked.right, start=1) if right and rank > 3]
    assert shown.why.groups[1]["title"] == f"Missed: {len(late)} right answers behind rank 3"
    assert [item["mark"] for item in items(shown.why, 1)] == [f"✓ {rank}" for rank in late[:4]]
    shown.controls["top_k"].value = 50
    assert late[-1] > 50 or len(shown.why.groups) == 1


def test_it_is_said_when_there_is_no_junk_to_show(shown):
    shown.controls["top_k"].value = 1
    said = set()
    for index in range(PAGE):
        choose(shown.queries.grid, f"query:{index}")
        shown.controls["show_junk"].value = True
        ranks = shown.state.result.before.ranks.tolist()
        has_junk = 0 in ranks[: ranks.index(2)]
        assert shown.message.text == ("" if has_junk else "No junk down to rank 1.")
        said.add(shown.message.text)
        shown.controls["show_junk"].value = False
    assert len(said) == 2


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


def test_pictures_are_encoded_once(shown, monkeypatch):
    before = shown.results.groups
    monkeypatch.setattr(Image, "fromarray", None)  # would fail if it were called
    choose(shown.queries.grid, "query:0")
    assert shown.results.groups == before
    assert shown.message.text == ""


@pytest.mark.parametrize("rerank", [False, True])
@pytest.mark.parametrize("kind", ["query", "gallery", "upload"])
def test_the_static_figure_shows_the_same(retrieval, kind, rerank):
    state = BrowserState(retrieval, options=Options(rerank=rerank, show_junk=True, **SMALL))
    if kind == "upload":
        state.upload(png(), "me.png")
    else:
        state.look_up(Picture(kind, 5))
    figure = draw_result(state, columns=8)
    figure.canvas.draw()
    titles = [f"{ax.get_title()}\n{ax.get_xlabel()}" for part in figure.subfigs for ax in part.axes]
    for ranked in filter(None, (state.result.before, state.result.after)):
        for place in ranked.top(8, with_junk=True)[:8]:
            mine = [title for title in titles if title.endswith(f"\n{place.distance:.3g}")]
            mark = VERDICT_STYLES[place.verdict].mark
            start = f"{mark} {place.rank or 'junk'}".strip()
            assert any(title.startswith(start) for title in mine)
    curves = [ax.lines for part in figure.subfigs for ax in part.axes if ax.get_ylabel()]
    assert [len(lines) for lines in curves] == ([] if kind == "upload" else [1 + rerank])


@pytest.mark.parametrize("kind", ["query", "upload"])
def test_the_static_map_is_the_widget_s(shown, kind, ax):
    if kind == "upload":
        send_file(shown.upload, "me.png", png())
    draw_map(ax, shown.state)
    marks = {part.get_label(): part.get_offsets() for part in ax.collections}
    points = np.array(shown.map.points)
    np.testing.assert_allclose(marks.pop("gallery"), points, atol=1e-4)
    np.testing.assert_allclose(marks.pop("query"), [shown.map.query], atol=1e-4)
    for verdict in VERDICT_STYLES:
        mine = [index for index, other in shown.map.answers if other == verdict]
        np.testing.assert_allclose(marks.pop(verdict, np.zeros((0, 2))), points[mine], atol=1e-4)
    assert not marks
    assert ax.get_title().split("\n")[1] in shown.map_note


def test_the_static_figure_says_which_list_the_two_ends_are_of(retrieval):
    state = BrowserState(retrieval, options=Options(**SMALL))
    for name in ("By distance", "After re-ranking"):
        figure = draw_result(state, columns=8)
        axes = [ax for part in figure.subfigs for ax in part.axes]
        facts = " ".join(text.get_text() for ax in axes for text in ax.texts).replace("\n", " ")
        wrong, right = state.result.ranked.nearest_wrong(), state.result.ranked.farthest_right()
        assert f"{name}, the nearest wrong answer is at rank {wrong.rank}," in facts
        assert f"the farthest right one at rank {right.rank}," in facts
        state.change(rerank=True)


def test_the_chosen_answer_is_explained_until_something_else_is_looked_up(shown):
    assert not shown.explanation.value
    shown.rank.value = 3
    shown.explain.click()
    assert shown.message.text == ""
    (source,) = SOURCE.findall(shown.explanation.value)
    assert Image.open(io.BytesIO(base64.b64decode(source))).format == "PNG"
    assert "rank 3" in shown.explanation.value
    choose(shown.queries.grid, "query:5")
    assert not shown.explanation.value
    assert not plt.get_fignums()


def test_an_explanation_shows_both_pictures_and_two_maps_by_each_network(retrieval):
    state = BrowserState(retrieval)
    place = state.result.ranked.top(2)[1]
    figure = draw_explanation(state, 2)
    maps = state.explain(Picture("gallery", place.index))
    pictures = [ax.images[0].get_array() for ax in figure.axes if len(ax.images) == 1]
    query, answer = retrieval.query_images[0], retrieval.gallery_images[place.index]
    assert [picture.T.shape for picture in pictures] == [(3, 64, 128)] * 2
    np.testing.assert_array_equal(pictures[0].transpose(2, 0, 1), query)
    np.testing.assert_array_equal(pictures[1].transpose(2, 0, 1), answer)
    drawn = [ax.images[1].get_array() for ax in figure.axes if len(ax.images) == 2]
    expected = [*maps["trained network"], *maps["random weights"]]
    for one, other in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [part.get_suptitle() for part in figure.subfigs][1:] == list(maps)
    assert f"rank 2, {place.verdict}" in figure.get_suptitle()


def test_a_map_compares_with_the_other_picture(retrieval):
    """The network sees the mean colours of both halves; the upper one is black in one picture."""
    inputs = retrieval.gallery_inputs.copy()
    inputs[0] = retrieval.query_inputs[0]
    inputs[0, :, :64] = 0
    state = BrowserState(replace(retrieval, gallery_inputs=inputs))
    for change in state.explain(Picture("gallery", 0))["trained network"]:
        assert np.abs(change[:40]).max() > 2 * np.abs(change[80:]).max()


def test_an_upload_is_explained_too(shown):
    send_file(shown.upload, "red.png", png())
    shown.explain.click()
    assert SOURCE.search(shown.explanation.value)


def test_a_rank_that_nobody_has_is_named(retrieval):
    with pytest.raises(ValueError, match="no answer at rank 1000"):
        draw_explanation(BrowserState(retrieval), 1000)


def test_the_area_below_the_drawn_curve_is_the_ap(retrieval):
    state = BrowserState(retrieval)
    (line,) = draw_result(state).axes[-1].lines
    assert line.get_drawstyle() == "steps-pre"
    recall, precision = line.get_data()
    area = np.sum(precision[1:] * np.diff(recall))
    assert area == pytest.approx(state.result.ranked.average_precision)
