"""Runs a student's answer on several inputs, within a time limit, and says what is wrong."""

import copy
import ctypes
import threading
import traceback
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from torch import Tensor

from tripletlib.checks.values import WrongAnswer, need, type_name, wrong

TIME_LIMIT = 5.0  # seconds; a right answer takes well under one


class Answer:
    """What a student hands over, as a rule a function, which is called on copies of its inputs."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, *inputs: Any, about: str = "", copied: bool = True) -> Any:
        """Calls the function; whatever it raises becomes a `WrongAnswer`.

        `about` says what is special about the inputs, and stands in that sentence. Where gradients
        of the inputs are asked for, `copied` is False.
        """
        itself = "hand over the function itself, by its name and without brackets"
        need(callable(self.value), f"{itself}: this is {type_name(self.value)}")
        try:
            return self.value(*(copy.deepcopy(inputs) if copied else inputs))
        except NotImplementedError:
            wrong("not written yet: fill in the stub and run its cell, then check again")
        except WrongAnswer:
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[1:]
            line = f" in line {place[0].lineno} of its cell" if place else ""
            called = f"(called with {about or ', '.join(map(_describe, inputs))})"
            sentence = f"it raises {type(error).__name__}{line}: {error} {called}"
            raise WrongAnswer(sentence) from error


Check = Callable[[Answer], None]  # tries an answer, and raises a WrongAnswer
EXERCISES: dict[str, tuple[Check, str]] = {}  # by name: the check, and what the answer is used for


def exercise(name: str, use: str) -> Callable[[Check], Check]:
    """Registers the check of an exercise, such as `"02.3"`, and what a right answer is used for."""

    def register(function: Check) -> Check:
        EXERCISES[name] = function, use
        return function

    return register


def check(exercise: str, answer: Any, seconds: float = TIME_LIMIT) -> None:
    """Tries an answer; prints what a right one is used for, or raises a sentence about a wrong one.

    Nothing is executed but the answer itself, on several inputs, edge cases among them.

    Args:
        exercise: sheet and number, such as `"02.3"`.
        answer: what the exercise asks for, as a rule a function.
        seconds: time limit of all calls together.

    Raises:
        WrongAnswer: the answer is wrong, raises, takes too long, or has another type or shape.
        ValueError: there is no such exercise.
    """
    function, use = _find(exercise)
    failure = _within(seconds, lambda: function(Answer(answer)))
    if failure is None:
        print(f"✓ {exercise} is right. {use}")
        return
    if isinstance(failure, WrongAnswer):
        raise WrongAnswer(f"{exercise}: {failure}") from failure.__cause__
    kind = type(failure).__name__
    unfit = f"{exercise}: what your answer gives cannot be worked with: {kind}: {failure}"
    raise WrongAnswer(unfit) from failure


def predicted(answer: str | float) -> None:
    """Lets a lesson go on once a prediction, a sentence or a number, stands in the cell above.

    A WrongAnswer if it is empty.
    """
    if isinstance(answer, str) and not answer.strip():
        wrong("first write your prediction into the answer cell above, and run that cell")


def _find(name: str) -> tuple[Check, str]:
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
    """Runs a trial in a thread, since signals reach the main thread only; what it raised."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a library's warning makes a cell look failed
                trial()
        except SystemExit:
            failures.append(WrongAnswer("it ends the program: return the result instead"))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        ident = ctypes.c_ulong(thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(_Stopped))
        return WrongAnswer(f"no result after {seconds:g} seconds: does every loop come to its end?")
    return failures[0] if failures else None


def _describe(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        few = value.ndim <= 1 and len(value.reshape(-1)) <= 12
        return f"{value.tolist()}" if few else f"numbers of shape {list(value.shape)}"
    if isinstance(value, np.random.Generator):
        return "a random generator"
    text = repr(value)
    return text if len(text) <= 40 else type_name(value)
