"""The few numbers a notebook wants to be remembered by, readable for people and for programs."""

import sys
from collections.abc import Mapping

HEADLINES = "application/vnd.tripletlib.headlines+json"  # MIME type of the displayed numbers


def show_headlines(numbers: Mapping[str, float | str]) -> None:
    """Displays named numbers at a notebook's end; `make run` collects them into its table.

    They are rounded to four significant digits.

    Example:
        >>> show_headlines({"k-NN accuracy": 0.93751, "epochs": 8})
        k-NN accuracy 0.9375 · epochs 8
    """
    # Pairs, because a saved notebook sorts the keys of an object.
    pairs = [(name, n if isinstance(n, str) else f"{n:.4g}") for name, n in numbers.items()]
    line = " · ".join(f"{name} {text}" for name, text in pairs)
    ipython = sys.modules.get("IPython")  # loaded in every kernel
    if ipython is None or ipython.get_ipython() is None:
        print(line)
    else:  # a front end that does not know the type shows the text beside it
        ipython.display.display({HEADLINES: pairs, "text/plain": line}, raw=True)
