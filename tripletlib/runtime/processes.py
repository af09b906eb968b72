"""Several processes, one training: each has the whole network and its share of every batch.

The embeddings are gathered, so that mining sees the whole batch, and PyTorch's
`DistributedDataParallel` averages the gradients. `launching` starts the processes.
"""

import copy
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tripletlib.runtime.files import AnyPath

T = TypeVar("T")
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


@dataclass
class Processes:
    """The processes of one training as one of them sees it; a process alone is a group of one."""

    rank: int = 0  # of this process
    count: int = 1  # above 1 they have joined PyTorch's default process group
    store: dist.Store | None = None  # torchrun's outlives the processes that it starts again
    session: str = ""  # name of this start of the processes; a restart has another

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    @staticmethod
    def is_first_on_machine() -> bool:
        """Whether this process is its machine's first or alone, also before it joins a group."""
        return os.environ.get("LOCAL_RANK", "0") == "0"

    def share(self, rows: int) -> slice:
        """This process's part of `rows` rows; all parts together are all rows, in order."""
        return slice(rows * self.rank // self.count, rows * (self.rank + 1) // self.count)

    def replica(self, model: nn.Module) -> nn.Module:
        """The network to train with; it shares the parameters of `model`."""
        if self.count == 1:
            return model
        # Other layers over the same tensors, so that the caller's keep their names and their
        # batch-normalisation waits for nobody when they are evaluated between two steps.
        tensors = [*model.parameters(), *model.buffers()]
        layers = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors}).train()
        if next(model.parameters()).is_cuda:
            layers = nn.SyncBatchNorm.convert_sync_batchnorm(layers)
            return nn.parallel.DistributedDataParallel(layers, [torch.cuda.current_device()])
        for layer in layers.modules():
            if isinstance(layer, BatchNorm):
                layer.forward = partial(sync_batch_norm, layer)  # type: ignore[method-assign]
        return nn.parallel.DistributedDataParallel(layers)

    def gather(self, rows: Tensor) -> Tensor:
        """All processes' rows, in the processes' order, from each one's `[R, ...]`."""
        return rows if self.count == 1 else _GatherRows.apply(rows)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; nobody goes on before all have come here."""
        if self.count == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def from_all(self, action: Callable[[], T]) -> list[T]:
        """What the action gives in each process; an error in one is raised in all."""
        if self.count == 1:
            return [action()]
        outcomes: list[Any] = [None] * self.count
        dist.all_gather_object(outcomes, _attempt(action))
        return [_value_of(*outcome) for outcome in outcomes]

    def from_first(self, action: Callable[[], T]) -> T:
        """What the action gives in the first process; its error is raised in all of them."""
        if self.count == 1:
            return action()
        outcome: list[Any] = [_attempt(action) if self.is_first else None]
        dist.broadcast_object_list(outcome, src=0)
        return _value_of(*outcome[0])

    def in_turn(self, action: Callable[[], T]) -> T:
        """Runs the action in the first process, then in one a machine, then in the others.

        What the first draws, decodes or downloads, the others find. An error is raised in all.
        """
        values: list[T] = []
        turns: list[Callable[[], None]] = [lambda: None] * 3
        own = 0 if self.is_first else 1 if self.is_first_on_machine() else 2
        turns[own] = lambda: values.append(action())
        for turn in turns:
            self.from_all(turn)
        return values[0]

    def note_begun(self, run_folder: AnyPath) -> None:
        """Remembers, also for processes that torchrun starts again, that a run has begun."""
        if self.store is not None:
            self.store.set(str(run_folder), self.session)

    def begun_before(self, run_folder: AnyPath) -> bool:
        """Whether processes that died since, of the same torchrun, had begun the run."""
        store, key = self.store, str(run_folder)
        return store is not None and store.check([key]) and store.get(key) != self.session.encode()


def portable(error: BaseException) -> BaseException:
    """The error, or its nearest built-in kin if pickle cannot carry it to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an error's own class may fail in any way here
        kin = next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")
        return kin(str(error))
    return error


def _attempt(action: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return action(), None
    except Exception as error:  # whatever it is, the processes that wait must hear of it
        return None, portable(error)


def _value_of(value: T, error: BaseException | None) -> T:
    if error is not None:
        raise error
    return value


class _GatherRows(torch.autograd.Function):
    # All processes compute the same loss of the whole batch: the sum of what they say about a row
    # is its gradient times their number, which DDP then divides by.
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows.contiguous()) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def sync_batch_norm(layer: BatchNorm, features: Tensor) -> Tensor:
    """`torch.nn.SyncBatchNorm`'s training pass on a CPU, which that class refuses.

    `[b, C, ...]` of as many images in each process, to the same shape and type.

    Source:
        Ioffe and Szegedy 2015 (arXiv 1502.03167), algorithm 1; the law of total variance.
    """
    values = features if features.dtype == torch.float64 else features.float()
    own = torch.var_mean(values, [0, *range(2, values.ndim)], correction=0)
    variances, means = _GatherRows.apply(torch.stack(own)[None]).unbind(1)  # [processes, C] each
    # A mean of the squares less the square of the mean would lose digits.
    variance, mean = variances.mean(0) + means.var(0, correction=0), means.mean(0)  # [C]
    if layer.track_running_stats:
        running_mean, running_variance, batches = layer.buffers()  # in the order PyTorch makes them
        batches.add_(1)
        momentum = 1 / int(batches) if layer.momentum is None else layer.momentum
        n = len(means) * values[:, 0].numel()
        running_mean.lerp_(mean.detach(), momentum)
        running_variance.lerp_(variance.detach() * (n / (n - 1)), momentum)
    scale = torch.rsqrt(variance + layer.eps) * (1 if layer.weight is None else layer.weight)
    shift = (0 if layer.bias is None else layer.bias) - mean * scale
    shape = [1, -1] + [1] * (values.ndim - 2)
    return torch.addcmul(shift.view(shape), values, scale.view(shape)).to(features.dtype)
