"""Rows of all processes in every process, with gradients that find their way back."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_rows(rows: Tensor) -> Tensor:
    """Every process's rows, in the processes' order, in every process.

    Each process goes on to compute with all rows, so a row's gradient is the sum of what all
    processes say about it. Where they all compute the same loss of the whole batch, that sum is
    the gradient times the number of processes, and `DistributedDataParallel`, which averages over
    the processes, makes it the gradient again.

    Args:
        rows: `[R, ...]`, of the same shape in each process.

    Returns:
        `[processes * R, ...]`.
    """
    return _GatherRows.apply(rows)


class _GatherRows(torch.autograd.Function):
    # torch.distributed.nn.functional.all_gather did this; it is deprecated, and what replaces it is
    # not in the older versions of PyTorch that this package allows.
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]
