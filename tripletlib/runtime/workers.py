"""Workers of one thread each, for work that falls into independent blocks."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def single_threaded_workers(device: torch.device) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` with as many workers as PyTorch has threads, each computing with one.

    Blocks dealt out one by one keep every core busy, also where another process slows one of them.
    NumPy's and PyTorch's own threads each wait for the slowest, and spin on each other's cores. For
    a GPU, which works on one block at a time, it is Python's own `map`.
    """
    if device.type != "cpu":
        yield map
        return
    threads = torch.get_num_threads()
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        try:
            yield pool.map
        finally:
            torch.set_num_threads(threads)
