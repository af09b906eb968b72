"""Times `batch_hard` against pytorch-metric-learning, and weighs the memory of both.

Run it with `make bench`, or as `python tests/benchmarks/bench_losses.py`. It needs the `bench`
extra. Both sides take one forward and one backward pass over the same embeddings, and their losses
and gradients are first shown to agree. A missed target is printed, not an error: what a machine
measures depends on what else it is doing.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from tripletlib.losses import batch_hard
from tripletlib.runtime import runs_root

D, K, MARGIN = 128, 4, 0.5
SPEED_TARGETS: dict[int, float | None] = {
    128: 2.0,
    1024: None,
    4096: 4.0,
}  # B: how many times faster we want to be
MEMORY_TARGET = 0.5  # our share of their peak memory at the largest B
SECONDS_PER_TURN = 0.02
SECONDS_PER_SIZE = 6.0

Loss = Callable[[Tensor, Tensor], Tensor]


def ours(embeddings: Tensor, labels: Tensor) -> Tensor:
    return batch_hard(embeddings, labels, MARGIN).loss


_EUCLIDEAN = LpDistance(normalize_embeddings=False)
_MINER = BatchHardMiner(distance=_EUCLIDEAN)
_LOSS = TripletMarginLoss(MARGIN, distance=_EUCLIDEAN, reducer=MeanReducer())


def theirs(embeddings: Tensor, labels: Tensor) -> Tensor:
    return _LOSS(embeddings, labels, _MINER(embeddings, labels))


SIDES: dict[str, Loss] = {"ours": ours, "theirs": theirs}


def make_batch(batch_size: int) -> tuple[Tensor, Tensor]:
    """Clusters that overlap, so that part of the triplets is active; K images of each identity."""
    generator = torch.Generator().manual_seed(batch_size)
    labels = torch.arange(batch_size // K).repeat_interleave(K)
    centres = torch.randn(batch_size // K, D, generator=generator)
    embeddings = centres[labels] + 2 * torch.randn(batch_size, D, generator=generator)
    order = torch.randperm(batch_size, generator=generator)
    return embeddings[order].requires_grad_(), labels[order]


def step(loss: Loss, embeddings: Tensor, labels: Tensor) -> Tensor:
    embeddings.grad = None
    value = loss(embeddings, labels)
    value.backward()
    return value


def assert_agreement(embeddings: Tensor, labels: Tensor) -> None:
    values, gradients = [], []
    for loss in SIDES.values():
        values.append(step(loss, embeddings, labels).detach())
        gradients.append(embeddings.grad)
    torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-6)


def time_both(batch_size: int) -> dict[str, float]:
    """Median milliseconds a step of each side, in turns, so that both meet the same disturbances.

    A turn is as many steps as fill about `SECONDS_PER_TURN`: one step of a small batch is too
    short for the clock, and would be charged for the memory that the other side gave back.
    """
    embeddings, labels = make_batch(batch_size)
    assert_agreement(embeddings, labels)
    for loss in SIDES.values():  # warm up
        seconds_per_step(loss, embeddings, labels, steps=3)
    slowest = seconds_per_step(theirs, embeddings, labels, steps=3)
    steps = max(1, round(SECONDS_PER_TURN / slowest))
    turns = max(7, round(SECONDS_PER_SIZE / (2 * steps * slowest)))
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(turns):
        for name, loss in SIDES.items():
            seconds[name].append(seconds_per_step(loss, embeddings, labels, steps))
    medians = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
    # On a shared machine the fastest turns are the ones that met the least other work.
    fastest_ratio = min(seconds["theirs"]) / min(seconds["ours"])
    return medians | {"fastest_ratio": fastest_ratio, "turns": turns, "steps_per_turn": steps}


def seconds_per_step(loss: Loss, embeddings: Tensor, labels: Tensor, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        step(loss, embeddings, labels)
    return (time.perf_counter() - start) / steps


def peak_megabytes() -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def print_memory_growth(name: str, batch_size: int) -> None:
    """Runs in a process of its own: how far one step lifts the peak above imports and inputs."""
    step(SIDES[name], *make_batch(2 * K))  # loads what the first call loads
    embeddings, labels = make_batch(batch_size)
    baseline = peak_megabytes()
    step(SIDES[name], embeddings, labels)
    print(peak_megabytes() - baseline)


def weigh(name: str, batch_size: int) -> float:
    command = [sys.executable, __file__, "--memory", name, str(batch_size)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(answer.split()[-1])


def verdict(met: bool) -> str:
    return "met" if met else "*** MISSED ***"


def main() -> None:
    load = os.getloadavg()[0]  # above zero: other work shared the cores
    # Memory first: a child's peak begins at the peak of the process that started it.
    largest = max(SPEED_TARGETS)
    memory = {name: weigh(name, largest) for name in SIDES}
    versions = {name: version(name) for name in ("torch", "pytorch-metric-learning")}
    print(
        f"batch_hard forward + backward, D = {D}, K = {K}, margin {MARGIN}, float32; "
        f"{torch.get_num_threads()} thread(s) on {os.cpu_count()} cores, load before the start "
        f"{load:.1f}, {platform.machine()}, "
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
    )
    print(f"{'B':>6} {'ours ms':>10} {'theirs ms':>10} {'ratio':>7} {'fastest':>8} {'target':>7}")
    rows: list[dict[str, float | None]] = []
    for batch_size, target in SPEED_TARGETS.items():
        times = time_both(batch_size)
        ratio = times["theirs"] / times["ours"]
        rows.append({"B": batch_size, **times, "ratio": ratio, "target": target})
        print(
            f"{batch_size:>6} {times['ours']:>10.3f} {times['theirs']:>10.3f} {ratio:>6.2f}x "
            f"{times['fastest_ratio']:>7.2f}x "
            + (f"{target:>6.1f}x  {verdict(ratio >= target)}" if target else f"{'-':>7}"),
            flush=True,
        )
    share = memory["ours"] / memory["theirs"]
    print(
        f"peak memory at B = {largest}: ours {memory['ours']:.0f} MB, theirs "
        f"{memory['theirs']:.0f} MB, share {share:.2f}, target at most {MEMORY_TARGET}  "
        f"{verdict(share <= MEMORY_TARGET)}"
    )
    write_report(
        {
            "times": rows,
            "memory_megabytes": memory | {"B": largest, "share": share, "target": MEMORY_TARGET},
            "threads": torch.get_num_threads(),
            "load_before": load,
            "machine": platform.machine(),
            "versions": versions | {"python": platform.python_version()},
        }
    )


def write_report(report: dict[str, object]) -> None:
    path = runs_root() / "bench" / "losses.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="batch_hard against pytorch-metric-learning")
    parser.add_argument("--memory", nargs=2, metavar=("SIDE", "B"), help=argparse.SUPPRESS)
    memory_of = parser.parse_args().memory
    if memory_of:
        print_memory_growth(memory_of[0], int(memory_of[1]))
    else:
        main()
