"""Checks of sheet 02: masks, batch hard, semi-hard, a finite gradient, a collapse."""

from typing import Any

import torch
from torch import Tensor, nn

from tripletlib.checks.answers import (
    Answer,
    agree,
    exercise,
    generator,
    need,
    number,
    parts,
    tensor,
    type_name,
    wrong,
)
from tripletlib.checks.patient import train_small_net

# The nine points of the lesson: A1 to A3, B1 to B3, C1 to C3.
_POINTS = ((-2.0, 1.2), (-1.4, -0.9), (0.6, 0.9), (1.9, 1.6), (-0.3, 0.2), (2.2, -0.2),
           (-0.9, -2.0), (0.7, -1.6), (1.2, 0.0))  # fmt: skip


@exercise("02.1", "Every loss that mines in a batch, the next two among them, begins with them.")
def check_masks(answer: Answer) -> None:
    """Positives and negatives of each anchor, boolean [B, B]."""
    for labels in ([0, 0, 1, 1], [3, 1, 3, 1, 1], [5, 2, 2], [4], []):
        names = torch.tensor(labels, dtype=torch.long)
        size = len(labels)
        result = parts(answer(names), ("is_positive", "is_negative"))
        positive, negative = (
            tensor(mask, (size, size), what, "b")
            for mask, what in zip(result, ("is_positive", "is_negative"), strict=True)
        )
        _check_diagonals(positive, negative, names)
        same = names[:, None] == names
        if size and torch.equal(positive, ~same) and torch.equal(negative, same):
            wrong("the two masks are exchanged")
        for mask, wanted, kind in ((positive, same, "positive"), (negative, ~same, "negative")):
            off = (mask != wanted) & ~torch.eye(size, dtype=torch.bool)
            if off.any():
                i, j = off.nonzero()[0].tolist()
                it_is = "is" if mask[i, j] else "is not"
                who = f"identities {labels[i]} and {labels[j]}"
                wrong(f"image {j} {it_is} a {kind} of image {i} in your mask: they show {who}")


def _check_diagonals(positive: Tensor, negative: Tensor, labels: Tensor) -> None:
    for mask, kind in ((positive, "positive"), (negative, "negative")):
        own = mask.diagonal().nonzero().flatten().tolist()
        if own:
            alone = [i for i in own if (labels == labels[i]).sum() == 1]
            example = f"; see image {alone[0]}, the only one of its identity" if alone else ""
            hint = "see the identity with one image" if kind == "positive" else "compare it with"
            hint = hint if kind == "positive" else f"{hint} the positives' diagonal"
            wrong(f"image {own[0]} is its own {kind}; {hint}{example}")


@exercise("02.2", "This is the loss of notebooks 01 and 03; the kernel's gradient is the same.")
def check_batch_hard(answer: Answer) -> None:
    """Mean hinge of the hardest triplets, from distances and masks."""
    for labels, seed in (([0, 0, 0, 1, 1, 1], 0), ([0, 0, 1, 1, 2], 1), ([4, 1, 1, 1, 4, 2, 3], 2)):
        names = torch.tensor(labels)
        points = torch.randn(len(labels), 2, generator=generator(seed), dtype=torch.float64)
        distances = torch.cdist(points, points)
        same = names[:, None] == names
        positive, negative = same & ~torch.eye(len(names), dtype=torch.bool), ~same
        for margin in (0.5, 0.0, 3.0):
            copied = distances.clone().requires_grad_()
            lonely = "" if positive.any(1).all() else "a batch in which an identity has one image"
            result = answer(copied, positive, negative, margin, about=lonely, copied=False)
            _compare_batch_hard(result, distances, positive, negative, margin)
            _check_pull(result, copied)


