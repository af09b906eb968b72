"""Looks at what an answer returned: its type, shape and numbers, and what explains a wrong one."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

_KINDS = {"f": "floating", "iu": "whole", "b": "boolean", "iuf": "real"}  # NumPy's letters
_TYPES = {Tensor: "a tensor", np.ndarray: "a NumPy array"}


class WrongAnswer(AssertionError):
    """One sentence about an answer that is wrong. IPython shows it without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"✗ {self}"]


def wrong(sentence: str) -> NoReturn:
    """Raises a `WrongAnswer`."""
    raise WrongAnswer(sentence)


def need(condition: Any, sentence: str) -> None:
    """Raises a `WrongAnswer` unless the condition holds."""
    if not condition:
        wrong(sentence)


def of_type(value: Any, wanted: type, what: str = "the result") -> Any:
    """The value, if it is of that type; `what` is its name in a sentence, here and below."""
    name = _TYPES.get(wanted, f"a {wanted.__name__}")
    need(isinstance(value, wanted), f"{what} must be {name}, not {type_name(value)}")
    return value


def numbers(
    value: Any, shape: Sequence[int], what: str, kind: str = "f", type_: type = np.ndarray
) -> np.ndarray:
    """The value as an array, if it is one (or a tensor) of that shape and kind, without NaN.

    `kind` holds letters of NumPy's kinds: `"f"`, `"iu"`, `"iuf"` or `"b"`.
    """
    of_type(value, type_, what)
    array = value.detach().numpy() if isinstance(value, Tensor) else value
    got, asked = list(array.shape), list(shape)
    need(got == asked, f"{what} must have the shape {asked}, yours has {got}")
    need(array.dtype.kind in kind, f"{what} must be {_KINDS[kind]} numbers, not {array.dtype}")
    if kind == "f":
        need(not np.isnan(array).any(), f"{what} is NaN in {np.isnan(array).sum()} places")
    return array


def number(value: Any, what: str) -> float:
    """The value as a float, if it is a single number: Python's, NumPy's or a tensor's."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        need(np.ndim(value) == 0, f"{what} must be one number, yours has the shape {value.shape}")
        value = value.item()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    need(is_number, f"{what} must be a number, not {type_name(value)}")
    return float(value)


def parts(value: Any, *names: str) -> Sequence[Any]:
    """The value, if it is a tuple or list with an entry for each name."""
    several = f"return {len(names)} things: {', '.join(names)}"
    need(isinstance(value, tuple | list), f"{several}; this is {type_name(value)}")
    need(len(value) == len(names), f"{several}; these are {len(value)}")
    return value


def agree(value: Any, wanted: Any, what: str, misreadings: Mapping[str, Any] | None = None) -> None:
    """Compares a number with the right one, then with those that misconceptions give.

    `misreadings` holds for each sentence the number that it explains; the tolerance is 1e-4.
    """
    value = number(value, what)
    if not np.isclose(value, float(wanted), atol=1e-4, equal_nan=True):
        for sentence, misread in (misreadings or {}).items():
            need(not np.isclose(value, float(misread), atol=1e-4, equal_nan=True), sentence)
        wrong(f"{what} is not {value:.4g}")


def normal(seed: int, *shape: int) -> Tensor:
    """Normally distributed numbers, always the same for a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def neighbours(seed: int, size: int, crowd: int = 0) -> np.ndarray:
    """Everybody's neighbours, each first among its own; in a crowd being near is seldom mutual."""
    points = np.random.default_rng(seed).normal(size=(size, 2))
    points[:crowd] *= 0.3
    return np.linalg.norm(points[:, None] - points, axis=2).argsort(axis=1, kind="stable")


def type_name(value: Any) -> str:
    return "nothing (None): is there a return?" if value is None else f"a {type(value).__name__}"
