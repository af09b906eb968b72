"""Checks of sheet 04: AP by trapezoids, the steps of re-ranking, an honest choice of windows."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tripletlib.checks.answers import (
    Answer,
    agree,
    exercise,
    need,
    number,
    parts,
    type_name,
    wrong,
)
from tripletlib.evaluation import average_precision

_Case = tuple[np.ndarray, int, int]  # the order of all neighbours, an image, k1
_SetOf = Callable[[np.ndarray, int, int], set[int]]


@exercise("04.1", "Market-1501's papers report it: now you can compare with them, and say so.")
def check_trapezoid(answer: Answer) -> None:
    """AP by the trapezoid rule of Market-1501's own code."""
    random = np.random.default_rng(0)
    lists = [np.isin(np.arange(1, 11), ranks) for ranks in ([1, 5, 9], [1, 2, 3], [4], [2, 10])]
    lists += [random.random(40) < share for share in (0.1, 0.6)]
    for right in lists:
        ap = number(answer(right), "AP")
        ranks = np.flatnonzero(right) + 1
        hits = np.arange(1, len(ranks) + 1)
        earlier = (hits - 1) / np.maximum(ranks - 1, 1)  # 0 at rank 1
        misreadings = {
            "the precision before rank 1 is taken as 0: before the list it is 1": (
                np.mean(hits / ranks + earlier) / 2
            ),
            "this is the rectangle rule: the precision one place earlier is missing": (
                np.mean(hits / ranks)
            ),
            "that is the precision at the answer before: one *place* earlier is meant": (
                np.mean(hits / ranks + np.append(1, (hits / ranks)[:-1])) / 2
            ),
            "the mean of the two precisions is asked for, not their sum": (
                2 * average_precision(right, "trapezoid")
            ),
        }
        marks = f"right answers at ranks {ranks.tolist()}"
        wanted = average_precision(right, "trapezoid")
        agree(ap, wanted, misreadings, f"{marks} make an AP of {wanted:.3f}, not {ap:.3f}")
    need(np.isnan(number(answer(np.zeros(4, bool)), "AP")), "without a right answer return NaN")