def _compare_batch_hard(
    result: Any, d: Tensor, positive: Tensor, negative: Tensor, margin: float
) -> None:
    need(isinstance(result, Tensor), f"the loss must be a tensor, not {type_name(result)}")
    loss = number(result, "the loss")
    kept = positive.any(1) & negative.any(1)
    far = d.where(positive, -torch.inf).amax(1)
    near = d.where(negative, torch.inf).amin(1)
    every = (margin + far - near)[kept]
    hinges = every.relu()
    far_easy = d.where(positive, torch.inf).amin(1)
    near_easy = d.where(negative, -torch.inf).amax(1)
    lonely = (~kept).nonzero().flatten().tolist()
    count = len(d)
    misreadings = {
        "the nearest negative is at 0: a masked entry?": (margin + far)[kept].mean(),
        "the nearest positive was taken: the hardest one is the farthest": (
            (margin + far_easy - near)[kept].relu().mean()
        ),
        "the farthest negative was taken: the hardest one is the nearest": (
            (margin + far - near_easy)[kept].relu().mean()
        ),
        "only anchors with a loss above 0 are in your mean: the others count too": (
            hinges[hinges > 0].mean()
        ),
        "right triplets pull your loss down: a hinge is never below 0": every.mean(),
        "your loss is a sum over the anchors: take the mean": hinges.sum(),
    }
    if lonely:
        alone = f"image {lonely[0]} has no positive in this batch and still counts in your mean"
        misreadings |= {
            alone: hinges.sum() / count,
            f"{alone}: as if it were its own": (margin + far.clamp_min(0) - near).relu().mean(),
        }
    otherwise = f"on a batch of {count} images your loss is {loss:.4f}, not {hinges.mean():.4f}"
    values = {sentence: value.item() for sentence, value in misreadings.items()}
    agree(loss, hinges.mean().item(), values, otherwise)


def _check_pull(result: Tensor, distances: Tensor) -> None:
    if result.item() > 0:
        need(
            result.requires_grad,
            "no gradient reaches the distances: is there a detach, an item or NumPy on the way?",
        )
        result.backward()
        need(
            distances.grad is not None and distances.grad.isfinite().all(),
            "the gradient of your loss is not finite",
        )


@exercise("02.3", "FaceNet was trained with it; it spares the first steps the hardest negatives.")
def check_semi_hard(answer: Answer) -> None:
    """A triplet for each pair of anchor and positive, with its semi-hard negative."""
    grid = torch.tensor([[0.0], [2.0], [2.0], [4.0], [1.0], [9.0], [12.0]])  # ties on purpose
    cases = (
        (torch.tensor(_POINTS), [0, 0, 0, 1, 1, 1, 2, 2, 2]),
        (grid, [0, 0, 1, 1, 1, 2, 3]),
        (torch.randn(9, 3, generator=generator(3)), [5, 2, 2, 5, 7, 2, 7, 8, 5]),
        (torch.randn(4, 2, generator=generator(4)), [0, 1, 2, 3]),
    )
    for points, labels in cases:
        names = torch.tensor(labels)
        distances = torch.cdist(points, points)
        result = answer(distances, names)
        need(isinstance(result, Tensor), f"return a tensor of triplets, not {type_name(result)}")
        shape = list(result.shape)
        none = ": without any pair they are [0, 3]" if not result.numel() else ""
        need(shape[1:] == [3], f"triplets must be [M, 3], yours are {shape}{none}")
        need(not result.is_floating_point(), "triplets are whole numbers: indices of images")
        _check_triplets([tuple(row) for row in result.tolist()], distances, names)


