"""Pictures that can be looked up, of the set or the reader's own, and the answers to each."""

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from tripletlib.datasets import decode_image
from tripletlib.distances import paired_distances
from tripletlib.embedding import EmbeddingTable
from tripletlib.evaluation import RankedGallery, rank_gallery
from tripletlib.experiments import Retrieval
from tripletlib.reranking import NeighbourIndex

Kind = Literal["query", "gallery", "upload"]
K_MAX = 40  # the largest k1 and k2 on offer


@dataclass(frozen=True)
class Asked:
    """Who is looked up.

    Attributes:
        kind: `"query"`: a picture of the query set; `"gallery"`: one of the gallery; `"upload"`:
            one that the reader handed in.
        index: which one.
    """

    kind: Kind
    index: int


@dataclass(frozen=True)
class Options:
    """How the answers are computed and shown.

    Attributes:
        top_k: places shown.
        rerank: whether the gallery is re-ranked.
        k1: neighbours that count as reciprocal, see `tripletlib.reranking`.
        k2: neighbours in the query expansion.
        lambda_value: weight of the original distance, from 0 to 1.
        show_junk: whether skipped pictures are shown.
        compare: whether the list before re-ranking is shown beside the one after.
    """

    top_k: int = 20
    rerank: bool = False
    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3
    show_junk: bool = False
    compare: bool = True


FIRST_QUERY, DEFAULTS = Asked("query", 0), Options()


@dataclass(frozen=True)
class Upload:
    """A picture that the reader handed in; it stays in this process.

    Attributes:
        name: its file name.
        image: to be shown, uint8 `[3, H, W]`.
        embedding: float32 `[D]`.
    """

    name: str
    image: np.ndarray
    embedding: np.ndarray


@dataclass(frozen=True)
class Sight:
    """All that is to be seen at one moment.

    Attributes:
        asked: who is looked up.
        options: how.
        before: the answers by distance.
        after: the re-ranked ones; None without re-ranking.
    """

    asked: Asked
    options: Options
    before: RankedGallery
    after: RankedGallery | None

    @property
    def answers(self) -> RankedGallery:
        """The ranking that counts: re-ranked if that is switched on."""
        return self.before if self.after is None else self.after


class Lookup:
    """Looks pictures up; it remembers uploads and everybody's neighbours, and nothing else.

    Args:
        retrieval: queries and gallery.

    Attributes:
        retrieval: as given.
        uploads: the reader's own pictures.
    """

    def __init__(self, retrieval: Retrieval) -> None:
        self.retrieval = retrieval
        self.uploads: list[Upload] = []

    def look(self, asked: Asked, options: Options) -> Sight:
        """Ranks the gallery for a picture.

        Raises:
            IndexError: there is no such picture.
            ValueError: k1, k2 or lambda out of range, see `NeighbourIndex.rerank`.
        """
        before = self._judge(asked, self._distances(asked))
        after = None
        if options.rerank:
            row = self._reranked_distances(asked, options)
            after = self._judge(asked, row)
        return Sight(asked, options, before, after)

    def add(self, data: bytes, name: str) -> Asked:
        """Takes a picture of the reader's own.

        Args:
            data: the file's content.
            name: the file's name.

        Returns:
            What to ask for to look it up.

        Raises:
            UnreadableImageError: it is no picture, see `decode_image`.
        """
        height, width = self.retrieval.gallery_images.shape[2:]
        shown = decode_image(data, name, (height, width))
        seen_by_network = decode_image(data, name, self.retrieval.image_size)
        embedding = self.retrieval.embed(seen_by_network[None])[0]
        self.uploads.append(Upload(name, shown, embedding))
        return Asked("upload", len(self.uploads) - 1)

    def image(self, asked: Asked) -> np.ndarray:
        """The picture, uint8 `[3, H, W]`."""
        if asked.kind == "upload":
            return self.uploads[asked.index].image
        query = asked.kind == "query"
        images = self.retrieval.query_images if query else self.retrieval.gallery_images
        return images[asked.index]

    def embedding(self, asked: Asked) -> np.ndarray:
        """The picture's embedding, float32 `[D]`."""
        if asked.kind == "upload":
            return self.uploads[asked.index].embedding
        return self._table(asked).embeddings[asked.index]

    def pid_and_camid(self, asked: Asked) -> tuple[int | None, int]:
        """Identity and camera of a picture; None and 0 for the reader's own."""
        if asked.kind == "upload":
            return None, 0
        table = self._table(asked)
        return int(table.pids[asked.index]), int(table.camids[asked.index])

    def _judge(self, asked: Asked, distances: np.ndarray) -> RankedGallery:
        gallery, (pid, camid) = self.retrieval.gallery, self.pid_and_camid(asked)
        itself = asked.index if asked.kind == "gallery" else None
        return rank_gallery(distances, pid, gallery.pids, camid, gallery.camids, leave_out=itself)

    def _distances(self, asked: Asked) -> np.ndarray:
        self._check(asked)
        query = torch.as_tensor(self.embedding(asked))
        gallery = torch.as_tensor(self.retrieval.gallery.embeddings)  # [G, D]
        return paired_distances(query.expand_as(gallery), gallery).numpy()

    @cached_property
    def _index(self) -> NeighbourIndex:
        """Everybody's neighbours: the part of re-ranking that does not depend on the query."""
        query, gallery = self.retrieval.query, self.retrieval.gallery
        return NeighbourIndex(query.embeddings, gallery.embeddings, k_max=K_MAX)

    def _reranked_distances(self, asked: Asked, options: Options) -> np.ndarray:
        parameters = options.k1, options.k2, options.lambda_value
        if asked.kind == "query":
            return self._index.rerank(asked.index, *parameters)
        if asked.kind == "gallery":
            return self._index.rerank_gallery(asked.index, *parameters)
        return self._index.rerank_embedding(self.uploads[asked.index].embedding, *parameters)

    def _table(self, asked: Asked) -> EmbeddingTable:
        return self.retrieval.query if asked.kind == "query" else self.retrieval.gallery

    def _check(self, asked: Asked) -> None:
        size = len(self.uploads) if asked.kind == "upload" else len(self._table(asked))
        if not 0 <= asked.index < size:  # a negative index would count from the end
            raise IndexError(f"there is no {asked.kind} picture {asked.index}, only {size:,}")


def write_ranking(file: Path, sight: Sight, gallery: EmbeddingTable) -> None:
    """Writes the gallery in the order that is seen, nearest first.

    Args:
        file: the file to write. Its columns are rank (empty for junk), distance, verdict, pid,
            camid and path.
        sight: what is seen; re-ranked, the distance is the final one.
        gallery: what was ranked.
    """
    answers = sight.answers
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["rank", "distance", "verdict", "pid", "camid", "path"])
        for rank, distance, verdict, index in zip(
            answers.ranks, answers.distances, answers.verdicts, answers.order, strict=True
        ):
            labels = gallery.pids[index], gallery.camids[index], gallery.paths[index]
            writer.writerow([rank or "", f"{distance:.6g}", verdict, *labels])
