"""Work in one thread, or shared between workers of one thread each."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

_turn = threading.Lock()  # who remembers another's limit would leave it behind
_libraries = cache(ThreadpoolController)  # to look for all of a process takes milliseconds


@cache
def _workers(count: int) -> ThreadPoolExecutor:
    """Workers that stay, since a new thread first makes itself a pool for PyTorch's operations."""
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_workers.cache_clear)  # threads do not come along


@contextmanager
def single_threaded_workers(device: torch.device) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` with as many workers as PyTorch has threads, each computing with one.

    Blocks dealt out one by one keep every core busy, also where another process slows one of them.
    NumPy's and PyTorch's own threads each wait for the slowest, and spin on each other's cores. For
    a GPU, which works on one block at a time, it is Python's own `map`. A block's error is raised
    where its result is read. A block must not ask for workers itself, and another thread that does
    waits for its turn.
    """
    if device.type != "cpu":
        yield map
        return
    threads = torch.get_num_threads()
    with _turn, _libraries().limit(limits=1, user_api="blas"):
        try:
            yield _workers(threads).map
        finally:
            torch.set_num_threads(threads)  # what a thread that is new to PyTorch gets, too


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets PyTorch's operations on a CPU compute in the calling thread alone.

    Of two threads one waits for the other, for long where another process has that one's core.
    """
    with _turn:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
