"""Times `evaluate` against torchreid's two evaluators, at the size of Market-1501.

Run it with `make bench`, or as `python tests/benchmarks/bench_evaluation.py`. It needs the `bench`
extra. All sides are first shown to agree to 1e-5. Both torchreid's Python evaluator and ours take
the same tenth of the queries. torchreid's compiled evaluator is not in the
package on the package index. To measure against it, build it from Torchreid's repository and name
the folder: in `torchreid/metrics/rank_cylib` there, with Cython and a C compiler,

    python setup.py build_ext --inplace
    python tests/benchmarks/bench_evaluation.py --cython path/to/rank_cylib

A missed target is printed, not an error: what a machine measures depends on what else it is doing.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from torchreid_files import load

from tripletlib.evaluation import evaluate
from tripletlib.runtime import runs_root

Q, G, IDENTITIES, CAMERAS, DISTRACTORS = 3_368, 15_913, 750, 6, 2_798
MAX_RANK, TOLERANCE = 50, 1e-5
TARGET = 8.0  # how many times faster than the compiled evaluator we want to be
PYTHON_QUERIES = 337  # a tenth, for both sides: all of them take torchreid's Python about a minute
TURNS = 5

Case = tuple[np.ndarray, ...]
Score = Callable[[Case], tuple[np.ndarray, float]]


def ours(case: Case) -> tuple[np.ndarray, float]:
    scores = evaluate(*case, max_rank=MAX_RANK)
    return scores.cmc, scores.map


def python_side() -> Score:
    evaluate_rank = load("metrics/rank").evaluate_rank
    return lambda case: evaluate_rank(*case, max_rank=MAX_RANK, use_cython=False)


def cython_side(folder: Path | None) -> Score | None:
    """The compiled evaluator in that folder, or a printed reason why there is none."""
    if folder is None:
        print(
            "torchreid's Cython evaluator: not measured. The package index's torchreid "
            f"{version('torchreid')} carries no source of it; build it from Torchreid's repository "
            "and pass --cython FOLDER (make bench RANK_CYLIB=FOLDER)"
        )
        return None
    sys.path.insert(0, str(folder))
    try:
        evaluate_cy = importlib.import_module("rank_cy").evaluate_cy
    except ImportError as error:
        raise SystemExit(f"no built rank_cy for this Python in {folder}: {error}") from error
    return lambda case: evaluate_cy(*case, MAX_RANK)


def make_case() -> Case:
    """As many queries, images, identities, cameras and distractors as Market-1501 has.

    An identity's images are drawn nearer than others. The distances are the places 0, 1, 2, ... of
    a ranked list: no two are equal, since torchreid does not sort stably.
    """
    rng = np.random.default_rng(0)
    query_pids = rng.integers(1, IDENTITIES + 1, Q)
    people = rng.integers(1, IDENTITIES + 1, G - DISTRACTORS)
    gallery_pids = rng.permutation(np.concatenate([people, np.zeros(DISTRACTORS, np.int64)]))
    distances = np.empty((Q, G), dtype=np.float32)
    for row, pid in zip(distances, query_pids, strict=True):
        drawn = rng.normal(size=G) - 3 * (gallery_pids == pid)
        row[np.argsort(drawn)] = np.arange(G)
    camids = rng.integers(1, CAMERAS + 1, Q), rng.integers(1, CAMERAS + 1, G)
    return distances, query_pids, gallery_pids, *camids


def first_queries(case: Case, count: int) -> Case:
    distances, query_pids, gallery_pids, query_camids, gallery_camids = case
    some = distances[:count], query_pids[:count], gallery_pids, query_camids[:count]
    return *some, gallery_camids


def compare(name: str, theirs: Score, case: Case, target: float | None) -> dict[str, object]:
    """Median seconds of both sides, in turns, so that both meet the same disturbances."""
    sides = {"ours": ours, "theirs": theirs}
    (our_cmc, our_map), (their_cmc, their_map) = (side(case) for side in sides.values())  # warm up
    np.testing.assert_allclose(our_cmc, their_cmc, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(our_map, their_map, rtol=0, atol=TOLERANCE)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(TURNS):
        for side, score in sides.items():
            start = time.perf_counter()
            score(case)
            seconds[side].append(time.perf_counter() - start)
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    ratio = medians["theirs"] / medians["ours"]
    print(
        f"{name:<18} {len(case[1]):>7} {our_map:>7.3f} {medians['ours']:>8.3f} "
        f"{medians['theirs']:>9.3f} {ratio:>6.1f}x "
        + (f"{target:>6.1f}x  {'met' if ratio >= target else '*** MISSED ***'}" if target else ""),
        flush=True,
    )
    fastest_ratio = min(seconds["theirs"]) / min(seconds["ours"])
    return {"peer": name, "queries": len(case[1]), "seconds": seconds, "target": target} | {
        "ratio": ratio,
        "fastest_ratio": fastest_ratio,
    }


def main(cython_folder: Path | None) -> None:
    load_before = os.getloadavg()[0]  # above zero: other work shared the cores
    versions = {name: version(name) for name in ("numpy", "torchreid")}
    print(
        f"evaluate, {Q} queries x {G} gallery images, float32, equal to {TOLERANCE}; NumPy in one "
        f"thread on {os.cpu_count()} cores, load before the start {load_before:.1f}, "
        f"{platform.machine()}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
    )
    case = make_case()
    compiled = cython_side(cython_folder)
    print(f"{'torchreid':<18} {'queries':>7} {'mAP':>7} {'ours s':>8} {'theirs s':>9} {'ratio':>7}")
    rows = [compare("Python", python_side(), first_queries(case, PYTHON_QUERIES), None)]
    if compiled is not None:
        rows.append(compare("Cython", compiled, case, TARGET))
    write_report(
        {
            "rows": rows,
            "load_before": load_before,
            "machine": platform.machine(),
            "versions": versions | {"python": platform.python_version()},
        }
    )


def write_report(report: dict[str, object]) -> None:
    path = runs_root() / "bench" / "evaluation.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="evaluate against torchreid's evaluators")
    parser.add_argument("--cython", type=Path, metavar="FOLDER", help="holds the built rank_cy")
    main(parser.parse_args().cython)
