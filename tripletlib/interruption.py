"""Stops a training between two steps, never inside one."""

import signal
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any, Self


class TrainingInterrupted(KeyboardInterrupt):
    """Somebody stopped the training; the message says where it stands and how to go on."""

    def _render_traceback_(self) -> list[str]:
        # IPython shows this in place of a page of frames: stopping is no failure.
        return [str(self)]


class StopRequest:
    """While it is open, the first Ctrl-C only asks to stop; a second one stops at once.

    SIGTERM only ever asks, however often: a batch system and torchrun may both send it to a
    process, and whoever is in a hurry has SIGKILL.

    An interrupt inside an optimiser's step would leave some weights moved and others not, and a
    checkpoint of that would be worthless. Outside the main thread, where Python delivers no
    signals, it does nothing.

    Args:
        signals: what counts as asking; Ctrl-C sends SIGINT.

    Attributes:
        requested: whether somebody asked.
    """

    def __init__(self, signals: Sequence[signal.Signals] = (signal.SIGINT,)) -> None:
        self.requested = False
        self._signals = signals
        self._earlier: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._earlier = {name: signal.signal(name, self._ask) for name in self._signals}
        return self

    def __exit__(self, *error: object) -> None:
        for name, earlier in self._earlier.items():
            signal.signal(name, earlier)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
