"""One experiment from one parameter file: train, embed, score, and open what came of it."""

from tripletlib.experiments.experiment import Experiment
from tripletlib.experiments.retrieval import Retrieval, open_retrieval

__all__ = ["Experiment", "Retrieval", "open_retrieval"]
