"""Picks the device, the precision and the memory layout that suit the machine."""

import contextlib
import ctypes
import os
import platform

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names and values of glibc's <malloc.h>
_NEVER_TRIM = 2**31 - 1  # bytes; mallopt takes an int


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


def choose_layout(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    """Memory order of image batches: channels last on GPUs and in bfloat16, where it is faster."""
    if device.type == "cuda" or dtype == torch.bfloat16:
        return torch.channels_last
    return torch.contiguous_format


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
    with contextlib.suppress(AttributeError, OSError, TypeError):  # macOS, musl, Windows
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)


def return_freed_memory() -> None:
    """Hands memory that this process has freed back to the system, where the C library can."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # macOS, musl, Windows
        ctypes.CDLL(None).malloc_trim(0)
