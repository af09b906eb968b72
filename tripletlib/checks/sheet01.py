"""Checks of sheet 01: partners, P x K batches, the vote, unseen digits, reading a log."""

from typing import Any

import numpy as np

from tripletlib.checks.answers import Answer, exercise
from tripletlib.checks.values import agree, need, numbers, of_type, parts, wrong


@exercise("01.1", "Notebook 02 counts with it how many triplets a batch holds.")
def check_partners(answer: Answer) -> None:
    for p, k in ((10, 12), (3, 3), (32, 4), (5, 1), (1, 7)):
        one = (k - 1) * (p - 1) * k  # triplets of one anchor
        wanted = {"positives": k - 1, "negatives": (p - 1) * k, "triplets": p * k * one}
        misreadings: dict[str, dict[str, float]] = {
            "positives": {f"an image has not {k} positives: it is no positive of its own": k},
            "negatives": {
                "the anchor's own identity is among your negatives": p * k - 1,
                "a negative is an image: you count identities": p - 1,
            },
            "triplets": {
                "every image is an anchor once: you count the triplets of one": one,
                "anchor and positive may change places: that is another triplet": p * k * one / 2,
            },
        }
        for what, value in zip(wanted, parts(answer(p, k), *wanted), strict=True):
            agree(value, wanted[what], f"the number of {what} for {p} x {k}", misreadings[what])


@exercise("01.2", "Every training in these notebooks draws its batches like this.")
def check_draw_batch(answer: Answer) -> None:
    random = np.random.default_rng(0)
    digits = random.permutation(np.repeat(np.arange(10), 12 + 3 * np.arange(10)))
    cases = ((digits, 10, 12), (np.array([7, 8, 7, 9, 7, 8, 7, 8, 7]), 3, 4), (digits + 40, 4, 3))
    for labels, p, k in cases:
        batches = []
        for seed in range(20):
            twins = [answer(labels, p, k, np.random.default_rng(seed)) for _ in range(2)]
            batch, again = (_indices(twin, len(labels), p, k) for twin in twins)
            same = sorted(batch) == sorted(again)
            need(same, "two generators of one seed give different batches: draw from rng only")
            _check_batch(batch, labels, p, k)
            batches.append(batch)
        _check_variety(np.unique(batches), labels, p, k)


def _indices(batch: Any, size: int, p: int, k: int) -> np.ndarray:
    if not isinstance(batch, np.ndarray):
        batch = np.asarray(of_type(batch, list, "the batch"))
    numbers(batch, [p * k], "the batch", "iu")
    need(batch.min() >= 0 and batch.max() < size, "an index lies outside the set")
    return batch


def _check_batch(batch: np.ndarray, labels: np.ndarray, p: int, k: int) -> None:
    found, counts = np.unique(labels[batch], return_counts=True)
    doubt = "was one drawn twice, or are these not indices of the whole set?"
    need(len(found) == p, f"{len(found)} identities in a batch that needs {p}: {doubt}")
    for digit, count in zip(found, counts, strict=True):
        need(count == k, f"digit {digit} has {count} images in the batch, not {k}")
        members = int((labels == digit).sum())
        distinct = len(np.unique(batch[labels[batch] == digit]))
        few = f", though there are {members}" if members < k else ""
        images = f"digit {digit} has {distinct} distinct images of {k}{few}"
        need(distinct == min(k, members), images)


def _check_variety(seen: np.ndarray, labels: np.ndarray, p: int, k: int) -> None:
    for digit in np.unique(labels):
        own, members = int((labels[seen] == digit).sum()), int((labels == digit).sum())
        need(own, f"in 20 batches of {p} identities digit {digit} never came")
        few = f"20 batches hold {own} of the {members} images of digit {digit}"
        need(own > min(k, members - 1), f"{few}: are always the same taken?")


