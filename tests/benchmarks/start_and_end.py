"""Counts how many small trainings in two processes start and end well, beside two busy processes.

`python tests/benchmarks/start_and_end.py launch --starts 200`; `torchrun` and `machines` (two
torchruns that find each other) are the other ways to start them. Each status other than 0, each
abort that a process speaks of, and each that does not end at all is a failure.
"""

import argparse
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from small_training import blobs, settings, small_net
from started import ONE_MACHINE, outcomes, started, torchrun

from tripletlib.runtime import end_at_once, launch, process_group
from tripletlib.training import fit

# It ends with its parent, even if that is killed.
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"


def train():
    """Three steps in each process."""
    fit(small_net(), *blobs(), settings(steps=3), progress="off")


def machines(port):
    """Two torchruns of one process each."""
    place = ("--nnodes", 2, "--nproc-per-node", 1, "--rdzv-endpoint", f"127.0.0.1:{port}")
    return [torchrun(*place, __file__, "work") for _ in range(2)]


def free_port():
    """A port that nobody listens on yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run(how, number):
    """One training; returns what went wrong, or nothing."""
    starting = {
        "launch": lambda: [started(__file__, "launched")],
        "torchrun": lambda: [torchrun(*ONE_MACHINE, __file__, "work")],
        "machines": lambda: machines(free_port()),
    }[how]()
    try:
        ends = outcomes(*starting)
    except subprocess.TimeoutExpired as error:
        return f"{number}: {error}"
    return "\n".join(
        f"{number}: status {status}\n{errors}"
        for status, _, errors in ends
        if status or "terminate called" in errors
    )


def main():
    """Runs them, a few at once; prints each failure, and the count after every ten."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("how", choices=["launch", "torchrun", "machines", "work", "launched"])
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=3)
    parser.add_argument("--busy", type=int, default=2, help="busy processes beside them")
    options = parser.parse_args()
    if options.how == "work":
        with process_group():
            train()
        end_at_once(0)
    if options.how == "launched":
        launch(train, 2)
        return
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(options.busy)]
    begin, failures = time.perf_counter(), 0
    try:
        with ThreadPoolExecutor(options.at_once) as pool:
            ends = pool.map(partial(run, options.how), range(options.starts))
            for done, failure in enumerate(ends, start=1):
                if failure:
                    failures += 1
                    print(failure, flush=True)
                if done % 10 == 0 or done == options.starts:
                    seconds = time.perf_counter() - begin
                    well = f"{done - failures} of {done} ended well"
                    print(f"{options.how}: {well} in {seconds:.0f} s", flush=True)
    finally:
        for process in busy:
            process.kill()
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