def _check_triplets(triplets: list[tuple[int, ...]], d: Tensor, labels: Tensor) -> None:
    names, count = _names(labels), len(labels)
    same = labels[:, None] == labels
    pairs = {(a, p) for a in range(count) for p in range(count) if a != p and same[a, p]}
    need(
        all(0 <= index < count for row in triplets for index in row),
        "an index in your triplets is not in the batch",
    )
    for a, p, n in triplets:
        need(a != p, f"{names[a]} is its own positive in a triplet")
        need((a, p) in pairs, f"{names[p]} is no positive of {names[a]}")
        need(not same[a, n], f"{names[n]} is no negative of {names[a]}")
    for a, p in sorted(pairs - {row[:2] for row in triplets}):
        others, reach = d[a][~same[a]], d[a, p]
        need(
            (others > reach).any(),
            f"anchor {names[a]} has no semi-hard negative for {names[p]}: see what is asked then",
        )
        wrong(f"{names[a]} is an anchor, too: with its positive {names[p]} it has no triplet")
    need(len(triplets) == len(pairs), f"{len(pairs)} pairs, but {len(triplets)} triplets")
    for a, p, n in triplets:
        others, chosen = d[a][~same[a]], d[a, n]
        farther = others[others > d[a, p]]
        pair = f"anchor {names[a]} with {names[p]}"
        if not len(farther):
            need(
                chosen == others.max(),
                f"anchor {names[a]} has no semi-hard negative for {names[p]}, and {names[n]} is "
                "not what is asked then",
            )
            continue
        need(
            chosen > d[a, p],
            f"{pair}: the negative {names[n]} is not farther than the positive, so it is hard",
        )
        need(chosen == farther.min(), f"{pair}: a nearer negative than {names[n]} is semi-hard too")


def _names(labels: Tensor) -> list[str]:
    letters = {label: chr(ord("A") + i) for i, label in enumerate(labels.unique().tolist())}
    return [
        f"{letters[label]}{1 + labels[:i].eq(label).sum().item()}"
        for i, label in enumerate(labels.tolist())
    ]


@exercise("02.4", "Two equal images in a batch can no longer turn a network's weights into NaN.")
def check_safe_distances(answer: Answer) -> None:
    """Euclidean distances whose gradient is finite where two embeddings coincide."""
    twins = torch.tensor([[1.0, 2.0], [1.0, 2.0], [4.0, 6.0], [-3.0, 0.5]])
    small = 1e-3 * torch.randn(5, 3, generator=generator(0))
    for points in (twins, small, torch.zeros(3, 2), torch.randn(6, 4, generator=generator(1))):
        copied = points.clone().requires_grad_()
        size = len(points)
        result = tensor(answer(copied, copied=False), (size, size), "the distances")
        wanted = torch.cdist(points.double(), points.double())
        _check_zeros(result.detach(), wanted)
        # PyTorch's own distance has the gradient 0 at 0, as ours is asked to have.
        reference = points.clone().requires_grad_()
        weights = torch.rand(size, size, generator=generator(2))
        true = ((reference[:, None] - reference).norm(dim=2) * weights).sum()
        (slope,) = torch.autograd.grad(true, reference)
        need(result.requires_grad, "no gradient reaches the points: is there a detach on the way?")
        need(
            not _operations(result) & {"Cdist", "EuclideanDist", "LinalgVectorNorm", "Norm"},
            "PyTorch's own distance guards against this already: build it of elementary operations",
        )
        (result * weights).sum().backward()
        gradient = copied.grad if copied.grad is not None else torch.zeros_like(points)
        need(
            not gradient.isnan().any(),
            "the gradient is still NaN: the chain rule multiplies what you chose by a slope "
            "of infinity",
        )
        need(gradient.isfinite().all(), "the gradient is infinite where two points coincide")
        need(
            torch.allclose(gradient, slope, rtol=1e-3, atol=1e-4),
            "the gradient is finite, but not that of the distance",
        )


