"""Starts processes for a test, and ends them whatever becomes of it."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

from tripletlib.runtime import REPOSITORY
from tripletlib.training.checkpoints import checkpoint_steps

ONE_MACHINE = ("--rdzv-endpoint", "127.0.0.1:0", "--nnodes", 1, "--nproc-per-node", 2)


@contextmanager
def started(*command, **options):
    """A Python process with pipes for what it prints; it is killed at the end."""
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    with subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        **options,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def torchrun(*arguments):
    """A torchrun on this machine; its workers end when it is killed."""
    options = ("--rdzv-backend", "c10d", "--local-addr", "127.0.0.1")
    return started("-m", "torch.distributed.run", *options, *arguments)


def run_to_the_end(*starting):
    """What each of the processes printed; they run side by side, and must all end well."""
    with ExitStack() as stack:
        processes = [stack.enter_context(process) for process in starting]
        outputs = []
        for process in processes:
            output, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
            outputs.append(output)
        return outputs


def assert_stopped_with_a_checkpoint(folder):
    """Each of two processes of `train_until_stopped` has left its last words and its step."""
    messages = [(folder / f"stopped_{rank}").read_text() for rank in range(2)]
    last = checkpoint_steps(folder / "checkpoints")[-1]
    for message in messages:
        assert message.startswith(f"stopped after step {last:,}, which is saved")


def wait_for(condition, process=None):
    """Returns when the condition holds; the process must not end before."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        if process is not None and process.poll() is not None and not condition():
            raise AssertionError(process.communicate())
        time.sleep(0.01)
