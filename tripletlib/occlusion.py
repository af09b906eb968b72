"""Which regions of a picture carry its similarity to another: they are covered, one by one."""

from collections.abc import Callable
from copy import deepcopy
from typing import TypeVar

import numpy as np
import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def occlusion_map(
    embed: Callable[[np.ndarray], np.ndarray], image: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """Occlusion sensitivity of the distance between an image and an embedding.

    A square in the image's mean colour, a quarter of the shorter side wide, is laid over it, in
    steps of half its side, and the covered image is embedded again. Where that adds to the
    distance, the region had made the two alike; where it takes away from it, the region had set
    them apart.

    Args:
        embed: from images, uint8 `[N, C, H, W]`, to embeddings, `[N, D]`.
        image: uint8 `[C, H, W]`.
        other: the embedding that the image is compared with, `[D]`.

    Returns:
        How much the Euclidean distance changes, float `[H, W]`: for each pixel the mean over the
        squares that cover it.

    Source:
        Zeiler and Fergus 2014 (arXiv 1311.2901), section 4.2, with a distance in place of a score.

    Example:
        >>> image, other = np.full((3, 8, 4), 9, np.uint8), np.zeros(3)
        >>> occlusion_map(lambda images: images.mean((2, 3)), image, other).shape
        (8, 4)
    """
    height, width = image.shape[1:]
    patch = max(2, min(height, width) // 4)
    step = patch // 2
    row, column = np.arange(height)[:, None], np.arange(width)
    covered = np.stack(  # [M, H, W]; squares begin outside, so that edges are covered as often
        [
            (top <= row) & (row < top + patch) & (left <= column) & (column < left + patch)
            for top in range(step - patch, height, step)
            for left in range(step - patch, width, step)
        ]
    )
    colour = image.mean((1, 2), keepdims=True).round().astype(np.uint8)  # [C, 1, 1]
    images = np.concatenate([image[None], np.where(covered[:, None], colour, image)])
    distances = np.linalg.norm(embed(images) - other, axis=1)  # [1 + M]
    return np.tensordot(distances[1:] - distances[0], covered, 1) / covered.sum(0)


def randomised(model: Network, seed: int = 0) -> Network:
    """A copy of the network in which every layer has new random weights.

    A map that looks alike for the copy shows the picture, not what the network has learnt.

    Source:
        Adebayo et al. 2018 (arXiv 1810.03292), the model parameter randomisation test.
    """
    copy, device = deepcopy(model), next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for layer in copy.modules():
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
    return copy
