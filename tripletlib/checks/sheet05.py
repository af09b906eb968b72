"""Checks of sheet 05: extremes, a taxonomy, a mutual walk, night vision, a threshold."""

from itertools import pairwise
from typing import Any

import numpy as np

from tripletlib.checks.answers import Answer, exercise
from tripletlib.checks.values import agree, need, neighbours, number, numbers, of_type, parts

JUNK = -1  # the pid of a bad box
ERRORS_ASKED = 20
_People = tuple[np.ndarray, np.ndarray]  # embeddings [N, D], and whose they are [N]


@exercise("05.1", "The browser's panel *Why?* shows these two pictures for every query.")
def check_extremes(answer: Answer) -> None:
    random = np.random.default_rng(0)
    few = np.array([7, 7, 3, JUNK, 7, 0, 7, 3]), np.array([1, 2, 1, 3, 3, 2, 1, 2])
    many = random.integers(-1, 6, 60), random.integers(1, 4, 60)
    cases = [(np.arange(8) / 10, 7, 1, *few)]
    cases += [(random.random(60), pid, camid, *many) for pid, camid in ((1, 1), (4, 2), (5, 3))]
    cases.append((np.array([0.1, 0.2]), 7, 1, np.array([7, 7]), np.array([2, 3])))
    for distances, pid, camid, pids, camids in cases:
        got = parts(answer(distances, pid, camid, pids, camids), "nearest_wrong", "farthest_right")
        order = np.argsort(distances, kind="stable")
        junk = (((pids == pid) & (camids == camid)) | (pids == JUNK))[order]
        right = (pids == pid)[order] & ~junk
        if (right | junk).all():
            none = "where nothing wrong is left in the list, the nearest wrong is None"
            need(got[0] is None, none)
        else:
            _compare_ranks(got[0], np.flatnonzero(~right & ~junk)[0], junk, "nearest wrong")
        _compare_ranks(got[1], np.flatnonzero(right)[-1], junk, "farthest right")


def _compare_ranks(value: Any, place: int, junk: np.ndarray, kind: str) -> None:
    rank, true = number(value, f"the {kind}'s rank"), int((~junk[: place + 1]).sum())
    skipped = f"rank {junk.argmax() + 1} is skipped by the protocol: junk is counted"
    need(rank == true or rank != place + 1, skipped)
    need(rank != true - 1, "ranks begin at 1")
    need(rank == true, f"the {kind} answer has rank {true}, you say {rank:g}")


@exercise("05.2", "A list of causes says what to collect, draw or augment next; a score does not.")
def check_taxonomy(answer: Answer) -> None:
    causes = of_type(answer(), dict)
    whole = all(isinstance(query, int | np.integer) for query in causes)
    need(whole, "the keys must be numbers of queries")
    in_words = all(isinstance(cause, str) and cause.strip() for cause in causes.values())
    need(in_words, "every query needs a cause, in words")
    count, words = len(causes), [cause.strip().lower() for cause in causes.values()]
    need(count >= ERRORS_ASKED, f"{count} errors of {ERRORS_ASKED}")
    names, sizes = np.unique(words, return_counts=True)
    need(len(names) > 1, f"one cause for {count} errors: look closer")
    need(len(names) > 2, f"two causes for {count} errors: look closer")
    single = int((sizes == 1).sum())
    many = f"{len(names)} causes for {count} errors, {single} of them used once"
    need(len(names) <= 8 and single <= len(names) / 2, f"{many}: group them")


@exercise("05.3", "Re-ranking trusts exactly the steps that such a walk takes.")
def check_walk(answer: Answer) -> None:
    for seed in range(4):
        order = neighbours(seed, 25, crowd=10)
        for start in (0, 12, 24):
            for steps, k in ((0, 3), (4, 3), (8, 2), (30, 5)):
                path = [int(i) for i in of_type(answer(order, start, steps, k), list)]
                need(path[:1] == [start], f"the walk begins at {path[:1]}, not at the start")
                need(len(path) <= steps + 1, f"{len(path) - 1} steps, {steps} are allowed")
                _check_path(path, order[:, 1 : k + 1], f"start {start}, {steps} steps, k = {k}")
                onward = _mutual(path, order[:, 1 : k + 1])
                ended = len(path) == steps + 1 or not onward
                need(ended, f"the walk could go on from image {path[-1]} (k = {k})")


def _mutual(path: list[int], near: np.ndarray) -> list[int]:
    """Where the walk may go on: not visited yet, and near both ways."""
    return [j for j in near[path[-1]].tolist() if path[-1] in near[j] and j not in path]


