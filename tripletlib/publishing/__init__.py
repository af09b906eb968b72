"""Runs, cleans and publishes the notebooks, and keeps what was measured."""

from tripletlib.publishing.runner import NOTEBOOKS, execute

__all__ = ["NOTEBOOKS", "execute"]
