"""Checks of the exercise sheets: an answer is tried, and the misconception behind it is named."""

from tripletlib.checks.answers import check, predicted
from tripletlib.checks.sheet02 import train_small_net
from tripletlib.checks.values import WrongAnswer

__all__ = ["WrongAnswer", "check", "predicted", "train_small_net"]
