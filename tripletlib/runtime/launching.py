"""How the processes that torchrun started, or started again, find each other."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from tripletlib.runtime.processes import Processes, current_processes

_LOOK_AGAIN = 0.05  # seconds


def started_by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def is_first_on_machine() -> bool:
    """Whether this process is the machine's first or alone, also where no group was joined yet."""
    return not started_by_torchrun() or os.environ.get("LOCAL_RANK") == "0"


class Launch:
    """What is remembered of one call of torchrun, also by processes that it starts again.

    Its key-value store outlives them. Only there it is written which runs the processes that died
    had begun: the run's own folder may hold an earlier training, of another call.

    Attributes:
        store: torchrun's; None for a process that torchrun did not start.
    """

    def __init__(self, store: dist.Store | None = None) -> None:
        self.store = store
        self._begun_here: set[str] = set()

    def note_begun(self, run_folder: Path) -> None:
        """Writes down that this process has begun a run."""
        key = self._key(run_folder)
        self._begun_here.add(key)
        if self.store is not None:
            self.store.set(key, "")

    def begun_before(self, run_folder: Path) -> bool:
        """Whether a process that has died since had begun the run."""
        key = self._key(run_folder)
        known = self.store is not None and self.store.check([key])
        return known and key not in self._begun_here

    def _key(self, run_folder: Path) -> str:
        return f"begun {run_folder.resolve()}"


LAUNCH = Launch()


@contextmanager
def process_group() -> Iterator[Processes]:
    """Joins the processes that torchrun started, and leaves them at a good end.

    With GPUs each process takes the one of its `LOCAL_RANK`. Tensors on them travel by NCCL, those
    on the CPU by Gloo. A process that torchrun did not start, or started alone, joins nobody.

    Raises:
        RuntimeError: more processes than GPUs on this machine.
    """
    if not started_by_torchrun():
        yield Processes()
        return
    with_gpus = torch.cuda.is_available()
    if with_gpus:
        _take_gpu()
    torchruns_store, rank, count = next(dist.rendezvous("env://"))
    LAUNCH.store = torchruns_store
    if count > 1:
        session = agree_on_session(torchruns_store, rank, count)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if with_gpus else "gloo",
            store=dist.PrefixStore(session, torchruns_store),
            rank=rank,
            world_size=count,
        )
    yield current_processes()
    # Not behind an error: the others may be waiting for this process, and NCCL would then wait for
    # them in here. Its end is what tells them.
    if count > 1:
        dist.destroy_process_group()
    # Kept to the interpreter's end: about one start of two processes in seven aborted there.
    LAUNCH.store = None


def agree_on_session(store: dist.Store, rank: int, count: int) -> str:
    """A name that all processes started together know, and none that was started earlier had.

    torchrun keeps its key-value store when it starts the processes again after a failure. The old
    ones' addresses are still in it, and whoever reads one of those calls a dead process. So all
    keys get a name in front that is new each time: the first process proposes one, and once all
    others have accepted it, it is agreed. What an earlier start left there is either a proposal,
    which will be replaced, or agreed without this process having accepted it.

    Args:
        store: seen by all processes.
        rank: of this process.
        count: processes in all.

    Returns:
        The name.
    """
    if rank == 0:
        session = uuid.uuid4().hex
        store.set("session", f"proposed {session}")
        store.wait([f"{session}/accepted/{other}" for other in range(1, count)])
        store.set("session", f"agreed {session}")
        return session
    accepted = ""
    while True:
        state, session = store.get("session").decode().split()  # waits until there is one
        if state == "agreed" and session == accepted:
            return session
        if state == "proposed" and session != accepted:
            accepted = session
            store.set(f"{session}/accepted/{rank}", "")
        time.sleep(_LOOK_AGAIN)


def _take_gpu() -> None:
    processes, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if processes > gpus:
        raise RuntimeError(
            f"{processes} processes on a machine with {gpus} GPUs: start at most one for each GPU "
            f"(--nproc-per-node {gpus}), or hide the GPUs with CUDA_VISIBLE_DEVICES="
        )
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


class ProcessesFailed(RuntimeError):
    """The processes ended with an error; what they said about it has been printed."""


def launch(arguments: Sequence[str], processes: int) -> None:
    """Runs `python -m tripletlib train` in several processes of this machine.

    `torch.distributed.run`, which is torchrun, starts and watches them. What they print is printed
    here line by line. Ctrl-C, or the notebook's stop button, is handed on to them once; they write
    a checkpoint and end.

    Args:
        arguments: of the command line.
        processes: how many.

    Raises:
        KeyboardInterrupt: Ctrl-C; the processes have ended.
        ProcessesFailed: they ended with an error.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    command += ["--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)]
    command += ["-m", "tripletlib", "train", *arguments]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as messages:
        status = _run(command, processes, messages.fileno())
        messages.seek(0)
        if status:
            print(messages.read(), file=sys.stderr, flush=True)
            raise ProcessesFailed(
                f"the training in {processes} processes ended with status {status}; its messages "
                "stand above, the first says why"
            )


def _run(command: Sequence[str], processes: int, messages: int) -> int:
    threads = max(1, (os.cpu_count() or 1) // processes)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, "PYTHONUNBUFFERED": "1"}
    # In a session of their own: a Ctrl-C in a terminal or a notebook reaches whole process groups,
    # and torchrun, asked twice to stop, would not wait for the checkpoint.
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=messages,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            _show(process)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            _show(process)
            raise
    return process.returncode


def _show(process: subprocess.Popen[str]) -> None:
    for line in process.stdout or ():
        print(line, end="", flush=True)
    process.wait()
