"""Runs a student's answer on several inputs, within a time limit, and says what is wrong."""

import copy
import ctypes
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

TIME_LIMIT = 5.0  # seconds; a right answer takes well under one
_KIND_NAMES = {"f": "floating", "iu": "whole", "b": "boolean", "iuf": "real"}


class WrongAnswer(AssertionError):
    """One sentence about an answer that is wrong. IPython shows it without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"✗ {self}"]


class Answer:
    """What a student hands over; a function is called on copies of its inputs.

    Args:
        value: as a rule a function.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, *inputs: Any, about: str = "", copied: bool = True) -> Any:
        """The function's result.

        Args:
            inputs: arguments.
            about: what is special about them, for the sentence if the function raises.
            copied: whether the function gets deep copies, so that it can spoil none of ours; not
                where gradients of the inputs are asked for.

        Raises:
            WrongAnswer: the function raises, or it is none.
        """
        if not callable(self.value):
            wrong(
                f"hand over the function itself, by its name and without brackets: this is "
                f"{type_name(self.value)}"
            )
        try:
            return self.value(*(copy.deepcopy(inputs) if copied else inputs))
        except NotImplementedError:
            wrong("not written yet: fill in the stub and run its cell, then check again")
        except WrongAnswer:
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[1:]
            line = f" in line {place[0].lineno} of its cell" if place else ""
            with_what = about or ", ".join(map(_describe, inputs))
            sentence = f"it raises {type(error).__name__}{line}: {error} (called with {with_what})"
            raise WrongAnswer(sentence) from error


@dataclass(frozen=True)
class Exercise:
    """What is known of an exercise.

    Attributes:
        check: tries an `Answer` and raises `WrongAnswer`.
        use: what a right answer will be used for, a sentence.
    """

    check: Callable[[Answer], None]
    use: str


EXERCISES: dict[str, Exercise] = {}


def exercise(name: str, use: str) -> Callable[[Callable[[Answer], None]], Callable[[Answer], None]]:
    """Registers the check of an exercise.

    Args:
        name: sheet and number, such as `"02.3"`.
        use: see `Exercise`.
    """

    def register(function: Callable[[Answer], None]) -> Callable[[Answer], None]:
        EXERCISES[name] = Exercise(function, use)
        return function

    return register


def check(exercise: str, answer: Any, seconds: float = TIME_LIMIT) -> None:
    """Tries an answer; prints what a right one is good for, or raises a sentence about a wrong one.

    Nothing is executed but the answer itself, on several inputs, edge cases among them.

    Args:
        exercise: sheet and number, such as `"02.3"`.
        answer: what the exercise asks for, as a rule a function.
        seconds: time limit of all calls together.

    Raises:
        WrongAnswer: the answer is wrong, raises, takes too long, or has another type or shape.
        ValueError: there is no such exercise.
    """
    known = _find(exercise)
    failure = _within(seconds, lambda: known.check(Answer(answer)))
    if isinstance(failure, WrongAnswer):
        raise WrongAnswer(f"{exercise}: {failure}") from failure.__cause__
    if failure is not None:
        raise failure
    print(f"✓ {exercise} is right. {known.use}")


def predicted(answer: str | float) -> None:
    """Lets a lesson go on once a prediction stands in the answer cell above.

    Args:
        answer: a sentence or a number.

    Raises:
        WrongAnswer: it is empty.
    """
    if isinstance(answer, str) and not answer.strip():
        wrong("first write your prediction into the answer cell above, and run that cell")


def _find(name: str) -> Exercise:
    sheet = name[:2]
    if sheet.isdigit() and 1 <= int(sheet) <= 5:
        import_module(f"tripletlib.checks.sheet{sheet}")
    if name not in EXERCISES:
        beside = ", ".join(sorted(known for known in EXERCISES if known[:2] == sheet))
        raise ValueError(f"there is no exercise {name!r}; sheet {sheet} has {beside or 'none'}")
    return EXERCISES[name]


class _Stopped(BaseException):
    """Raised inside an answer that takes too long; `except Exception` does not catch it."""


