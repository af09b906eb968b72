"""Starts a training in several processes from one that goes on living, such as a notebook's."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence


class ProcessesFailed(RuntimeError):
    """The processes ended with an error; what they said about it has been printed."""


def launch(arguments: Sequence[str], processes: int) -> None:
    """Runs `python -m tripletlib.training` in several processes of this machine.

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
    command += ["-m", "tripletlib.training", *arguments]
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
