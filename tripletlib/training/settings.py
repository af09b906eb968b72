"""The settings of a training: typed, and checked when they are made."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tripletlib.distances import Metric
from tripletlib.losses import (
    TripletResult,
    batch_all,
    batch_hard,
    batch_sample,
    lifted,
    semi_hard,
)
from tripletlib.training.parameters import Parameters, Real, Whole

LOSSES: dict[str, Callable[..., TripletResult]] = {
    "batch_hard": batch_hard,
    "batch_hard_nonzero": partial(batch_hard, average="nonzero"),
    "batch_all": batch_all,
    "batch_all_nonzero": partial(batch_all, average="nonzero"),
    "batch_sample": batch_sample,
    "random_triplets": partial(batch_sample, weighted=False),
    "semi_hard": semi_hard,
    "lifted": lifted,
}
MAXIMUM_STEPS, MAXIMUM_BATCH = 10_000_000, 65_536


class TrainingSettings(Parameters):
    """Everything that decides how a training goes, apart from the network and the data.

    The defaults are those of notebook 03's quick profile.

    Attributes:
        identities: P, identities in a batch.
        images_per_identity: K, images of each identity in a batch.
        loss: a key of `LOSSES`.
        margin: the hinge's margin, or `"soft"`.
        metric: distance in the loss, see `pairwise_distances`.
        identity_loss: weight of a classification of the training identities beside the triplet
            loss, see `Trainer.identity_loss`; 0 for none.
        learning_rate: Adam's rate e0 before the decay.
        warm_up: steps in which the rate first grows linearly to e0; 0 for none.
        decay_start: t0, the last step at the full rate; 0 for a constant rate.
        decay_end: t1, the step at which the rate has fallen to a thousandth.
        beta1_in_decay: Adam's beta1 once the decay has begun (0.9 before).
        augment: enlarge, crop and flip each batch at random, see `random_crop_flip`.
        random_erasing: cover a rectangle of every other image, see `random_erasing`.
        steps: optimiser steps in all.
        steps_per_epoch: steps between two epoch reports; 0 for ceil(N / (P x K)).
        seed: start of the random sequences.
        precision: `"auto"` computes in bfloat16 where the processor has it and float32 elsewhere
            (and on a CPU in a `TriNet`'s strided depthwise convolutions).
        compiled: let a GPU run the network by torch.compile and CUDA graphs; this takes a minute
            before the first step.
        device: `"auto"` takes a GPU when there is one; otherwise a name such as `"cuda:1"`.

    Raises:
        ParameterError: see `Parameters`.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), section 4.2 and equation 10; Luo et al. 2019 (arXiv
        1903.07071), section 3, for identity loss, warm-up and random erasing.
    """

    identities: Whole = Field(default=8, ge=2, le=MAXIMUM_BATCH)
    images_per_identity: Whole = Field(default=4, ge=2, le=MAXIMUM_BATCH)
    loss: Literal[
        "batch_hard",
        "batch_hard_nonzero",
        "batch_all",
        "batch_all_nonzero",
        "batch_sample",
        "random_triplets",
        "semi_hard",
        "lifted",
    ] = "batch_all"
    margin: Annotated[Real, Field(ge=0)] | Literal["soft"] = "soft"
    metric: Metric = "euclidean"
    identity_loss: Real = Field(default=0, ge=0)
    learning_rate: Real = Field(default=0.004, gt=0)
    warm_up: Whole = Field(default=0, ge=0, le=MAXIMUM_STEPS)
    decay_start: Whole = Field(default=600, ge=0, le=MAXIMUM_STEPS)
    decay_end: Whole = Field(default=1000, ge=0, le=MAXIMUM_STEPS)
    beta1_in_decay: Real = Field(default=0.9, ge=0, lt=1)
    augment: bool = True
    random_erasing: bool = False
    steps: Whole = Field(default=1000, ge=1, le=MAXIMUM_STEPS)
    steps_per_epoch: Whole = Field(default=200, ge=0, le=MAXIMUM_STEPS)
    seed: Whole = Field(default=0, ge=0, lt=2**32)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compiled: bool = False
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:[0-9]+)?)$")

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.decay_start and self.decay_start >= self.decay_end:
            raise ValueError(
                f"decay_start: {self.decay_start} must lie before decay_end: {self.decay_end}; "
                "change one of them, or write decay_start: 0 for a constant rate"
            )
        if self.decay_start and self.warm_up > self.decay_start:
            raise ValueError(
                f"warm_up: {self.warm_up} must end before decay_start: {self.decay_start}; lower it"
            )
        if self.batch_size > MAXIMUM_BATCH:
            raise ValueError(
                f"identities x images_per_identity are {self.batch_size:,} images in a batch; "
                f"write numbers whose product is at most {MAXIMUM_BATCH:,}"
            )
        return self

    @property
    def batch_size(self) -> int:
        """B = P x K, images in a batch."""
        return self.identities * self.images_per_identity

    def learning_rate_at(self, step: int) -> float:
        """e(t) = e0 up to t0, then e0 * 0.001^((t - t0) / (t1 - t0)); constant behind t1.

        During the warm-up e0 * t / warm_up.
        """
        if step < self.warm_up:
            return self.learning_rate * step / self.warm_up
        if not self.decay_start or step <= self.decay_start:
            return self.learning_rate
        share = (step - self.decay_start) / (self.decay_end - self.decay_start)
        return self.learning_rate * 0.001 ** min(share, 1)

    def beta1_at(self, step: int) -> float:
        """Adam's beta1: 0.9, and `beta1_in_decay` behind `decay_start`."""
        return self.beta1_in_decay if 0 < self.decay_start < step else 0.9
