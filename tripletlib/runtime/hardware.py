"""What suits the machine: device, precision and memory layout, memory that is kept, threads."""

import ctypes
import os
import platform
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from threadpoolctl import ThreadpoolController

P = ParamSpec("P")
T = TypeVar("T")

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names and values of glibc's <malloc.h>
_NEVER_TRIM = 2**31 - 1  # bytes; mallopt takes an int
_turn = threading.Lock()  # who remembers another's limit would leave it behind
_libraries = cache(ThreadpoolController)  # to look for all of a process takes milliseconds


def choose_device(name: str) -> torch.device:
    """The named device; `"auto"` is a GPU when there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """What the network computes in; `"auto"` is bfloat16 where the processor has it natively.

    Emulated bfloat16 is slower than float32. On a GPU, PyTorch computes float32 convolutions in
    TF32, with 10 bits of mantissa; products of matrices, and with them distances, keep all 23.
    """
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def choose_layout(device: torch.device) -> torch.memory_format:
    """Memory order of image batches: channels last where convolutions are faster so.

    That is on GPUs, and on CPUs with oneDNN.
    """
    with_onednn = device.type == "cpu" and torch.backends.mkldnn.is_available()
    return torch.channels_last if with_onednn or device.type == "cuda" else torch.contiguous_format


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """The class of machine that numbers were measured on; nothing that tells one from another."""
    machine: dict[str, str | int] = {
        "processor": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
    return machine


def keep_freed_memory() -> None:
    """Lets this process keep the memory it frees, where the C library can (glibc).

    A training step on a CPU allocates the same large activations again and again. By default glibc
    hands them back, and the kernel fills each page anew with zeros.
    """
    with suppress(AttributeError, OSError, TypeError):  # macOS, musl, Windows
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)


def return_freed_memory() -> None:
    """Hands memory that this process has freed back to the system, where the C library can."""
    with suppress(AttributeError, OSError, TypeError):  # macOS, musl, Windows
        ctypes.CDLL(None).malloc_trim(0)


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
    where its result is read. A block must not ask for workers itself, nor be `in_one_thread`, as
    mining is; another thread that asks waits for its turn.
    """
    if device.type != "cpu":
        yield map
        return
    with _turn, _libraries().limit(limits=1, user_api="blas"):
        threads = torch.get_num_threads()
        try:
            yield _workers(threads).map
        finally:
            torch.set_num_threads(threads)  # what a thread that is new to PyTorch gets, too


def in_one_thread(work: Callable[P, T]) -> Callable[P, T]:
    """A decorator: PyTorch's operations on a CPU compute in the calling thread alone.

    Of two threads one waits for the other, for long where another process has that one's core. A
    thread that uses PyTorch for the first time meanwhile stays with one. The first argument is a
    tensor: if a GPU's, nothing changes. Not to be nested.
    """

    @wraps(work)
    def alone(*args: P.args, **options: P.kwargs) -> T:
        tensor: Any = args[0]
        if not tensor.is_cpu:
            return work(*args, **options)
        with _turn:
            threads = torch.get_num_threads()
            try:
                torch.set_num_threads(1)
                return work(*args, **options)
            finally:
                torch.set_num_threads(threads)

    return alone
