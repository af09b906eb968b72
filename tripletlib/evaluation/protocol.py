"""What the Market-1501 protocol's labels mean, and how distances and labels are read."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

JUNK, DISTRACTOR = -1, 0  # pids in a gallery that stand for no identity
_ROWS = 64  # queries whose distances are converted and checked at once

Numbers = np.ndarray | Tensor


def to_distances(values: Numbers) -> np.ndarray:
    """Distances as a NumPy array of float32 or float64, rows contiguous.

    A ValueError for anything but real numbers, and for NaN.
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

    A ValueError if they are no integers, not one list of them, or not `length` of them.
    """
    labels = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if labels.ndim != 1 or (labels.dtype.kind not in "iu" and labels.size):
        raise ValueError(
            f"{name} must be integers [N], got {labels.dtype} of shape {list(labels.shape)}"
        )
    if length is not None and len(labels) != length:
        raise ValueError(f"{name} has {len(labels)} entries for {length} images")
    return labels.astype(np.int64)


def row_blocks(distances: Numbers, queries: int) -> Iterator[tuple[int, Numbers]]:
    """Distances `[Q, G]` in blocks of a few rows, each with the index of its first query.

    A ValueError for no matrix, or if it has not one row for each query.
    """
    matrix = distances if isinstance(distances, Tensor) else np.asarray(distances)
    if matrix.ndim != 2:
        raise ValueError(f"distances must be [Q, G], got {list(matrix.shape)}")
    if len(matrix) != queries:
        raise ValueError(
            f"distances {list(matrix.shape)} has not one row for each of {queries} query_pids"
        )
    return ((start, matrix[start : start + _ROWS]) for start in range(0, len(matrix), _ROWS))


class Answers:
    """Which gallery images are right, and which are junk, for each query."""

    def __init__(
        self,
        query_pids: Numbers,
        gallery_pids: Numbers,
        query_camids: Numbers | None,
        gallery_camids: Numbers | None,
        camera_filter: bool,
    ) -> None:
        self.pids = to_labels(query_pids, "query_pids")
        nobody = np.unique(self.pids[self.pids <= DISTRACTOR]).tolist()
        if nobody:
            raise ValueError(
                f"query_pids holds {', '.join(map(str, nobody))}: 0 stands for a distractor and "
                "less for junk, which are nobody to be found; number identities from 1, or leave "
                "these queries out"
            )
        pids = to_labels(gallery_pids, "gallery_pids")
        self.queries, self.gallery = len(self.pids), len(pids)
        if not self.queries or not self.gallery:
            raise ValueError(f"nothing to rank: {self.queries} queries, {self.gallery} images")
        self.usable = np.flatnonzero(pids != JUNK)
        self.camids: tuple[np.ndarray, np.ndarray] | None = None
        if camera_filter:
            if query_camids is None or gallery_camids is None:
                raise ValueError("pass query_camids and gallery_camids, or camera_filter=False")
            of_gallery = to_labels(gallery_camids, "gallery_camids", self.gallery)[self.usable]
            self.camids = to_labels(query_camids, "query_camids", self.queries), of_gallery
        # Sorted by pid, an identity's images lie side by side: no query need compare all pids.
        pids = pids[self.usable]
        self.by_pid = np.argsort(pids, kind="stable")
        self.first, self.last = (
            np.searchsorted(pids[self.by_pid], self.pids, side) for side in ("left", "right")
        )

    def of(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """The usable gallery's images of the query's identity, ascending, and which are junk."""
        own = self.by_pid[self.first[query] : self.last[query]]
        if self.camids is None:
            return own, np.zeros(len(own), dtype=bool)
        of_query, of_gallery = self.camids
        return own, of_gallery[own] == of_query[query]

    def count_right(self, max_rank: int) -> np.ndarray:
        """Number of right answers of each query, int64 `[Q]`; a ValueError if there are none."""
        if max_rank < 1:
            raise ValueError(f"max_rank must be at least 1, got {max_rank}")
        junk_of = (self.of(query)[1] for query in range(self.queries))
        counts = np.array([np.count_nonzero(~junk) for junk in junk_of], dtype=np.int64)
        if not counts.any():
            raise ValueError(
                f"none of {self.queries} queries has a right answer among {self.gallery} gallery "
                f"images (camera_filter={self.camids is not None}): compare their pids and camids"
            )
        return counts

    def rows(self, start: int, block: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Each query of a block with its distances to the usable gallery."""
        if block.ndim != 2 or block.shape[1] != self.gallery:
            raise ValueError(
                f"distances must be [Q, G] with G = {self.gallery}, the number of gallery_pids; "
                f"got {list(block.shape)}"
            )
        if start < 0 or start + len(block) > self.queries:
            raise ValueError(
                f"a block of {len(block)} rows does not fit at {start} of {self.queries} queries"
            )
        usable = block if len(self.usable) == self.gallery else block[:, self.usable]
        return enumerate(usable, start)
