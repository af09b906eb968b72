"""Embeddings drawn at random that crowd as those of people do: some identities overlap."""

import numpy as np


def draw_embeddings(n: int, dim: int = 8, noise: float = 0.7, seed: int = 0) -> np.ndarray:
    """float32 `[n, dim]`, about six images of each identity."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((n // 6 + 1, dim))
    identities = generator.integers(len(centres), size=n)
    drawn = centres[identities] + noise * generator.standard_normal((n, dim))
    return drawn.astype(np.float32)


def draw_untied(n: int, dim: int = 8, noise: float = 0.7, seed: int = 0) -> np.ndarray:
    """The first such draw that no rounding can rank differently: neighbour sets jump at ties."""
    while has_near_ties(embeddings := draw_embeddings(n, dim, noise, seed)):
        seed += 1
    return embeddings


def has_near_ties(embeddings: np.ndarray, tolerance: float = 2e-6) -> bool:
    """Whether two neighbours of an image are equally far, but for float32's rounding."""
    points = embeddings.astype(np.float64)
    squared = np.square(points[:, None] - points).sum(2)
    gaps = np.diff(np.sort(squared, axis=1), axis=1)
    return bool((gaps < tolerance * squared.max()).any())
