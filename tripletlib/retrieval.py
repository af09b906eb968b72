"""Embedded queries and gallery with their pictures: what notebooks 04 and 05 look at.

They come from a training's run folder, or from the LuNet that ships, which is then shown drawn
pedestrians that it has never seen, in the cameras that it knows.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tripletlib.embedding import EmbeddingTable, TestTimeAugmentation, embed
from tripletlib.experiment import Experiment
from tripletlib.hardware import choose_device
from tripletlib.paths import REPOSITORY, data_root
from tripletlib.pretrained import WEIGHTS, load_pretrained
from tripletlib.progress import Progress
from tripletlib.synthetic import write_synthetic_market

SHIPPED_IDENTITIES, SHIPPED_SEED = 160, 1  # half of them are queries; the training had seed 0
SHOWN_SIZE = (128, 64)  # pixels; larger than some networks take, so that a reader sees something


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
    """

    name: str
    query: EmbeddingTable
    gallery: EmbeddingTable
    query_images: np.ndarray
    gallery_images: np.ndarray
    image_size: tuple[int, int]
    embed: Callable[[np.ndarray], np.ndarray]


def open_retrieval(
    trained_with: str = "",
    checkpoint_step: int = 0,
    tta: TestTimeAugmentation = "none",
    progress: Progress = "auto",
) -> Retrieval:
    """Opens what a training left behind, or the model that ships.

    Args:
        trained_with: parameter file of notebook 03 whose run is read: its name in
            `notebooks/params/`, or a path. Empty: the LuNet that ships, on drawn pedestrians.
        checkpoint_step: the run's checkpoint to embed with; 0 for the newest. The model that ships
            has one only.
        tta: test-time augmentation of the model that ships, see `embed`; a run has its own in its
            parameter file.
        progress: see `tripletlib.progress`.

    Returns:
        The `Retrieval`. A run's embeddings are read from its folder where they fit the checkpoint
        and are made and saved there otherwise.

    Raises:
        CheckpointError: the run has no usable checkpoint, or not the one asked for.
        FileNotFoundError: there is no such parameter file, or the data set is not there.
        ValueError: the parameter file cannot be used.
    """
    if trained_with:
        experiment = Experiment.from_file(_find_parameters(trained_with))
        model = experiment.make_model()
        step = experiment.load_weights(model, checkpoint_step or None)
        name = f"{_kind(experiment)}, LuNet after {step:,} steps"
    else:
        model, description = load_pretrained()
        experiment, step = _shipped_experiment(description, tta, progress), description["step"]
        name = "drawn pedestrians (synthetic), the LuNet that ships"
    model.to(choose_device("auto"))
    data = experiment.open_dataset(progress)
    query, gallery = (
        experiment.embedding_table(model, split, data.root, step, progress)
        for split in (data.query, data.gallery)
    )
    shown = experiment.open_dataset(progress, SHOWN_SIZE)
    return Retrieval(
        name=name,
        query=query,
        gallery=gallery,
        query_images=shown.query.images,
        gallery_images=shown.gallery.images,
        image_size=experiment.image_size,
        embed=partial(embed, model, tta=experiment.tta, precision=experiment.precision),
    )


def _shipped_experiment(
    description: dict[str, Any], tta: TestTimeAugmentation, progress: Progress
) -> Experiment:
    """Draws the people to be found; the run folder only keeps their embeddings."""
    root = data_root() / "synthetic_shipped"
    write_synthetic_market(
        root, SHIPPED_IDENTITIES, seed=SHIPPED_SEED, progress=progress, camera_seed=0
    )
    height, width = description["image_size"]
    weights = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:8]
    return Experiment(
        run_name=f"shipped/{weights}-{tta}",
        dataset="market1501",
        dataset_root=str(root),
        image_height=height,
        image_width=width,
        tta=tta,
    )


def _kind(experiment: Experiment) -> str:
    synthetic = experiment.dataset == "synthetic"
    return "drawn pedestrians (synthetic)" if synthetic else experiment.dataset_root


def _find_parameters(name: str) -> Path:
    committed = REPOSITORY / "notebooks" / "params" / name
    return committed if committed.is_file() else Path(name)
