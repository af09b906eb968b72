"""Checks of sheet 01: partners, P x K batches, the vote, unseen digits, reading a log."""

from typing import Any

import numpy as np

from tripletlib.checks.answers import (
    Answer,
    agree,
    exercise,
    need,
    number,
    numbers,
    parts,
    type_name,
    wrong,
)


@exercise("01.1", "Notebook 02 counts with it how many triplets a batch holds.")
def check_partners(answer: Answer) -> None:
    """Positives, negatives and triplets of a P x K batch."""
    for p, k in ((10, 12), (3, 3), (32, 4), (5, 1), (1, 7)):
        batch = f"in a batch of {p} x {k}"
        result = parts(answer(p, k), ("positives", "negatives", "triplets"))
        positives, negatives, triplets = (
            number(value, what)
            for value, what in zip(result, ("positives", "negatives", "triplets"), strict=True)
        )
        agree(
            positives,
            k - 1,
            {f"{batch} an image has not {k} positives: it is no positive of its own": k},
            f"{batch} an image has not {positives:g} positives",
        )
        agree(
            negatives,
            (p - 1) * k,
            {
                f"{batch} the anchor's own identity is among your negatives": p * k - 1,
                f"{batch} a negative is an image: you count identities": p - 1,
            },
            f"{batch} an image has not {negatives:g} negatives",
        )
        every = p * k * (k - 1) * (p - 1) * k
        agree(
            triplets,
            every,
            {
                f"{batch} every image is an anchor once: you count the triplets of one": (
                    (k - 1) * (p - 1) * k
                ),
                f"{batch} anchor and positive may change places: that is another triplet": every
                / 2,
            },
            f"{batch} there are not {triplets:g} triplets",
        )


@exercise("01.2", "Every training in these notebooks draws its batches like this.")
def check_draw_batch(answer: Answer) -> None:
    """A batch of P identities x K images, as indices."""
    random = np.random.default_rng(0)
    digits = random.permutation(np.repeat(np.arange(10), 12 + 3 * np.arange(10)))
    cases = ((digits, 10, 12), (np.array([7, 8, 7, 9, 7, 8, 7, 8, 7]), 3, 4), (digits + 40, 4, 3))
    for labels, p, k in cases:
        batches = []
        for seed in range(20):
            twins = [answer(labels, p, k, np.random.default_rng(seed)) for _ in range(2)]
            batch, again = (_indices(twin, len(labels), p, k) for twin in twins)
            need(
                sorted(batch) == sorted(again),
                "two generators with the same seed give different batches: draw from rng only",
            )
            _check_batch(batch, labels, p, k)
            batches.append(batch)
        _check_variety(np.unique(np.concatenate(batches)), labels, p, k)


def _indices(batch: Any, size: int, p: int, k: int) -> np.ndarray:
    need(isinstance(batch, list | np.ndarray), f"return a list of indices, not {type_name(batch)}")
    batch = np.asarray(batch)
    need(len(batch) == p * k, f"the batch has {len(batch)} images, not {p} x {k} = {p * k}")
    numbers(batch, [p * k], "the batch", "iu")
    need(batch.min() >= 0 and batch.max() < size, "an index lies outside the set")
    return batch


def _check_batch(batch: np.ndarray, labels: np.ndarray, p: int, k: int) -> None:
    found, counts = np.unique(labels[batch], return_counts=True)
    need(
        len(found) == p,
        f"{len(found)} identities in a batch that needs {p}: was one drawn twice, or are these "
        "not indices of the whole set?",
    )
    for digit, count in zip(found, counts, strict=True):
        need(count == k, f"digit {digit} has {count} images in the batch, not {k}")
        members = int((labels == digit).sum())
        distinct = len(np.unique(batch[labels[batch] == digit]))
        need(
            distinct == min(k, members),
            f"digit {digit} has {distinct} distinct images of {k}"
            + (f", though there are {members}" if members < k else ""),
        )


def _check_variety(seen: np.ndarray, labels: np.ndarray, p: int, k: int) -> None:
    for digit in np.unique(labels):
        own = int((labels[seen] == digit).sum())
        need(own, f"in 20 batches of {p} identities digit {digit} never came")
        members = int((labels == digit).sum())
        need(
            own > min(k, members - 1),
            f"20 batches hold {own} different images of digit {digit}, which has {members}: "
            "are always the same taken?",
        )


@exercise("01.3", "Notebooks 01 and 02 judge their maps by this vote, on held-out digits.")
def check_vote(answer: Answer) -> None:
    """Names each image by the vote of the k nearest others."""
    random = np.random.default_rng(1)
    names = np.array([3, 9, 40])[random.integers(3, size=40)]
    points = random.normal(size=(40, 2)) + 0.02 * names[:, None]
    twins = np.concatenate([points[:12], points[:12]]), np.concatenate([names[:12], names[12:24]])
    for embeddings, labels, k in ((points, names, 1), (points, names, 5), (*twins, 1)):
        voted = numbers(answer(embeddings, labels, k), [len(labels)], "the names", "iuf")
        strange = set(voted.tolist()) - set(labels.tolist())
        need(not strange, f"{min(strange, default=0):g} is nobody's name: labels are no quantities")
        if k == 1 and len(labels) == 40:
            need(
                not (voted == labels).all(),
                "100 % on the training set: is each image its own neighbour?",
            )
        _check_names(voted, embeddings, labels, k)


