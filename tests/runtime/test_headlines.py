import nbformat
from IPython.core.interactiveshell import InteractiveShell

from tripletlib.publishing import find_headlines
from tripletlib.runtime import show_headlines


def test_outside_a_notebook_a_line_is_printed(capsys):
    show_headlines({"accuracy": 0.94321, "epochs": 8, "verdict": "good"})
    assert capsys.readouterr().out == "accuracy 0.9432 · epochs 8 · verdict good\n"


def test_what_a_notebook_shows_is_found_again(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.get_ipython", lambda: InteractiveShell)
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    show_headlines({"accuracy": 0.5})
    cell = nbformat.v4.new_code_cell(
        outputs=[nbformat.v4.new_output("display_data", data=shown[0])]
    )
    plain = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("stream", text="hello")])
    notebook = nbformat.v4.new_notebook(cells=[plain, nbformat.v4.new_markdown_cell("text"), cell])
    assert find_headlines(notebook) == {"accuracy": "0.5"}
    assert shown[0]["text/plain"] == "accuracy 0.5"
