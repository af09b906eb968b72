"""Embeddings drawn at random in the manner of Market-1501: its counts, and people who look alike.

An identity is a point, its images are scattered around it, and both spread less from one direction
to the next, as those of trained networks do. Every distractor is an identity of its own.
"""

import numpy as np

from tripletlib.embedding import EmbeddingTable

D, IDENTITIES, CAMERAS = 128, 750, 6
QUERIES, OF_IDENTITIES = 3_368, 13_115  # images in Market-1501; 2,798 distractors make up 15,913
NOISE = 1.0  # an image's distance from its identity, in those between identities


def draw_tables(gallery: int, queries: int = QUERIES, seed: int = 0) -> list[EmbeddingTable]:
    """Queries, and a gallery whose images beyond those of the identities are distractors."""
    generator = np.random.default_rng(seed)
    spread = np.arange(1, D + 1, dtype=np.float32) ** -0.5
    centres = spread * generator.standard_normal((IDENTITIES, D), np.float32)
    tables = []
    for count, people in ((queries, queries), (gallery, min(gallery, OF_IDENTITIES))):
        pids = np.zeros(count, np.int64)  # 0: distractor
        pids[:people] = generator.integers(1, IDENTITIES + 1, people)
        embeddings = spread * generator.standard_normal((count, D), np.float32)
        embeddings[people:] += spread * generator.standard_normal((count - people, D), np.float32)
        embeddings[:people] = NOISE * embeddings[:people] + centres[pids[:people] - 1]
        order = generator.permutation(count)
        camids = generator.integers(1, CAMERAS + 1, count)
        paths = np.full(count, "drawn")
        tables.append(EmbeddingTable(embeddings[order], pids[order], camids, paths, 0, "none"))
    return tables
