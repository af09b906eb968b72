"""Runs the benchmarks of the kernels in three conditions and writes the table of their ratios.

`make bench`, or `python tests/benchmarks/conditions.py` on a machine with at least two cores and
nothing else to do. With `--cython` the table goes to notebooks/results/speed.csv and into the
results page. Both sides of a ratio are measured in the same condition, in turns.
"""

import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tripletlib.runtime import REPOSITORY

HERE = Path(__file__).parent
RESULTS = REPOSITORY / "notebooks" / "results"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Condition: threads of each side, cores they may use, other processes that keep a core busy.
CONDITIONS = {
    "one thread, pinned to a core": (1, 1, 0),
    "two threads, idle machine": (2, 2, 0),
    "two threads, one other process busy": (2, 2, 1),
}
COLUMNS = ("kernel", "size", "peer", "condition", "ours_s", "theirs_s", "ratio")


def run(script: str, arguments: list[str], condition: str) -> dict:
    """The report of one benchmark in one condition."""
    threads, cores, busy = CONDITIONS[condition]
    allowed = set(sorted(os.sched_getaffinity(0))[:cores])
    with tempfile.TemporaryDirectory() as runs:
        environment = os.environ | dict.fromkeys(THREADS, str(threads)) | {"TRIPLETLIB_RUNS": runs}
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            subprocess.run(
                [sys.executable, str(HERE / f"bench_{script}.py"), *arguments],
                env=environment,
                preexec_fn=lambda: os.sched_setaffinity(0, allowed),
                check=True,
            )
        finally:
            for other in others:
                other.kill()
        return json.loads((Path(runs) / "bench" / f"{script}.json").read_text(encoding="utf-8"))


def losses_rows(report: dict) -> list[tuple]:
    """Kernel, size, peer, our seconds and theirs of a report of bench_losses.py."""
    return [
        ("batch_hard", f"B = {row['B']}", "pytorch-metric-learning", *milliseconds(row))
        for row in report["times"]
    ]


def milliseconds(row: dict) -> tuple[float, float]:
    """A row's milliseconds in seconds."""
    return row["ours"] / 1000, row["theirs"] / 1000


def evaluation_rows(report: dict) -> list[tuple]:
    """As `losses_rows`, of a report of bench_evaluation.py."""
    rows = []
    for row in report["rows"]:
        times = [statistics.median(row["seconds"][side]) for side in ("ours", "theirs")]
        rows.append(("evaluate", f"{row['queries']} queries", f"torchreid, {row['peer']}", *times))
    return rows


def reranking_rows(report: dict) -> list[tuple]:
    """As `losses_rows`, of a report of bench_reranking.py; the floor's peer is the search."""
    clock = report["seconds"]["clock"]
    floor = report["floor_s"]
    return [
        ("k_reciprocal", "3,368 x 15,913", "torchreid", clock["ours"], clock["theirs"]),
        ("its neighbour search", "19,281", "one product and one pass", report["search_s"], floor),
    ]


BENCHMARKS = {
    "losses": losses_rows,
    "evaluation": evaluation_rows,
    "reranking": reranking_rows,
}


def table_of(rows: list[dict]) -> str:
    """One line a kernel, size and peer; one column a condition: the ratio and both times."""
    lines = [
        "| kernel | size | against | " + " | ".join(CONDITIONS) + " |",
        "|---|---|---|" + "---|" * len(CONDITIONS),
    ]
    subjects = dict.fromkeys((row["kernel"], row["size"], row["peer"]) for row in rows)
    for subject in subjects:
        cells = []
        for condition in CONDITIONS:
            wanted = (*subject, condition)
            row = next(row for row in rows if tuple(row.values())[:4] == wanted)
            times = f"{time_in(row, 'ours_s')}, {time_in(row, 'theirs_s')}"
            ratio = float(row["ratio"])
            cells.append(f"{ratio:.{0 if ratio >= 10 else 1}f} ({times})")
        lines.append("| " + " | ".join([f"`{subject[0]}`", *subject[1:], *cells]) + " |")
    return "\n".join(lines)


def time_in(row: dict, column: str) -> str:
    """A time with its unit."""
    seconds = float(row[column])
    return f"{seconds:.3g} s" if seconds >= 0.1 else f"{1000 * seconds:.3g} ms"


def write(rows: list[dict]) -> None:
    """The table as a file and in the results page, between its two marks."""
    with (RESULTS / "speed.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    page = RESULTS / "README.md"
    text = page.read_text(encoding="utf-8")
    between = re.compile(r"(?<=<!-- speed -->\n).*?(?=<!-- end -->)", re.DOTALL)
    page.write_text(between.sub(lambda _: table_of(rows) + "\n", text), encoding="utf-8")


def main() -> None:
    """Every benchmark in every condition."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cython", metavar="FOLDER", help="see bench_evaluation.py")
    cython = parser.parse_args().cython
    rows = []
    for condition in CONDITIONS:
        print(f"== {condition}", flush=True)
        for script, rows_of in BENCHMARKS.items():
            arguments = ["--cython", cython] if cython and script == "evaluation" else []
            for *subject, ours, theirs in rows_of(run(script, arguments, condition)):
                values = (
                    *subject,
                    condition,
                    f"{ours:.4g}",
                    f"{theirs:.4g}",
                    f"{theirs / ours:.3g}",
                )
                rows.append(dict(zip(COLUMNS, values, strict=True)))
    if cython:  # otherwise a row of the table would be missing
        write(rows)
    print(table_of(rows))


if __name__ == "__main__":
    main()
