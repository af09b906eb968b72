"""A split's embedding table: read where an earlier call left it, else made by all processes."""

from pathlib import Path
from typing import Literal

import numpy as np
from torch import nn

from tripletlib.datasets import Split
from tripletlib.embedding import (
    EmbeddingTable,
    TestTimeAugmentation,
    embed,
    fingerprint,
    saved_table,
)
from tripletlib.runtime import Progress, current_processes

_BATCH = 256  # images


def embed_split(
    model: nn.Module,
    split: Split,
    root: Path,
    step: int,
    file: Path,
    tta: TestTimeAugmentation = "none",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    progress: Progress = "auto",
) -> EmbeddingTable:
    """Embeds a split, or reads what an earlier call embedded.

    In a process group, such as torchrun's, all processes call it: each embeds its share and gets
    the whole, and the first saves it.

    Args:
        model: network from float images `[B, 3, H, W]` to embeddings `[B, D]`.
        split: query or gallery, its images of the size that the network takes.
        root: the data set's folder; the table's paths are relative to it.
        step: training step of the weights.
        file: where the table lies, or is saved.
        tta: test-time augmentation, see `embed`.
        precision: see `embed`.
        progress: see `tripletlib.progress`.

    Returns:
        The table. A saved one of another step, augmentation or other pictures is made anew.

    Raises:
        OSError: the table cannot be written.
        UnreadableImageError: a picture cannot be read.
        ValueError: the file is no embedding table.
    """
    processes = current_processes()
    paths = [Path(path).relative_to(root).as_posix() for path in split.paths]
    files = fingerprint(paths, root)
    saved = processes.from_first(lambda: saved_table(file, step, tta, files))
    if saved is not None:
        return saved
    images = processes.in_turn(lambda: split.images)  # decoded once a machine
    mine = processes.share(len(images))

    def embed_share() -> np.ndarray | None:
        if mine.start == mine.stop:  # fewer pictures than processes
            return None
        return embed(model, images[mine], _BATCH, tta, precision, progress)

    parts = [part for part in processes.from_all(embed_share) if part is not None]
    table = EmbeddingTable(
        np.concatenate(parts), split.pids, split.camids, np.array(paths), step, tta, files
    )
    processes.from_first(lambda: table.save(file))
    return table
