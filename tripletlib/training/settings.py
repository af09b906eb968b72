"""The settings of a training: one dataclass, checked when it is made."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from tripletlib.distances import Metric, check_metric
from tripletlib.losses import Margin, TripletResult, batch_all, batch_hard, check_margin

LOSSES: dict[str, Callable[..., TripletResult]] = {
    "batch_hard": batch_hard,
    "batch_all": batch_all,
    "batch_all_nonzero": partial(batch_all, average="nonzero"),
}


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides how a training goes, apart from the network and the data.

    Attributes:
        steps: optimiser steps in all.
        identities: P, identities in a batch.
        images_per_identity: K, images of each identity in a batch.
        loss: a key of `LOSSES`.
        margin: the hinge's margin, or `"soft"`.
        metric: distance, see `pairwise_distances`.
        learning_rate: Adam's rate e0 before the decay.
        decay_start: t0, last step at the full rate; None for a constant rate.
        decay_end: t1, the step at which the rate has fallen to a thousandth.
        beta1_in_decay: Adam's beta1 once the decay has begun (0.9 before).
        augment: enlarge, crop and flip each batch at random, see `random_crop_flip`.
        steps_per_epoch: steps between two epoch reports; ceil(N / (P x K)) when None.
        seed: start of the sampler's random sequence.
        precision: `"auto"` computes in bfloat16 where the processor has it and float32 elsewhere.
        device: `"auto"` takes a GPU when there is one.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), section 4.2 and equation 10.
    """

    steps: int
    identities: int
    images_per_identity: int
    loss: Literal["batch_hard", "batch_all", "batch_all_nonzero"] = "batch_hard"
    margin: Margin = 0.5
    metric: Metric = "euclidean"
    learning_rate: float = 1e-3
    decay_start: int | None = None
    decay_end: int | None = None
    beta1_in_decay: float = 0.9
    augment: bool = False
    steps_per_epoch: int | None = None
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("steps", "identities", "images_per_identity", "steps_per_epoch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {tuple(LOSSES)}, got {self.loss!r}")
        check_metric(self.metric)
        check_margin(self.margin)
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ValueError(
                f"precision must be 'auto', 'float32' or 'bfloat16', got {self.precision!r}"
            )
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if (self.decay_start is None) != (self.decay_end is None):
            raise ValueError("decay_start and decay_end go together: give both or neither")
        if self.decay_start is None or self.decay_end is None:
            return
        if not 0 <= self.decay_start < self.decay_end:
            raise ValueError(
                f"decay_start ({self.decay_start}) must lie before decay_end ({self.decay_end})"
            )

    def learning_rate_at(self, step: int) -> float:
        """e(t) = e0 up to t0, then e0 * 0.001^((t - t0) / (t1 - t0)); constant behind t1.

        Example:
            >>> settings = TrainingSettings(25000, 32, 4, decay_start=15000, decay_end=25000)
            >>> [f"{settings.learning_rate_at(t):.1e}" for t in (15000, 20000, 25000)]
            ['1.0e-03', '3.2e-05', '1.0e-06']
        """
        if self.decay_start is None or self.decay_end is None or step <= self.decay_start:
            return self.learning_rate
        share = (step - self.decay_start) / (self.decay_end - self.decay_start)
        return self.learning_rate * 0.001 ** min(share, 1)

    def beta1_at(self, step: int) -> float:
        """Adam's beta1 for a step: 0.9, and `beta1_in_decay` behind `decay_start`."""
        in_decay = self.decay_start is not None and step > self.decay_start
        return self.beta1_in_decay if in_decay else 0.9
