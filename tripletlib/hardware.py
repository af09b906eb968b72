"""Picks the device, the precision and the memory layout that suit the machine."""

import torch


def choose_device(name: str) -> torch.device:
    """The named device; `"auto"` is a GPU when there is one, else the CPU."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """What the network computes in; `"auto"` is bfloat16 where the processor has it natively.

    Emulated bfloat16 is slower than float32, so `"auto"` leaves it alone.
    """
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def choose_layout(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    """Memory order of image batches: channels last on GPUs and in bfloat16.

    In float32 on a CPU the contiguous order was measured a little faster (MnistNet, B = 120).
    """
    if device.type == "cuda" or dtype == torch.bfloat16:
        return torch.channels_last
    return torch.contiguous_format
