"""Distances, labels and embedding tables drawn at random, for tests of evaluation."""

import numpy as np

from tripletlib.embedding import EmbeddingTable


def draw_case(queries=6, gallery=40, seed=0, levels=None):
    """Distances, query_pids, gallery_pids, query_camids, gallery_camids; few levels make ties."""
    rng = np.random.default_rng(seed)
    distances = rng.random((queries, gallery))
    if levels is not None:
        distances = np.floor(distances * levels)
    return (
        distances,
        rng.integers(1, 5, queries),
        rng.integers(-1, 5, gallery),  # -1: junk; 0: distractors
        rng.integers(1, 4, queries),
        rng.integers(1, 4, gallery),
    )


def draw_table(n, seed, dim=8, **changed):
    rng = np.random.default_rng(seed)
    pids = rng.integers(1, 6, n)
    embeddings = np.random.default_rng(0).normal(size=(6, dim))[pids] + rng.normal(size=(n, dim))
    columns = {
        "embeddings": embeddings.astype(np.float32),
        "pids": pids,
        "camids": rng.integers(1, 4, n),
        "paths": np.array([f"{seed}/{i}.jpg" for i in range(n)]),
        "step": 3,
        "tta": "none",
    }
    return EmbeddingTable(**columns | changed)
