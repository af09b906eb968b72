"""Batch-normalisation over the batch of all processes, for processors without a GPU."""

import torch
from torch import Tensor, nn

from tripletlib.gathering import gather_rows

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


class CpuSyncBatchNorm(nn.Module):
    """What `torch.nn.SyncBatchNorm` does on a GPU, on a CPU, where that refuses to work.

    Mean and variance of a channel are those of all processes' images together, as if they were in
    one batch. Each process needs the same number of them.

    Args:
        layer: the batch-normalisation whose parameters and running statistics are used.

    Source:
        Ioffe and Szegedy 2015 (arXiv 1502.03167), algorithm 1; the law of total variance.
    """

    def __init__(self, layer: BatchNorm) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> Tensor:
        """Normalises each channel; in evaluation mode as the layer itself does.

        Args:
            features: `[b, C, ...]`, this process's part of the batch.

        Returns:
            The same shape and type; computed in float32 or float64.
        """
        layer = self.layer
        if not layer.training:
            return layer(features)
        values = features if features.dtype == torch.float64 else features.float()
        others = [dimension for dimension in range(features.ndim) if dimension != 1]
        variance, mean = torch.var_mean(values, others, correction=0)  # [C] each
        means, variances = gather_rows(torch.stack([mean, variance])[None]).unbind(1)
        mean = means.mean(0)  # [C] from [processes, C]
        # Variance of all = mean of the variances + variance of the means. A mean of the squares
        # less the square of the mean would lose digits.
        variance = variances.mean(0) + means.var(0, correction=0)
        self._track(mean.detach(), variance.detach(), len(means) * values[:, 0].numel())
        scale = torch.rsqrt(variance + layer.eps)
        if layer.affine:
            scale = scale * layer.weight
        shift = layer.bias - mean * scale if layer.affine else -mean * scale
        shape = [-1 if dimension == 1 else 1 for dimension in range(features.ndim)]
        return torch.addcmul(shift.view(shape), values, scale.view(shape)).to(features.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        layer = self.layer
        if layer.running_mean is None or layer.running_var is None:
            return
        layer.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        momentum = layer.momentum
        if momentum is None:  # a plain average over all batches
            momentum = 1 / int(layer.num_batches_tracked)  # type: ignore[arg-type]
        layer.running_mean.lerp_(mean, momentum)
        layer.running_var.lerp_(variance * (count / (count - 1)), momentum)  # unbiased, as PyTorch


def synchronise_batch_norm(network: nn.Module) -> nn.Module:
    """Puts a `CpuSyncBatchNorm` around each batch-normalisation inside a network, in place."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, BatchNorm):
                setattr(parent, name, CpuSyncBatchNorm(child))
    return network
