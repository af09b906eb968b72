"""What the query browser keeps: files that it saves, and memory that it gives back."""

import errno
import gc
import os
import weakref

import psutil
import pytest
from matplotlib.figure import Figure
from page_messages import send_file
from toy_retrieval import make_retrieval, png

from tripletlib.widgets import QueryBrowser, notebook_widget


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "saved"


def save_upload(folder, name, colour):
    """What a reader does in a new kernel: open the browser, hand a picture in, save the ranking."""
    shown = QueryBrowser(make_retrieval(), folder)
    send_file(shown.upload, name, png(colour))
    shown.export.click()
    return shown.message.text.removeprefix("Saved ")


def test_nothing_that_was_saved_is_overwritten(folder):
    names = ("me.png", "you & I.png", "me.png")
    files = [save_upload(folder, *it) for it in zip(names, ("red", "lime", "blue"), strict=True)]
    assert [os.path.basename(file) for file in files] == [  # noqa: PTH119
        "upload_me.csv", "upload_you_I.csv", "upload_me_2.csv",
    ]  # fmt: skip
    first, _, last = sorted(folder.iterdir())
    assert first.read_text(encoding="utf-8") != last.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("code", "cure"),
    [(errno.EROFS, "make the folder writable"), (errno.ENOSPC, "free disk space")],
)
def test_a_file_that_cannot_be_saved_is_named_with_the_way_out(folder, monkeypatch, code, cure):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Figure, "savefig", fail)
    shown = QueryBrowser(make_retrieval(), folder)
    shown.save.click()
    assert shown.message.role == "alert"
    assert cure in shown.message.text
    assert "open the browser with another folder" in shown.message.text
    assert str(folder / "query_00000.png") in shown.message.text
    assert "Error" not in shown.message.text


def test_a_newer_browser_closes_the_one_before_and_gives_its_memory_back(folder, monkeypatch):
    retrieval = make_retrieval()
    first = QueryBrowser(retrieval, folder)
    send_file(first.upload, "me.png", png())
    parts = first.map, first.results, first.state, retrieval.gallery_images
    kept = [weakref.ref(part) for part in parts]
    del retrieval, parts
    other = QueryBrowser(make_retrieval(), folder / "elsewhere")
    gc.collect()
    assert all(part() is not None for part in kept)  # the browser of another folder is its own
    second = QueryBrowser(make_retrieval(), folder)
    assert [part() for part in kept] == [None] * 4  # although `first` is still at hand
    monkeypatch.setattr(notebook_widget, "in_live_notebook", lambda: True)
    assert "closed" in first._repr_mimebundle_()["text/plain"]
    for alive in (second, other):
        assert "application/vnd.jupyter.widget-view+json" in alive._repr_mimebundle_()


def test_a_callback_whose_browser_is_closed_meanwhile_ends_in_silence(folder):
    """JupyterLab may run a callback in another thread than the cells."""
    first = QueryBrowser(make_retrieval(), folder)

    def overtaken():
        QueryBrowser(make_retrieval(), folder)  # as the cell does when it is run again
        first.state.back()

    callback = first.guarded(overtaken)
    callback()
    assert not hasattr(first, "state")
    callback()  # a message that was on its way


def test_the_memory_of_a_large_upload_is_given_back(folder):
    shown = QueryBrowser(make_retrieval(), folder)
    send_file(shown.upload, "small.png", png())  # loads what any upload needs
    before = psutil.Process().memory_info().rss
    send_file(shown.upload, "large.png", png(size=(8_000, 5_000)))  # decoded it has 120 MB
    assert shown.state.uploads[1].name == "large.png"
    assert psutil.Process().memory_info().rss - before < 40_000_000
