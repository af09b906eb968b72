"""Embedded queries and gallery with their pictures: what notebooks 04 and 05 look at.

They come from a training's run folder, or from the LuNet that ships, which is then shown drawn
pedestrians that it has never seen, in the cameras that it knows.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tripletlib.datasets import write_synthetic_market
from tripletlib.embedding import EmbeddingTable, TestTimeAugmentation
from tripletlib.experiments.experiment import Experiment
from tripletlib.models import LuNet
from tripletlib.runtime import (
    AnyPath,
    Progress,
    atomic_write,
    choose_device,
    from_repository,
    run_folder,
)

SHIPPED_IDENTITIES, SHIPPED_SEED = 160, 1  # half of them are queries; the training had seed 0
SHOWN_SIZE = (128, 64)  # pixels; larger than some networks take, so that a reader sees something
WEIGHTS = Path(__file__).parent / "weights" / "lunet_synthetic.safetensors"
_DESCRIPTION = "lunet"  # safetensors keeps text beside the tensors: ours is JSON under this name


@dataclass(frozen=True)
class Retrieval:
    """A network's view of a data set, ready to be ranked.

    Attributes:
        name: what is shown, for titles: data and network.
        query: Q embedded pictures to look up.
        gallery: G embedded pictures to find them in.
        query_images: uint8 `[Q, 3, 128, 64]`, to be shown.
        gallery_images: uint8 `[G, 3, 128, 64]`, to be shown.
        image_size: `(H, W)` of the pictures that the network takes.
        embed: embeds further pictures, uint8 `[N, 3, H, W]` to float32 `[N, D]`.

    Raises:
        ValueError: the tables are of two networks, or have another number of pictures.
    """

    name: str
    query: EmbeddingTable
    gallery: EmbeddingTable
    query_images: np.ndarray
    gallery_images: np.ndarray
    image_size: tuple[int, int]
    embed: Callable[[np.ndarray], np.ndarray]

    def __post_init__(self) -> None:
        self.query.check_same_network(self.gallery)
        for name in ("query", "gallery"):
            rows, pictures = len(getattr(self, name)), len(getattr(self, f"{name}_images"))
            if rows != pictures:
                raise ValueError(
                    f"{rows} embeddings of {name} do not fit {pictures} pictures; did the data set "
                    "change meanwhile? Open it anew"
                )


def open_retrieval(
    trained_with: AnyPath = "",
    checkpoint_step: int = 0,
    tta: TestTimeAugmentation = "none",
    progress: Progress = "auto",
) -> Retrieval:
    """Opens what a training left behind, or the model that ships.

    Args:
        trained_with: name of a run of notebook 03, such as `"03_lunet_quick"`, or a parameter file
            whose run is read, see `Experiment.from_file`. Empty: the LuNet that ships, on drawn
            pedestrians.
        checkpoint_step: the run's checkpoint to embed with; 0 for the one that its parameters
            name, mostly the newest. The model that ships has one only.
        tta: test-time augmentation of the model that ships, see `embed`; a run has its own.
        progress: see `fit`.

    Returns:
        The `Retrieval`; embeddings that the run's folder has of this checkpoint are read there.

    Raises:
        CheckpointError: the run has no usable checkpoint, or not the one asked for.
        ParameterError: there is no such run or parameter file, or it cannot be used.
    """
    if trained_with:
        if str(trained_with).endswith((".yaml", ".yml")):
            experiment = Experiment.from_file(trained_with)
        else:  # the folder may have been renamed or copied since it was written
            run_name = str(trained_with)
            experiment = Experiment.from_file(run_folder(run_name) / "config.yaml")
            experiment = experiment.replace(run_name=run_name)
        if checkpoint_step:
            experiment = experiment.replace(checkpoint_step=checkpoint_step)
        model = experiment.make_model()
        step = experiment.load_weights(model)
        synthetic = experiment.dataset == "synthetic"
        kind = "drawn pedestrians (synthetic)" if synthetic else experiment.dataset_root
        name = f"{kind}, LuNet after {step:,} steps"
    else:
        model, description = load_pretrained()
        experiment, step = _shipped_experiment(description, tta, progress), description["step"]
        name = "drawn pedestrians (synthetic), the LuNet that ships"
    model.to(choose_device(experiment.device))
    data = experiment.open_dataset(progress)
    query, gallery = (
        experiment.embedding_table(model, split, data.root, step, progress)
        for split in (data.query, data.gallery)
    )
    return Retrieval(
        name,
        query,
        gallery,
        data.query.resized(SHOWN_SIZE),
        data.gallery.resized(SHOWN_SIZE),
        experiment.image_size,
        embed=partial(experiment.embed, model),
    )


def _shipped_experiment(
    description: dict[str, Any], tta: TestTimeAugmentation, progress: Progress
) -> Experiment:
    """Draws the people to be found; the run folder only keeps their embeddings."""
    height, width = description["image_size"]
    root, weights = "synthetic_shipped", _hash(WEIGHTS)[:8]
    write_synthetic_market(
        root, SHIPPED_IDENTITIES, seed=SHIPPED_SEED, progress=progress, camera_seed=0
    )
    return Experiment(
        run_name=f"shipped/{weights}-{tta}",
        dataset="market1501",
        dataset_root=root,
        image_height=height,
        image_width=width,
        tta=tta,
    )


def load_pretrained(file: AnyPath = WEIGHTS) -> tuple[LuNet, dict[str, Any]]:
    """Makes a LuNet in evaluation mode of the weights and the description in a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no LuNet, or not what the `.sha256` file beside it says.
    """
    file = from_repository(file)
    if file.exists() and not file.is_file():
        raise ValueError(f"{file} is no file; weights are one, made by tripletlib ship")
    written = _hash_file(file)
    if written.is_file() and _hash(file) not in written.read_text(encoding="utf-8"):
        raise ValueError(
            f"{file} is damaged, it has another SHA-256 than {written.name} says; get both files "
            "again, for example by git checkout, or make them by tripletlib ship"
        )
    try:
        with safe_open(file, framework="pt") as stored:
            description = json.loads(stored.metadata()[_DESCRIPTION])
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        shape = {name: description[name] for name in ("embedding_dim", "width", "original")}
        model = LuNet(image_size=tuple(description["image_size"]), **shape)
        model.load_state_dict(weights)  # copies into float32 parameters
    except FileNotFoundError:
        raise
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{file} does not hold a LuNet of save_pretrained ({error})") from error
    return model.eval(), description


def save_pretrained(model: LuNet, description: dict[str, Any], file: AnyPath) -> Path:
    """Writes weights in half precision, running statistics as they are, and a hash beside them.

    The description has the `embedding_dim`, `width`, `image_size` and `original` of the network,
    and the training's `step`. Where the file cannot be written, an earlier one is kept.
    """
    file = from_repository(file)
    statistics = {name for name, _ in model.named_buffers()}
    weights = {
        # A variance may be larger than half precision can hold; there are few of them.
        name: (value if name in statistics else value.half()).contiguous().cpu()
        for name, value in model.state_dict().items()
    }
    written = _hash_file(file)
    try:
        with atomic_write(file) as unfinished:
            save_file(weights, unfinished, {_DESCRIPTION: json.dumps(description)})
            written.unlink(missing_ok=True)  # weights without a hash open, with a wrong one not
        with atomic_write(written) as unfinished:  # in the form that `sha256sum --check` reads
            unfinished.write_text(f"{_hash(file)}  {file.name}\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{file} could not be written ({error}); free disk space, or name another file"
        ) from error
    return file


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _hash_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")
