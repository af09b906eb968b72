"""The Market-1501 protocol: what counts in a gallery for a query, and where right answers rank."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

JUNK, DISTRACTOR = -1, 0  # pids in a gallery that stand for no identity

Numbers = np.ndarray | Tensor
# Counting what lies before each image of an identity was measured to be faster than sorting the
# gallery up to about this share of it (1,000 to 100,000 images).
COUNTED_SHARE = 0.01


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
        gallery = to_labels(gallery_pids, "gallery_pids")
        self.queries, self.gallery = len(self.pids), len(gallery)
        if not self.queries or not self.gallery:
            raise ValueError(f"nothing to rank: {self.queries} queries, {self.gallery} images")
        self.usable = np.flatnonzero(gallery != JUNK)
        self.camids: tuple[np.ndarray, np.ndarray] | None = None
        if camera_filter:
            if query_camids is None or gallery_camids is None:
                raise ValueError("pass query_camids and gallery_camids, or camera_filter=False")
            of_gallery = to_labels(gallery_camids, "gallery_camids", self.gallery)[self.usable]
            self.camids = to_labels(query_camids, "query_camids", self.queries), of_gallery
        # Sorted by pid, an identity's images lie side by side: no query need compare all pids.
        gallery = gallery[self.usable]
        self.by_pid = np.argsort(gallery, kind="stable")
        in_order = gallery[self.by_pid]
        self.first = np.searchsorted(in_order, self.pids, side="left")
        self.last = np.searchsorted(in_order, self.pids, side="right")

    def of(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """The usable gallery's images of the query's identity, ascending, and which are junk."""
        own = self.by_pid[self.first[query] : self.last[query]]
        if self.pids[query] == DISTRACTOR:  # no identity: nothing is its own image
            own = own[:0]
        if self.camids is None:
            return own, np.zeros(len(own), dtype=bool)
        of_query, of_gallery = self.camids
        return own, of_gallery[own] == of_query[query]

    def count_right(self) -> np.ndarray:
        """Number of right answers of each query, int64 `[Q]`."""
        junk_of = (self.of(query)[1] for query in range(self.queries))
        return np.array([np.count_nonzero(~junk) for junk in junk_of], dtype=np.int64)

    def rows(self, where: int | slice, block: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Each query of a block with its distances to the usable gallery."""
        if block.ndim != 2 or block.shape[1] != self.gallery:
            raise ValueError(
                f"distances must be [Q, G] with G = {self.gallery}, the number of gallery_pids; "
                f"got {list(block.shape)}"
            )
        start = where.start or 0 if isinstance(where, slice) else where
        named = range(self.queries)[where] if isinstance(where, slice) else None
        found = range(start, start + len(block))
        if start < 0 or found.stop > self.queries or (named is not None and named != found):
            raise ValueError(
                f"a block of {len(block)} rows does not fit at {where} of {self.queries} queries"
            )
        kept = block if len(self.usable) == self.gallery else block[:, self.usable]
        return zip(found, kept, strict=True)


def right_ranks(row: np.ndarray, own: np.ndarray, junk: np.ndarray) -> np.ndarray:
    """Places of the right answers in one query's ranked list, without sorting the gallery.

    All images of the identity are ranked, junk along with the right ones; then each right answer
    moves up by the number of junk images before it.

    Args:
        row: distances to the gallery, `[G]`.
        own: indices of the images of the query's identity, ascending, `[S]`.
        junk: which of them are skipped, bool `[S]`.

    Returns:
        Ranks from 1, ascending, int64 `[R]`.
    """
    places = _places(row, own)
    by_place = np.argsort(places)
    places, junk = places[by_place], junk[by_place]
    return (places - np.cumsum(junk))[~junk] + 1


def _places(row: np.ndarray, images: np.ndarray) -> np.ndarray:
    """How many images come before each of `images`: nearer ones, and equally near earlier ones."""
    if len(images) > COUNTED_SHARE * len(row):
        places = np.empty(len(row), dtype=np.int64)
        places[np.argsort(row, kind="stable")] = np.arange(len(row))
        return places[images]
    count = np.count_nonzero
    before = [
        count(row[:image] <= distance) + count(row[image:] < distance)
        for image, distance in zip(images.tolist(), row[images], strict=True)
    ]
    return np.array(before, dtype=np.int64)


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