def _orders() -> Iterator[np.ndarray]:
    """Neighbours of small sets, each image first among its own."""
    for seed, size in ((0, 14), (1, 20), (2, 30)):
        points = np.random.default_rng(seed).normal(size=(size, 2))
        points[: size // 3] *= 0.3  # a dense crowd: being near is often not mutual
        distances = np.linalg.norm(points[:, None] - points, axis=2)
        yield distances.argsort(axis=1, kind="stable")


def _nearest(order: np.ndarray, i: int, k: int) -> set[int]:
    return set(order[i, : k + 1].tolist())


def _reciprocal(order: np.ndarray, i: int, k: int) -> set[int]:
    return {j for j in _nearest(order, i, k) if i in _nearest(order, j, k)}


def _members(result: Any) -> set[int]:
    need(isinstance(result, set), f"return a set of images, not {type_name(result)}")
    need(
        all(isinstance(j, int | np.integer) for j in result),
        "a set's members must be whole numbers",
    )
    return {int(j) for j in result}


def _judge(
    answer: Answer, cases: list[_Case], right: _SetOf, misreadings: dict[str, _SetOf]
) -> None:
    """Names the misconception that explains all that the answer returned."""
    found = [(case, _members(answer(*case))) for case in cases]
    failed = [(case, members) for case, members in found if members != right(*case)]
    if not failed:
        return
    case, members = failed[0]
    where = f"image {case[1]}, k1 = {case[2]}"
    for sentence, misread in misreadings.items():
        if all(misread(*case) == members for case, members in found):
            wrong(f"{sentence} (see {where})")
    missing, extra = sorted(right(*case) - members), sorted(members - right(*case))
    wrong(f"{where}: " + (f"{missing} missing" if missing else f"{extra} too many"))


@exercise("04.2", "The expansion, next, begins with this set, and so does `k_reciprocal`.")
def check_reciprocal(answer: Answer) -> None:
    """R(i, k1): mutual neighbours."""
    cases = [
        (order, i, k1)
        for order in _orders()
        for k1 in (1, 4, 7, len(order) + 5)
        for i in range(0, len(order), 3)
    ]
    misreadings: dict[str, _SetOf] = {
        "one short: k1 counts the others, the image itself comes on top": (
            lambda order, i, k: _reciprocal(order, i, k - 1)
        ),
        "the image itself is missing from its own set": (
            lambda order, i, k: _reciprocal(order, i, k) - {i}
        ),
        "these are all neighbours: do they have the image among theirs, too?": _nearest,
    }
    _judge(answer, cases, _reciprocal, misreadings)


def _expanded(
    order: np.ndarray,
    i: int,
    k1: int,
    half: Callable[[int], int] = lambda k: round(k / 2),
    fits: Callable[[int, int], bool] = lambda common, size: 3 * common > 2 * size,
    growing: bool = False,
) -> set[int]:
    core = _reciprocal(order, i, k1)
    grown = set(core)
    for j in sorted(core):
        narrow = _reciprocal(order, j, half(k1))
        known = grown if growing else core
        if fits(len(narrow & known), len(narrow)):
            grown |= narrow
    return grown


def _growing_to_the_end(order: np.ndarray, i: int, k1: int) -> set[int]:
    grown = _reciprocal(order, i, k1)
    waiting = sorted(grown)
    seen = set(waiting)
    while waiting:
        narrow = _reciprocal(order, waiting.pop(0), round(k1 / 2))
        if 3 * len(narrow & grown) > 2 * len(narrow):
            waiting += sorted(narrow - seen)
            seen |= narrow
            grown |= narrow
    return grown


@exercise("04.3", "With it a picture finds relatives that were never among its own neighbours.")
def check_expansion(answer: Answer) -> None:
    """R*(i, k1): the reciprocal set and the narrower ones that fit into it."""
    orders = [*_orders(), *(_random_order(seed) for seed in range(4))]
    cases = [(order, i, k1) for order in orders for k1 in (3, 6, 7) for i in range(len(order))]
    misreadings: dict[str, _SetOf] = {
        "nothing was brought along": _reciprocal,
        "a set was compared with what had joined already: compare with the image's own "
        "reciprocal set": partial(_expanded, growing=True),
        "those who joined brought their friends, too: only members of the reciprocal set may": (
            _growing_to_the_end
        ),
        "exactly two thirds is not more than two thirds": partial(
            _expanded, fits=lambda common, size: 3 * common >= 2 * size
        ),
        "every member brought its set along: is the condition there?": partial(
            _expanded, fits=lambda common, size: True
        ),
        "the members' sets are as wide as the image's own: half of k1 is asked for": partial(
            _expanded, half=lambda k: k
        ),
        "half of k1 is rounded down: see the task": partial(_expanded, half=lambda k: k // 2),
    }
    _judge(answer, cases, _expanded, misreadings)


def _random_order(seed: int) -> np.ndarray:
    points = np.random.default_rng(10 + seed).normal(size=(16, 2))
    return np.linalg.norm(points[:, None] - points, axis=2).argsort(axis=1, kind="stable")


@exercise("04.4", "The re-ranked distance is this one, with a share of the first mixed in.")
def check_jaccard(answer: Answer) -> None:
    """Jaccard distance of two rows of weights."""
    random = np.random.default_rng(0)
    rows = random.random((8, 12)) * (random.random((8, 12)) < 0.6)
    rows[:, 0] += 0.1
    rows /= rows.sum(1, keepdims=True)
    pairs = [(rows[a], rows[b]) for a, b in ((0, 1), (2, 3), (4, 4), (5, 6))]
    apart = np.eye(12)
    pairs.append((apart[0], apart[1]))
    for first, second in pairs:
        distance = number(answer(first, second), "the distance")
        s = float(np.minimum(first, second).sum())
        larger = float(np.maximum(first, second).sum())
        sets = np.sum((first > 0) & (second > 0)) / np.sum((first > 0) | (second > 0))
        misreadings = {
            "this is 1 - s: what both have together is not 1 but 2 - s; see s / (2 - s)": 1 - s,
            "that is how alike they are: a distance is 0 for equal rows": s / larger,
            "the weights do not count here, only who is in: near members should count more": (
                float(1 - sets)
            ),
        }
        wanted = 1 - s / larger
        agree(distance, wanted, misreadings, f"rows that share {s:.3f} of their weights are not "
              f"{distance:.3f} apart")  # fmt: skip


@exercise(
    "04.5", "So may k1, k2 and lambda be chosen for a table: on other people than it reports."
)
def check_honest_windows(answer: Answer) -> None:
    """Chooses k1 and k2 on some people's queries, and reports them on the others'."""
    settings = [(k1, k2) for k1 in (5, 10, 20) for k2 in (1, 3, 6)]
    for seed in range(3):
        random = np.random.default_rng(seed)
        pids = random.permutation(np.repeat(np.arange(100, 120), random.integers(1, 6, 20)))
        ease = random.random((len(settings), len(pids)))
        looks: list[tuple[Any, np.ndarray]] = []

        def score(
            setting: Any,
            queries: Any,
            ease: np.ndarray = ease,
            looks: list[tuple[Any, np.ndarray]] = looks,
        ) -> float:
            chosen = np.arange(ease.shape[1])[np.asarray(queries)]
            need(len(chosen), "score was asked for no query at all")
            looks.append((setting, chosen))
            return float(ease[settings.index(tuple(setting)), chosen].mean())

        result = answer(pids, score, settings, np.random.default_rng(seed), copied=False)
        best, value = parts(result, ("the chosen setting", "its score on the other people"))
        need(tuple(best) in settings, f"the chosen setting {best!r} is none of those given")
        _check_halves(tuple(best), number(value, "the score"), looks, pids, ease, settings)


def _check_halves(
    best: tuple[int, int],
    value: float,
    looks: list[tuple[Any, np.ndarray]],
    pids: np.ndarray,
    ease: np.ndarray,
    settings: list[tuple[int, int]],
) -> None:
    row = ease[settings.index(best)]
    reports = [q for s, q in looks if tuple(s) == best and np.isclose(row[q].mean(), value)]
    need(reports, "the score that you report was not asked for with the setting that you chose")
    report = min(reports, key=len)
    tried = [(tuple(s), q) for s, q in looks if len(q) != len(report) or (q != report).any()]
    need(
        {s for s, _ in tried} == set(settings),
        "chosen on the queries that you report: choose on other people"
        if len({tuple(s) for s, q in looks if np.array_equal(q, report)}) > 1
        else "not every setting was tried on the people that you choose with",
    )
    choosing = np.unique(np.concatenate([q for _, q in tried]))
    both = np.intersect1d(pids[choosing], pids[report])
    need(
        not len(both),
        f"person {both[:1]} is in both halves: split the people, not their pictures",
    )
    means = {s: ease[settings.index(s), q].mean() for s, q in tried}
    need(best == max(means, key=means.__getitem__), "another setting is better on those people")
    share = len(np.unique(pids[choosing])) / len(np.unique(pids))
    need(0.25 <= share <= 0.75, f"{share:.0%} of the people choose: take about half")
