"""Starts the processes of a training, joins them to a group, stops them and ends them well."""

import logging
import os
import pickle
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, Self

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessException, spawn
from tqdm import tqdm

from tripletlib.runtime.files import atomic_write
from tripletlib.runtime.processes import Processes, portable

_LOOK_AGAIN = 0.05  # seconds
_GRACE = 30.0  # seconds for the others to end by themselves once one has failed
_current = Processes()


class ProcessesFailed(RuntimeError):
    """One of several processes died without saying why."""


def current_processes() -> Processes:
    """The processes of this training: those of the `process_group`, or this one alone."""
    return _current


@contextmanager
def process_group(store: dist.Store | None = None) -> Iterator[Processes]:
    """Joins the processes that were started together, and leaves them at a good end.

    They find each other in the store, or in torchrun's if it started them; otherwise this process
    stays alone. With GPUs each takes the one of its `LOCAL_RANK`; tensors travel by NCCL there, by
    Gloo between CPUs.
    """
    global _current
    if store is None and not dist.is_torchelastic_launched():
        yield _current
        return
    stop_with_parent()
    # Only one draws bars. A lock between processes would be said to leak, see `end_at_once`.
    tqdm.set_lock(threading.RLock())
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = store or next(dist.rendezvous("env://"))[0]
    session = agree_on_session(store, rank, count)
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    place = dist.PrefixStore(session, store)
    dist.init_process_group(backend, store=place, rank=rank, world_size=count)
    _current = Processes(rank, count, store, session)
    yield _current
    # Not behind an error: NCCL would wait in here for processes that wait for this one to end.
    _current.any(False)  # nobody leaves before all are done
    dist.destroy_process_group()
    _current = Processes()


def agree_on_session(store: dist.Store, rank: int, count: int) -> str:
    """A name that all processes started together know, and none that was started earlier had.

    In front of all keys it hides what torchrun's store keeps of the dead (in PyTorch 2.15 too). The
    first process publishes whose answers it got; another waits for its own among them.
    """
    own = uuid.uuid4().hex
    if rank == 0:
        store.set("session", own)
        answers = [store.get(f"{own}/{other}").decode() for other in range(1, count)]  # waits
        store.set(f"{own}/answers", " ".join(answers))
        return own
    while True:
        session = store.get("session").decode()
        store.set(f"{session}/{rank}", own)
        answers_key = f"{session}/answers"
        if store.check([answers_key]) and own in store.get(answers_key).decode():
            return session
        time.sleep(_LOOK_AGAIN)


def launch(action: Callable[[], object], processes: int) -> None:
    """Runs an action in several new processes of this machine, as one process group.

    They find each other through a file and talk over the loopback device only. Ctrl-C, SIGTERM and
    the death of this process reach them: a training then writes a checkpoint and ends.

    Args:
        action: called in each of them; pickle must be able to carry it there.
        processes: how many.

    Raises:
        Exception: what the action raised in one of them, `TrainingInterrupted` included.
        KeyboardInterrupt: they were stopped before the action could say anything.
        ProcessesFailed: one of them died.
    """
    with tempfile.TemporaryDirectory() as folder, StopRequest() as stop:
        context = spawn(_work, (action, processes, Path(folder)), processes, join=False)
        untold = list(context.processes)
        try:
            while not context.join(_LOOK_AGAIN, _GRACE):
                while stop.requested and untold:
                    untold.pop().terminate()
        except ProcessException:
            for rank, child in enumerate(context.processes):
                if child.exitcode not in (0, 1, -signal.SIGTERM):
                    raise ProcessesFailed(
                        f"process {rank} of {processes} died with status {child.exitcode}; -9 "
                        "mostly means that memory ran out: lower the batch, or start fewer of them"
                    ) from None
            raised = sorted(Path(folder).glob("error_*"), key=lambda file: file.stat().st_mtime_ns)
            if not raised:
                raise KeyboardInterrupt("stopped") from None
            raise pickle.loads(raised[0].read_bytes()) from None
        finally:
            for child in context.processes:
                child.kill()


def _work(rank: int, action: Callable[[], object], count: int, folder: Path) -> None:
    status = 1
    try:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        os.environ |= {"RANK": f"{rank}", "WORLD_SIZE": f"{count}", "LOCAL_RANK": f"{rank}"}
        loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
        with process_group(dist.FileStore(str(folder / "store"), count)):
            action()
        status = 0
    except BaseException as error:
        error.add_note(f"In process {rank}:\n{traceback.format_exc()}")
        # Whole or not at all: when another has ended by an error, this one is sent SIGTERM.
        with atomic_write(folder / f"error_{rank}") as unfinished:
            unfinished.write_bytes(pickle.dumps(portable(error)))
    finally:
        end_at_once(status)


def end_at_once(status: int) -> NoReturn:
    """Ends a process that was in a group without the interpreter's own end.

    Threads of Gloo and of torchrun's store outlive what they use there, and abort it now and then.
    """
    logging.shutdown()
    with suppress(OSError):  # nobody reads any more
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


class StopRequest(ExitStack):
    """While it is open, Ctrl-C and SIGTERM ask the training to stop instead of ending the process.

    An interrupt inside an optimiser's step would leave some weights moved and others not. A second
    Ctrl-C raises KeyboardInterrupt at once; SIGTERM, which batch systems and torchrun may send
    twice, never does. Only in a process's main thread has it an effect.

    Attributes:
        requested: whether somebody asked.
    """

    requested = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGINT, signal.SIGTERM):
                self.callback(signal.signal, name, signal.signal(name, self._ask))
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> bool | None:
        stopped = kind and (self.requested or issubclass(kind, KeyboardInterrupt))
        if stopped and _current.count > 1:
            # With its group, which may have been asked first: the signal of this process's own
            # watch on the parent may still be on its way, and must not cut off the farewell.
            self.pop_all()
        return super().__exit__(kind, *rest)

    def _ask(self, number: int, frame: object) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


def stop_with_parent() -> None:
    """Sends this process SIGTERM when its parent dies, so that it does not work on unwatched."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:  # an orphan gets another parent
            time.sleep(_LOOK_AGAIN)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
