"""Images to embeddings, batch by batch, with a trained network."""

import numpy as np
import torch
from torch import Tensor, nn


def to_unit_interval(images: Tensor | np.ndarray, device: torch.device) -> Tensor:
    """Moves uint8 images to the device and scales them there.

    Moving bytes and scaling afterwards carries a quarter of what moving floats would.

    Args:
        images: uint8 `[B, C, H, W]`, intensities 0 to 255.
        device: where the network is.

    Returns:
        float32 `[B, C, H, W]`, intensities in [0, 1].
    """
    return torch.as_tensor(images).to(device, non_blocking=True).float().div_(255)


@torch.inference_mode()
def embed(model: nn.Module, images: np.ndarray, batch_size: int = 512) -> np.ndarray:
    """Embeds a set of images in evaluation mode; the model's mode is put back afterwards.

    Args:
        model: network from `[B, C, H, W]` to `[B, D]`; its parameters name the device.
        images: uint8 `[N, C, H, W]`.
        batch_size: images in one forward pass.

    Returns:
        Embeddings, float32 `[N, D]`.

    Raises:
        ValueError: no images, or images that are not uint8.

    Example:
        >>> from tripletlib.models import MnistNet
        >>> embed(MnistNet(embedding_dim=2), np.zeros((3, 1, 28, 28), np.uint8)).shape
        (3, 2)
    """
    if images.dtype != np.uint8 or not len(images):
        raise ValueError(
            f"images must be uint8 [N, C, H, W], N > 0; got {images.dtype} {list(images.shape)}"
        )
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        parts = [
            model(to_unit_interval(images[start : start + batch_size], device)).float().cpu()
            for start in range(0, len(images), batch_size)
        ]
    finally:
        model.train(was_training)
    return torch.cat(parts).numpy()
