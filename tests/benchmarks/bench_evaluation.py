"""Times `evaluate` against torchreid's two evaluators, at the size of Market-1501.

Run it with `make bench`, or as `python tests/benchmarks/bench_evaluation.py`. It needs the `bench`
extra. All sides are first shown to agree to 1e-5. torchreid's compiled evaluator is not in the
package on the package index. To measure against it, build it from Torchreid's repository and name
the folder: in `torchreid/metrics/rank_cylib` there, with Cython and a C compiler,

    python setup.py build_ext --inplace
    python tests/benchmarks/bench_evaluation.py --cython path/to/rank_cylib

A missed target is printed, not an error: what a machine measures depends on what else it is doing.
"""

import argparse
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
import torch
from torchreid_files import load

from tripletlib.evaluation import evaluate
from tripletlib.paths import runs_root

Q, G, IDENTITIES, CAMERAS, DISTRACTORS = 3_368, 15_913, 750, 6, 2_798
MAX_RANK, TOLERANCE = 50, 1e-5
TARGET = 8.0  # how many times faster than the compiled evaluator we want to be
PYTHON_QUERIES = 337  # a tenth: its time grows in proportion to the queries
TURNS = 5

Case = tuple[np.ndarray, ...]
Score = Callable[[Case], tuple[np.ndarray, float]]


def make_case() -> Case:
    """Labels as many and as mixed as Market-1501's, and distances without ties.

    An identity's images are nearer, so that the scores are those of a trained network. Without
    ties, since torchreid does not sort stably.
    """
    rng = np.random.default_rng(0)
    query_pids = rng.integers(1, IDENTITIES + 1, Q)
    people = rng.integers(1, IDENTITIES + 1, G - DISTRACTORS)
    gallery_pids = rng.permutation(np.concatenate([people, np.zeros(DISTRACTORS, np.int64)]))
    noise = np.arange(G, dtype=np.float32)
    distances = np.stack([rng.permutation(noise) for _ in range(Q)])
    same = query_pids[:, None] == gallery_pids
    # Whole numbers stay apart in float32: every other one for the images of the same person.
    distances = 2 * np.where(same, np.floor(distances / 16), distances) + same
    for row, own in zip(distances, same, strict=True):
        row[own] = 2 * np.argsort(np.argsort(row[own])) * (G // 64) + 1 + 2 * rng.integers(0, G // 64)
    camids = rng.integers(1, CAMERAS + 1, Q), rng.integers(1, CAMERAS + 1, G)
    return distances, query_pids, gallery_pids, *camids
