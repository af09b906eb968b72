"""Checks of sheet 04: AP by trapezoids, the steps of re-ranking, an honest choice of windows."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tripletlib.checks.answers import Answer, exercise
from tripletlib.checks.values import agree, need, neighbours, number, of_type, parts, wrong
from tripletlib.evaluation import average_precision

_Case = tuple[np.ndarray, int, int]  # the order of all neighbours, an image, k1
_SetOf = Callable[[np.ndarray, int, int], set[int]]


@exercise("04.1", "Market-1501's papers report it: now you can compare with them, and say so.")
def check_trapezoid(answer: Answer) -> None:
    random = np.random.default_rng(0)
    lists = [np.isin(np.arange(1, 11), ranks) for ranks in ([1, 5, 9], [1, 2, 3], [4], [2, 10])]
    lists += [random.random(40) < share for share in (0.1, 0.6)]
    for right in lists:
        ranks = np.flatnonzero(right) + 1
        hits = np.arange(1, len(ranks) + 1)
        precision = hits / ranks
        wanted = average_precision(right, "trapezoid")
        misreadings = {
            "the precision before rank 1 is taken as 0: before the list it is 1": (
                np.mean(precision + (hits - 1) / np.maximum(ranks - 1, 1)) / 2
            ),
            "this is the rectangle rule: the precision one place earlier is missing": (
                precision.mean()
            ),
            "that is the precision at the answer before: one *place* earlier is meant": (
                np.mean(precision + np.append(1, precision[:-1])) / 2
            ),
            "the mean of the two precisions is asked for, not their sum": 2 * wanted,
        }
        what = f"the AP of right answers at ranks {ranks.tolist()}"
        agree(answer(right), wanted, what, misreadings)
    need(np.isnan(number(answer(np.zeros(4, bool)), "AP")), "without a right answer return NaN")


_ORDERS = [neighbours(seed, size, size // 3) for seed, size in ((0, 14), (1, 20), (2, 30))]


def _nearest(order: np.ndarray, i: int, k: int) -> set[int]:
    return set(order[i, : k + 1].tolist())


def _reciprocal(order: np.ndarray, i: int, k: int) -> set[int]:
    return {j for j in _nearest(order, i, k) if i in _nearest(order, j, k)}


def _judge(
    answer: Answer, cases: list[_Case], right: _SetOf, misreadings: dict[str, _SetOf]
) -> None:
    """Names the misconception that explains all that the answer returned."""
    found = [of_type(answer(*case), set) for case in cases]
    whole = all(isinstance(j, int | np.integer) for members in found for j in members)
    need(whole, "a set's members must be whole numbers")
    failed = [i for i, case in enumerate(cases) if found[i] != right(*case)]
    if not failed:
        return
    case, members = cases[failed[0]], found[failed[0]]
    where = f"image {case[1]}, k1 = {case[2]}"
    for sentence, misread in misreadings.items():
        explained = all(misread(*c) == got for c, got in zip(cases, found, strict=True))
        need(not explained, f"{sentence} (see {where})")
    missing, extra = sorted(right(*case) - members), sorted(members - right(*case))
    wrong(f"{where}: " + (f"{missing} missing" if missing else f"{extra} too many"))


@exercise("04.2", "The expansion, next, begins with this set, and so does `k_reciprocal`.")
def check_reciprocal(answer: Answer) -> None:
    cases = [
        (order, i, k1)
        for order in _ORDERS
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
    half: Callable[[float], int] = round,
    fits: Callable[[int, int], bool] = lambda common, size: 3 * common > 2 * size,
    growing: bool = False,
    friends_too: bool = False,
) -> set[int]:
    """R*(i, k1); each keyword makes it wrong in a way of its own."""
    own = _reciprocal(order, i, k1)
    grown, waiting = set(own), sorted(own)
    for j in waiting:
        narrow = _reciprocal(order, j, half(k1 / 2))
        if fits(len(narrow & (grown if growing else own)), len(narrow)):
            grown |= narrow
            if friends_too:
                waiting += sorted(narrow - set(waiting))
    return grown


@exercise("04.3", "With it a picture finds relatives that were never among its own neighbours.")
def check_expansion(answer: Answer) -> None:
    orders = [*_ORDERS, *(neighbours(seed, 16) for seed in range(10, 14))]
    cases = [(order, i, k1) for order in orders for k1 in (3, 6, 7) for i in range(len(order))]
    growing = "a set was compared with what had joined already"
    misreadings: dict[str, _SetOf] = {
        "nothing was brought along": _reciprocal,
        f"{growing}: compare with the image's own reciprocal set": partial(_expanded, growing=True),
        "those who joined brought their friends, too: only members of the reciprocal set may": (
            partial(_expanded, growing=True, friends_too=True)
        ),
        "exactly two thirds is not more than two thirds": partial(
            _expanded, fits=lambda common, size: 3 * common >= 2 * size
        ),
        "every member brought its set along: is the condition there?": partial(
            _expanded, fits=lambda common, size: True
        ),
        "the members' sets are as wide as the image's own: half of k1 is asked for": partial(
            _expanded, half=lambda half: int(2 * half)
        ),
        "half of k1 is rounded down: see the task": partial(_expanded, half=int),
    }
    _judge(answer, cases, _expanded, misreadings)


@exercise("04.4", "The re-ranked distance is this one, mixed with a share of the first distance.")
def check_jaccard(answer: Answer) -> None:
    random = np.random.default_rng(0)
    rows = random.random((8, 12)) * (random.random((8, 12)) < 0.6)
    rows[:, 0] += 0.1
    rows /= rows.sum(1, keepdims=True)
    pairs = [(rows[a], rows[b]) for a, b in ((0, 1), (2, 3), (4, 4), (5, 6))]
    apart = np.eye(12)
    for first, second in [*pairs, (apart[0], apart[1])]:
        s = np.minimum(first, second).sum()
        distance = 1 - s / np.maximum(first, second).sum()
        sets = np.sum((first > 0) & (second > 0)) / np.sum((first > 0) | (second > 0))
        misreadings = {
            "this is 1 - s: what both have together is not 1 but 2 - s; see s / (2 - s)": 1 - s,
            "that is how alike they are: a distance is 0 for equal rows": 1 - distance,
            "the weights do not count here, only who is in: near members should count more": (
                1 - sets
            ),
        }
        what = f"the distance of rows that share {s:.3f} of their weights"
        agree(answer(first, second), distance, what, misreadings)


@exercise("04.5", "So k1, k2 and lambda are chosen for a table: on people whom it does not report.")
def check_honest_windows(answer: Answer) -> None:
    settings = [(k1, k2) for k1 in (5, 10, 20) for k2 in (1, 3, 6)]
    for seed in range(3):
        random = np.random.default_rng(seed)
        pids = random.permutation(np.repeat(np.arange(100, 120), random.integers(1, 6, 20)))
        scores = dict(zip(settings, random.random((len(settings), len(pids))), strict=True))
        looks: list[tuple[Any, np.ndarray]] = []

        def score(setting: Any, queries: Any, scores: Any = scores, looks: Any = looks) -> float:
            row = scores[tuple(setting)]
            chosen = np.arange(len(row))[np.asarray(queries)]
            need(len(chosen), "score was asked for no query at all")
            looks.append((tuple(setting), chosen))
            return float(row[chosen].mean())

        result = answer(pids, score, settings, np.random.default_rng(seed), copied=False)
        best, value = parts(result, "the chosen setting", "its score on the other people")
        is_pair = isinstance(best, Sequence | np.ndarray)
        need(is_pair, f"the chosen setting must be one of those given, not {best!r}: its index?")
        need(tuple(best) in settings, f"the chosen setting {best!r} is none of those given")
        _check_halves(tuple(best), number(value, "the score"), looks, pids, scores)


def _check_halves(
    best: tuple[int, int],
    value: float,
    looks: list[tuple[Any, np.ndarray]],
    pids: np.ndarray,
    scores: dict[tuple[int, int], np.ndarray],
) -> None:
    """Looks are the settings and queries that the answer asked the score of, one after another."""
    reports = [q for s, q in looks if s == best and np.isclose(scores[s][q].mean(), value)]
    need(reports, "the score that you report was not asked for with the setting that you chose")
    report = min(reports, key=len)
    tried = [(s, q) for s, q in looks if not np.array_equal(q, report)]
    reported = {s for s, q in looks if np.array_equal(q, report)}
    all_tried = {s for s, _ in tried} == set(scores)
    dishonest = not all_tried and len(reported) > 1
    need(not dishonest, "chosen on the queries that you report: choose on other people")
    need(all_tried, "not every setting was tried on the people that you choose with")
    choosing = np.unique(np.concatenate([q for _, q in tried]))
    both = np.intersect1d(pids[choosing], pids[report])
    advice = "split the people, not their pictures"
    need(not len(both), f"person {both[:1]} is in both halves: {advice}")
    means = {s: scores[s][q].mean() for s, q in tried}
    need(best == max(means, key=means.__getitem__), "another setting is better on those people")
    share = len(np.unique(pids[choosing])) / len(np.unique(pids))
    need(0.25 <= share <= 0.75, f"{share:.0%} of the people choose: take about half")
