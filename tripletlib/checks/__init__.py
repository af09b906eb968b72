"""Checks of the exercise sheets: an answer is tried, and the misconception behind it is named."""

from tripletlib.checks.answers import WrongAnswer, check, predicted

__all__ = ["WrongAnswer", "check", "predicted"]
