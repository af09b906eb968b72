"""The definitions, written once more as slowly and plainly as possible.

Nothing here calls tripletlib or tensor arithmetic: plain Python floats and loops, so that an error
in the kernels and an error here are unlikely to be the same one.
"""

import math
from collections.abc import Sequence
from itertools import product

Vector = Sequence[float]


def distance(a: Vector, b: Vector, metric: str) -> float:
    squared = math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    if metric == "sqeuclidean":
        return squared
    if metric == "euclidean":
        return math.sqrt(squared)
    lengths = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(y * y for y in b))
    if lengths == 0:
        return 1.0
    return max(0.0, 1 - math.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths)


def triplets(labels: Sequence[int]) -> list[tuple[int, int, int]]:
    """Every valid (anchor, positive, negative)."""
    images = range(len(labels))
    return [
        (a, p, n)
        for a, p, n in product(images, images, images)
        if a != p and labels[a] == labels[p] and labels[a] != labels[n]
    ]


def triplet_loss(d_pos: float, d_neg: float, margin: float | str) -> float:
    x = d_pos - d_neg
    if margin == "soft":
        return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
    return max(0.0, float(margin) + x)


def is_active(d_pos: float, d_neg: float, margin: float | str) -> bool:
    return d_pos >= d_neg if margin == "soft" else triplet_loss(d_pos, d_neg, margin) > 0


def batch_all(
    points: Sequence[Vector],
    labels: Sequence[int],
    margin: float | str,
    metric: str,
    average: str,
) -> tuple[float, float]:
    """Loss and share of active triplets."""
    pairs = [
        (distance(points[a], points[p], metric), distance(points[a], points[n], metric))
        for a, p, n in triplets(labels)
    ]
    losses = [triplet_loss(d_pos, d_neg, margin) for d_pos, d_neg in pairs]
    counted = len(losses) if average == "all" else sum(loss > 0 for loss in losses)
    active = sum(is_active(d_pos, d_neg, margin) for d_pos, d_neg in pairs)
    return math.fsum(losses) / max(counted, 1), active / len(pairs)


def batch_sample(
    points: Sequence[Vector],
    labels: Sequence[int],
    margin: float | str,
    metric: str,
    weighted: bool = True,
) -> tuple[float, float]:
    """Expected loss and share of active triplets: anchors count alike, their triplets by chance."""
    by_anchor: dict[int, list[tuple[float, float]]] = {}
    for a, p, n in triplets(labels):
        d_pos = distance(points[a], points[p], metric)
        d_neg = distance(points[a], points[n], metric)
        by_anchor.setdefault(a, []).append((d_pos, d_neg))
    loss = active = 0.0
    for pairs in by_anchor.values():
        weights = [math.exp(d_pos) * math.exp(-d_neg) for d_pos, d_neg in pairs]
        weights = weights if weighted else [1.0] * len(pairs)
        for weight, pair in zip(weights, pairs, strict=True):
            chance = weight / math.fsum(weights) / len(by_anchor)
            loss += chance * triplet_loss(*pair, margin)
            active += chance * is_active(*pair, margin)
    return loss, active


def batch_hard(
    points: Sequence[Vector],
    labels: Sequence[int],
    margin: float | str,
    metric: str,
    average: str = "all",
) -> tuple[float, float, list[float], list[float]]:
    """Loss, share of active triplets, and each kept anchor's hardest two distances."""
    by_anchor: dict[int, list[tuple[float, float]]] = {}
    for a, p, n in triplets(labels):
        d_pos = distance(points[a], points[p], metric)
        d_neg = distance(points[a], points[n], metric)
        by_anchor.setdefault(a, []).append((d_pos, d_neg))
    hardest = [
        (max(d_pos for d_pos, _ in pairs), min(d_neg for _, d_neg in pairs))
        for _, pairs in sorted(by_anchor.items())
    ]
    losses = [triplet_loss(d_pos, d_neg, margin) for d_pos, d_neg in hardest]
    active = sum(is_active(d_pos, d_neg, margin) for d_pos, d_neg in hardest)
    counted = len(losses) if average == "all" else sum(loss > 0 for loss in losses)
    return (
        math.fsum(losses) / max(counted, 1),
        active / len(losses),
        [d_pos for d_pos, _ in hardest],
        [d_neg for _, d_neg in hardest],
    )


def semi_hard(
    points: Sequence[Vector], labels: Sequence[int], margin: float | str, metric: str
) -> tuple[float, float]:
    """Loss and share of active triplets."""
    by_pair: dict[tuple[int, int], list[float]] = {}
    for a, p, n in triplets(labels):
        by_pair.setdefault((a, p), []).append(distance(points[a], points[n], metric))
    chosen = []
    for (a, p), negatives in by_pair.items():
        d_pos = distance(points[a], points[p], metric)
        farther = [d_neg for d_neg in negatives if d_neg > d_pos]
        chosen.append((d_pos, min(farther) if farther else max(negatives)))
    return _mean_loss(chosen, margin)


