"""A retrieval with random pictures and clustered embeddings, for tests and measurements."""

import io

import numpy as np
from PIL import Image

from tripletlib.embedding import EmbeddingTable
from tripletlib.experiments.retrieval import Retrieval


def make_retrieval(people=6, queries=12, gallery=60, dim=8, size=(128, 64), spread=0.8, seed=0):
    """Everybody in three cameras; the gallery begins with two distractors.

    `embed` of the result takes the mean colours of a picture's upper and lower half, and
    `embed_randomised` one number of the whole picture.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people + 1, dim))

    def table(count, part, first_pid):
        pids = np.arange(count) % people + 1
        pids[:first_pid] = 0
        embeddings = centres[pids] + spread * rng.normal(size=(count, dim))
        camids = np.arange(count) // people % 3 + 1
        paths = np.array([f"{part}/{i:05d}.jpg" for i in range(count)])
        return EmbeddingTable(embeddings.astype(np.float32), pids, camids, paths, 1, "none")

    def embed(images):
        halves = images.astype(np.float32).reshape(len(images), 6, -1).mean(2) / 255
        return np.tile(halves, dim // 6 + 1)[:, :dim]

    def embed_randomised(images):
        return images.mean((1, 2, 3))[:, None]

    query, found = table(queries, "query", 0), table(gallery, "gallery", 2)
    pictures = [
        rng.integers(0, 256, (count, 3, *size), dtype=np.uint8) for count in (queries, gallery)
    ]
    networks = embed, embed_randomised
    return Retrieval("toy <people>", query, found, *pictures, size, *networks, *pictures)


def calling(names):
    """What to call a number: its name, or else the number itself."""
    return lambda number: names.get(int(number), str(number))


def png(colour="red", size=(40, 90)):
    """A picture of one colour, as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()
