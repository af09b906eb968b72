"""Embedded queries and gallery with their pictures: what notebooks 04 and 05 look at.

They come from a training's run folder, or from the LuNet that ships, which is then shown drawn
pedestrians that it has never seen, in the cameras that it knows.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from tripletlib.datasets import from_pictures, write_synthetic_market
from tripletlib.embedding import EmbeddingTable, TestTimeAugmentation
from tripletlib.experiments.experiment import Experiment
from tripletlib.models import LuNet
from tripletlib.occlusion import randomised
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
        embed_randomised: the same by a network of this shape with random weights.
        query_inputs: uint8 `[Q, 3, H, W]`, as the network takes them.
        gallery_inputs: uint8 `[G, 3, H, W]`.
        labelled: whether it is known whom the pictures show; if not, pids and camids mean nothing.
        drawn: whether all people are drawn ones, whose pictures may be passed on.
        person: what to call a pid, see `ReidDataset.person`.
        camera: the same of a camid.

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
    embed_randomised: Callable[[np.ndarray], np.ndarray]
    query_inputs: np.ndarray
    gallery_inputs: np.ndarray
    labelled: bool = True
    drawn: bool = False
    person: Callable[[int], str] = str
    camera: Callable[[int], str] = str

    def __post_init__(self) -> None:
        self.query.check_same_network(self.gallery)
        for name in ("query", "gallery"):
            rows, pictures = len(getattr(self, name)), len(getattr(self, f"{name}_images"))
            if rows != pictures:
                raise ValueError(
                    f"{rows} embeddings of {name} do not fit {pictures} pictures; did the data set "
                    "change meanwhile? Open it anew"
                )

    def without_labels(self) -> Self:
        """The gallery as if nobody had said whom it shows: no queries, no verdicts, no scores."""
        names = "embeddings", "pids", "camids", "paths"
        none = replace(self.query, **{name: getattr(self.query, name)[:0] for name in names})
        return replace(self, query=none, query_images=self.query_images[:0], labelled=False)


def open_retrieval(
    trained_with: AnyPath = "",
    checkpoint_step: int = 0,
    tta: TestTimeAugmentation = "none",
    progress: Progress = "auto",
    pictures_root: AnyPath | None = None,
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
        pictures_root: a folder of pictures without labels that are searched in place of the data
            set, see `from_pictures`; files that cannot be read are named and left out.

    Returns:
        The `Retrieval`; embeddings that the run's folder has of this checkpoint are read there.

    Raises:
        CheckpointError: the run has no usable checkpoint, or not the one asked for.
        ParameterError: there is no such run or parameter file, or it cannot be used.
    """
    experiment, model, step, network = _open_network(trained_with, checkpoint_step, tta)
    table = partial(experiment.embedding_table, model, step=step, progress=progress)
    embed, embed_randomised = (partial(experiment.embed, one) for one in (model, randomised(model)))
    if pictures_root is not None:
        size = experiment.image_size
        pictures = from_pictures(pictures_root, size, skip_unreadable=True, progress=progress)
        seen, shown = table(pictures, pictures.root), pictures.resized(SHOWN_SIZE)
        name = f"{pictures.root.name}, {network}"
        parts = seen, seen, shown, shown, size, embed, embed_randomised
        return Retrieval(name, *parts, pictures.images, pictures.images).without_labels()
    if not trained_with:
        root, people = experiment.dataset_root, SHIPPED_IDENTITIES
        write_synthetic_market(root, people, seed=SHIPPED_SEED, progress=progress, camera_seed=0)
    data = experiment.open_dataset(progress)
    synthetic = experiment.dataset == "synthetic" or not trained_with
    kind = "drawn pedestrians (synthetic)" if synthetic else experiment.dataset_root
    query, gallery = (table(split, data.root) for split in (data.query, data.gallery))
    return Retrieval(
        f"{kind}, {network}",
        query,
        gallery,
        data.query.resized(SHOWN_SIZE),
        data.gallery.resized(SHOWN_SIZE),
        experiment.image_size,
        embed,
        embed_randomised,
        data.query.images,
        data.gallery.images,
        drawn=synthetic,
        person=data.person,
        camera=data.camera,
    )


def _open_network(
    trained_with: AnyPath, checkpoint_step: int, tta: TestTimeAugmentation
) -> tuple[Experiment, nn.Module, int, str]:
    """A run's experiment, network, its step and its name; or those of the network that ships."""
    model: nn.Module
    if trained_with:
        if str(trained_with).endswith((".yaml", ".yml")):
            experiment = Experiment.from_file(trained_with)
        else:  # the folder may have been renamed or copied since it was written
            run_name = str(trained_with)
            experiment = Experiment.from_file(run_folder(run_name) / "config.yaml")
            experiment = experiment.replace(run_name=run_name)
        if checkpoint_step:
            experiment = experiment.replace(checkpoint_step=checkpoint_step)
        model = experiment.make_model(pretrained=False)
        step = experiment.load_weights(model)
        name = f"{type(model).__name__} after {step:,} steps"
    else:
        model, description = load_pretrained()
        step, name = description["step"], "the LuNet that ships"
        height, width = description["image_size"]
        experiment = Experiment(  # its run folder only keeps embeddings
            run_name=f"shipped/{_hash(WEIGHTS)[:8]}-{tta}",
            dataset="market1501",
            dataset_root="synthetic_shipped",
            image_height=height,
            image_width=width,
            tta=tta,
        )
    return experiment, model.to(choose_device(experiment.device)), step, name


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
