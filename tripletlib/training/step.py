"""One training step: model, optimiser, and the random sequences that choose the batches."""

import math
from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tripletlib.augmentation import random_crop_flip, random_erasing
from tripletlib.embedding import embed, to_unit_interval
from tripletlib.runtime import (
    Processes,
    choose_device,
    choose_layout,
    choose_precision,
    keep_freed_memory,
)
from tripletlib.sampling import PKSampler
from tripletlib.training.settings import LOSSES, TrainingSettings


class Trainer:
    """One run's model, optimiser and random sequences: all that a checkpoint must hold.

    For the arguments see `fit`; `processes` are those that share each batch.
    """

    def __init__(
        self,
        model: nn.Module,
        images: np.ndarray,
        labels: np.ndarray,
        settings: TrainingSettings,
        processes: Processes,
        fingerprint: str,
    ) -> None:
        self.model, self.settings, self.processes = model, settings, processes
        self.fingerprint, self.steps_taken = fingerprint, 0
        if settings.batch_size % processes.count:
            raise ValueError(
                f"identities x images_per_identity = {settings.batch_size} images cannot be dealt "
                f"out evenly to {processes.count} processes; start a number of them that divides it"
            )
        self.share = processes.share(settings.batch_size)
        self.device = choose_device(settings.device)
        self.dtype = choose_precision(settings.precision, self.device)
        self.layout = choose_layout(self.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        model.to(device=self.device, memory_format=self.layout)  # type: ignore[call-overload]
        model.train()
        self.network: Callable[[Tensor], Tensor] = processes.replica(model)
        # Never on a CPU: there a step under torch.compile takes longer.
        if settings.compiled and self.device.type == "cuda":
            self.network = torch.compile(self.network, mode="reduce-overhead")  # CUDA graphs
        # On a GPU the whole set lies there as bytes: a batch is then cut out without the CPU.
        self.images = torch.as_tensor(images).to(self.device)
        self.labels = torch.as_tensor(labels).to(self.device)
        self.classes = self.labels.unique(return_inverse=True)[1]  # in the order of the labels
        self.classifier = self._make_classifier() if settings.identity_loss else None
        trained = nn.ModuleList([model, self.classifier] if self.classifier else [model])
        fused = self.device.type in ("cpu", "cuda")  # one pass over memory for all weights
        self.optimizer = torch.optim.Adam(
            trained.parameters(), lr=settings.learning_rate, fused=fused
        )
        self.sampler = PKSampler(
            labels, settings.identities, settings.images_per_identity, settings.seed
        )
        # Endless: an iterator over the sampler is one pass.
        self.batches = chain.from_iterable(repeat(self.sampler))
        self.augmentation = torch.Generator().manual_seed(settings.seed)

    def take_step(self) -> dict[str, Any]:
        """Draws a batch and follows its gradient; a loss that is not finite changes nothing.

        The triplet loss, active fraction and embeddings are returned under the names of
        `History.record`.
        """
        indices = torch.tensor(next(self.batches), device=self.device)  # [B], alike everywhere
        batch = to_unit_interval(self.images[indices[self.share]], self.device)
        place = self.augmentation, self.share.start, len(indices)
        if self.settings.augment:
            batch = random_crop_flip(batch, *place)
        if self.settings.random_erasing:
            batch = random_erasing(batch, *place)
        batch = batch.contiguous(memory_format=self.layout)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            embeddings = self.network(batch)
        embeddings = self.processes.gather(embeddings)  # [B, D]
        result = LOSSES[self.settings.loss](
            embeddings, self.labels[indices], self.settings.margin, self.settings.metric
        )
        identity_loss = self.identity_loss(embeddings, indices)
        # All are read before the update: a GPU then still works on it while the log is written.
        loss, active_fraction = result.loss.item(), result.active_fraction.item()
        whole = loss + (identity_loss.item() if isinstance(identity_loss, Tensor) else 0)
        if math.isfinite(whole):
            self._update(result.loss + identity_loss)
        else:
            loss = whole
        embeddings = embeddings.detach()
        return {"loss": loss, "active_fraction": active_fraction, "embeddings": embeddings}

    def identity_loss(self, embeddings: Tensor, indices: Tensor) -> Tensor | float:
        """Cross-entropy of a linear classifier of the training identities, times its weight.

        A tenth of each label is spread over all identities, which is called label smoothing.

        Args:
            embeddings: `[B, D]`; the classifier sees what the network's `neck`, if it has one,
                makes of them.
            indices: of these images in the training set, `[B]`.

        Returns:
            A scalar; 0 where the settings want no identity loss.

        Source:
            Luo et al. 2019 (arXiv 1903.07071), sections 3.3 and 3.5; Szegedy et al. 2016 (arXiv
            1512.00567), section 7, for label smoothing.
        """
        if self.classifier is None:
            return 0.0
        features, neck = embeddings.float(), getattr(self.model, "neck", None)
        scores = self.classifier(neck(features) if neck else features)  # [B, identities]
        classes = self.classes[indices]
        return self.settings.identity_loss * F.cross_entropy(scores, classes, label_smoothing=0.1)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds: tensors, numbers and text, nothing that must be executed."""
        on_gpu = self.device.type == "cuda"
        return {
            "model": self.model.state_dict(),
            "classifier": self.classifier.state_dict() if self.classifier else None,
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "augmentation": self.augmentation.get_state(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if on_gpu else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts everything back to where it was behind `state["step"]`."""
        self.model.load_state_dict(state["model"])
        if self.classifier is not None:
            self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])
        # A checkpoint keeps the memory order of the machine that wrote it; the fused optimiser
        # needs the moments in the order of their weights.
        for weights, moments in self.optimizer.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                moments[name] = torch.empty_like(weights).copy_(moments[name])
        self.sampler.load_state_dict(state["sampler"])
        self.augmentation.set_state(state["augmentation"])
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and state["random_cuda"] is not None:  # None if of a CPU
            torch.cuda.set_rng_state(state["random_cuda"], self.device)
        self.steps_taken = state["step"]

    def description(self) -> dict[str, Any]:
        """Settings, training set and network, as a checkpoint and `config.yaml` tell them."""
        shapes = {name: list(value.shape) for name, value in self.model.state_dict().items()}
        return {**self.settings.model_dump(), "data": self.data_description(), "model": shapes}

    def data_description(self) -> dict[str, Any]:
        """What tells the training set from another."""
        return {
            "images": list(self.images.shape),
            "identities": int(self.labels.unique().numel()),
            "fingerprint": self.fingerprint,
        }

    def _make_classifier(self) -> nn.Linear:
        features = embed(self.model, self.images[:1]).shape[1]
        identities = int(self.classes.max()) + 1
        classifier = nn.Linear(features, identities, bias=False, device=self.device)
        nn.init.zeros_(classifier.weight)  # alike in all processes
        return classifier

    def _update(self, loss: Tensor) -> None:
        self.steps_taken += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate_at(self.steps_taken)
            group["betas"] = (self.settings.beta1_at(self.steps_taken), 0.999)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
