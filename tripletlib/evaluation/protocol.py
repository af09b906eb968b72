"""What the Market-1501 protocol's labels mean, and how distances and labels are read."""

import numpy as np
import torch
from torch import Tensor

JUNK, DISTRACTOR = -1, 0  # pids in a gallery that stand for no identity

Numbers = np.ndarray | Tensor


def to_distances(values: Numbers) -> np.ndarray:
    """Distances as a NumPy array of float32 or float64, rows contiguous.

    Raises:
        ValueError: no real numbers, or NaN among them.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        # NumPy has no bfloat16.
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    distances = np.asarray(values)
    if distances.dtype.kind not in "fiu":
        raise ValueError(f"distances must be real numbers, got {distances.dtype}")
    if distances.dtype not in (np.float32, np.float64):  # NumPy compares half precision slowly
        distances = distances.astype(np.float32 if distances.dtype == np.float16 else np.float64)
    if np.isnan(distances).any():
        missing = np.argwhere(np.isnan(distances))
        raise ValueError(
            f"{len(missing)} of the {distances.size} distances of shape {list(distances.shape)} "
            f"are NaN, the first at {missing[0].tolist()}; check the embeddings"
        )
    return np.ascontiguousarray(distances)


def to_labels(values: Numbers, name: str, length: int | None = None) -> np.ndarray:
    """Identities or cameras as int64 `[N]`.

    Raises:
        ValueError: no integers, not one list of them, or not `length` of them.
    """
    labels = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if labels.ndim != 1 or (labels.dtype.kind not in "iu" and labels.size):
        raise ValueError(
            f"{name} must be integers [N], got {labels.dtype} of shape {list(labels.shape)}"
        )
    if length is not None and len(labels) != length:
        raise ValueError(f"{name} has {len(labels)} entries for {length} images")
    return labels.astype(np.int64)
