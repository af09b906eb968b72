"""The networks that turn images into embeddings."""

import torch
from torch import Tensor, nn


class MnistNet(nn.Module):
    """Two convolutions and two linear layers that put a digit into a small space.

    Batch-normalisation is what lets batch hard start from random weights: without it this network
    collapses (notebook 02 shows how).

    Args:
        embedding_dim: D, dimensions of the embedding.
        batch_norm: normalise after every layer but the last. Off only to watch the collapse.

    Source:
        The original TensorFlow project's MNIST network; He et al. 2015 (arXiv 1502.01852) for the
        initialisation.

    Example:
        >>> MnistNet(embedding_dim=2).eval()(torch.zeros(4, 1, 28, 28)).shape
        torch.Size([4, 2])
    """

    def __init__(self, embedding_dim: int = 2, batch_norm: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 5, padding=2),
            nn.BatchNorm2d(32) if batch_norm else nn.Identity(),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [B, 32, 14, 14]
            nn.Conv2d(32, 64, 5, padding=2),
            nn.BatchNorm2d(64) if batch_norm else nn.Identity(),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [B, 64, 7, 7]
            nn.Flatten(),  # [B, 3136]
            nn.Linear(64 * 7 * 7, 256),
            nn.BatchNorm1d(256) if batch_norm else nn.Identity(),
            nn.ReLU(),
        )
        self.head = nn.Linear(256, embedding_dim)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds digits.

        Args:
            images: `[B, 1, 28, 28]`, intensities in [0, 1].

        Returns:
            Embeddings `[B, D]`, float32 even under autocast: bfloat16 has 8 bits of mantissa, too
            few for distances between neighbours.

        Raises:
            ValueError: images of another shape.
        """
        if images.shape[1:] != (1, 28, 28):
            raise ValueError(f"MnistNet takes [B, 1, 28, 28], got {list(images.shape)}")
        features = self.body(images)  # [B, 256]
        with torch.autocast(images.device.type, enabled=False):
            return self.head(features.float())