def _within(seconds: float, trial: Callable[[], None]) -> BaseException | None:
    """Runs a trial in a thread of its own, which also works where there are no signals."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with warnings.catch_warnings():
                # What a library warns about on the way would make the cell look failed.
                warnings.simplefilter("ignore")
                trial()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        ident = ctypes.c_ulong(thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(_Stopped))
        return WrongAnswer(f"no result after {seconds:g} seconds: does every loop come to its end?")
    if failures and isinstance(failures[0], SystemExit):
        return WrongAnswer("it ends the program: return the result instead")
    return failures[0] if failures else None


def wrong(sentence: str) -> NoReturn:
    """Raises a `WrongAnswer`."""
    raise WrongAnswer(sentence)


def need(condition: Any, sentence: str) -> None:
    """Raises a `WrongAnswer` unless the condition holds."""
    if not condition:
        wrong(sentence)


def tensor(value: Any, shape: Sequence[int], what: str, kind: str = "f") -> Tensor:
    """The value, if it is a tensor of that shape and kind.

    Args:
        value: what the answer returned.
        shape: wanted.
        what: its name in a sentence.
        kind: letters of NumPy's kinds of numbers: `"f"`, `"iu"`, `"iuf"` or `"b"`.

    Raises:
        WrongAnswer: it is not, or holds NaN.
    """
    need(isinstance(value, Tensor), f"{what} must be a tensor, not {type_name(value)}")
    numbers(value.detach().numpy(), shape, what, kind)
    return value


def numbers(value: Any, shape: Sequence[int], what: str, kind: str = "f") -> np.ndarray:
    """The value, if it is an array of that shape and kind; see `tensor`.

    Raises:
        WrongAnswer: it is not, or holds NaN.
    """
    need(isinstance(value, np.ndarray), f"{what} must be a NumPy array, not {type_name(value)}")
    got, asked = list(value.shape), list(shape)
    need(got == asked, f"{what} must have the shape {asked}, yours has {got}")
    need(value.dtype.kind in kind, f"{what} must be {_KIND_NAMES[kind]} numbers, not {value.dtype}")
    if kind == "f":
        need(not np.isnan(value).any(), f"{what} is NaN in {np.isnan(value).sum()} places")
    return value


def number(value: Any, what: str) -> float:
    """The value as a float, if it is a single number: Python's, NumPy's or a tensor's.

    Raises:
        WrongAnswer: it is not.
    """
    if isinstance(value, Tensor | np.ndarray | np.generic):
        need(np.ndim(value) == 0, f"{what} must be one number, yours has the shape {value.shape}")
        value = value.item()
    need(
        isinstance(value, int | float) and not isinstance(value, bool),
        f"{what} must be a number, not {type_name(value)}",
    )
    return float(value)


def parts(value: Any, names: Sequence[str]) -> tuple[Any, ...]:
    """The value, if it is a tuple or list with an entry for each name.

    Raises:
        WrongAnswer: it is not.
    """
    several = f"return {len(names)} things: {', '.join(names)}"
    need(isinstance(value, tuple | list), f"{several}; this is {type_name(value)}")
    need(len(value) == len(names), f"{several}; these are {len(value)}")
    return tuple(value)


def agree(value: float, wanted: float, misreadings: Mapping[str, float], otherwise: str) -> None:
    """Compares a number with the right one, and with those that known misconceptions give.

    Args:
        value: what the answer returned.
        wanted: the right number.
        misreadings: what to say if it is this number instead.
        otherwise: what to say of any other number.

    Raises:
        WrongAnswer: it is not the right number, with a tolerance of 1e-4.
    """
    if np.isclose(value, wanted, atol=1e-4, equal_nan=True):
        return
    for sentence, misread in misreadings.items():
        if np.isclose(value, misread, atol=1e-4, equal_nan=True):
            wrong(sentence)
    wrong(otherwise)


def type_name(value: Any) -> str:
    """The value's type in a sentence."""
    return "nothing (None): is there a return?" if value is None else f"a {type(value).__name__}"


def _describe(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        few = value.ndim <= 1 and len(value.reshape(-1)) <= 12
        return f"{value.tolist()}" if few else f"numbers of shape {list(value.shape)}"
    if isinstance(value, np.random.Generator):
        return "a random generator"
    text = repr(value)
    return text if len(text) <= 40 else type_name(value)


def generator(seed: int) -> torch.Generator:
    """A seeded random sequence of PyTorch."""
    return torch.Generator().manual_seed(seed)
