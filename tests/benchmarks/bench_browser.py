"""Times the query browser's kernel side at the size of Market-1501.

Run it with `make bench`, or as `python tests/benchmarks/bench_browser.py`. Pictures are random, and
so are the embeddings, in clusters; nothing is drawn, since a page needs a browser, but every widget
is filled as a page would get it, pictures encoded. Each click is on a query or a gallery picture
not seen before. A missed target is printed, not an error: what a machine measures depends on what
else it is doing.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # toy_retrieval lies beside the tests

from page_messages import choose
from toy_retrieval import make_retrieval

from tripletlib.runtime import runs_root
from tripletlib.widgets import QueryBrowser

SIZES = {"people": 750, "queries": 3_368, "gallery": 15_913, "dim": 128, "spread": 0.9}
CLICKS = 40
OPENING, CLICK, CLICK_RERANKED = 3.0, 0.150, 0.300  # seconds we want to stay below


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def summary(times: list[float]) -> dict[str, float]:
    milliseconds = sorted(1000 * value for value in times)
    late = milliseconds[min(len(milliseconds) - 1, round(0.95 * len(milliseconds)))]
    return {"median_ms": statistics.median(milliseconds), "p95_ms": late, "times": len(times)}


def clicks(browser: QueryBrowser, first: int) -> list[float]:
    """Half of them on queries, half on gallery pictures."""
    keys = [f"query:{first + i}" for i in range(CLICKS // 2)]
    keys += [f"gallery:{first + i}" for i in range(CLICKS // 2)]
    return [seconds(lambda key=key: choose(browser.results, key)) for key in keys]


def changes(browser: QueryBrowser) -> list[float]:
    """New values in turn, each for another query, whose own drawing is not counted."""
    values = {"k1": range(10, 18), "k2": range(7, 15), "lambda_value": [i / 20 for i in range(8)]}
    times = []
    for name, series in values.items():
        for value in series:
            choose(browser.results, f"query:{2_000 + len(times)}")
            control = browser.controls[name]
            times.append(seconds(lambda c=control, v=value: setattr(c, "value", v)))
    return times


def measure(folder: Path) -> dict[str, dict[str, float]]:
    retrieval = make_retrieval(**SIZES)
    browsers: list[QueryBrowser] = []
    opening = [seconds(lambda: browsers.append(QueryBrowser(retrieval, folder))) for _ in range(5)]
    browser = browsers[-1]
    results = {"opening": summary(opening), "click": summary(clicks(browser, 100))}

    def sort() -> None:
        browser.queries.order.value = "worst AP first"

    def rerank() -> None:
        browser.controls["rerank"].value = True

    results["AP of all queries, once"] = summary([seconds(sort)])
    results["everybody's neighbours, once"] = summary([seconds(rerank)])
    results["click, re-ranked"] = summary(clicks(browser, 1_000))
    results["new k1, k2 or lambda"] = summary(changes(browser))
    message = browser.message.text
    assert not message, message  # an error would be fast
    return results


def main() -> None:
    load = os.getloadavg()[0]  # above zero: other work shared the cores
    print(
        f"Query browser, {SIZES}; {torch.get_num_threads()} thread(s) on {os.cpu_count()} cores, "
        f"load before the start {load:.1f}, {platform.machine()}, Python "
        f"{platform.python_version()}, torch {torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder))
    targets = {"opening": OPENING, "click": CLICK, "click, re-ranked": CLICK_RERANKED,
               "new k1, k2 or lambda": CLICK_RERANKED}  # fmt: skip
    for name, result in results.items():
        target = targets.get(name)
        verdict = ""
        if target is not None:
            met = result["p95_ms"] < 1000 * target
            verdict = f"target {1000 * target:.0f} ms: {'met' if met else '*** MISSED ***'}"
        print(f"{name:32} median {result['median_ms']:7.0f} ms, 95th percentile "
              f"{result['p95_ms']:7.0f} ms, {result['times']:3} times  {verdict}")  # fmt: skip
    file = runs_root() / "bench" / "browser.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"load": load, "results": results}, indent=1), encoding="utf-8")
    print(f"written to {file}")


if __name__ == "__main__":
    main()