def _check_names(voted: np.ndarray, points: np.ndarray, labels: np.ndarray, k: int) -> None:
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(distances, np.inf)
    for image, row in enumerate(distances):
        nearest = row.argsort(kind="stable")[:k]
        found, votes = np.unique(labels[nearest], return_counts=True)
        if voted[image] in found[votes == votes.max()]:  # whoever wins a tie
            continue
        need(
            row.min() > 0,
            f"image {image} has a twin at distance 0: the first of a sorted row need not be the "
            "image itself, and an equal image is a neighbour like any other",
        )
        wrong(
            f"image {image}: its {k} nearest others are named {labels[nearest].tolist()}, "
            f"your vote says {voted[image]:g}"
        )


@exercise("01.4", "New people enter a system in this way, without any training: see notebook 05.")
def check_unseen(answer: Answer) -> None:
    """Names digits, also such as the network was never trained on."""
    random = np.random.default_rng(2)

    def draw(digits: Any, each: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.asarray(digits), each)
        images = random.integers(0, 256, (len(labels), 1, 4, 4), dtype=np.uint8)
        images[:, 0, 0, 0] = 20 * labels  # all that the embedding below looks at
        return images, labels

    def embed(images: np.ndarray) -> np.ndarray:
        code = images[:, 0, 0, :1].astype(np.float32)
        return np.concatenate([code, np.cos(code)], axis=1)

    known, new, (images, truth) = draw(range(8), 20), draw([8, 9], 20), draw(range(10), 5)
    voted = answer(embed, known, new, images, 3)
    named = numbers(voted, [len(truth)], "the names", "iuf")
    if not np.isin(named, [8, 9]).any():
        wrong("8 and 9 can never be named: embed references of them")
    if np.isin(named, [8, 9]).all():
        wrong("0 to 7 can no longer be named: keep references of them, too")
    share = (named == truth).mean()
    need(
        share == 1,
        f"{share:.0%} are named rightly where the embedding tells all digits apart: are "
        "references and images compared by their embeddings?",
    )


@exercise("01.5", "In notebooks 02 and 03 you will meet all three, on digits and on people.")
def check_read_log(answer: Answer) -> None:
    """Healthy, packed or dead, from the last entries of a log."""
    steady, random = np.ones(30), np.random.default_rng(3)
    falling = np.geomspace(0.4, 1, 30)[::-1]

    def log(loss: Any, active: Any, distance: Any) -> dict[str, np.ndarray]:
        columns = zip(("loss", "active_fraction", "distance_p50"), (loss, active, distance),
                      strict=True)  # fmt: skip
        return {name: np.asarray(column * steady) for name, column in columns}

    late = np.where(np.arange(30) < 18, 1.0, 0.0)
    spike = np.where(np.arange(30) == 29, 0.2, 0.004)
    cases = (
        (log(0.5, 1.0, 0.004), 0.5, "packed"),
        (log(0.5, 1.0, 0.0), 0.5, "dead"),
        (log(falling, 0.7, 0.9), 0.5, "healthy"),
        (log(0.5, 0.9, 0.8), 0.5, "healthy"),
        (log(1.5, 1.0, 0.03), 1.0, "packed"),
        (log(0.5, 1.0, 2e-5 * random.random(30)), 0.5, "dead"),
        (log(0.5, 1.0, late * 0.3), 0.5, "dead"),
        (log(0.5, 1.0, spike), 0.5, "packed"),
        (log(0.2, 1.0, 0.15), 0.2, "healthy"),
    )
    for given, margin, wanted in cases:
        said = answer(given, margin)
        need(
            said in ("healthy", "packed", "dead"),
            f"return 'healthy', 'packed' or 'dead', not {said!r}",
        )
        if said != wanted:
            _explain_log(given, margin, said, wanted)


def _explain_log(log: dict[str, np.ndarray], margin: float, said: str, wanted: str) -> None:
    distances, loss = log["distance_p50"], log["loss"][-10:].mean()
    end = distances[-10:].mean()
    need(
        distances[0] < 100 * end or distances[0] == end,
        f"a {wanted} training is called {said}: look at the end of the log, not at all of it",
    )
    need(
        distances[-1] <= 10 * distances[-2],
        f"one step's distance decided for {said}: take the mean of the last ten",
    )
    at_margin = abs(loss - margin) < 0.02 * margin
    need(
        not at_margin or wanted == "healthy",
        "these two losses are equal; compare the distances",
    )
    need(
        not at_margin,
        f"a training whose images lie {end:.2g} apart is called {said}: a loss near the margin "
        "alone says nothing",
    )
    wrong(
        f"margin {margin:g}, loss {loss:.3g}, median distance {end:.2g} at the end: {said} is not "
        "what the table says"
    )