@exercise("01.3", "Notebooks 01 and 02 judge their maps by this vote, on held-out digits.")
def check_vote(answer: Answer) -> None:
    random = np.random.default_rng(1)
    names = np.array([3, 9, 40])[random.integers(3, size=40)]
    points = random.normal(size=(40, 2)) + 0.02 * names[:, None]
    twins = np.concatenate([points[:12], points[:12]]), np.concatenate([names[:12], names[12:24]])
    for embeddings, labels, k in ((points, names, 1), (points, names, 5), (*twins, 1)):
        voted = numbers(answer(embeddings, labels, k), [len(labels)], "the names", "iuf")
        strange = set(voted.tolist()) - set(labels.tolist())
        need(not strange, f"{min(strange, default=0):g} is nobody's name: labels are no quantities")
        perfect = k == 1 and len(labels) == 40 and (voted == labels).all()
        need(not perfect, "100 % on the training set: is each image its own neighbour?")
        _check_names(voted, embeddings, labels, k)


def _check_names(voted: np.ndarray, points: np.ndarray, labels: np.ndarray, k: int) -> None:
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(distances, np.inf)
    for image, row in enumerate(distances):
        nearest = labels[row.argsort(kind="stable")[:k]]
        found, votes = np.unique(nearest, return_counts=True)
        if voted[image] in found[votes == votes.max()]:  # whoever wins a tie
            continue
        twin = f"image {image} has a twin at distance 0, which is a neighbour like any other"
        need(row.min() > 0, f"{twin}: the first of a sorted row need not be the image itself")
        others = f"image {image}: its {k} nearest others are named {nearest.tolist()}"
        wrong(f"{others}, your vote says {voted[image]:g}")


@exercise("01.4", "New people enter a system in this way, without any training: see notebook 05.")
def check_unseen(answer: Answer) -> None:
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
    is_new = np.isin(named, [8, 9])
    need(is_new.any(), "8 and 9 can never be named: embed references of them")
    need(not is_new.all(), "0 to 7 can no longer be named: keep references of them, too")
    right = f"{(named == truth).mean():.0%} are named rightly by an embedding that tells all apart"
    doubt = "are references and images compared by their embeddings?"
    need((named == truth).all(), f"{right}: {doubt}")


@exercise("01.5", "Notebooks 02 and 03 show all three states, on digits and on people.")
def check_read_log(answer: Answer) -> None:
    row = np.arange(30)
    faint = 2e-5 * np.random.default_rng(3).random(30)
    # loss, active fraction, median distance; margin; state
    cases = (
        (0.5, 1.0, 0.004, 0.5, "packed"),
        (0.5, 1.0, 0.0, 0.5, "dead"),
        (np.geomspace(1, 0.4, 30), 0.7, 0.9, 0.5, "healthy"),
        (0.5, 0.9, 0.8, 0.5, "healthy"),
        (1.5, 1.0, 0.03, 1.0, "packed"),
        (0.5, 1.0, faint, 0.5, "dead"),
        (0.5, 1.0, np.where(row < 18, 0.3, 0), 0.5, "dead"),
        (0.5, 1.0, np.where(row == 29, 0.2, 0.004), 0.5, "packed"),
        (0.2, 1.0, 0.15, 0.2, "healthy"),
    )
    for loss, active, distance, margin, wanted in cases:
        columns = {"loss": loss, "active_fraction": active, "distance_p50": distance}
        log = {name: np.broadcast_to(column, 30) for name, column in columns.items()}
        said = answer(log, margin)
        is_word = said in ("healthy", "packed", "dead")
        need(is_word, f"return 'healthy', 'packed' or 'dead', not {said!r}")
        if said != wanted:
            _explain_log(log, margin, said, wanted)


def _explain_log(log: dict[str, np.ndarray], margin: float, said: str, wanted: str) -> None:
    distances, loss = log["distance_p50"], log["loss"][-10:].mean()
    end = distances[-10:].mean()
    called = f"a {wanted} training is called {said}"
    late = distances[0] >= 100 * end and distances[0] != end
    need(not late, f"{called}: look at the end of the log, not at all of it")
    jumps = distances[-1] > 10 * distances[-2]
    need(not jumps, f"one step's distance decided for {said}: take the mean of the last ten")
    if abs(loss - margin) < 0.02 * margin:
        need(wanted == "healthy", "these two losses are equal; compare the distances")
        wrong(f"{called}, though its images lie {end:.2g} apart: the loss alone says nothing")
    at_end = f"margin {margin:g}, loss {loss:.3g}, median distance {end:.2g} at the end"
    wrong(f"{at_end}: {said} is not what the table says")
