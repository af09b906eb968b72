"""Checks of sheet 05: extremes, a taxonomy, a mutual walk, night vision, a threshold."""

from itertools import pairwise
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

JUNK = -1  # the pid of a bad box
ERRORS_ASKED = 20
_People = tuple[np.ndarray, np.ndarray]  # embeddings [N, D], and whose they are [N]


@exercise("05.1", "The browser's panel *Why?* shows these two pictures for every query.")
def check_extremes(answer: Answer) -> None:
    """Ranks of the nearest wrong and the farthest right answer."""
    pids = np.array([7, 7, 3, -1, 7, 0, 7, 3])
    camids = np.array([1, 2, 1, 3, 3, 2, 1, 2])
    random = np.random.default_rng(0)
    many = random.integers(-1, 6, 60), random.integers(1, 4, 60)
    cases = [(np.arange(8) / 10, 7, 1, pids, camids)]
    cases += [(random.random(60), pid, camid, *many) for pid, camid in ((1, 1), (4, 2), (5, 3))]
    cases.append((np.array([0.1, 0.2]), 7, 1, np.array([7, 7]), np.array([2, 3])))
    for distances, pid, camid, of_gallery, cameras in cases:
        got = parts(answer(distances, pid, camid, of_gallery, cameras), ("nearest_wrong",
                    "farthest_right"))  # fmt: skip
        order = np.argsort(distances, kind="stable")
        own_camera = (of_gallery == pid) & (cameras == camid)
        junk = (own_camera | (of_gallery == JUNK))[order]
        _compare_extremes(got, (of_gallery == pid)[order] & ~junk, junk)


def _compare_extremes(got: tuple[Any, ...], right: np.ndarray, junk: np.ndarray) -> None:
    places, ranks = np.arange(1, len(right) + 1), np.cumsum(~junk)  # with junk, and without
    wrong_ones = ~right & ~junk
    if not wrong_ones.any():
        need(got[0] is None, "where nothing wrong is left in the list, the nearest wrong is None")
    for value, which, end, kind in (
        (got[0], wrong_ones, 0, "nearest wrong"),
        (got[1], right, -1, "farthest right"),
    ):
        if not which.any():
            continue
        rank, true = number(value, f"the {kind}'s rank"), int(ranks[which][end])
        if rank == true:
            continue
        skipped = places[junk].tolist()
        if skipped and rank == places[which][end]:
            wrong(f"rank {skipped[0]} is skipped by the protocol: junk is counted")
        need(rank != true - 1, "ranks begin at 1")
        wrong(f"the {kind} answer has rank {true}, you say {rank:g}")


@exercise("05.2", "A list of causes says what to collect, draw or augment next; a score does not.")
def check_taxonomy(answer: Answer) -> None:
    """Counts what was looked at; whether the causes are apt is for the teacher."""
    causes = answer()
    need(isinstance(causes, dict), f"return a dictionary, not {type_name(causes)}")
    need(
        all(isinstance(query, int | np.integer) for query in causes),
        "the keys must be numbers of queries",
    )
    need(
        all(isinstance(cause, str) and cause.strip() for cause in causes.values()),
        "every query needs a cause, in words",
    )
    count = len(causes)
    need(count >= ERRORS_ASKED, f"{count} errors of {ERRORS_ASKED}")
    names, sizes = np.unique([cause.strip().lower() for cause in causes.values()],
                             return_counts=True)  # fmt: skip
    need(len(names) > 1, f"one cause for {count} errors: look closer")
    need(len(names) > 2, f"two causes for {count} errors: look closer")
    single = int((sizes == 1).sum())
    need(
        len(names) <= 8 and single <= len(names) / 2,
        f"{len(names)} causes for {count} errors, {single} of them used once: group them",
    )


@exercise("05.3", "Re-ranking trusts exactly the steps that such a walk takes.")
def check_walk(answer: Answer) -> None:
    """A walk from picture to picture that each has the other among its k nearest."""
    for seed in range(4):
        points = np.random.default_rng(seed).normal(size=(25, 2))
        points[:10] *= 0.3
        distances = np.linalg.norm(points[:, None] - points, axis=2)
        order = distances.argsort(axis=1, kind="stable")
        for start in (0, 12, 24):
            for steps, k in ((0, 3), (4, 3), (8, 2), (30, 5)):
                path = answer(order, start, steps, k)
                need(isinstance(path, list), f"return a list, not {type_name(path)}")
                where = f"start {start}, {steps} steps, k = {k}"
                _check_path([int(i) for i in path], order, start, steps, k, where)


def _check_path(
    path: list[int], order: np.ndarray, start: int, steps: int, k: int, where: str
) -> None:
    need(path[:1] == [start], f"the walk begins at the start, {start}, not at {path[:1]} ({where})")
    need(len(path) <= steps + 1, f"{len(path) - 1} steps, {steps} are allowed ({where})")
    for place, (here, there) in enumerate(pairwise(path)):
        need(there not in path[: place + 1], f"image {there} is visited twice ({where})")
        near = order[here, 1 : k + 1]
        need(there in near, f"image {there} is not among the {k} nearest of {here} ({where})")
        need(
            here in order[there, 1 : k + 1],
            f"image {there} does not have {here} among its {k} nearest: one way is not enough",
        )
        free = [j for j in near if here in order[j, 1 : k + 1] and j not in path[: place + 1]]
        need(there == free[0], f"from {here}, image {free[0]} is nearer than {there} ({where})")
    last = path[-1]
    onward = [j for j in order[last, 1 : k + 1] if last in order[j, 1 : k + 1] and j not in path]
    need(len(path) == steps + 1 or not onward, f"the walk could go on from image {last} ({where})")


