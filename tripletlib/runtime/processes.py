"""Several processes, one global batch: what training shares, and how it stays one training.

`torchrun` starts the processes. Each has the whole network and works on its share of every batch;
the embeddings are gathered, so that mining sees the whole batch, and the gradients are averaged by
PyTorch's `DistributedDataParallel`. A process that is alone pays nothing for this: its `Processes`
hands everything back as it is.
"""

import copy
import os
import pickle
import signal
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


class Processes:
    """One process, alone: every share is the whole, and there is nobody to wait for.

    Attributes:
        rank: number of this process, from 0.
        count: processes in all.
        stop_signals: what asks the training to stop between two steps. torchrun passes SIGTERM on
            to its processes; alone, a process dies of it as any program does.
    """

    rank, count = 0, 1
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGINT,)

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """This process's part of `rows` rows; all parts together are all rows, in order."""
        return slice(rows * self.rank // self.count, rows * (self.rank + 1) // self.count)

    def equal_share(self, identities: int, images: int) -> slice:
        """This process's part of a batch of P x K images, as large as everybody's.

        Raises:
            ValueError: the batch cannot be dealt out evenly.
        """
        size = identities * images
        if size % self.count:
            fitting = [n for n in range(1, self.count) if size % n == 0]
            raise ValueError(
                f"a batch of P x K = {identities} x {images} = {size} images cannot be dealt out "
                f"evenly to {self.count} processes; start {fitting[-1]} of them, or change "
                f"identities or images_per_identity so that {self.count} divides their product"
            )
        return self.share(size)

    def replica(self, model: nn.Module) -> nn.Module:
        """The network to train with; it shares the parameters of `model`."""
        return model

    def gather(self, embeddings: Tensor) -> Tensor:
        """The whole batch's embeddings `[B, D]` from each process's `[B / processes, D]`."""
        return embeddings

    def gather_objects(self, mine: T) -> list[T]:
        """What each process hands in, in the processes' order, in every process."""
        return [mine]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag

    def from_all(self, action: Callable[[], T]) -> list[T]:
        """What the action gives in each process, in every process.

        An error in one is raised in all: none is left waiting for another that has given up.
        """
        return [action()]

    def from_first(self, action: Callable[[], T]) -> T:
        """What the action gives in the first process; its error is raised in all of them."""
        return action()

    def in_turn(self, action: Callable[[], T]) -> T:
        """Runs the action everywhere, but in the first process, then one a machine, before others.

        What the first draws, decodes or downloads, the others then find. An error is raised in all.
        """
        return action()


class _Group(Processes):
    """The processes of PyTorch's default process group."""

    stop_signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()

    def replica(self, model: nn.Module) -> nn.Module:
        # Other layers over the same tensors: the caller's network keeps its own layers and its
        # names, and evaluating it between two steps waits for nobody.
        tensors = chain(model.parameters(), model.buffers())
        layers = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
        on_gpu = next(model.parameters()).is_cuda
        synchronise = nn.SyncBatchNorm.convert_sync_batchnorm if on_gpu else synchronise_batch_norm
        return nn.parallel.DistributedDataParallel(
            synchronise(layers).train(),
            device_ids=[torch.cuda.current_device()] if on_gpu else None,
        )

    def gather(self, embeddings: Tensor) -> Tensor:
        return gather_rows(embeddings)

    def gather_objects(self, mine: T) -> list[T]:
        everybodys: list[Any] = [None] * self.count
        dist.all_gather_object(everybodys, mine)
        return everybodys

    def any(self, flag: bool) -> bool:
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def from_all(self, action: Callable[[], T]) -> list[T]:
        outcomes = self.gather_objects(_attempt(action))
        _raise_first(error for _, error in outcomes)
        return [value for value, _ in outcomes]  # type: ignore[misc]

    def from_first(self, action: Callable[[], T]) -> T:
        outcome: list[Any] = [_attempt(action) if self.is_first else None]
        dist.broadcast_object_list(outcome, src=0)
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    def in_turn(self, action: Callable[[], T]) -> T:
        value: Any = None
        mine = 0 if self.is_first else 1 if os.environ.get("LOCAL_RANK") == "0" else 2
        for turn in range(3):
            error = None
            if turn == mine:
                value, error = _attempt(action)
            _raise_first(self.gather_objects(error))
        return value


def current_processes() -> Processes:
    """The processes of this training: PyTorch's process group if there is one."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return _Group()
    return Processes()


def _attempt(action: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return action(), None
    except Exception as error:  # whatever it is, the processes that wait must hear of it
        return None, _portable(error)


def _raise_first(errors: Iterable[Exception | None]) -> None:
    for error in errors:
        if error is not None:
            raise error


def _portable(error: Exception) -> Exception:
    """The error, or its nearest built-in kin if pickle cannot carry it to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an error's own class may fail in any way here
        kin = next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")
        return kin(str(error))
    return error


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


BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


class CpuSyncBatchNorm(nn.Module):
    """What `torch.nn.SyncBatchNorm` does on a GPU, on a CPU, where that refuses to work.

    Mean and variance of a channel are those of all processes' images together, as if they were in
    one batch. Each process needs the same number of them.

    Args:
        layer: the batch-normalisation whose parameters and running statistics are used.

    Source:
        Ioffe and Szegedy 2015 (arXiv 1502.03167), algorithm 1; the law of total variance.
    """

    def __init__(self, layer: BatchNorm) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> Tensor:
        """Normalises each channel; in evaluation mode as the layer itself does.

        Args:
            features: `[b, C, ...]`, this process's part of the batch.

        Returns:
            The same shape and type; computed in float32 or float64.
        """
        layer = self.layer
        if not layer.training:
            return layer(features)
        values = features if features.dtype == torch.float64 else features.float()
        others = [dimension for dimension in range(features.ndim) if dimension != 1]
        variance, mean = torch.var_mean(values, others, correction=0)  # [C] each
        means, variances = gather_rows(torch.stack([mean, variance])[None]).unbind(1)
        mean = means.mean(0)  # [C] from [processes, C]
        # Variance of all = mean of the variances + variance of the means. A mean of the squares
        # less the square of the mean would lose digits.
        variance = variances.mean(0) + means.var(0, correction=0)
        self._track(mean.detach(), variance.detach(), len(means) * values[:, 0].numel())
        scale = torch.rsqrt(variance + layer.eps)
        if layer.affine:
            scale = scale * layer.weight
        shift = layer.bias - mean * scale if layer.affine else -mean * scale
        shape = [-1 if dimension == 1 else 1 for dimension in range(features.ndim)]
        return torch.addcmul(shift.view(shape), values, scale.view(shape)).to(features.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        layer = self.layer
        if layer.running_mean is None or layer.running_var is None:
            return
        layer.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        momentum = layer.momentum
        if momentum is None:  # a plain average over all batches
            momentum = 1 / int(layer.num_batches_tracked)  # type: ignore[arg-type]
        layer.running_mean.lerp_(mean, momentum)
        layer.running_var.lerp_(variance * (count / (count - 1)), momentum)  # unbiased, as PyTorch


def synchronise_batch_norm(network: nn.Module) -> nn.Module:
    """Puts a `CpuSyncBatchNorm` around each batch-normalisation inside a network, in place."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, BatchNorm):
                setattr(parent, name, CpuSyncBatchNorm(child))
    return network
