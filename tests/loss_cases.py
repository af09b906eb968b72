"""Batches and cases on which the losses are tested, and what they should give."""

from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import oracles
import pytest
import torch
from torch import Tensor

from tripletlib.distances import Metric
from tripletlib.losses import Margin, TripletResult, batch_all, batch_hard, lifted, semi_hard

METRICS = get_args(Metric)
LOSSES: dict[str, Callable[..., TripletResult]] = {
    "batch_hard": batch_hard,
    "batch_hard_nonzero": partial(batch_hard, average="nonzero"),
    "batch_all": batch_all,
    "batch_all_nonzero": partial(batch_all, average="nonzero"),
    "semi_hard": semi_hard,
    "lifted": lifted,
}
# Every loss meets every metric, and both kinds of margin meet every loss and every metric.
CASES: list[tuple[str, Margin, Metric]] = [
    ("batch_hard", 0.5, "euclidean"),
    ("batch_hard", "soft", "sqeuclidean"),
    ("batch_hard", 0.0, "cosine"),
    ("batch_hard_nonzero", 0.5, "euclidean"),
    ("batch_hard_nonzero", 2.0, "sqeuclidean"),
    ("batch_hard_nonzero", "soft", "cosine"),
    ("batch_all", "soft", "euclidean"),
    ("batch_all", 2.0, "sqeuclidean"),
    ("batch_all", 0.5, "cosine"),
    ("batch_all_nonzero", 0.5, "euclidean"),
    ("batch_all_nonzero", 0.0, "sqeuclidean"),
    ("batch_all_nonzero", "soft", "cosine"),
    ("semi_hard", 0.2, "euclidean"),
    ("semi_hard", "soft", "sqeuclidean"),
    ("semi_hard", 0.0, "cosine"),
    ("lifted", 1.0, "euclidean"),
    ("lifted", 0.0, "sqeuclidean"),
    ("lifted", "soft", "cosine"),
]
each_case = pytest.mark.parametrize(("name", "margin", "metric"), CASES)
each_loss = pytest.mark.parametrize("name", LOSSES)
Batch = tuple[Tensor, Tensor]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def shuffled(embeddings: Tensor, labels: Tensor) -> Batch:
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    return embeddings[order], labels[order]


def p_by_k(p: int, k: int, dim: int, seed: int = 0) -> Batch:
    return shuffled(draw(p * k, dim, seed=seed), torch.arange(p).repeat_interleave(k))


def unequal() -> Batch:
    counts = torch.tensor([1, 5, 2, 1, 3])
    return shuffled(draw(12, 4, seed=2), torch.arange(5).repeat_interleave(counts))


def with_duplicates() -> Batch:
    embeddings, labels = p_by_k(4, 3, 5)
    embeddings[3] = embeddings[7]
    embeddings[labels == 2] = embeddings[labels == 2][0].clone()
    return embeddings, labels


def with_zero_vectors() -> Batch:
    embeddings, labels = unequal()
    embeddings[[0, 5]] = 0
    return embeddings, labels


def two_clusters() -> Batch:
    embeddings, labels = p_by_k(2, 4, 3)
    return 0.1 * embeddings + 50 * torch.nn.functional.one_hot(labels, 3), labels


SMOOTH: dict[str, Batch] = {
    "P x K": p_by_k(4, 3, 4),
    "one dimension": p_by_k(3, 3, 1),
    "unequal counts": unequal(),
    "two identities": p_by_k(2, 4, 5),
    "well apart": two_clusters(),
}
DEGENERATE: dict[str, Batch] = {
    "all equal": (torch.full((6, 3), 0.7, dtype=torch.float64), torch.arange(3).repeat(2)),
    "all zero": (torch.zeros(6, 3, dtype=torch.float64), torch.arange(3).repeat(2)),
    "duplicates": with_duplicates(),
    "zero vectors": with_zero_vectors(),
    "far from the origin": (unequal()[0] + 1e3, unequal()[1]),
}
BATCHES = SMOOTH | DEGENERATE


def oracle(
    name: str, embeddings: Any, labels: Tensor, margin: Margin, metric: Metric
) -> tuple[float, ...]:
    points = embeddings.tolist() if isinstance(embeddings, Tensor) else embeddings
    average = "nonzero" if name.endswith("_nonzero") else "all"
    if name.startswith("batch_hard"):
        return oracles.batch_hard(points, labels.tolist(), margin, metric, average)[:2]
    if name in ("semi_hard", "lifted"):
        return getattr(oracles, name)(points, labels.tolist(), margin, metric)
    return oracles.batch_all(points, labels.tolist(), margin, metric, average)


def loss_of(
    name: str, labels: Tensor, margin: Margin = 0.5, metric: Metric = "euclidean"
) -> Callable[[Tensor], Tensor]:
    return lambda embeddings: LOSSES[name](embeddings, labels, margin, metric).loss


def gradient(loss: Callable[[Tensor], Tensor], embeddings: Tensor) -> Tensor:
    embeddings = embeddings.detach().clone().requires_grad_()
    (result,) = torch.autograd.grad(loss(embeddings), embeddings)
    return result
