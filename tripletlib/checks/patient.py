"""A small training in which units die: the patient of exercise 02.5."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from tripletlib.losses import batch_hard


def train_small_net(
    seed: int, margin: float, learning_rate: float, batch_norm: bool, slope: float
) -> tuple[nn.Sequential, Tensor, float]:
    """Trains four layers of 16 units for 60 steps of batch hard, on six noisy identities.

    Args:
        seed: of weights and data.
        margin: of batch hard.
        learning_rate: of Adam; 0.1 kills units.
        batch_norm: whether each layer is normalised over the batch.
        slope: of the activation below 0; 0 for ReLU.

    Returns:
        The network in training mode, a batch `[36, 64]`, and the median distance of its embeddings.
    """
    random = torch.Generator().manual_seed(seed)
    centres = torch.rand(6, 64, generator=random)
    labels = torch.arange(6).repeat_interleave(6)
    sizes = [64, 16, 16, 16, 16]
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), *([nn.BatchNorm1d(n_out)] if batch_norm else [])]
            layers.append(nn.LeakyReLU(slope) if slope else nn.ReLU())
        net = nn.Sequential(*layers, nn.Linear(16, 2))
    optimiser = torch.optim.Adam(net.parameters(), lr=learning_rate)
    for _ in range(60):
        batch = centres[labels] + torch.rand(36, 64, generator=random)
        optimiser.zero_grad()
        batch_hard(net(batch), labels, margin).loss.backward()
        optimiser.step()
    with torch.no_grad():
        embeddings = net(batch)
    return net, batch, torch.pdist(embeddings).median().item()