def _check_path(path: list[int], near: np.ndarray, where: str) -> None:
    for place, (here, there) in enumerate(pairwise(path), start=1):
        need(there not in path[:place], f"image {there} is visited twice ({where})")
        need(there in near[here], f"image {there} is not among the nearest of {here} ({where})")
        one_way = f"image {there} does not have {here} among its nearest ({where})"
        need(here in near[there], f"{one_way}: one way is not enough")
        first = _mutual(path[:place], near)[0]
        need(there == first, f"from {here}, image {first} is nearer than {there} ({where})")


@exercise("05.4", "The same one line can stand in front of any network, in training or in use.")
def check_night_vision(answer: Answer) -> None:
    random = np.random.default_rng(0)
    pictures = [_scene(random) for _ in range(3)]
    for light in (0.2, 0.45, 0.8, 1.0):
        about = f"a picture at {light:.0%} of its light"
        for picture in pictures:
            dark = (picture * light).astype(np.uint8)
            result = numbers(answer(dark, about=about), dark.shape, "the picture", "iu")
            need(result.dtype == np.uint8, f"the picture must be uint8, not {result.dtype}")
            _check_same_scene(dark, result)
            mean = f"{about} comes out with a mean of {result.mean():.0f} of 255"
            need(80 <= result.mean() <= 170, f"{mean}: is its own darkness measured?")
    with np.errstate(divide="raise", invalid="raise"):
        black = answer(np.zeros((3, 8, 4), np.uint8), about="a black picture")
    numbers(black, [3, 8, 4], "a black picture", "iu")


def _scene(random: np.random.Generator) -> np.ndarray:
    """Blocks of colour in rather little light, and a lamp, which a gain alone takes above 255."""
    blocks = random.uniform(20, 240, (3, 8, 4))
    blocks *= 90 / blocks.mean()
    blocks[:, 0, 0] = 255
    return np.kron(blocks.clip(0, 255), np.ones((1, 8, 8))).astype(np.uint8)


def _check_same_scene(dark: np.ndarray, result: np.ndarray) -> None:
    alike = np.corrcoef(dark.ravel(), result.ravel())[0, 1]
    for before, after in zip(dark.reshape(3, -1), result.reshape(3, -1), strict=True):
        by_brightness = after[np.argsort(before, kind="stable")].astype(int)
        falls = (np.diff(by_brightness) < -1).any() and alike > 0.2
        need(not falls, "brighter pixels come out darker: uint8 begins again at 0 behind 255")
    another = "another picture comes out than went in"
    need(alike > 0.8, f"{another}: it depends on data you do not have")


@exercise("05.5", "A door that opens for a face needs such a number, and an honest one.")
def check_threshold(answer: Answer) -> None:
    rate, names = 0.01, ("threshold", "false matches", "found")
    validation, test, other = (_people(seed, noise) for seed, noise in ((0, 1), (1, 1.3), (2, 0.5)))
    threshold, false, found = parts(answer(validation, test, rate), *names)
    threshold = number(threshold, "the threshold")
    moved = number(parts(answer(validation, other, rate), *names)[0], "the threshold")
    same_again = np.isclose(moved, threshold)
    need(same_again, "the threshold moves when the test people change: it was tuned on them")
    _check_rate(threshold, validation, rate)

    same, different = (pairs <= threshold for pairs in _pairs(test))
    agree(false, different.mean(), "the share of the test's false pairs that match")
    pictures, pairs = len(test[1]), 2 * len(same)
    missed = "that is the share of true pairs that are missed, not of those found"
    diagonal = "a picture is no pair with itself: the diagonal is counted"
    with_diagonal = (same.mean() * pairs + pictures) / (pairs + pictures)
    misreadings = {missed: 1 - same.mean(), diagonal: with_diagonal}
    agree(found, same.mean(), "the share of the test's true pairs that are found", misreadings)


def _check_rate(threshold: float, validation: _People, rate: float) -> None:
    same, different = (pairs <= threshold for pairs in _pairs(validation))
    share, of_all = different.mean(), np.concatenate([same, different]).mean()
    all_pairs = "the share is taken of all pairs: a false match can only happen to different people"
    true_pairs = "the share is taken of pairs of one person: those are no false matches"
    accepted = f"{share:.2%} of the validation pairs of different people are accepted"
    need(abs(of_all - rate) > 1e-3, all_pairs)
    need(same.mean() > 2 * rate, true_pairs)
    need(share <= rate + 2e-4, f"{accepted}, {rate:.0%} may")
    need(share >= 0.8 * rate, f"only {accepted}: a larger threshold finds more")


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
