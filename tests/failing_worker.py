"""What test_launching.py lets fail in two processes; PyTorch is all that they import for it."""

import os
import signal
from pathlib import Path

from tripletlib.runtime import current_processes, progress_bar


def fail_in(rank, how):
    processes = current_processes()
    print(f"process {processes.rank} of {processes.count}")
    if Path("/proc/self/net/tcp").exists():
        with progress_bar(1, "step", "off"):
            semaphores = Path("/proc/self/maps").read_text().count("/sem.")
        # One piece of text: the processes share the place where it goes.
        print(f"ports {listening_elsewhere()}, {semaphores} semaphores")
    if processes.rank == rank:
        how()
    processes.any(False)


def listening_elsewhere():
    """Addresses other than loopback that this process listens on, as Linux shows them."""
    own = {str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path("/proc/self/net", table).read_text().splitlines()[1:]
    ]
    mine = [line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in own]
    return [address for address in mine if not address.startswith("0100007F:")]


def refuse():
    raise FileNotFoundError(2, "no such data", "somewhere")


def die():
    os.kill(os.getpid(), signal.SIGKILL)
