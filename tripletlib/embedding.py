"""Images to embeddings, batch by batch, and the table that keeps them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tripletlib.augmentation import ENLARGEMENT
from tripletlib.runtime import (
    Progress,
    atomic_write,
    choose_layout,
    choose_precision,
    explained_writing,
    keep_freed_memory,
    progress_bar,
)

TestTimeAugmentation = Literal["none", "flip", "5crops", "5crops+flip"]
_COLUMNS = ("embeddings", "pids", "camids", "paths")


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
    batch_size: int = 512,
    tta: TestTimeAugmentation = "none",
    precision: Literal["auto", "float32", "bfloat16"] = "float32",
    progress: Progress = "off",
) -> np.ndarray:
    """Embeds a set of images in evaluation mode; the model's mode is put back afterwards.

    Args:
        model: network from `[B, C, H, W]` to `[B, D]`, on any device. Its first weight names device
            and type; without any, it gets float32 where the images are.
        images: uint8 `[N, C, H, W]`, array or tensor on any device.
        batch_size: images in one forward pass.
        tta: test-time augmentation: what each image's embedding is the mean of. `"none"`: the image
            itself; `"flip"`: and its mirror image; `"5crops"`: the corners and the centre of the
            image enlarged by an eighth; `"5crops+flip"`: and their mirror images.
        precision: what a network with float32 weights computes in, see `choose_precision`; one with
            other weights computes in their type.
        progress: `"auto"` shows a bar where somebody watches.

    Returns:
        Embeddings, float32 `[N, D]`.

    Raises:
        ValueError: no images, images that are not uint8, or an unknown augmentation.

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
    layout = choose_layout(device, computed)
    if device.type == "cpu":
        keep_freed_memory()
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
    model: nn.Module, images: np.ndarray | Tensor
) -> tuple[torch.device, torch.dtype]:
    for weight in (*model.parameters(), *model.buffers()):
        if weight.is_floating_point():
            return weight.device, weight.dtype
    return images.device if isinstance(images, Tensor) else torch.device("cpu"), torch.float32


@dataclass(frozen=True)
class EmbeddingTable:
    """Embedded images with what an evaluation needs to know of them.

    Attributes:
        embeddings: float32 `[N, D]`.
        pids: identity of each image, int64 `[N]`.
        camids: camera of each image, int64 `[N]`.
        paths: file of each image, text `[N]`.
        step: training step of the checkpoint that embedded them.
        tta: test-time augmentation, see `embed`.
        files: `fingerprint` of the image files, to tell whether they are still the same.

    Raises:
        ValueError: the columns have different lengths.
    """

    embeddings: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    paths: np.ndarray
    step: int
    tta: str
    files: str = ""

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in _COLUMNS}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"the columns of an embedding table must be equally long: {lengths}")

    def __len__(self) -> int:
        return len(self.pids)

    def save(self, file: Path) -> None:
        """Writes an `.npz` archive, in one piece.

        Raises:
            OSError: it cannot be written; the message names the file and the way out, and an
                earlier file is kept.
        """
        columns = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        columns["paths"] = columns["paths"].astype(str)  # objects would need pickle
        with (
            explained_writing(file),
            atomic_write(file, sync=True) as unfinished,
            unfinished.open("wb") as stream,
        ):
            np.savez(stream, **columns)  # type: ignore[arg-type]

    @classmethod
    def load(cls, file: Path) -> Self:
        """Reads a table that `save` wrote; nothing in the file is executed.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no embedding table.
        """
        try:
            # np.load, given a path, would leave the file open when it cannot read it.
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                columns = {field.name: archive[field.name] for field in fields(cls)}
        except FileNotFoundError:
            raise
        except Exception as error:  # a foreign or cut file fails in many ways
            raise ValueError(f"{file} is not an embedding table ({error}); remove it") from error
        step, tta, files = (columns.pop(name).item() for name in ("step", "tta", "files"))
        return cls(**columns, step=step, tta=tta, files=files)


def saved_table(file: Path, step: int, tta: str, files: str) -> EmbeddingTable | None:
    """The table that an earlier call saved, if it is of this step, augmentation and these files.

    Raises:
        ValueError: the file is no embedding table.
    """
    if not file.is_file():
        return None
    saved = EmbeddingTable.load(file)
    return saved if (saved.step, saved.tta, saved.files) == (step, tta, files) else None


def fingerprint(paths: Sequence[str], root: Path) -> str:
    """Tells lists of image files, relative to `root`, apart by names and sizes: 16 hex digits.

    Times of change are left out: embeddings stay good beside a copy of the data set.

    Raises:
        OSError: a file is not there.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path}\0{(root / path).stat().st_size}\0".encode())
    return digest.hexdigest()[:16]


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
    if images.dtype not in (np.uint8, torch.uint8) or images.ndim != 4 or not len(images):
        raise ValueError(
            f"images must be uint8 [N, C, H, W], N > 0; got {images.dtype} {list(images.shape)}"
        )
    if tta not in get_args(TestTimeAugmentation):
        raise ValueError(f"tta must be one of {get_args(TestTimeAugmentation)}, got {tta!r}")
