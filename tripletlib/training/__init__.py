"""Trains an embedding network with a triplet loss, and goes on where it was stopped."""

from tripletlib.training.fit import (
    EpochReport,
    NonFiniteLossError,
    TrainingInterrupted,
    fit,
    seed_everything,
)
from tripletlib.training.history import MEAN_LOSS_EVERY, PERCENTILES, History
from tripletlib.training.run_folder import (
    CheckpointError,
    Resume,
    checkpoint_file,
    load_checkpoint,
)
from tripletlib.training.settings import (
    MAXIMUM_STEPS,
    Parameters,
    Real,
    TrainingSettings,
    Whole,
    find_parameter_file,
    no_such_parameter,
    read_parameter_file,
    spelled,
)

__all__ = [
    "MAXIMUM_STEPS",
    "MEAN_LOSS_EVERY",
    "PERCENTILES",
    "CheckpointError",
    "EpochReport",
    "History",
    "NonFiniteLossError",
    "Parameters",
    "Real",
    "Resume",
    "TrainingInterrupted",
    "TrainingSettings",
    "Whole",
    "checkpoint_file",
    "find_parameter_file",
    "fit",
    "load_checkpoint",
    "no_such_parameter",
    "read_parameter_file",
    "seed_everything",
    "spelled",
]
