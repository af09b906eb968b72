"""Triplet losses on a batch of P x K images: batch hard, sample, all, semi-hard, lifted.

A triplet is an anchor, a positive (another image of the anchor's identity) and a negative (an
image of another identity). Its loss asks for d(anchor, positive) + margin < d(anchor, negative).
The functions here differ only in which of a batch's triplets they look at.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tripletlib.distances import Metric, pairwise_distances, triplet_distances
from tripletlib.mining import Labels, as_tensor, mine_hardest

Margin = float | Literal["soft"]
Average = Literal["all", "nonzero"]


@dataclass(frozen=True)
class TripletResult:
    """What a triplet loss says about one batch.

    Attributes:
        loss: the mean loss, a scalar that carries the gradient.
        active_fraction: scalar, share of triplets that are not yet right: loss > 0 for the hinge,
            d_pos >= d_neg for the soft margin (whose loss never reaches 0).
        positive_distances: `batch_hard` only: each kept anchor's hardest positive, `[B']`.
        negative_distances: `batch_hard` only: its hardest negative, `[B']`; both without gradient.

    Example:
        >>> embeddings = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
        >>> result = batch_hard(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> result.active_fraction, result.positive_distances, result.negative_distances
        (tensor(0.2500), tensor([1., 1., 4., 4.]), tensor([3., 2., 2., 6.]))
    """

    loss: Tensor
    active_fraction: Tensor
    positive_distances: Tensor | None = None
    negative_distances: Tensor | None = None


def batch_hard(
    embeddings: Tensor,
    labels: Labels,
    margin: Margin = 0.5,
    metric: Metric = "euclidean",
    average: Average = "all",
) -> TripletResult:
    """Mean loss of each anchor with its farthest positive and its nearest negative.

    `mine_hardest` chooses the two without a gradient. Only the chosen pairs, at most 2B of the B^2,
    are then measured again and differentiated.

    Args:
        embeddings: `[B, D]`, any floating type; computed in float64 or else in float32, which
            squares differences from about 1e-22 (below, they are 0) to 1e18 (beyond, infinite).
        labels: identity of each image, tensor, array or list `[B]`; counts may differ between
            identities.
        margin: a distance >= 0 for the hinge max(0, margin + d_pos - d_neg), or `"soft"` for
            log(1 + exp(d_pos - d_neg)).
        metric: distance, see `pairwise_distances`.
        average: divide by the number of all triplets (`"all"`) or of those whose loss is above 0
            (`"nonzero"`; with the soft margin that is all).

    Returns:
        A `TripletResult`. Anchors without a positive are left out of every figure. The gradient
        cannot be differentiated once more.

    Raises:
        ValueError: no valid triplet in the batch, wrong shapes, a bad margin, metric or average.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), equation 5 and section 2, "soft margin" and on
        averaging over the non-zero terms.

    Example:
        >>> embeddings = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> batch_hard(embeddings, labels, margin=0.5).loss  # (0 + 0 + 2.5 + 0) / 4
        tensor(0.6250)
    """
    labels = _check(embeddings, labels, margin)
    anchors, positives, negatives = mine_hardest(embeddings, labels, metric)  # [B'] each
    if not len(anchors):
        raise _no_valid_triplet(labels)
    triplets = anchors, positives, negatives
    differences, d_pos, d_neg = triplet_distances(embeddings, *triplets, metric)  # [B'] each
    losses, active = triplet_losses(differences, margin)
    loss = _mean(losses, average)
    return TripletResult(
        loss=loss if len(anchors) == len(embeddings) else _unless_broken(loss, embeddings),
        active_fraction=active.mean(dtype=torch.float32),
        positive_distances=d_pos,
        negative_distances=d_neg,
    )


def batch_all(
    embeddings: Tensor,
    labels: Labels,
    margin: Margin = 0.5,
    metric: Metric = "euclidean",
    average: Average = "all",
) -> TripletResult:
    """Mean loss over all valid triplets of the batch.

    Arguments and errors are those of `batch_hard`; the result has no chosen distances. If no
    triplet is active, the hinge's loss is 0 and so is its gradient.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), equation 6, and section 2 on averaging over the
        non-zero terms.

    Example:
        >>> embeddings = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> batch_all(embeddings, labels, margin=0.5).loss  # (1.5 + 2.5) / 8
        tensor(0.5000)
    """
    distances, is_positive, is_negative = _all_pairs(embeddings, labels, margin, metric)
    anchors, positives = is_positive.nonzero(as_tuple=True)  # [M] pairs each
    differences = distances[anchors, positives][:, None] - distances[anchors]  # [M, B]
    losses, active = triplet_losses(differences[is_negative[anchors]], margin)  # [triplets]
    return TripletResult(
        loss=_mean(losses, average), active_fraction=active.mean(dtype=torch.float32)
    )


def semi_hard(
    embeddings: Tensor, labels: Labels, margin: Margin = 0.2, metric: Metric = "euclidean"
) -> TripletResult:
    """Mean loss of each anchor and positive with the nearest negative that is farther away.

    It is *semi-hard* where the hinge's loss is above 0. If no negative is farther than the
    positive, the farthest of all is taken, the least hard one.

    Arguments and errors are those of `batch_hard`; the result has no chosen distances.

    Source:
        Schroff et al. 2015, FaceNet (arXiv 1503.03832), section 3.2; the fallback is that of
        TensorFlow Addons' `triplet_semihard_loss`.

    Example:
        >>> embeddings = torch.tensor([[0.0], [1.0], [1.1], [7.0]])
        >>> semi_hard(embeddings, torch.tensor([0, 0, 1, 2]), margin=0.2).loss  # (0.1 + 0) / 2
        tensor(0.0500)
    """
    distances, is_positive, is_negative = _all_pairs(embeddings, labels, margin, metric)
    anchors, positives = is_positive.nonzero(as_tuple=True)  # [M] pairs each
    d_pos = distances[anchors, positives]  # [M]
    to_others, is_negative = distances.detach()[anchors], is_negative[anchors]  # [M, B]
    is_farther = is_negative & (to_others > d_pos[:, None])
    nearest_farther = to_others.masked_fill(~is_farther, torch.inf).min(1).indices
    farthest = to_others.masked_fill(~is_negative, -torch.inf).max(1).indices
    negatives = torch.where(is_farther.any(1), nearest_farther, farthest)  # [M]
    return _mean_over(d_pos - distances[anchors, negatives], margin, embeddings)


def lifted(
    embeddings: Tensor, labels: Labels, margin: Margin = 1.0, metric: Metric = "euclidean"
) -> TripletResult:
    """Mean loss of each anchor with all its positives and negatives at once, the hardest foremost.

    The farthest positive and the nearest negative of batch hard give way to their smooth versions,
    log sum exp(d_pos) and -log sum exp(-d_neg), in which every image has its share.

    Arguments and errors are those of `batch_hard`; one triplet is an anchor with all its others.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), equation 8, "lifted embedding loss, generalised",
        after Oh Song et al. 2016 (arXiv 1511.06452).

    Example:
        >>> embeddings = torch.tensor([[0.0], [1.0], [3.0]])
        >>> lifted(embeddings, torch.tensor([0, 0, 1]), margin=1.0).loss  # (max(0, -1) + 0) / 2
        tensor(0.)
    """
    distances, is_positive, is_negative = _all_pairs(embeddings, labels, margin, metric)
    kept = is_positive.any(1)
    d_pos = distances.masked_fill(~is_positive, -torch.inf)[kept].logsumexp(1)  # [B']
    d_neg = -(-distances).masked_fill(~is_negative, -torch.inf)[kept].logsumexp(1)  # [B']
    return _mean_over(d_pos - d_neg, margin, embeddings)


def batch_sample(
    embeddings: Tensor,
    labels: Labels,
    margin: Margin = 0.5,
    metric: Metric = "euclidean",
    generator: torch.Generator | None = None,
    weighted: bool = True,
) -> TripletResult:
    """Mean loss of each anchor with one positive and one negative drawn at random, hard ones first.

    An anchor's positive is drawn with probability proportional to exp(d), its negative with
    exp(-d): farther positives and nearer negatives are likelier, and of images that lie close
    together, compared with 1, all are about as likely. With `weighted` false all are equally likely
    wherever they lie: plain triplets, without any mining.

    `generator` is the source of the draws; None takes PyTorch's own, which `torch.manual_seed`
    sets. Other arguments and errors are those of `batch_hard`; the result has no chosen distances.

    Source:
        `batch_sample` in loss.py of VisualComputingInstitute/triplet-reid, the code of Hermans et
        al. 2017 (arXiv 1703.07737). The plain triplets of its section 2 use each image once; here
        each is an anchor.

    Example:
        >>> embeddings = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
        >>> batch_sample(embeddings, torch.tensor([0, 0, 1, 2]), margin=0.5).loss  # one of 4 pairs
        tensor(0.)
    """
    distances, is_positive, is_negative = _all_pairs(embeddings, labels, margin, metric)
    anchors = is_positive.any(1).nonzero().squeeze(1)  # [B']
    weights = distances.detach()[anchors] * weighted  # [B', B] logarithms of the weights
    positives = _draw_one(weights, is_positive[anchors], generator)  # [B']
    negatives = _draw_one(-weights, is_negative[anchors], generator)  # [B']
    differences = distances[anchors, positives] - distances[anchors, negatives]
    return _mean_over(differences, margin, embeddings)


def _draw_one(logits: Tensor, allowed: Tensor, generator: torch.Generator | None) -> Tensor:
    """A column of each row, drawn with probability softmax(logits) among the allowed ones."""
    # The Gumbel-max trick: unlike `multinomial` it lets a NaN through to the loss.
    noise = -torch.empty_like(logits).exponential_(generator=generator).log()
    return (logits + noise).masked_fill(~allowed, -torch.inf).max(1).indices


def triplet_losses(differences: Tensor, margin: Margin) -> tuple[Tensor, Tensor]:
    """Loss of single triplets from their d_pos - d_neg, and whether they are active; any shape.

    Hinge or soft margin, see `batch_hard`; what is active, see `TripletResult`.

    Example:
        >>> triplet_losses(torch.tensor([-2.0, 0.5]), margin=1.0)
        (tensor([0.0000, 1.5000]), tensor([False,  True]))
    """
    if margin == "soft":
        return F.softplus(differences), differences >= 0
    losses = F.relu(differences + margin)
    return losses, losses > 0


def check_margin(margin: Margin) -> None:
    """Raises a ValueError unless the margin is a finite number >= 0 or `"soft"`."""
    if margin != "soft" and (isinstance(margin, str) or not 0 <= margin < math.inf):
        raise ValueError(f"margin must be a finite number >= 0 or 'soft', got {margin!r}")


def _check(embeddings: Tensor, labels: Labels, margin: Margin) -> Tensor:
    """The labels as a tensor, or a ValueError that says what is wrong with the batch."""
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        raise ValueError(
            f"embeddings must be floating point [B, D], got {embeddings.dtype} "
            f"{list(embeddings.shape)}"
        )
    labels = as_tensor(labels, embeddings.device)
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f"labels must be [B] = [{len(embeddings)}], got {list(labels.shape)}")
    check_margin(margin)
    if len(labels) < 3:
        raise _no_valid_triplet(labels)
    return labels


def _all_pairs(
    embeddings: Tensor, labels: Labels, margin: Margin, metric: Metric
) -> tuple[Tensor, Tensor, Tensor]:
    """Distances of all pairs, and which are anchor and positive, anchor and negative: `[B, B]`."""
    labels = _check(embeddings, labels, margin)
    same = labels[:, None] == labels
    is_positive = same.clone().fill_diagonal_(False)
    if same.all() or not is_positive.any():
        raise _no_valid_triplet(labels)
    return pairwise_distances(embeddings, metric=metric), is_positive, ~same


def _mean(losses: Tensor, average: Average) -> Tensor:
    """Mean of single losses; see `average` of `batch_hard`."""
    if average == "all":
        return losses.mean()
    if average != "nonzero":
        raise ValueError(f"average must be 'all' or 'nonzero', got {average!r}")
    return losses.sum() / (losses > 0).sum().clamp_min(1)


def _mean_over(differences: Tensor, margin: Margin, embeddings: Tensor) -> TripletResult:
    """Mean loss of triplets from their d_pos - d_neg, one or more of each kept anchor."""
    losses, active = triplet_losses(differences, margin)
    return TripletResult(
        loss=_unless_broken(losses.mean(), embeddings),
        active_fraction=active.mean(dtype=torch.float32),
    )


def _unless_broken(loss: Tensor, embeddings: Tensor) -> Tensor:
    """The loss, or NaN if an entry is NaN or infinite: an image left out must not hide that."""
    return loss + 0 * embeddings.detach().sum(dtype=loss.dtype)


def _no_valid_triplet(labels: Tensor) -> ValueError:
    if len(labels.unique()) < 2:
        return ValueError(
            f"no valid triplet: the batch of {len(labels)} holds fewer than two identities, so "
            "there is no negative; draw more identities per batch (P)"
        )
    return ValueError(
        f"no valid triplet: each of the {len(labels)} identities appears once, so there is "
        "no positive; draw more images per identity (K)"
    )
