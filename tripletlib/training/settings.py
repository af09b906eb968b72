"""The settings of a training: typed, checked when they are made, read from strict YAML files.

Every mistake is one line with a cure.
"""

import difflib
import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tripletlib.distances import Metric
from tripletlib.losses import TripletResult, batch_all, batch_hard, batch_sample, lifted, semi_hard
from tripletlib.runtime import REPOSITORY, AnyPath, ParameterError, from_repository

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
PARAMETER_FILES = REPOSITORY / "notebooks" / "params"
_TAG = "tag:yaml.org,2002:"
# YAML 1.1 also reads 0100 as 64, 1:30 as 90 and 0x10 as 16.
_DECIMAL = re.compile(
    r"[-+]?(0|[1-9][0-9_]{0,30}|[0-9_]*\.[0-9_]*(e[-+]?[0-9]+)?|\.inf|\.nan)", re.I
)
# pydantic's words for a value of another kind, in plain ones
_KINDS = {
    "bool": "should be true or false",
    "int": "should be a whole number",
    "float": "should be a number",
    "string_type": "should be text, in quotes",
}


class Parameters(BaseModel):
    """Typed parameters that cannot be changed.

    Raises:
        ParameterError: an unknown name, a value of another type or out of range; one line for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ParameterError(_in_one_line(error, values, type(self))) from None

    def replace(self, **changed: Any) -> Self:
        """The same parameters but for those named here, checked again."""
        return type(self)(**self.model_dump() | changed)


def _number(value: object) -> object:
    """Lets text such as 5e-4, which is no number to YAML, pass for one, and true and false not."""
    if isinstance(value, bool):
        return str(value)  # pydantic would take them for 1 and 0
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Whole = Annotated[int, BeforeValidator(_number)]
Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


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


def _in_one_line(error: ValidationError, values: Mapping[str, Any], kind: type[BaseModel]) -> str:
    """What pydantic found: each parameter once, with its value and one that would do."""
    found: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False, include_input=False):
        name = str(detail["loc"][0]) if detail["loc"] else ""
        text = re.sub("^(Value error, |Input |String )", "", detail["msg"])
        text = _KINDS.get(detail["type"]) or _KINDS.get(detail["type"].split("_")[0]) or text
        found.setdefault(name, []).append(text)
    problems = []
    for name, texts in found.items():
        said, field = " or ".join(texts).replace("or should be", "or"), kind.model_fields.get(name)
        if not name:  # a combination of parameters, which the text names
            problems.append(said)
        elif field is None:
            problems.append(no_such_parameter(name, kind.model_fields))
        elif name not in values:
            problems.append(f"{name} is missing; add it, for example {name}: my_{name}")
        else:
            example = spelled(f"my_{name}" if field.is_required() else field.default)
            problems.append(f"{name}: {spelled(values[name])} {said}; for example {example}")
    return "; ".join(problems)


def no_such_parameter(name: str, known: Iterable[str]) -> str:
    """Says that there is no such parameter, and which one may be meant."""
    near = difflib.get_close_matches(name, known := list(known), 1)
    hint = f"did you mean {near[0]}?" if near else f"the parameters are {', '.join(known)}"
    return f"{name if name.isprintable() else repr(name)} is no parameter here; {hint}"


def spelled(value: object) -> str:
    """A value in one short line, as a parameter file spells it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


class _Date(str):
    """What YAML would turn into a date, as it is spelled in the file."""


class _StrictLoader(yaml.SafeLoader):
    """YAML without what surprises: keys given twice, keys that are no text, octal numbers."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        first_lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag != _TAG + "str":
                raise ParameterError(f"line {line}: a key must be text; write `parameter: value`")
            if key.value in first_lines:
                raise ParameterError(
                    f"line {line}: {key.value} is given a second time, first in line "
                    f"{first_lines[key.value]}; remove one of the two"
                )
            first_lines[key.value] = line
            is_number = value.tag in (_TAG + "int", _TAG + "float")
            if is_number and not _DECIMAL.fullmatch(value.value):
                raise ParameterError(
                    f"line {line}: {key.value}: {value.value[:40]} is no plain number; write "
                    "decimal digits that do not begin with 0"
                )
        return super().construct_mapping(node, deep)


_StrictLoader.add_constructor(_TAG + "timestamp", lambda _, node: _Date(node.value))


def find_parameter_file(file: AnyPath) -> Path:
    """The file of that name in `notebooks/params/`, or else the path, see `from_repository`."""
    named = PARAMETER_FILES / file
    return named if named.is_file() else from_repository(file)


def read_parameter_file(file: AnyPath) -> dict[str, Any]:
    """Reads a parameter file, or the experiment that a run's `config.yaml` records.

    The file is YAML, lines of the form `parameter: value`; see `find_parameter_file`. Of what it
    says none is null, a date, NaN or infinite.

    Raises:
        ParameterError: the file is missing or unreadable, or says something that it may not mean.
    """
    path = find_parameter_file(file)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ParameterError("it is no file")
        parameters = yaml.load(path.read_text(encoding="utf-8-sig"), _StrictLoader)
        if isinstance(parameters, dict) and parameters.keys() >= {"training", "experiment"}:
            parameters = parameters["experiment"]  # of a run's config.yaml
        _check(parameters)
        return parameters
    except FileNotFoundError:
        there = ", ".join(sorted(path.name for path in PARAMETER_FILES.glob("*.yaml")))
        problem = f"there is no parameter file {path}; {PARAMETER_FILES} has {there}"
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = f"{path} is no UTF-8 text; save it as UTF-8"
    except RecursionError:
        problem = f"{path} is nested too deeply; write `parameter: value`"
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        cure = "; write spaces in place of tabs" if r"'\t'" in str(error.problem) else ""
        problem = f"{path}, line {line}: not valid YAML, {error.problem}{cure}"
    except yaml.YAMLError as error:
        problem = f"{path}, not valid YAML: {error}"
    except ParameterError as error:
        problem = f"{path}, {error}"
    raise ParameterError(problem)


def _check(parameters: object) -> None:
    if not isinstance(parameters, dict) or not parameters:
        what = "it is empty" if not parameters else "it holds no parameters"
        raise ParameterError(f"{what}; write lines of the form `parameter: value`")
    for name, value in parameters.items():
        if value is None:
            raise ParameterError(f"{name}: null is no value; give one or leave the line out")
        if isinstance(value, _Date):
            raise ParameterError(f"{name}: {value} is a date to YAML; write it in quotes")
        if isinstance(value, float) and not math.isfinite(value):
            raise ParameterError(f"{name}: {value} is no finite number; write one such as 0.5")
