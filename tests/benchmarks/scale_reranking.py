"""Re-ranks and evaluates galleries of growing size, up to Market-1501 with 500,000 distractors.

Run it as `python tests/benchmarks/scale_reranking.py`; the largest takes about 20 minutes of
one core. Each size runs in a process of its own, and replaces its line of the table in
`notebooks/results/reranking_scale.csv`. Embeddings are drawn, the people in them too.
"""

import argparse
import csv
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from drawn_embeddings import QUERIES, D, draw_tables

from tripletlib.evaluation import evaluate, evaluate_embeddings
from tripletlib.reranking import NeighbourIndex
from tripletlib.runtime import REPOSITORY

TABLE = REPOSITORY / "notebooks" / "results" / "reranking_scale.csv"
GALLERIES = (16_632, 46_632, 96_632, 515_913)  # with 3,368 queries: 20, 50, 100, 519 thousand
COLUMNS = (
    "gallery",
    "queries",
    "dim",
    "seconds",  # re-ranking alone, by the clock
    "cpu_seconds",  # the same, of all threads: on a shared machine the steadier number
    "peak_megabytes",  # of the whole process, at the end of re-ranking and evaluation
    "threads",
    "load",  # of the machine, at the start
    "map_before",  # rectangle rule, in [0, 1]
    "map_after",
)


class Stopwatch:
    """Counts the time spent in making blocks, not in what is done with them."""

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0

    def blocks(self, *sets: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        start = self._now()
        for block in NeighbourIndex(*sets, k_max=20).blocks(20, 6, 0.3):
            self._add(start)
            yield block
            start = self._now()
        self._add(start)

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def _add(self, start: tuple[float, float]) -> None:
        clock, cpu = self._now()
        self.seconds += clock - start[0]
        self.cpu_seconds += cpu - start[1]


def measure(gallery_size: int) -> dict[str, float]:
    """One line of the table."""
    load = os.getloadavg()[0]
    query, gallery = draw_tables(gallery_size)
    watch = Stopwatch()
    labels = query.pids, gallery.pids, query.camids, gallery.camids
    after = evaluate(watch.blocks(query.embeddings, gallery.embeddings), *labels)
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    before = evaluate_embeddings(query, gallery, device="cpu")
    numbers = (
        gallery_size,
        QUERIES,
        D,
        round(watch.seconds, 1),
        round(watch.cpu_seconds, 1),
        round(peak),
        torch.get_num_threads(),
        round(load, 1),
        round(before.map, 4),
        round(after.map, 4),
    )
    return dict(zip(COLUMNS, numbers, strict=True))


def write_line(line: dict[str, str]) -> None:
    """Puts the line into the table, in place of one of the same size."""
    lines = [line]
    if TABLE.exists():
        with TABLE.open(encoding="utf-8", newline="") as file:
            lines += [old for old in csv.DictReader(file) if old["gallery"] != line["gallery"]]
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(lines, key=lambda row: int(row["gallery"])))


def main(galleries: list[int]) -> None:
    for size in galleries:
        command = [sys.executable, str(Path(__file__)), "--one", str(size)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        line = dict(zip(COLUMNS, answer.split(), strict=True))
        print(line, flush=True)
        write_line(line)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="time and memory of re-ranking by gallery size")
    parser.add_argument("galleries", nargs="*", type=int, help="gallery images; all sizes if none")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(*measure(arguments.one).values())
    else:
        main(arguments.galleries or list(GALLERIES))
