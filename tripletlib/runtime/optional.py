"""Packages that this program can do without."""

import logging
from functools import cache
from importlib import import_module
from typing import Any


@cache
def optional_package(name: str, without: str) -> Any:
    """A package, or None where its import fails in whatever way.

    One notice then says so, and what happens `without` it.
    """
    try:
        return import_module(name)
    except (Exception, SystemExit) as error:  # a broken installation fails in any way
        reason = f"{type(error).__name__}: {error}"
        logging.getLogger("tripletlib").warning("%s is not used (%s): %s", name, reason, without)
        return None