def _operations(result: Tensor) -> set[str]:
    """Names of the operations that a gradient passes on its way back."""
    found: set[str] = set()
    waiting, seen = [result.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            found.add(node.name().partition("Backward")[0])
            waiting += [following for following, _ in node.next_functions]
    return found


def _check_zeros(result: Tensor, wanted: Tensor) -> None:
    at_zero = result[wanted == 0]
    worst = at_zero.abs().max().item()
    written = f"{worst:.0e}".replace("e-0", "e-")
    if worst > 0:
        own = result.diagonal().abs().max().item() > 0
        where = "the diagonal" if own else "the distance of two equal points"
        wrong(f"{where} is {written}, not 0")
    if torch.allclose(result.double(), wanted**2, rtol=1e-3, atol=1e-9) and wanted.any():
        wrong("these are squared distances: the root is missing")
    need(
        torch.allclose(result.double(), wanted, rtol=1e-3, atol=1e-6),
        f"a distance of {wanted.max():.3f} comes out as {result.flatten()[wanted.argmax()]:.3f}",
    )


@exercise("02.5", "Notebook 02's collapsed network is found and cured in the same way.")
def check_collapse(answer: Answer) -> None:
    """Counts living units, and changes settings so that they stay alive."""
    count, cure = parts(answer.value, ("living_units", "cure"))
    _check_living_units(Answer(count))
    ill = {"margin": 0.5, "learning_rate": 0.1, "batch_norm": False, "slope": 0.0}
    settings = Answer(cure)(ill)
    need(isinstance(settings, dict), f"cure must return a dictionary, not {type_name(settings)}")
    for name in ill.keys() ^ settings.keys():
        wrong(f"there is no setting {name!r}" if name in settings else f"{name!r} is missing")
    changed = {name for name in ill if settings[name] != ill[name]}
    need(changed, "no setting is changed yet: the network still dies")
    for seed in range(3):
        net, batch, spread = train_small_net(seed, **settings)
        living = _living(net, batch)
        dead = [i + 1 for i, alive in enumerate(living) if alive < 4]
        if dead and changed == {"margin"}:
            wrong("the gradients agree for margins 0.1 and 5; look at the layers")
        need(
            not dead,
            f"with seed {seed}, {living} units of 16 live in the four layers: layer {dead[:1]} "
            "is dead",
        )
        need(spread > 1e-4, f"all units live, but all embeddings lie in one point ({spread:.0e})")


def _check_living_units(count: Answer) -> None:
    first_layer, second_layer = nn.Linear(1, 5), nn.Linear(5, 2)
    net = nn.Sequential(first_layer, nn.ReLU(), second_layer, nn.LeakyReLU(0.3))
    with torch.no_grad():  # two units that answer, two dead ones, one that always gives 1
        first_layer.weight.copy_(torch.tensor([[1.0], [-1.0], [0.0], [0.0], [0.0]]))
        first_layer.bias.copy_(torch.tensor([0.0, 0.0, -1.0, -2.0, 1.0]))
        second_layer.weight.fill_(-1.0)
        second_layer.bias.zero_()
    batch = torch.tensor([[1.0], [-2.0], [3.0]])
    result = count(net, batch)
    need(isinstance(result, list), f"living_units must return a list, not {type_name(result)}")
    need(
        len(result) == 2,
        f"the network has 2 layers of ReLU or LeakyReLU, your list has {len(result)} entries",
    )
    first, second = (number(value, "an entry of your list") for value in result)
    need(second != 0, "a leaky unit below 0 is not dead: what it gives is not 0")
    misreadings = {
        "a unit lives if it answers to one image; yours must answer to all": 1.0,
        "outputs were counted, not units: a unit that answers to two images is one unit": 6.0,
        "all units are counted, also those that give 0 for every image": 5.0,
        "dead units were counted, not living ones": 2.0,
    }
    agree(first, 3, misreadings, f"3 units live in the first layer, you count {first:g}")
    agree(second, 2, {}, f"2 units live in the second layer, you count {second:g}")


def _living(net: nn.Sequential, images: Tensor) -> list[int]:
    living, x = [], images
    with torch.no_grad():
        for layer in net:
            x = layer(x)
            if isinstance(layer, nn.ReLU | nn.LeakyReLU):
                living.append(int((x != 0).any(0).sum()))
    return living