@exercise("05.4", "The same one line can stand in front of any network, in training or in use.")
def check_night_vision(answer: Answer) -> None:
    """Repairs a dark picture without knowing how dark it was made, or what it showed."""
    random = np.random.default_rng(0)
    pictures = [_scene(random) for _ in range(3)]
    for light in (0.2, 0.45, 0.8, 1.0):
        repaired = []
        for picture in pictures:
            dark = (picture * light).astype(np.uint8)
            result = answer(dark, about=f"a picture at {light:.0%} of its light")
            result = numbers(result, dark.shape, "the picture", "iu")
            need(result.dtype == np.uint8, f"the picture must be uint8, not {result.dtype}")
            _check_same_scene(dark, result)
            mean = result.mean()
            need(
                80 <= mean <= 170,
                f"a picture at {light:.0%} of its light comes out with a mean of {mean:.0f} "
                "of 255: is its own darkness measured?",
            )
            repaired.append(result)
    black = answer(np.zeros((3, 8, 4), np.uint8), about="a black picture")
    numbers(black, [3, 8, 4], "a black picture", "iu")


def _scene(random: np.random.Generator) -> np.ndarray:
    """Blocks of colour that together are as bright as an ordinary picture."""
    blocks = random.uniform(20, 240, (3, 8, 4))
    blocks *= 120 / blocks.mean()
    return np.kron(blocks.clip(0, 255), np.ones((1, 8, 8))).astype(np.uint8)


def _check_same_scene(dark: np.ndarray, result: np.ndarray) -> None:
    alike = np.corrcoef(dark.ravel(), result.ravel())[0, 1]
    for before, after in zip(dark.reshape(3, -1), result.reshape(3, -1), strict=True):
        by_brightness = after[np.argsort(before, kind="stable")].astype(int)
        falls = int((np.diff(by_brightness) < -1).sum())
        if falls and alike > 0.2:
            wrong("brighter pixels come out darker: uint8 begins again at 0 behind 255")
    if not alike > 0.8:
        wrong("another picture comes out than went in: it depends on data you do not have")


@exercise("05.5", "A door that opens for a face needs such a number, and an honest one.")
def check_threshold(answer: Answer) -> None:
    """A threshold for a rate of false matches, chosen on validation people."""
    rate = 0.01
    validation, test, other = (_people(seed, noise) for seed, noise in ((0, 1), (1, 1.3), (2, 0.5)))
    got = parts(answer(validation, test, rate), ("threshold", "false matches", "found"))
    threshold, false, found = (
        number(value, what)
        for value, what in zip(got, ("threshold", "false matches", "found"), strict=True)
    )
    moved = number(parts(answer(validation, other, rate), ("t", "f", "r"))[0], "the threshold")
    need(
        np.isclose(moved, threshold),
        "the threshold moves when the test people change: it was tuned on them",
    )
    _check_rate(threshold, validation, rate)
    _check_shares(threshold, false, found, test)


def _check_rate(threshold: float, validation: _People, rate: float) -> None:
    same, different = _pairs(validation)
    accepted = np.mean(different <= threshold)
    of_all = np.mean(np.concatenate([same, different]) <= threshold)
    need(
        abs(of_all - rate) > 1e-3,
        "the share is taken of all pairs: a false match can only happen to different people",
    )
    need(
        np.mean(same <= threshold) > 2 * rate,
        "the share is taken of pairs of one person: those are no false matches",
    )
    need(
        accepted <= rate + 2e-4,
        f"{accepted:.1%} of the validation pairs of different people are accepted, {rate:.0%} may",
    )
    need(
        accepted >= 0.8 * rate,
        f"only {accepted:.2%} of the validation pairs of different people are accepted: a larger "
        "threshold finds more",
    )


def _check_shares(threshold: float, false: float, found: float, test: _People) -> None:
    same, different = _pairs(test)
    matched, there = (float(np.mean(part <= threshold)) for part in (different, same))
    agree(false, matched, {}, f"{matched:.2%} of the test's false pairs match, not {false:.2%}")
    pictures, pairs = len(test[1]), 2 * len(same)
    misreadings = {
        "that is the share of true pairs that are missed, not of those found": 1 - there,
        "a picture is no pair with itself: the diagonal is counted": (
            (there * pairs + pictures) / (pairs + pictures)
        ),
    }
    agree(found, there, misreadings, f"{there:.2%} of the true pairs are found, not {found:.2%}")


def _people(seed: int, noise: float) -> _People:
    """Embeddings [120, 6] of 30 people, and whose they are."""
    random = np.random.default_rng(seed)
    pids = np.repeat(np.arange(30), 4)
    centres = 2 * random.normal(size=(30, 6))
    return centres[pids] + noise * 0.6 * random.normal(size=(120, 6)), pids


def _pairs(people: _People) -> tuple[np.ndarray, np.ndarray]:
    """Distances of all pairs of one person's pictures, and of different people's."""
    embeddings, pids = people
    first, second = np.triu_indices(len(pids), 1)
    distances = np.linalg.norm(embeddings[first] - embeddings[second], axis=1)
    same = pids[first] == pids[second]
    return distances[same], distances[~same]
