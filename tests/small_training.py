"""A network, pictures and settings that train in an instant."""

import numpy as np
from torch import nn

from tripletlib.training import TrainingSettings, seed_everything


def blobs(identities=6, images=10, seed=0):
    """Small pictures in which each identity lights another row."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(identities), images)
    pictures = generator.integers(0, 90, (len(labels), 1, 8, 8), dtype=np.uint8)
    pictures[np.arange(len(labels)), 0, labels] += 150
    return pictures, labels


def small_net():
    seed_everything(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(),
                         nn.Linear(32, 2))  # fmt: skip


def settings(**changed):
    values = {"steps": 60, "identities": 4, "images_per_identity": 3, "learning_rate": 0.01}
    values |= {"loss": "batch_hard", "margin": 0.5, "decay_start": 0, "augment": False}
    return TrainingSettings(**values | {"steps_per_epoch": 0} | changed)


class Poisoned(nn.Module):
    """Turns its output to NaN or infinity at a given forward pass."""

    def __init__(self, bad_step, value):
        super().__init__()
        self.inner, self.bad_step, self.value, self.passes = small_net(), bad_step, value, 0

    def forward(self, images):
        self.passes += 1
        embeddings = self.inner(images)
        return embeddings * self.value if self.passes == self.bad_step else embeddings
