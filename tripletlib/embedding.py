"""Images to embeddings, batch by batch, and the table that keeps them."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tripletlib.augmentation import ENLARGEMENT
from tripletlib.runtime import (
    AnyPath,
    Progress,
    atomic_write,
    choose_layout,
    choose_precision,
    explained_writing,
    from_repository,
    keep_freed_memory,
    progress_bar,
)

TestTimeAugmentation = Literal["none", "flip", "5crops", "5crops+flip"]
# Kinds of NumPy types, number of dimensions
_COLUMNS = {
    "embeddings": ("f", 2, "floating-point numbers [N, D]"),
    "pids": ("iu", 1, "integers [N]"),
    "camids": ("iu", 1, "integers [N]"),
    "paths": ("UO", 1, "text [N]"),
}


def to_unit_interval(images: Tensor | np.ndarray, device: torch.device) -> Tensor:
    """Moves uint8 images to the device and scales them there: bytes are quicker to move.

    uint8 `[B, C, H, W]`, intensities 0 to 255, become float32 in [0, 1].
    """
    if not isinstance(images, Tensor):
        images = torch.from_numpy(np.require(images, requirements=("C", "W")))
    return images.to(device, non_blocking=True).float().div_(255)


@torch.inference_mode()
def embed(
    model: nn.Module,
    images: np.ndarray | Tensor,
    batch_size: int | None = None,
    tta: TestTimeAugmentation = "none",
    precision: Literal["auto", "float32", "bfloat16"] = "float32",
    progress: Progress = "off",
) -> np.ndarray:
    """Embeds a set of images in evaluation mode; the model's mode is put back afterwards.

    Args:
        model: network from `[B, C, H, W]` to `[B, D]`, on any device. Its first weight names device
            and type; without any, it gets float32 where the images are. Batches lie channels last
            where that is faster, so a network flattens by `flatten` or `reshape`, not by `view`.
        images: uint8 `[N, C, H, W]`, array or tensor on any device.
        batch_size: images in one forward pass. None: on a CPU as many as have half a million pixels
            together, 64 of 128x64, and at least one (more were slower); 256 elsewhere.
        tta: test-time augmentation: what each image's embedding is the mean of. `"none"`: the image
            itself; `"flip"`: and its mirror image; `"5crops"`: the corners and the centre of the
            image enlarged by an eighth; `"5crops+flip"`: and their mirror images.
        precision: what a network with float32 weights computes in, see `choose_precision`; one with
            other weights computes in their type.
        progress: `"auto"` shows a bar where somebody watches.

    Returns:
        Embeddings, float32 `[N, D]`.

    Raises:
        ValueError: no images or no pixels, images that are not uint8, or an unknown augmentation.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), section 4.2, for crops and flips.

    Example:
        >>> from tripletlib.models import MnistNet
        >>> embed(MnistNet(embedding_dim=2), np.zeros((3, 1, 28, 28), np.uint8)).shape
        (3, 2)
    """
    _check(images, tta)
    device, weights = _device_and_type(model, images)
    computed = choose_precision(precision, device) if weights == torch.float32 else weights
    layout = choose_layout(device)
    if device.type == "cpu":
        keep_freed_memory()
    if batch_size is None:
        height, width = images.shape[2:]
        batch_size = max(1, 2**19 // (height * width)) if device.type == "cpu" else 256
    in_training = [module for module in model.modules() if module.training]
    model.eval()
    parts = []
    try:
        with (
            progress_bar(len(images), "image", progress, desc="embedding") as bar,
            torch.autocast(device.type, computed, enabled=computed != weights),
        ):
            for start in range(0, len(images), batch_size):
                batch = to_unit_interval(images[start : start + batch_size], device).to(weights)
                views = [
                    model(view.contiguous(memory_format=layout)).float()
                    for view in _views(batch, tta)
                ]
                parts.append(torch.stack(views).mean(0).cpu())
                bar.update(len(batch))
    finally:
        for module in in_training:
            module.training = True
    return torch.cat(parts).numpy()


def _device_and_type(
    model: nn.Module, images: np.ndarray | Tensor | None = None
) -> tuple[torch.device, torch.dtype]:
    for weight in (*model.parameters(), *model.buffers()):
        if weight.is_floating_point():
            return weight.device, weight.dtype
    return images.device if isinstance(images, Tensor) else torch.device("cpu"), torch.float32


def embedded_by(
    model: nn.Module,
    tta: TestTimeAugmentation = "none",
    precision: Literal["auto", "float32", "bfloat16"] = "float32",
) -> dict[str, Any]:
    """What decides the embeddings of given images, to be kept beside them in a table.

    The arguments are those of `embed`; `"auto"` is resolved as it does on this machine.

    Returns:
        `tta`; `precision`, the name of a type; and `weights`, 16 hexadecimal digits that stand for
        the layers and the values of all weights and buffers.

    Example:
        >>> made = embedded_by(nn.Flatten())
        >>> made["tta"], made["precision"], len(made["weights"])
        ('none', 'float32', 16)
    """
    device, weights = _device_and_type(model)
    computed = choose_precision(precision, device) if weights == torch.float32 else weights
    digest = hashlib.sha256(str(model).encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return {
        "tta": tta,
        "precision": str(computed).removeprefix("torch."),
        "weights": digest.hexdigest()[:16],
    }


@dataclass(frozen=True)
class EmbeddingTable:
    """Embedded images with what an evaluation needs to know of them, and what they were made from.

    Attributes:
        embeddings: finite numbers, float32 `[N, D]`.
        pids: identity of each image, int64 `[N]`.
        camids: camera of each image, int64 `[N]`.
        paths: file of each image, text `[N]`.
        step: training step of the checkpoint that embedded them.
        tta: test-time augmentation, see `embed`.
        precision: what the network computed in, see `embedded_by`; empty if that is not known.
        weights: which network it was, see `embedded_by`; empty if that is not known.
        content: `fingerprint` of the split; empty if that is not known.

    Raises:
        ValueError: columns of different lengths, or of another kind.
    """

    embeddings: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    paths: np.ndarray
    step: int
    tta: str
    precision: str = ""
    weights: str = ""
    content: str = ""

    def __post_init__(self) -> None:
        for name, (kinds, dimensions, what) in _COLUMNS.items():
            column = getattr(self, name)
            if column.dtype.kind not in kinds or column.ndim != dimensions:
                raise ValueError(
                    f"{name} of an embedding table must be {what}, got {column.dtype} "
                    f"{list(column.shape)}"
                )
        lengths = {name: len(getattr(self, name)) for name in _COLUMNS}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"the columns of an embedding table must be equally long: {lengths}")
        broken = int((~np.isfinite(self.embeddings)).any(axis=1).sum())
        if broken:
            raise ValueError(f"{broken} of {len(self)} embeddings are NaN or infinite")
        for name in ("step", "tta", "precision", "weights", "content"):
            kind = (int, np.integer) if name == "step" else str
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name} of an embedding table cannot be {getattr(self, name)!r}")

    def __len__(self) -> int:
        return len(self.pids)

    def check_same_network(self, other: Self) -> None:
        """Makes sure that distances between the two tables mean something.

        A ValueError if dimension, step, augmentation, precision or weights differ.
        """
        both = {"dimension": (self.embeddings.shape[1], other.embeddings.shape[1])}
        for name in ("step", "tta", "precision", "weights"):
            both[name] = getattr(self, name), getattr(other, name)
        differing = [
            f"{name} {our!r} and {its!r}" for name, (our, its) in both.items() if our != its
        ]
        if differing:
            raise ValueError(
                f"the two embedding tables are not of one network: {', '.join(differing)}; embed "
                "both with the same checkpoint and settings"
            )

    def save(self, file: AnyPath) -> None:
        """Writes an `.npz` archive, in one piece; a relative path is meant from the repository.

        Raises:
            OSError: it cannot be written; the message names the file and the way out, and an
                earlier file is kept.
        """
        path = from_repository(file)
        columns = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        columns["paths"] = columns["paths"].astype(str)  # objects would need pickle
        with (
            explained_writing(path),
            atomic_write(path, sync=True) as unfinished,
            unfinished.open("wb") as stream,
        ):
            np.savez(stream, **columns)  # type: ignore[arg-type]

    @classmethod
    def load(cls, file: AnyPath) -> Self:
        """Reads a table that `save` wrote; nothing in the file is executed.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no embedding table.
        """
        path = from_repository(file)
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is no file, but an embedding table is one; move it away")
        # np.load, given a path, would leave the file open when it cannot read it.
        with path.open("rb") as stream:
            try:
                with np.load(stream, allow_pickle=False) as archive:
                    found = {f.name: archive[f.name] for f in fields(cls) if f.name in archive}
                plain = {name: found[name].item() for name in found.keys() - _COLUMNS.keys()}
                return cls(**found | plain)
            except Exception as error:  # a foreign or cut file fails in many ways
                raise ValueError(
                    f"{path} is not an embedding table ({error}); move it away, and it is made anew"
                ) from error


def saved_table(file: Path, wanted: Mapping[str, Any]) -> EmbeddingTable | None:
    """A table that an earlier call saved, if it is of the same pictures and was made alike.

    `wanted` are all its attributes but the embeddings, see `EmbeddingTable`. Returns None if there
    is no file, or one of something else, or one that does not say of what; a ValueError if it is no
    embedding table.
    """
    if not file.exists():
        return None
    saved = EmbeddingTable.load(file)
    same = all(np.array_equal(getattr(saved, name), value) for name, value in wanted.items())
    return saved if same else None


def _views(images: Tensor, tta: TestTimeAugmentation) -> Iterator[Tensor]:
    crops = _five_crops(images) if tta.startswith("5crops") else [images]
    for crop in crops:
        yield crop
        if tta.endswith("flip"):
            yield crop.flip(3)


def _five_crops(images: Tensor) -> list[Tensor]:
    height, width = images.shape[2:]
    larger_size = (round(height * ENLARGEMENT), round(width * ENLARGEMENT))
    larger = F.interpolate(images, larger_size, mode="bilinear", align_corners=False)
    down, right = larger_size[0] - height, larger_size[1] - width
    corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    return [larger[:, :, top : top + height, left : left + width] for top, left in corners]


def _check(images: np.ndarray | Tensor, tta: str) -> None:
    if images.dtype not in (np.uint8, torch.uint8) or images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            "images must be uint8 [N, C, H, W], none of these 0; got "
            f"{images.dtype} {list(images.shape)}"
        )
    if tta not in get_args(TestTimeAugmentation):
        raise ValueError(f"tta must be one of {get_args(TestTimeAugmentation)}, got {tta!r}")
