"""The few numbers a notebook wants to be remembered by, readable for people and for programs."""

from collections.abc import Iterator, Mapping
from typing import Any

MIME_TYPE = "application/vnd.tripletlib.headlines+json"


def show_headlines(numbers: Mapping[str, float | str]) -> None:
    """Displays named numbers at a notebook's end; `make run` collects them into its table.

    Args:
        numbers: name to value; numbers are rounded to four significant digits.

    Example:
        >>> show_headlines({"k-NN accuracy": 0.93751, "epochs": 8})
        k-NN accuracy 0.9375 · epochs 8
    """
    shown = {name: _as_text(value) for name, value in numbers.items()}
    line = " · ".join(f"{name} {value}" for name, value in shown.items())
    # A custom type sits beside the text: front ends that do not know it show the text.
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        print(line)
        return
    if get_ipython() is None:
        print(line)
    else:
        # Pairs, because a saved notebook sorts the keys of an object.
        display({MIME_TYPE: list(shown.items()), "text/plain": line}, raw=True)


def find_headlines(notebook: Mapping[str, Any]) -> dict[str, str]:
    """Collects what `show_headlines` displayed in an executed notebook.

    Args:
        notebook: a notebook as nbformat reads it.

    Returns:
        Name to text, in the order of display; empty when there is none.
    """
    return {
        name: value
        for output in _outputs(notebook)
        for name, value in output.get("data", {}).get(MIME_TYPE, [])
    }


def _outputs(notebook: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for cell in notebook["cells"]:
        yield from cell.get("outputs", [])


def _as_text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
