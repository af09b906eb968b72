"""Starts processes for a test, and ends them whatever becomes of it."""

import os
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from tripletlib.runtime import REPOSITORY
from tripletlib.training.run_folder import checkpoint_steps

ONE_MACHINE = ("--rdzv-endpoint", "127.0.0.1:0", "--nnodes", 1, "--nproc-per-node", 2)
MARK = "TRIPLETLIB_STARTED"
PATIENCE = 300  # seconds


class Started(subprocess.Popen):
    """A Python process that prints into two files: a pipe that nobody reads would fill up."""

    def __init__(self, command, folder, environment):
        self._output, self._error_output = folder / "output", folder / "errors"
        with self._output.open("wb") as output, self._error_output.open("wb") as errors:
            super().__init__(
                [sys.executable, *map(str, command)],
                env=os.environ | environment,
                stdout=output,
                stderr=errors,
                cwd=REPOSITORY,
            )

    @property
    def output(self):
        return self._output.read_text(encoding="utf-8")

    @property
    def error_output(self):
        return self._error_output.read_text(encoding="utf-8", errors="replace")


@contextmanager
def started(*command):
    """A Python process; at the end it is killed with all that it started, orphans included."""
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    mark = uuid.uuid4().hex  # inherited by all of them
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths, MARK: mark}
    with (
        TemporaryDirectory() as folder,
        Started(command, Path(folder), environment) as process,
    ):
        try:
            yield process
        finally:
            process.kill()
            for other in psutil.process_iter():
                with suppress(psutil.Error):  # ended, or of another user
                    if other.environ().get(MARK) == mark:
                        other.kill()


def torchrun(*arguments):
    """A torchrun on this machine."""
    options = ("--rdzv-backend", "c10d", "--local-addr", "127.0.0.1")
    return started("-m", "torch.distributed.run", *options, *arguments)


def outcomes(*starting):
    """Exit status, output and errors of each of the processes, which run side by side."""
    with ExitStack() as stack:
        processes = [stack.enter_context(process) for process in starting]
        return [
            (process.wait(PATIENCE), process.output, process.error_output) for process in processes
        ]


def assert_stopped_with_a_checkpoint(folder):
    """Each of two processes of `train_until_stopped` leaves its last words and its step."""
    words = [folder / f"stopped_{rank}" for rank in range(2)]
    wait_for(lambda: all(file.exists() for file in words))
    last = checkpoint_steps(folder / "checkpoints")[-1]
    for file in words:
        assert file.read_text().startswith(f"stopped after step {last:,}, which is saved")


def wait_for(condition, process=None):
    """Returns when the condition holds; the process must not end before."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, process and process.error_output
        if process is not None and process.poll() is not None and not condition():
            raise AssertionError(process.returncode, process.error_output)
        time.sleep(0.01)
