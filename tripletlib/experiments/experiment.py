"""One person re-identification experiment: its parameters, its training, its embeddings."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor

from tripletlib.datasets import Market1501, ReidDataset, Split, from_folders, write_synthetic_market
from tripletlib.embedding import (
    EmbeddingTable,
    TestTimeAugmentation,
    embed,
    fingerprint,
    saved_table,
)
from tripletlib.models import LuNet
from tripletlib.runtime import (
    ParameterError,
    Progress,
    current_processes,
    launch,
    run_folder,
    runs_root,
    started_by_torchrun,
)
from tripletlib.training import (
    MAXIMUM_STEPS,
    CheckpointError,
    EpochReport,
    History,
    Real,
    Resume,
    TrainingInterrupted,
    TrainingSettings,
    Whole,
    checkpoint_file,
    fit,
    load_checkpoint,
    read_parameter_file,
    seed_everything,
)

_LARGEST_FEATURE_MAP = 32 * 2**30  # bytes; no GPU of today holds a training with a larger one


def _run_name(name: str) -> str:
    try:
        run_folder(name)
    except ParameterError:
        raise ValueError(f"should name a folder below {runs_root()}") from None
    return name


RunName = Annotated[str, Field(max_length=200), AfterValidator(_run_name)]


class Experiment(TrainingSettings):
    """Everything that decides a person re-identification experiment.

    Notebook 03 and the command line go through this class, so that a parameter file means the same
    training in both.

    Attributes:
        run_name: folder below the runs root.
        dataset: `"synthetic"` draws pedestrians, `"market1501"` reads that layout, `"folders"`
            own pictures, see `from_folders`.
        dataset_root: the data set's folder; a relative one is meant from the data root.
        synthetic_identities: people to draw; half of them are for training.
        skip_unreadable: leave out and list pictures that cannot be read, instead of stopping.
        image_height: pixels; all images are resized to it, and to `image_width`.
        embedding_dim: D.
        width: factor on LuNet's channels.
        original_network: LuNet as the original TensorFlow project has it.
        start_from: name of a run whose newest weights are the first of this one, unless it is
            resumed; empty: random weights.
        checkpoint_every: steps between checkpoints.
        resume: go on from the newest checkpoint; `"unfinished"`: unless that run came to its end.
        checkpoint_step: the checkpoint that is judged, of those that were saved; 0 for the newest.
        tta: test-time augmentation, see `embed`.
        processes: how many of this machine train together, see `train`. Under torchrun, which has
            an option for this, it means nothing.

    The other attributes are those of `TrainingSettings`.
    """

    run_name: RunName
    dataset: Literal["synthetic", "market1501", "folders"] = "synthetic"
    dataset_root: str = Field(default="synthetic_quick", pattern=r"^\P{Cc}+$")
    synthetic_identities: Whole = Field(default=160, ge=4, le=9999)
    skip_unreadable: bool = False
    image_height: Whole = Field(default=64, ge=1, le=1024)
    image_width: Whole = Field(default=32, ge=1, le=1024)
    embedding_dim: Whole = Field(default=64, ge=1, le=16_384)
    width: Real = Field(default=0.25, gt=0, le=4)
    original_network: bool = False
    start_from: RunName | Literal[""] = ""
    checkpoint_every: Whole = Field(default=200, ge=1, le=MAXIMUM_STEPS)
    resume: Resume = "unfinished"
    checkpoint_step: Whole = Field(default=0, ge=0, le=MAXIMUM_STEPS)
    tta: TestTimeAugmentation = "flip"
    processes: Whole = Field(default=1, ge=1, le=1024)

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        people = self.synthetic_identities // 2
        if self.dataset == "synthetic" and self.identities > people:
            raise ValueError(
                f"identities: {self.identities} are more than the {people} training people that "
                f"synthetic_identities: {self.synthetic_identities} draws; change one of the two"
            )
        if self.batch_size % self.processes:
            raise ValueError(
                f"processes: {self.processes} does not divide identities x images_per_identity = "
                f"{self.batch_size}; write a number that does"
            )
        channels = max(1, round(128 * self.width))
        map_size = 4 * self.batch_size * channels * self.image_height * self.image_width
        if map_size > _LARGEST_FEATURE_MAP:
            raise ValueError(
                f"the first feature map alone has {map_size / 2**30:,.0f} GiB; lower identities, "
                "images_per_identity, image_height, image_width or width"
            )
        return self

    @classmethod
    def from_file(cls, file: str | PathLike[str]) -> Self:
        """Reads a parameter file of notebook 03, or the `config.yaml` of a run.

        Raises:
            ParameterError: the file cannot be read, or not as an experiment; one line says why.
        """
        parameters = read_parameter_file(file)
        try:
            return cls(**parameters)
        except ParameterError as error:
            raise ParameterError(f"{file}, {error}") from None

    @classmethod
    def from_notebook(cls, names: Mapping[str, Any]) -> Self:
        """Takes the parameters among the names that a notebook's first cells have defined.

        So any attribute can be set by a further line in the cell of parameters, or by papermill. A
        plain value under another name is taken for a typing error, unless an `Experiment` is among
        the names: then later cells have run.

        Args:
            names: the notebook's `globals()`.

        Raises:
            ParameterError: a value cannot be used, or there is no such parameter.
        """
        later = any(isinstance(value, cls) for value in names.values())
        plain = bool | int | float | str | list | dict | None
        own = {name for name in names if later or name.startswith("_") or name in ("In", "Out")}
        given = {name for name in names.keys() - own if isinstance(names[name], plain)}
        return cls(**{name: names[name] for name in given | names.keys() & set(cls.model_fields)})

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image_height, self.image_width

    @property
    def folder(self) -> Path:
        """The run folder."""
        return run_folder(self.run_name)

    def settings(self) -> TrainingSettings:
        """The part that `fit` takes."""
        return TrainingSettings(**self.model_dump(include=set(TrainingSettings.model_fields)))

    def open_dataset(self, progress: Progress = "auto") -> ReidDataset:
        """Opens the data set; draws it first if it is the synthetic one.

        Args:
            progress: see `tripletlib.progress`.
        """
        read = from_folders if self.dataset == "folders" else Market1501
        try:
            if self.dataset == "synthetic":
                write_synthetic_market(self.dataset_root, self.synthetic_identities, seed=0)
            return read(self.dataset_root, self.image_size, self.skip_unreadable, progress=progress)
        except (FileNotFoundError, FileExistsError) as error:
            raise ParameterError(f"dataset_root: {self.dataset_root!r}: {error}") from None

    def make_model(self) -> LuNet:
        """A LuNet with weights drawn from the seed."""
        seed_everything(self.seed)
        return LuNet(self.embedding_dim, self.width, self.image_size, self.original_network)

    def train(
        self,
        model: LuNet,
        training: Split,
        callbacks: Sequence[Callable[[EpochReport], None]] = (),
        progress: Progress = "auto",
    ) -> History:
        """Trains in the run folder, going on from a checkpoint if `resume` is set.

        With `processes` above 1 that many are started, which open the data set and make the
        network themselves and embed query and gallery too; their lines are shown, callbacks are not
        called. `model` gets the trained weights at the end.

        Args:
            model: trained in place.
            training: the split to train on.
            callbacks: see `fit`.
            progress: see `fit`.

        Returns:
            The `History`.

        Raises:
            CheckpointError: the run of `start_from` has no usable checkpoint, or another network.
            ProcessesFailed: one of several processes died; for other errors see `fit`.
        """
        if self.needs_launch:
            self._launch_training()
            self.load_weights(model, checkpoint_step=0)
            model.eval()
            return History.load(self.folder)
        first_weights = None
        if self.start_from:
            earlier = self.replace(run_name=self.start_from)
            first_weights = partial(earlier.load_weights, model, checkpoint_step=0)
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
        )

    @property
    def needs_launch(self) -> bool:
        """Whether several processes are wanted and this is not one of them."""
        if self.processes == 1 or started_by_torchrun():
            return False
        return current_processes().count == 1

    def run(self, embed_afterwards: bool) -> None:
        """Opens the data set, makes the network, trains it, and embeds query and gallery if asked.

        It starts `processes` processes, unless this is one of them; then all of them call it.

        For what is raised see `train`.
        """
        if self.needs_launch:
            launch(partial(self.run, embed_afterwards), self.processes)
            return
        processes = current_processes()
        progress: Progress = "auto" if processes.is_first else "off"
        data = processes.in_turn(lambda: self.open_dataset(progress))
        if processes.is_first:
            print(data)
        model = self.make_model()
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
            # The training came to its end, and with it hours of work: embedding can be done alone.
            warnings.warn(f"the training is finished, the embedding is not: {error}", stacklevel=3)

    def load_weights(self, model: LuNet, checkpoint_step: int | None = None) -> int:
        """Loads a checkpoint's weights from the run folder.

        In a process group all processes call it: the first reads the file, all get its weights.

        Args:
            model: gets the weights.
            checkpoint_step: the checkpoint, 0 for the newest good one; None for the experiment's.

        Returns:
            Its step.

        Raises:
            CheckpointError: there is none, the one asked for is missing or damaged, or the run
                trained another network.
        """
        folder = self.folder / "checkpoints"
        wanted = self.checkpoint_step if checkpoint_step is None else checkpoint_step

        def read() -> tuple[dict[str, Tensor], int]:
            state = load_checkpoint(folder, wanted or None)
            return state["model"], int(state["step"])

        weights, step = current_processes().from_first(read)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(f"{folder} holds another network: {error}") from error
        return step

    def embedding_table(
        self, model: LuNet, split: Split, root: Path, step: int, progress: Progress = "auto"
    ) -> EmbeddingTable:
        """Embeds a split, or reads what an earlier call left in `embeddings/` of the run.

        In a process group all processes call it: each embeds its share and gets the whole.

        Args:
            model: the network as it was after `step`.
            split: query or gallery.
            root: the data set's folder; the table's paths are relative to it.
            step: training step of the weights.
            progress: see `tripletlib.progress`.

        Returns:
            The table. A saved one of another step, augmentation or other pictures is made anew.

        Raises:
            OSError: the table cannot be written.
            ValueError: a picture cannot be read, or the saved file is no embedding table.
        """
        file = self.folder / "embeddings" / f"{split.name}.npz"
        processes = current_processes()
        paths = [Path(path).relative_to(root).as_posix() for path in split.paths]
        files = fingerprint(paths, root)
        saved = processes.from_first(lambda: saved_table(file, step, self.tta, files))
        if saved is not None:
            return saved
        images = processes.in_turn(lambda: split.images)  # decoded once a machine
        mine = processes.share(len(images))

        def embed_share() -> list[np.ndarray]:
            if mine.start == mine.stop:  # fewer pictures than processes
                return []
            return [embed(model, images[mine], 256, self.tta, self.precision, progress)]

        parts = [part for parts in processes.from_all(embed_share) for part in parts]
        table = EmbeddingTable(
            np.concatenate(parts), split.pids, split.camids, np.array(paths), step, self.tta, files
        )
        processes.from_first(lambda: table.save(file))
        return table
