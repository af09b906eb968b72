"""Times `k_reciprocal` against torchreid's `re_ranking`, and weighs the memory of both.

Run it with `make bench`, or as `python tests/benchmarks/bench_reranking.py`. It needs the `bench`
extra, ten gigabytes of memory and some minutes. torchreid's distance matrices belong to its side:
they are computed with its own function, as its engine does. A missed target is printed, not an
error: what a machine measures depends on what else it is doing.
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
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch
from drawn_embeddings import D, draw_tables
from torchreid_files import load

from tripletlib.reranking import NeighbourIndex, k_reciprocal
from tripletlib.reranking.neighbours import find_neighbours
from tripletlib.runtime import runs_root

GALLERY = 15_913
SPEED_TARGET, MEMORY_TARGET = 20.0, 1 / 8
TURNS = 3
FLOOR_ROWS = 435  # rows of a block of 32 MB at this size, as in find_neighbours
AGREEMENT_SIZES = 200, 1_800  # queries and gallery images on which both must agree

Rerank = Callable[[np.ndarray, np.ndarray], np.ndarray]


def theirs(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    between = load("metrics/distance").compute_distance_matrix
    q, g = torch.from_numpy(query), torch.from_numpy(gallery)
    matrices = (between(a, b).numpy() for a, b in ((q, g), (q, q), (g, g)))
    return load("utils/rerank").re_ranking(*matrices)


SIDES: dict[str, Rerank] = {"ours": k_reciprocal, "theirs": theirs}


def drawn(gallery: int = GALLERY, **sizes: int) -> tuple[np.ndarray, np.ndarray]:
    query_table, gallery_table = draw_tables(gallery, **sizes)
    return query_table.embeddings, gallery_table.embeddings


def share_in_agreement() -> float:
    """Share of distances within 1e-5; near-ties make neighbours, and so some others, differ.

    torchreid's engine hands squared distances to a function which squares them again. Here it is
    given plain ones, which is what the paper and the code's author do.
    """
    queries, gallery_size = AGREEMENT_SIZES
    query, gallery = drawn(gallery_size, queries=queries)
    sets = [torch.from_numpy(x).double() for x in (query, gallery)]
    q_g, q_q, g_g = (torch.cdist(sets[i], sets[j]).numpy() for i, j in ((0, 1), (0, 0), (1, 1)))
    expected = load("utils/rerank").re_ranking(q_g, q_q, g_g)
    return float((np.abs(k_reciprocal(query, gallery) - expected) < 1e-5).mean())


def seconds_of(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def time_both(query: np.ndarray, gallery: np.ndarray) -> dict[str, dict[str, float]]:
    """Median seconds of each side, by the clock and of all threads together.

    Ours run before and after their single run, so that both meet the same disturbances. On a
    machine with other work the seconds of the threads tell more than the clock's.
    """
    k_reciprocal(query[:50], gallery[:100])  # warm up
    clock: dict[str, list[float]] = {"ours": [], "theirs": []}
    cpu: dict[str, list[float]] = {"ours": [], "theirs": []}
    for side in ("ours",) * TURNS + ("theirs",) + ("ours",) * TURNS:
        before = time.process_time()
        clock[side].append(seconds_of(lambda side=side: SIDES[side](query, gallery)))
        cpu[side].append(time.process_time() - before)
    return {
        name: {side: statistics.median(values) for side, values in sides.items()}
        for name, sides in (("clock", clock), ("cpu", cpu))
    }


def time_index(query: np.ndarray, gallery: np.ndarray) -> tuple[float, float, float]:
    """Seconds to open an index, and medians of a known and of a new image's row."""
    start = time.perf_counter()
    index = NeighbourIndex(query, gallery)
    opened = time.perf_counter() - start
    rows = range(0, len(query), 40)
    known = [seconds_of(lambda i=i: index.rerank(i, 20, 6, 0.3)) for i in rows]
    new = [
        seconds_of(lambda i=i: index.rerank_embedding(query[i] * 0.99, 20, 6, 0.3)) for i in rows
    ]
    return opened, statistics.median(known), statistics.median(new)


