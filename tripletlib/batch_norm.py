"""Batch-normalisation over the batch of all processes, for processors without a GPU."""

import torch
from torch import Tensor, nn

from tripletlib.gathering import gather_rows


class CpuSyncBatchNorm(nn.SyncBatchNorm):
    """What `torch.nn.SyncBatchNorm` does on a GPU, on a CPU, where that refuses to work.

    Mean and variance of a channel are those of all processes' images together, as if they had been
    in one batch. Each process needs the same number of them. In evaluation mode it is an ordinary
    batch-normalisation.

    Source:
        Ioffe and Szegedy 2015 (arXiv 1502.03167), algorithm 1; the law of total variance.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalises each channel.

        Args:
            input: `[b, C, ...]`, this process's part of the batch.

        Returns:
            The same shape and type; computed in float32 or float64.
        """
        if not self.training:
            return super().forward(input)
        values = input if input.dtype == torch.float64 else input.float()
        others = [dimension for dimension in range(input.ndim) if dimension != 1]
        variance, mean = torch.var_mean(values, others, correction=0)  # [C] each
        everybodys = gather_rows(torch.stack([mean, variance])[None])  # [processes, 2, C]
        means, variances = everybodys.unbind(1)  # [processes, C] each
        mean = means.mean(0)
        # Variance of all = mean of the variances + variance of the means. A mean of the squares
        # less the square of the mean would lose digits.
        variance = variances.mean(0) + means.var(0, correction=0)
        self._track(mean.detach(), variance.detach(), len(means) * values[:, 0].numel())
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        shape = [-1 if dimension == 1 else 1 for dimension in range(input.ndim)]
        return torch.addcmul(shift.view(shape), values, scale.view(shape)).to(input.dtype)

    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:  # a plain average over all batches
            momentum = 1 / int(self.num_batches_tracked or 1)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), momentum)  # unbiased, as PyTorch's