def lifted(
    points: Sequence[Vector], labels: Sequence[int], margin: float | str, metric: str
) -> tuple[float, float]:
    """Loss and share of active anchors."""
    images = range(len(labels))
    chosen = []
    for a in images:
        to = [distance(points[a], points[other], metric) for other in images]
        positives = [to[p] for p in images if p != a and labels[p] == labels[a]]
        negatives = [to[n] for n in images if labels[n] != labels[a]]
        if positives and negatives:
            far, near = max(positives), min(negatives)  # taken out, so that no exp overflows
            d_pos = far + math.log(math.fsum(math.exp(d - far) for d in positives))
            d_neg = near - math.log(math.fsum(math.exp(near - d) for d in negatives))
            chosen.append((d_pos, d_neg))
    return _mean_loss(chosen, margin)


def _mean_loss(chosen: Sequence[tuple[float, float]], margin: float | str) -> tuple[float, float]:
    losses = [triplet_loss(d_pos, d_neg, margin) for d_pos, d_neg in chosen]
    active = sum(is_active(d_pos, d_neg, margin) for d_pos, d_neg in chosen)
    return math.fsum(losses) / len(chosen), active / len(chosen)


def nearest_first(squared: Sequence[Sequence[float]]) -> list[list[int]]:
    """Every image's neighbours, the image itself first."""
    images = range(len(squared))
    return [sorted(images, key=lambda j: (j != i, squared[i][j])) for i in images]


def k_reciprocal_set(ranked: Sequence[Sequence[int]], i: int, k: int) -> set[int]:
    return {j for j in ranked[i][: k + 1] if i in ranked[j][: k + 1]}


def expanded_set(ranked: Sequence[Sequence[int]], i: int, k1: int) -> set[int]:
    own = k_reciprocal_set(ranked, i, k1)
    expanded = set(own)
    for candidate in own:
        narrow = k_reciprocal_set(ranked, candidate, round(k1 / 2))
        if 3 * len(narrow & own) > 2 * len(narrow):
            expanded |= narrow
    return expanded


def re_ranked(
    points: Sequence[Vector], k1: int, k2: int, lambda_value: float
) -> tuple[list[list[float]], list[list[float]]]:
    """Final distances of all images to all, and the encodings before query expansion."""
    images = range(len(points))
    squared = [[distance(a, b, "sqeuclidean") for b in points] for a in points]
    original = [[d / (max(row) or 1.0) for d in row] for row in squared]
    ranked = nearest_first(squared)
    encodings = []
    for i in images:
        weights = {j: math.exp(-original[i][j]) for j in expanded_set(ranked, i, k1)}
        total = math.fsum(weights.values())
        encodings.append([weights.get(j, 0.0) / total for j in images])
    averaged = []
    for i in images:
        nearest = [encodings[j] for j in ranked[i][:k2]]
        averaged.append([math.fsum(column) / len(nearest) for column in zip(*nearest, strict=True)])
    final = []
    for i, own in enumerate(averaged):
        row = []
        for j, other in enumerate(averaged):
            both = math.fsum(min(v, w) for v, w in zip(own, other, strict=True))
            either = math.fsum(max(v, w) for v, w in zip(own, other, strict=True))
            row.append((1 - lambda_value) * (1 - both / either) + lambda_value * original[i][j])
        final.append(row)
    return final, encodings


def ranked_list(
    distances: Vector,
    pid: int,
    gallery_pids: Sequence[int],
    camid: int | None,
    gallery_camids: Sequence[int],
) -> list[bool]:
    """Right or wrong, nearest first, without junk; `camid` None: no camera is skipped."""
    kept = [
        (distance, place)
        for place, distance in enumerate(distances)
        if gallery_pids[place] != -1
        and not (pid != 0 and gallery_pids[place] == pid and gallery_camids[place] == camid)
    ]
    return [pid != 0 and gallery_pids[place] == pid for _, place in sorted(kept)]


def average_precisions(right: Sequence[bool]) -> tuple[float, float]:
    """By the rectangle and by the trapezoid rule; NaN if nothing is right.

    Written as the area under the precision-recall curve, place by place, not as a formula of the
    ranks.
    """
    if not any(right):
        return math.nan, math.nan
    rectangle = trapezoid = old_recall = 0.0
    old_precision = 1.0
    for place in range(1, len(right) + 1):
        hits = sum(right[:place])
        recall, precision = hits / sum(right), hits / place
        rectangle += (recall - old_recall) * precision
        trapezoid += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return rectangle, trapezoid


def cumulative_matches(ranked: Sequence[Sequence[bool]], max_rank: int) -> list[float]:
    """Share of the lists with a right answer up to each rank; lists without one do not count."""
    counted = [right for right in ranked if any(right)]
    return [
        sum(any(right[:rank]) for right in counted) / len(counted)
        for rank in range(1, max_rank + 1)
    ]
