"""Workers of one thread each, for work that falls into independent blocks."""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def single_threaded_workers(device: torch.device) -> Iterator[Executor]:
    """As many workers as PyTorch has threads, each computing with one; a GPU gets one worker.

    Blocks dealt out one by one keep every core busy, also where another process slows one of them.
    NumPy's and PyTorch's own threads each wait for the slowest, and spin on each other's cores.
    """
    threads = torch.get_num_threads()
    workers = threads if device.type == "cpu" else 1
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        try:
            yield pool
        finally:
            torch.set_num_threads(threads)
