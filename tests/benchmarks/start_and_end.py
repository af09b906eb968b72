"""Counts how many small trainings in two processes start and end well, beside busy processes.

`python tests/benchmarks/start_and_end.py launch --starts 20`; `torchrun` and `machines` (two
torchruns that find each other) are the other ways to start them.
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
from started import ONE_MACHINE, started, torchrun

from tripletlib.runtime import end_at_once, launch, process_group
from tripletlib.training import fit


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
    processes = [start.__enter__() for start in starting]
    try:
        said = [process.communicate(timeout=300)[1] for process in processes]
        bad = [
            f"{number}: status {process.returncode}\n{text}"
            for process, text in zip(processes, said, strict=True)
            if process.returncode or "terminate" in text or "Error" in text
        ]
    finally:
        for start in starting:
            start.__exit__(None, None, None)
    return "\n".join(bad)


def main():
    """Runs them, a few at once."""
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
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)
    ]
    start = time.perf_counter()
    try:
        with ThreadPoolExecutor(options.at_once) as pool:
            outcomes = list(pool.map(partial(run, options.how), range(options.starts)))
    finally:
        for process in busy:
            process.kill()
    failures = list(filter(None, outcomes))
    print(*failures, sep="\n")
    seconds = time.perf_counter() - start
    print(f"{options.how}: {len(outcomes) - len(failures)} of {len(outcomes)} in {seconds:.0f} s")


if __name__ == "__main__":
    main()
