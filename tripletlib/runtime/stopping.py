"""Stopping between two steps, by Ctrl-C, by SIGTERM, or because the parent process died."""

import os
import signal
import threading
import time
from contextlib import ExitStack
from types import FrameType
from typing import Self

_LOOK_EVERY = 0.2  # seconds


class StopRequest(ExitStack):
    """While it is open, Ctrl-C and SIGTERM ask the training to stop instead of ending the process.

    An interrupt inside an optimiser's step would leave some weights moved and others not. A second
    Ctrl-C raises KeyboardInterrupt at once; SIGTERM, which batch systems and torchrun may send
    twice, never does. Only in a process's main thread has it an effect.

    Attributes:
        requested: whether somebody asked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requested = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGINT, signal.SIGTERM):
                self.callback(signal.signal, name, signal.signal(name, self._ask))
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


def stop_with_parent() -> None:
    """Sends this process SIGTERM when its parent dies, so that it does not work on unwatched."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:  # an orphan gets another parent
            time.sleep(_LOOK_EVERY)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
