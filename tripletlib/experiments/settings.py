"""What a parameter file of notebook 03 may say: the settings of one experiment, and its readers."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tripletlib.embedding import TestTimeAugmentation
from tripletlib.models import Backbone
from tripletlib.runtime import AnyPath, ParameterError, run_folder, runs_root
from tripletlib.training import (
    MAXIMUM_STEPS,
    Real,
    Resume,
    TrainingSettings,
    Whole,
    read_parameter_file,
)

_LARGEST_FEATURE_MAP = 32 * 2**30  # bytes; no GPU of today holds a training with a larger one


def _run_name(name: str) -> str:
    try:
        run_folder(name)
        return name
    except ParameterError:
        raise ValueError(f"should name a folder below {runs_root()}") from None


RunName = Annotated[str, Field(max_length=200), AfterValidator(_run_name)]


class ExperimentSettings(TrainingSettings):
    """Everything that decides a person re-identification experiment.

    Attributes:
        run_name: folder below the runs root.
        dataset: `"synthetic"` draws pedestrians, `"market1501"` reads that layout, `"folders"`
            own pictures, see `from_folders`.
        dataset_root: the data set's folder; a relative one is meant from the data root.
        synthetic_identities: people to draw; half of them are for training.
        skip_unreadable: leave out and list pictures that cannot be read, instead of stopping.
        image_height: pixels; all images are resized to it, and to `image_width`.
        network: `"lunet"`, or `"trinet"`, which begins with pretrained weights.
        embedding_dim: D.
        width: factor on LuNet's channels.
        original_network: LuNet as the original TensorFlow project has it.
        backbone: of TriNet, `"resnet50"` or `"mobilenet_v2"`.
        weights: of its backbone: `"imagenet"`, a file, or empty for random ones.
        last_stride: of its backbone, 1 or 2.
        neck: whether it has a BNNeck, see `TriNet`.
        start_from: name of a run whose newest weights are the first of this one, unless it is
            resumed; empty: random weights.
        checkpoint_every: steps between checkpoints.
        resume: go on from the newest checkpoint; `"unfinished"`: unless that run came to its end.
        checkpoint_step: the checkpoint that is judged, of those that were saved; 0 for the newest.
        tta: test-time augmentation, see `embed`.
        processes: how many of this machine train together, see `train`; torchrun has an option for
            it and takes no notice of this.

    The other attributes are those of `TrainingSettings`.
    """

    run_name: RunName
    dataset: Literal["synthetic", "market1501", "folders"] = "synthetic"
    dataset_root: str = Field(default="synthetic_quick", pattern=r"^\P{Cc}+$")
    synthetic_identities: Whole = Field(default=160, ge=4, le=9999)
    skip_unreadable: bool = False
    image_height: Whole = Field(default=64, ge=1, le=1024)
    image_width: Whole = Field(default=32, ge=1, le=1024)
    network: Literal["lunet", "trinet"] = "lunet"
    embedding_dim: Whole = Field(default=64, ge=1, le=16_384)
    width: Real = Field(default=0.25, gt=0, le=4)
    original_network: bool = False
    backbone: Backbone = "resnet50"
    weights: str = Field(default="imagenet", pattern=r"^\P{Cc}*$")
    last_stride: Whole = Field(default=1, ge=1, le=2)
    neck: bool = False
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
        if self.network == "trinet" and self.neck and not self.identity_loss:
            raise ValueError("neck: true needs an identity_loss above 0, which trains it")
        channels = max(1, round(128 * self.width)) if self.network == "lunet" else 64
        map_size = 4 * self.batch_size * channels * self.image_height * self.image_width
        if map_size > _LARGEST_FEATURE_MAP:
            raise ValueError(
                f"the first feature map alone has {map_size / 2**30:,.0f} GiB; lower identities, "
                "images_per_identity, image_height, image_width or, of a lunet, width"
            )
        return self

    @classmethod
    def from_file(cls, file: AnyPath) -> Self:
        """Reads a parameter file of notebook 03, or the `config.yaml` of a run.

        `file` is its name in `notebooks/params/`, or a path, relative ones from the repository. A
        ParameterError if it cannot be read, or not as an experiment; one line says why.
        """
        parameters = read_parameter_file(file)
        try:
            return cls(**parameters)
        except ParameterError as error:
            raise ParameterError(f"{file}, {error}") from None

    @classmethod
    def from_notebook(cls, names: Mapping[str, Any]) -> Self:
        """Takes the parameters among the names, `globals()`, that a notebook's cells have defined.

        A plain value under a name that is no attribute is taken for a typing error, unless an
        `Experiment` is among the names: then later cells have run. A ParameterError if a value
        cannot be used, or if there is no such parameter.
        """
        plain = bool | int | float | str | list | dict | None
        later = any(isinstance(value, cls) for value in names.values())
        own = {name for name in names if later or name.startswith("_") or name in ("In", "Out")}
        given = {name for name in names.keys() - own if isinstance(names[name], plain)}
        return cls(**{name: names[name] for name in given | names.keys() & set(cls.model_fields)})

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image_height, self.image_width