def time_search(query: np.ndarray, gallery: np.ndarray) -> tuple[float, float]:
    """Median seconds of the neighbour search, and of the least that any exact one must do.

    That least is the matrix product of all images with all, in blocks as the search has them, and
    one pass over what it gives.
    """
    points = torch.from_numpy(np.concatenate([query, gallery]))
    block = torch.empty(FLOOR_ROWS, len(points))

    def floor() -> None:
        for rows in points.split(FLOOR_ROWS):
            product = np.matmul(rows.numpy(), points.numpy().T, out=block[: len(rows)].numpy())
            torch.from_numpy(product).amin(1)

    turns = [(seconds_of(lambda: find_neighbours(points, 21)), seconds_of(floor)) for _ in range(5)]
    search, least = zip(*turns, strict=True)
    return statistics.median(search), statistics.median(least)


def peak_megabytes() -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def print_memory_growth(name: str) -> None:
    """Runs in a process of its own: how far the peak rises above imports and inputs."""
    SIDES[name](*drawn(60, queries=20))  # loads what the first call loads
    query, gallery = drawn()
    baseline = peak_megabytes()
    SIDES[name](query, gallery)
    print(peak_megabytes() - baseline)


def weigh(name: str) -> float:
    command = [sys.executable, __file__, "--memory", name]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(answer.split()[-1])


def verdict(met: bool) -> str:
    return "met" if met else "*** MISSED ***"


def main() -> None:
    load_before = os.getloadavg()[0]  # above zero: other work shared the cores
    # Memory first: a child's peak begins at the peak of the process that started it.
    memory = {name: weigh(name) for name in SIDES}
    query, gallery = drawn()
    versions = {name: version(name) for name in ("numpy", "scipy", "torch", "torchreid")}
    print(
        f"k-reciprocal re-ranking, {len(query)} queries x {len(gallery)} gallery images, D = {D}, "
        f"torch {torch.get_num_threads()} thread(s) on {os.cpu_count()} cores, load before the "
        f"start {load_before:.1f}, {platform.machine()}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
    )
    agreement = share_in_agreement()
    print(f"distances equal to 1e-5 on {AGREEMENT_SIZES} images: {agreement:.4%}")
    seconds = time_both(query, gallery)
    ratios = {name: sides["theirs"] / sides["ours"] for name, sides in seconds.items()}
    share = memory["ours"] / memory["theirs"]
    for name, sides in seconds.items():
        print(
            f"seconds ({name}): ours {sides['ours']:.2f}, theirs {sides['theirs']:.1f}, "
            f"{ratios[name]:.1f}x, target {SPEED_TARGET}x  {verdict(ratios[name] >= SPEED_TARGET)}"
        )
    print(
        f"peak memory: ours {memory['ours']:.0f} MB, theirs {memory['theirs']:.0f} MB, "
        f"share 1/{1 / share:.1f}, target 1/8  {verdict(share <= MEMORY_TARGET)}"
    )
    search, floor = time_search(query, gallery)
    print(f"neighbour search: {search:.2f} s, one product and one pass: {floor:.2f} s")
    opened, known, new = time_index(query, gallery)
    print(f"index: {opened:.2f} s to open, {1e3 * known:.1f} ms a query, {1e3 * new:.1f} ms new")
    write_report(
        {
            "seconds": seconds,
            "ratios": ratios,
            "memory_megabytes": memory | {"share": share},
            "share_in_agreement": agreement,
            "search_s": search,
            "floor_s": floor,
            "index": {"open_s": opened, "rerank_s": known, "rerank_embedding_s": new},
            "threads": torch.get_num_threads(),
            "load_before": load_before,
            "versions": versions | {"python": platform.python_version()},
        }
    )


def write_report(report: dict[str, object]) -> None:
    path = runs_root() / "bench" / "reranking.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="k_reciprocal against torchreid's re_ranking")
    parser.add_argument("--memory", choices=SIDES, help=argparse.SUPPRESS)
    memory_of = parser.parse_args().memory
    if memory_of:
        print_memory_growth(memory_of)
    else:
        try:
            version("torchreid")
        except PackageNotFoundError:
            raise SystemExit("torchreid is not installed: pip install -e '.[bench]'") from None
        main()
