"""Trains an embedding network with a triplet loss, and goes on where it was stopped."""

from tripletlib.training.checkpoints import (
    CheckpointError,
    checkpoint_file,
    checkpoint_steps,
    load_checkpoint,
)
from tripletlib.training.fit import (
    EpochReport,
    NonFiniteLossError,
    TrainingInterrupted,
    fit,
    seed_everything,
)
from tripletlib.training.history import COLUMNS, MEAN_LOSS_EVERY, PERCENTILES, History
from tripletlib.training.run_folder import Resume
from tripletlib.training.settings import TrainingSettings

__all__ = [
    "COLUMNS",
    "MEAN_LOSS_EVERY",
    "PERCENTILES",
    "CheckpointError",
    "EpochReport",
    "History",
    "NonFiniteLossError",
    "Resume",
    "TrainingInterrupted",
    "TrainingSettings",
    "checkpoint_file",
    "checkpoint_steps",
    "fit",
    "load_checkpoint",
    "seed_everything",
]
