"""One person re-identification experiment: its data set, network, training and embeddings."""

import logging
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed import is_torchelastic_launched

from tripletlib.datasets import (
    Market1501,
    Pictures,
    ReidDataset,
    Split,
    from_folders,
    write_synthetic_market,
)
from tripletlib.distances import unit_rows
from tripletlib.embedding import (
    EmbeddingTable,
    TestTimeAugmentation,
    embed,
    embedded_by,
    saved_table,
)
from tripletlib.experiments.settings import ExperimentSettings
from tripletlib.models import LuNet, TriNet
from tripletlib.runtime import (
    AnyPath,
    ParameterError,
    Progress,
    current_processes,
    launch,
    run_folder,
)
from tripletlib.training import (
    CheckpointError,
    EpochReport,
    History,
    TrainingInterrupted,
    TrainingSettings,
    checkpoint_file,
    fit,
    load_checkpoint,
    seed_everything,
)


class Experiment(ExperimentSettings):
    """One experiment; its attributes are those of `ExperimentSettings` and `TrainingSettings`.

    Notebook 03 and the command line go through this class, so that a parameter file means the same
    in both. In a process group all processes call its methods alike.
    """

    @property
    def folder(self) -> Path:
        """The run folder."""
        return run_folder(self.run_name)

    def settings(self) -> TrainingSettings:
        """The part that `fit` takes."""
        return TrainingSettings(**self.model_dump(include=set(TrainingSettings.model_fields)))

    def open_dataset(self, progress: Progress = "auto") -> ReidDataset:
        """Opens the data set; draws it first if it is the synthetic one."""
        read = from_folders if self.dataset == "folders" else Market1501
        try:
            if self.dataset == "synthetic":
                write_synthetic_market(self.dataset_root, self.synthetic_identities, seed=0)
            return read(self.dataset_root, self.image_size, self.skip_unreadable, progress=progress)
        except (FileNotFoundError, FileExistsError) as error:
            raise ParameterError(f"dataset_root: {self.dataset_root!r}: {error}") from None

    def make_model(self, pretrained: bool = True) -> nn.Module:
        """The network, with weights drawn from the seed, and those of a TriNet's backbone.

        `pretrained` False leaves the backbone's out, where those of a checkpoint follow. A
        ParameterError if `weights` cannot be read or downloaded, or are of another network.
        """
        seed_everything(self.seed)
        if self.network == "lunet":
            return LuNet(self.embedding_dim, self.width, self.image_size, self.original_network)
        weights = self.weights if pretrained and self.weights else None
        shape = self.embedding_dim, self.image_size, self.last_stride, self.neck
        try:
            return TriNet(self.backbone, weights, *shape)
        except (OSError, ValueError) as error:
            raise ParameterError(f"weights: {self.weights!r}: {error}") from None

    def train(
        self,
        model: nn.Module,
        training: Split,
        callbacks: Sequence[Callable[[EpochReport], None]] = (),
        progress: Progress = "auto",
    ) -> History:
        """Trains the model on the split in the run folder, going on from a checkpoint if it may.

        With `processes` above 1 that many are started, which open the data set and make the network
        themselves and embed query and gallery too; their lines are shown, callbacks are not called,
        and `model` gets the trained weights at the end.

        Raises:
            CheckpointError: the run of `start_from` has no usable checkpoint, or another network.
            ProcessesFailed: one of several processes died; for the rest see `fit`.
        """
        if self._needs_launch:
            self._launch_training()
            self.replace(checkpoint_step=0).load_weights(model)
            model.eval()
            return History.load(self.folder)
        first_weights = None
        if self.start_from:
            earlier = self.replace(run_name=self.start_from, checkpoint_step=0)
            first_weights = partial(earlier.load_weights, model, to_begin_with=True)
        return fit(
            model,
            current_processes().in_turn(lambda: training.images),  # decoded once a machine
            training.pids,
            self.settings(),
            self.folder,
            callbacks,
            progress,
            checkpoint_every=self.checkpoint_every,
            resume=self.resume,
            parameters=self.model_dump(),
            first_weights=first_weights,
            fingerprint=training.fingerprint,
        )

    @property
    def _needs_launch(self) -> bool:
        """Whether several processes are wanted and this is not one of them."""
        started = is_torchelastic_launched() or current_processes().count > 1
        return self.processes > 1 and not started

    def run(self, embed_afterwards: bool) -> None:
        """Opens the data set, trains a new network, and embeds query and gallery if asked."""
        if self._needs_launch:
            launch(partial(self.run, embed_afterwards), self.processes)
            return
        processes = current_processes()
        progress: Progress = "auto" if processes.is_first else "off"
        data = processes.in_turn(lambda: self.open_dataset(progress))
        if processes.is_first:
            print(data)
        model = processes.in_turn(self.make_model)
        self.train(model, data.train, progress=progress)
        for split in (data.query, data.gallery) if embed_afterwards else ():
            table = self.embedding_table(model, split, data.root, self.steps, progress)
            if processes.is_first:
                print(f"{split.name}: {len(table):,} embeddings of step {table.step:,}")

    def _launch_training(self) -> None:
        last = checkpoint_file(self.folder / "checkpoints", self.steps)
        before = last.stat().st_mtime_ns if last.is_file() else None
        try:
            self.run(embed_afterwards=True)
        except (Exception, TrainingInterrupted) as error:
            if not last.is_file() or last.stat().st_mtime_ns == before:
                raise
            # Hours of training are not lost with it: embedding can be done alone.
            warnings.warn(f"the training is finished, the embedding is not: {error}", stacklevel=3)

    def load_weights(self, model: nn.Module, to_begin_with: bool = False) -> int:
        """Loads the weights of the checkpoint that `checkpoint_step` names; returns its step.

        Raises:
            CheckpointError: there is none, the one asked for is missing or damaged, or the run
                trained another network, on pictures of another size or, unless the weights are
                for another training `to_begin_with`, with another metric or last stride.
        """
        folder = self.folder / "checkpoints"

        def read() -> tuple[dict[str, Tensor], int]:
            state = load_checkpoint(folder, self.checkpoint_step or None)
            decisive = ("metric", "last_stride") if self.network == "trinet" else ("metric",)
            for name in () if to_begin_with else decisive:
                ours = getattr(self, name)
                theirs = state["settings"].get(name, ours)
                if theirs != ours:
                    raise CheckpointError(
                        f"the run in {self.folder} was trained with {name}: {theirs}; write that "
                        f"in place of {ours}"
                    )
            self._check_data(state["settings"].get("data"))
            return state["model"], state["step"]

        weights, step = current_processes().from_first(read)  # may be on its disk only
        try:
            model.load_state_dict(weights)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{folder} holds another network: {shorten(str(error), 300)}; use the settings in "
                "the run's config.yaml"
            ) from error
        return step

    def _check_data(self, data: object) -> None:
        """Holds what a checkpoint says of its training pictures against the experiment."""
        data = data if isinstance(data, dict) else {}
        if "fingerprint" not in data:
            logging.getLogger("tripletlib").warning(
                "the run in %s does not say on which pictures it was trained (an earlier version "
                "made it): its weights are used, but it cannot be resumed",
                self.folder,
            )
        match data.get("images"):
            case [_, _, height, width] if (height, width) != self.image_size:
                raise CheckpointError(
                    f"the run in {self.folder} was trained on pictures of height x width {height} "
                    f"x {width}; write image_height: {height} and image_width: {width} in place of "
                    f"{self.image_height} and {self.image_width}"
                )

    def embed(
        self,
        model: nn.Module,
        images: np.ndarray,
        progress: Progress = "off",
        tta: TestTimeAugmentation | None = None,
    ) -> np.ndarray:
        """Embeds images with the experiment's `precision`, and its `tta` unless another is given.

        A network that has learnt by cosines gives rows of length 1, which the Euclidean distance
        ranks as the cosine does.

        uint8 `[N, 3, H, W]`, N > 0, of the size that the network takes, become float32 `[N, D]`.
        """
        tta = tta or self.tta
        embeddings = embed(model, images, tta=tta, precision=self.precision, progress=progress)
        if self.metric != "cosine":
            return embeddings
        return unit_rows(torch.from_numpy(embeddings)).numpy()

    def embedding_table(
        self,
        model: nn.Module,
        split: Pictures,
        root: AnyPath,
        step: int,
        progress: Progress = "auto",
    ) -> EmbeddingTable:
        """Embeds a split, or reads what an earlier call left in `embeddings/` of the run.

        A saved table of other pictures, labels, weights or settings is made anew. Each process
        embeds its share and gets the whole.

        Args:
            model: the network as it was after `step`.
            split: query or gallery, or pictures without labels: their pids and camids are 0.
            root: the data set's folder; the table's paths are relative to it.
            step: training step of the weights.
            progress: see `fit`.

        Raises:
            OSError: the table cannot be written.
            ValueError: a picture cannot be read, or the saved file is no embedding table.
        """
        file = self.folder / "embeddings" / f"{split.name}.npz"
        processes = current_processes()
        paths = [Path(path).relative_to(root).as_posix() for path in split.paths]
        content = processes.in_turn(lambda: split.fingerprint)  # decoded once a machine
        made_by = embedded_by(model, self.tta, self.precision)
        if self.metric == "cosine":  # see `embed`
            made_by["precision"] += ", rows of length 1"
        zeros = np.zeros(len(paths), np.int64)
        pids, camids = (split.pids, split.camids) if isinstance(split, Split) else (zeros, zeros)
        about: dict[str, Any] = {"pids": pids, "camids": camids, "paths": np.array(paths)}
        about |= {"step": step, "content": content, **made_by}
        saved = processes.from_first(lambda: saved_table(file, about))
        if saved is not None:
            return saved
        mine = split.images[processes.share(len(split))]
        none = np.empty((0, self.embedding_dim), np.float32)  # where there are more processes
        parts = processes.from_all(lambda: self.embed(model, mine, progress) if len(mine) else none)
        table = EmbeddingTable(np.concatenate(parts), **about)
        processes.from_first(lambda: table.save(file))
        return table
