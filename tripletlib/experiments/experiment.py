"""One person re-identification experiment, read from the parameter file that notebook 03 reads.

The notebook and the command line go through the same `Experiment`, so that a file means the same
training in both.
"""

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import yaml
from torch import Tensor

from tripletlib.datasets import Market1501, ReidDataset, Split, from_folders, write_synthetic_market
from tripletlib.embedding import EmbeddingTable, TestTimeAugmentation
from tripletlib.experiments.tables import embed_split
from tripletlib.losses import Margin
from tripletlib.models import LuNet
from tripletlib.runtime import (
    ProcessesFailed,
    Progress,
    current_processes,
    data_root,
    launch,
    run_folder,
    started_by_torchrun,
)
from tripletlib.training import (
    CheckpointError,
    EpochReport,
    History,
    Resume,
    TrainingInterrupted,
    TrainingSettings,
    checkpoint_file,
    checkpoint_steps,
    fit,
    load_checkpoint,
    seed_everything,
)

# Parameters that shape what notebook 03 shows, and mean nothing to a training without pictures.
NOTEBOOK_ONLY = frozenset({"checkpoint_step", "shown_identities"})


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a person re-identification experiment.

    Attributes:
        run_name: folder below the runs root.
        dataset: `"synthetic"` draws pedestrians, `"market1501"` reads that layout, `"folders"`
            own pictures, see `from_folders`.
        dataset_root: the data set's folder; a relative one is meant from the data root.
        synthetic_identities: people to draw; half of them are for training.
        skip_unreadable: leave out and list pictures that cannot be read, instead of stopping.
        image_height: pixels; all images are resized to it.
        image_width: pixels.
        embedding_dim: D.
        width: factor on LuNet's channels.
        original_network: LuNet as the original TensorFlow project has it.
        start_from: name of a run whose newest weights are the first of this one, unless it is
            resumed; empty: random weights.
        tta: test-time augmentation, see `embed`.
        checkpoint_every: steps between checkpoints.
        resume: go on from the newest checkpoint; `"unfinished"`: unless that run came to its end.
        processes: how many of this machine train together, see `train`. Under torchrun, which has
            an option for this, it means nothing.

    The other attributes are those of `TrainingSettings`; 0 for `decay_start` and `decay_end`
    stands for a constant rate and 0 for `steps_per_epoch` for one look at the set.
    """

    run_name: str
    dataset: Literal["synthetic", "market1501", "folders"] = "synthetic"
    dataset_root: str = "synthetic"
    synthetic_identities: int = 300
    skip_unreadable: bool = False
    image_height: int = 128
    image_width: int = 64
    embedding_dim: int = 128
    width: float = 1.0
    original_network: bool = False
    start_from: str = ""
    identities: int = 32
    images_per_identity: int = 4
    loss: Literal["batch_hard", "batch_all", "batch_all_nonzero"] = "batch_hard"
    margin: Margin = 0.5
    learning_rate: float = 0.0005
    decay_start: int = 0
    decay_end: int = 0
    beta1_in_decay: float = 0.9
    augment: bool = False
    steps: int = 25_000
    steps_per_epoch: int = 0
    checkpoint_every: int = 5_000
    resume: Resume = True
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    tta: TestTimeAugmentation = "none"
    seed: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if self.tta not in get_args(TestTimeAugmentation):
            raise ValueError(
                f"tta must be one of {get_args(TestTimeAugmentation)}, got {self.tta!r}"
            )
        self.settings()  # raises where they cannot be

    @classmethod
    def from_file(cls, file: Path) -> Self:
        """Reads a parameter file of notebook 03.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no mapping, or it has keys that mean nothing here or to the
                notebook.
        """
        parameters = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(parameters, Mapping):
            raise ValueError(f"{file} must hold lines of the form `parameter: value`")
        known = {field.name for field in fields(cls)}
        unknown = sorted(map(str, set(parameters) - known - NOTEBOOK_ONLY))
        if unknown:
            raise ValueError(
                f"{file} sets {', '.join(unknown)}, which this training does not have; its "
                f"parameters are {', '.join(sorted(known | NOTEBOOK_ONLY))}"
            )
        return cls(**{name: parameters[name] for name in parameters if name in known})

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
        ours = {field.name for field in fields(self)}
        shared = {field.name for field in fields(TrainingSettings)} & ours
        values: dict[str, Any] = {name: getattr(self, name) for name in shared}
        for name in ("decay_start", "decay_end", "steps_per_epoch"):
            values[name] = values[name] or None
        return TrainingSettings(**values)

    def open_dataset(
        self, progress: Progress = "auto", image_size: tuple[int, int] | None = None
    ) -> ReidDataset:
        """Opens the data set; draws it first if it is the synthetic one.

        Args:
            progress: see `tripletlib.progress`.
            image_size: `(H, W)` in pixels to resize to; None for what the network takes.
        """
        root = data_root() / self.dataset_root
        if self.dataset == "synthetic":
            write_synthetic_market(root, self.synthetic_identities, seed=0)
        readers: dict[str, Callable[..., ReidDataset]] = {
            "synthetic": Market1501,
            "market1501": Market1501,
            "folders": from_folders,
        }
        if self.dataset not in readers:
            raise ValueError(f"dataset must be one of {tuple(readers)}, got {self.dataset!r}")
        return readers[self.dataset](
            root, image_size or self.image_size, self.skip_unreadable, progress=progress
        )

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

        With `processes` above 1 torchrun starts that many, which open the data set and make the
        network themselves, from the experiment's parameters, and embed query and gallery too; their
        lines are shown, callbacks are not called. `model` gets the trained weights at the end.

        Args:
            model: trained in place.
            training: the split to train on.
            callbacks: see `fit`.
            progress: see `fit`.

        Returns:
            The `History`.

        Raises:
            CheckpointError: the run of `start_from` has no usable checkpoint, or another network.
            ProcessesFailed: several processes ended with an error.

        For the rest see `fit`.
        """
        if self.needs_launch:
            self._launch_training()
            self.load_weights(model)
            model.eval()
            return History.load(self.folder)
        earlier = replace(self, run_name=self.start_from)
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
            parameters=asdict(self),
            first_weights=(lambda: earlier.load_weights(model)) if self.start_from else None,
        )

    @property
    def needs_launch(self) -> bool:
        """Whether several processes are wanted and this is not one of them."""
        return self.processes > 1 and not started_by_torchrun()

    def launch(self, *options: str) -> None:
        """Trains in `processes` processes, with options of the command line.

        Raises:
            ProcessesFailed: they ended with an error.
            TrainingInterrupted: Ctrl-C, or the notebook's stop button; the steps taken are saved.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "experiment.yaml"
            file.write_text(yaml.safe_dump(asdict(self)), encoding="utf-8")
            try:
                launch([str(file), *options], self.processes)
            except KeyboardInterrupt:
                saved = checkpoint_steps(self.folder / "checkpoints")
                where = f"step {saved[-1]:,} is saved" if saved else "nothing is saved yet"
                raise TrainingInterrupted(f"stopped; {where}; run it again to go on") from None

    def _launch_training(self) -> None:
        last = checkpoint_file(self.folder / "checkpoints", self.steps)
        before = last.stat().st_mtime_ns if last.is_file() else None
        try:
            self.launch("--embed")
        except (ProcessesFailed, TrainingInterrupted) as error:
            if not last.is_file() or last.stat().st_mtime_ns == before:
                raise
            # The training came to its end, and with it hours of work: embedding can be done alone.
            warnings.warn(f"the training is finished, the embedding is not: {error}", stacklevel=3)

    def load_weights(self, model: LuNet, checkpoint_step: int | None = None) -> int:
        """Loads a checkpoint's weights from the run folder.

        In a process group all processes call it: the first reads the file, all get its weights.

        Args:
            model: gets the weights.
            checkpoint_step: the checkpoint; None for the newest good one.

        Returns:
            Its step.

        Raises:
            CheckpointError: there is none, the one asked for is missing or damaged, or the run
                trained another network.
        """
        folder = self.folder / "checkpoints"

        def read() -> tuple[dict[str, Tensor], int]:
            state = load_checkpoint(folder, checkpoint_step)
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
        """Embeds a split, or reads what an earlier call embedded in `embeddings/` of the run.

        Args:
            model: the network as it was after `step`.
            split: query or gallery.
            root: the data set's folder; the table's paths are relative to it.
            step: training step of the weights.
            progress: see `tripletlib.progress`.

        Returns:
            The table, see `embed_split`.
        """
        file = self.folder / "embeddings" / f"{split.name}.npz"
        return embed_split(model, split, root, step, file, self.tta, self.precision, progress)
