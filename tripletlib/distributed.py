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

from tripletlib.batch_norm import synchronise_batch_norm
from tripletlib.gathering import gather_rows

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


def current() -> Processes:
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
