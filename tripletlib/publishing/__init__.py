"""Executes the notebooks, cleans and publishes them, and keeps what was measured."""

from tripletlib.publishing.runner import (
    NOTEBOOKS,
    execute,
    find_headlines,
    find_notebooks,
    read_parameters,
)

__all__ = ["NOTEBOOKS", "execute", "find_headlines", "find_notebooks", "read_parameters"]
