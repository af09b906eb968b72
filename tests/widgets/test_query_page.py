"""Who may get a page with pictures in it, and what happens where none can be written."""

import json
import re
from dataclasses import replace

import pytest
from toy_retrieval import make_retrieval

from tripletlib.__main__ import main as program
from tripletlib.reranking import NeighbourIndex
from tripletlib.widgets import query_page, write_query_page


@pytest.fixture
def opened(monkeypatch):
    """What the command opens."""

    def as_run(retrieval):
        monkeypatch.setattr(query_page, "open_retrieval", lambda run: retrieval)

    return as_run


def test_pictures_of_people_are_refused_unless_they_may_be_passed_on(opened, tmp_path, capsys):
    file = tmp_path / "page.html"
    opened(make_retrieval())
    assert program(["query-page", "03_market1501_cpu", str(file)]) == 2
    said = capsys.readouterr().err
    assert "licence" in said
    assert "--pictures-may-be-passed-on" in said
    assert not file.exists()
    assert query_page.main(["run", str(file), "--pictures-may-be-passed-on"]) == 0
    assert file.stat().st_size > 1000


def test_drawn_people_need_no_consent(opened, tmp_path):
    opened(replace(make_retrieval(), drawn=True))
    assert query_page.main(["shipped", str(tmp_path / "page.html")]) == 0


def test_pictures_without_labels_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no queries with labels"):
        write_query_page(make_retrieval().without_labels(), tmp_path / "page.html")


def test_a_page_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"name another file; could not write: .*page\.html"):
        write_query_page(make_retrieval(), tmp_path / "file" / "page.html", progress="off")


def test_queries_are_re_ranked_once_and_dots_numbered_from_zero(tmp_path, monkeypatch):
    toy, rerank, calls = make_retrieval(), NeighbourIndex.rerank, []
    toy.gallery.camids[:] = 7 * toy.gallery.camids - 3
    toy.gallery.pids[:2] = -1
    monkeypatch.setattr(NeighbourIndex, "rerank", lambda *a: calls.append(a) or rerank(*a))
    write_query_page(toy, tmp_path / "page.html", progress="off")
    assert [query for _, query, *_ in calls] == [0, *range(12)]  # opened on the first
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    kinds = json.loads(re.search('id="content">(.*)</script>', text)[1])["gallery"]["kinds"]
    assert set(kinds["camera"]) == {0, 1, 2}
    assert set(kinds["person"]) == set(range(7))
