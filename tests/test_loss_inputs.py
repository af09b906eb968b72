"""The losses where others fall, and on every type, size and shape of their input."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from loss_cases import (
    DEGENERATE,
    LOSSES,
    SMOOTH,
    draw,
    each_case,
    each_loss,
    gradient,
    loss_of,
    p_by_k,
    two_clusters,
    unequal,
)
from torch import Tensor
from torch.testing import assert_close

from tripletlib.distances import Metric
from tripletlib.losses import Margin, TripletResult, batch_all, batch_hard
from tripletlib.mining import mine_hardest

# --- Where others fall ---------------------------------------------------------------------------


@each_case
def test_gradients_are_finite_where_points_coincide(
    name: str, margin: Margin, metric: Metric
) -> None:
    for embeddings, labels in DEGENERATE.values():
        loss = loss_of(name, labels, margin, metric)
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            assert gradient(loss, embeddings.to(dtype)).isfinite().all()
            assert loss(embeddings.to(dtype)) >= 0


@each_loss
def test_collapsed_embeddings_cost_the_margin_or_ln_2(name: str) -> None:
    embeddings, labels = DEGENERATE["all equal"]
    negatives = 4 if name == "lifted" else 1  # all of them count there, each as e^margin
    hinge, soft = math.log(negatives) + 0.3, math.log1p(negatives)
    assert_close(LOSSES[name](embeddings, labels, 0.3).loss.item(), hinge)
    assert_close(LOSSES[name](embeddings, labels, "soft").loss.item(), soft)
    assert LOSSES[name](embeddings, labels, 0.3).active_fraction == 1
    assert LOSSES[name](embeddings, labels, "soft").active_fraction == 1


@each_loss
def test_no_active_triplet_costs_nothing_and_moves_nothing(name: str) -> None:
    embeddings, labels = two_clusters()
    result = LOSSES[name](embeddings, labels, 0.5)
    assert result.loss == 0
    assert result.active_fraction == 0
    grad = gradient(loss_of(name, labels, 0.5), embeddings)
    assert_close(grad, torch.zeros_like(grad))


@pytest.mark.parametrize(("loss", "margin"), [(batch_all, 0.5), (batch_hard, 0.1)])
def test_the_two_averages_differ_by_the_share_of_active_triplets(
    loss: Callable[..., TripletResult], margin: Margin
) -> None:
    embeddings, labels = unequal()
    mean = loss(embeddings, labels, margin)
    assert 0 < mean.active_fraction < 1
    nonzero = loss(embeddings, labels, margin, average="nonzero")
    assert_close(nonzero.loss * mean.active_fraction, mean.loss, check_dtype=False)
    soft = [loss(embeddings, labels, "soft", average=a).loss for a in ("all", "nonzero")]
    assert_close(*soft)


@each_case
def test_a_broken_embedding_never_gives_a_finite_loss(
    name: str, margin: Margin, metric: Metric
) -> None:
    labels = torch.tensor([0, 0, 1, 1, 2])  # row 4 is the only image of its identity
    for row in range(5):
        for bad in (torch.nan, torch.inf, -torch.inf):
            embeddings = draw(5, 3, dtype=torch.float32)
            embeddings[row, 1] = bad
            assert not LOSSES[name](embeddings, labels, margin, metric).loss.isfinite()


# --- Types, sizes and shapes of the input --------------------------------------------------------


@each_case
def test_half_precision_and_autocast_compute_in_float32(
    name: str, margin: Margin, metric: Metric
) -> None:
    embeddings, labels = p_by_k(8, 4, 32)
    loss = loss_of(name, labels, margin, metric)
    for dtype in (torch.float16, torch.bfloat16):
        half = embeddings.to(dtype)
        expected, slope = loss(half.float()), gradient(loss, half.float())
        assert loss(half).dtype == torch.float32
        assert_close(loss(half), expected)
        assert_close(gradient(loss, half).float(), slope, rtol=0.05, atol=1e-2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_close(loss(half), expected)


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"lifted"}))  # not equal at any scale
def test_float32_ends_as_documented(name: str) -> None:
    embeddings, labels = SMOOTH["P x K"]
    embeddings = embeddings.float()
    expected = LOSSES[name](embeddings, labels, 0.0).loss
    for scale in (1e-16, 1e17):
        assert_close(LOSSES[name](embeddings * scale, labels, 0.0).loss / scale, expected)
    tiny = gradient(loss_of(name, labels, 0.5), embeddings * 1e-25)
    assert tiny.isfinite().all()
    assert_close(LOSSES[name](embeddings * 1e-25, labels, 0.5).loss.item(), 0.5)
    assert not batch_hard(embeddings * 1e22, labels, 0.5).loss.isfinite()


@each_loss
def test_float64_stays_float64(name: str) -> None:
    assert LOSSES[name](*unequal()).loss.dtype == torch.float64


@pytest.mark.parametrize(
    "rename",
    [
        lambda labels: labels.to(torch.uint8),
        lambda labels: labels.to(torch.int16) - 3,
        lambda labels: labels + 2**60,
        lambda labels: labels.double(),
        lambda labels: labels.tolist(),
        lambda labels: labels.numpy()[::-1][::-1],
        lambda labels: labels.numpy().astype(np.uint16),
        lambda labels: [f"person {label}" for label in labels.tolist()],
    ],
    ids=["uint8", "negative", "huge", "float64", "list", "array", "uint16 array", "text"],
)
@pytest.mark.parametrize("name", ["batch_hard", "batch_all"])
def test_labels_are_only_names(name: str, rename: Callable[[Tensor], Any]) -> None:
    embeddings, labels = unequal()
    expected = LOSSES[name](embeddings, labels)
    assert_close(LOSSES[name](embeddings, rename(labels)).loss, expected.loss)
    assert_close(mine_hardest(embeddings, rename(labels)), mine_hardest(embeddings, labels))


@each_loss
def test_memory_order_does_not_matter(name: str) -> None:
    embeddings, labels = unequal()
    scattered = torch.stack([embeddings.T, embeddings.T])[0].T  # columns of the memory
    strided = labels.repeat_interleave(2)[::2]
    assert not scattered.is_contiguous()
    assert not strided.is_contiguous()
    loss = loss_of(name, strided)
    assert_close(loss(scattered), LOSSES[name](embeddings, labels, 0.5).loss)
    assert_close(gradient(loss, scattered), gradient(loss_of(name, labels), embeddings))


# --- Errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["batch_hard", "batch_all"])
def test_no_valid_triplet_names_the_cause(name: str) -> None:
    loss, points = LOSSES[name], torch.zeros(4, 2)
    with pytest.raises(ValueError, match=r"batch of 4 holds fewer than two identities.*negative"):
        loss(points, torch.tensor([3, 3, 3, 3]))
    with pytest.raises(ValueError, match=r"each of the 4 identities appears once.*no positive"):
        loss(points, torch.arange(4))
    with pytest.raises(ValueError, match=r"each of the 2 identities appears once"):
        loss(points[:2], torch.arange(2))
    for size in (0, 1):
        with pytest.raises(ValueError, match=rf"batch of {size} holds fewer than two identities"):
            loss(points[:size], torch.zeros(size, dtype=torch.int64))


@pytest.mark.parametrize("name", ["batch_hard", "batch_all"])
def test_bad_arguments_are_named(name: str) -> None:
    loss = LOSSES[name]
    points, labels = torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"floating point \[B, D\], got torch.int64 \[4, 2\]"):
        loss(points.long(), labels)
    with pytest.raises(ValueError, match=r"floating point \[B, D\], got torch.float32 \[8\]"):
        loss(points.flatten(), labels)
    with pytest.raises(ValueError, match=r"labels must be \[B\] = \[4\], got \[3\]"):
        loss(points, labels[:3])
    with pytest.raises(ValueError, match=r"labels must be \[B\] = \[4\], got \[4, 1\]"):
        loss(points, labels[:, None])
    for margin in (-0.1, torch.inf, torch.nan, "hard"):
        with pytest.raises(ValueError, match=rf"finite number >= 0 or 'soft', got '?{margin}"):
            loss(points, labels, margin)
    with pytest.raises(ValueError, match=r"metric must be one of .* got 'manhattan'"):
        loss(points, labels, metric="manhattan")
    with pytest.raises(ValueError, match="metric must be one of"):
        mine_hardest(points, labels, metric="manhattan")


@pytest.mark.parametrize("loss", [batch_hard, batch_all])
def test_an_average_must_be_known(loss: Callable[..., TripletResult]) -> None:
    with pytest.raises(ValueError, match=r"average must be 'all' or 'nonzero', got 'some'"):
        loss(torch.zeros(3, 2), torch.tensor([0, 0, 1]), average="some")
