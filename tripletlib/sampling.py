"""Batches of P identities x K images, the shape that mining inside a batch needs."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.utils.data import Sampler


class PKSampler(Sampler[list[int]]):
    """Draws batches of exactly P x K indices, K for each of P different identities.

    One pass is ceil(identities in the set / P) batches. Every identity appears in a pass, and none
    twice in a batch; the last batch is filled up with identities that had their turn before. An
    identity with fewer than K images gives each of them before any a second time.

    Args:
        labels: identity of each image of the set, `[N]`.
        identities: P, identities in a batch.
        images: K, images of each identity in a batch.
        seed: start of the random sequence; each pass is a new permutation.

    Raises:
        ValueError: the set has fewer than P identities, or P or K is below 1.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), section 2 and section 4.2 (their batches are P = 18,
        K = 4 and P = 32, K = 4).

    Example:
        >>> sampler = PKSampler([7, 7, 7, 8, 8, 9], identities=2, images=2)
        >>> len(sampler), [len(batch) for batch in sampler]
        (2, [4, 4])
    """

    def __init__(self, labels: ArrayLike, identities: int, images: int, seed: int = 0) -> None:
        labels = np.asarray(labels)
        if labels.ndim != 1:
            raise ValueError(f"labels must be [N], got {list(labels.shape)}")
        names, inverse = np.unique(labels, return_inverse=True)
        if identities < 1 or images < 1:
            raise ValueError(f"a batch needs P >= 1 and K >= 1, got {identities} x {images}")
        if len(names) < identities:
            raise ValueError(
                f"a batch of P = {identities} identities cannot be drawn: the set has only "
                f"{len(names)}; lower `identities`"
            )
        self.identities, self.images = identities, images
        by_identity = np.argsort(inverse, kind="stable")
        self._members = np.split(by_identity, np.cumsum(np.bincount(inverse))[:-1])
        self._generator = torch.Generator().manual_seed(seed)
        self._pass_start = self._generator.get_state()
        self._handed_out = 0
        self._left_of_pass: list[list[int]] = []

    def __len__(self) -> int:
        """Batches in one pass."""
        return math.ceil(len(self._members) / self.identities)

    def __iter__(self) -> Iterator[list[int]]:
        """Starts a new pass, or goes on with the one that `load_state_dict` brought back."""
        batches, self._left_of_pass = self._left_of_pass, []
        if not batches:
            self._pass_start = self._generator.get_state()
            self._handed_out = 0
            batches = self._draw_pass()
        for batch in batches:
            self._handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The random state at the start of the pass, and how many of its batches were taken."""
        return {"pass_start": self._pass_start.clone(), "handed_out": self._handed_out}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues behind the last batch taken when `state_dict` was called.

        At the end of a pass that is the beginning of the next. The state is that of a sampler with
        the same labels, P and K; a KeyError if it is none.
        """
        self._pass_start = state["pass_start"].clone()
        self._handed_out = int(state["handed_out"])
        self._generator.set_state(self._pass_start)
        self._left_of_pass = self._draw_pass()[self._handed_out :]

    def _draw_pass(self) -> list[list[int]]:
        order = self._permutation(len(self._members))
        missing = len(self) * self.identities - len(order)
        if missing:
            # Only identities outside the last batch can fill it without doubling one.
            last = len(order) - (self.identities - missing)
            earlier = self._permutation(last)[:missing]
            order = np.concatenate([order, order[earlier]])
        return [
            [index for identity in chunk for index in self._draw_images(self._members[identity])]
            for chunk in order.reshape(-1, self.identities)
        ]

    def _draw_images(self, members: np.ndarray) -> list[int]:
        rounds = math.ceil(self.images / len(members))
        drawn = [members[self._permutation(len(members))] for _ in range(rounds)]
        return np.concatenate(drawn)[: self.images].tolist()

    def _permutation(self, n: int) -> np.ndarray:
        return torch.randperm(n, generator=self._generator).numpy()
