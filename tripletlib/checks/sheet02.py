"""Checks of sheet 02: masks, batch hard, semi-hard, a finite gradient, a collapse to be cured."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from tripletlib.checks.answers import Answer, exercise
from tripletlib.checks.values import agree, need, normal, numbers, of_type, parts, wrong
from tripletlib.losses import batch_hard

# The nine points of the lesson: A1 to A3, B1 to B3, C1 to C3.
_POINTS = ((-2.0, 1.2), (-1.4, -0.9), (0.6, 0.9), (1.9, 1.6), (-0.3, 0.2), (2.2, -0.2),
           (-0.9, -2.0), (0.7, -1.6), (1.2, 0.0))  # fmt: skip


@exercise("02.1", "Every loss that mines in a batch begins with these masks, also the next two.")
def check_masks(answer: Answer) -> None:
    for labels in ([0, 0, 1, 1], [3, 1, 3, 1, 1], [5, 2, 2], [4], []):
        names = np.array(labels, dtype=int)
        same, own_cell = names[:, None] == names, np.eye(len(labels), dtype=bool)
        wanted = {"is_positive": same & ~own_cell, "is_negative": ~same}
        result = parts(answer(torch.from_numpy(names)), *wanted)
        positive, negative = (
            numbers(mask, same.shape, what, "b", Tensor)
            for mask, what in zip(result, wanted, strict=True)
        )
        _check_diagonals(positive, negative, names)
        exchanged = (positive == ~same).all() and (negative == (same & ~own_cell)).all()
        need(len(labels) < 2 or not exchanged, "the two masks are exchanged")
        for mask, (what, right) in zip((positive, negative), wanted.items(), strict=True):
            for i, j in np.argwhere(mask != right)[:1]:
                is_partner = f"{'is' if mask[i, j] else 'is not'} a {what.removeprefix('is_')}"
                who = f"identities {labels[i]} and {labels[j]}"
                wrong(f"image {j} {is_partner} of image {i} in your mask: they show {who}")


def _check_diagonals(positive: np.ndarray, negative: np.ndarray, labels: np.ndarray) -> None:
    hints = "see the identity with one image", "compare it with the positives' diagonal"
    for mask, kind, hint in zip((positive, negative), ("positive", "negative"), hints, strict=True):
        own = np.flatnonzero(mask.diagonal())
        alone = [i for i in own if (labels == labels[i]).sum() == 1]
        example = f"; see image {alone[0]}, the only one of its identity" if alone else ""
        for image in own[:1]:
            wrong(f"image {image} is its own {kind}; {hint}{example}")


@exercise("02.2", "Notebook 01 trains with this loss; the kernel's gradient is the same.")
def check_batch_hard(answer: Answer) -> None:
    for seed, labels in enumerate(([0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2], [4, 1, 1, 1, 4, 2, 3])):
        names, points = torch.tensor(labels), normal(seed, len(labels), 2).double()
        distances, same = torch.cdist(points, points), names[:, None] == names
        positive, negative = same & ~torch.eye(len(names), dtype=torch.bool), ~same
        lonely = "" if positive.any(1).all() else "a batch in which an identity has one image"
        for margin in (0.5, 0.0, 3.0):
            copied = distances.clone().requires_grad_()
            result = answer(copied, positive, negative, margin, about=lonely, copied=False)
            loss = of_type(result, Tensor, "the loss")
            _compare_batch_hard(loss, distances, positive, negative, margin)
            if loss.item() > 0:
                cause = "is there a detach, an item or NumPy on the way?"
                need(loss.requires_grad, f"no gradient reaches the distances: {cause}")
                (slope,) = torch.autograd.grad(loss, copied, materialize_grads=True)
                need(slope.isfinite().all(), "the gradient of your loss is not finite")


def _compare_batch_hard(
    loss: Tensor, d: Tensor, positive: Tensor, negative: Tensor, margin: float
) -> None:
    kept = positive.any(1) & negative.any(1)
    farthest = d.where(positive, -torch.inf).amax(1)
    nearest = d.where(negative, torch.inf).amin(1)
    nearest_positive = d.where(positive, torch.inf).amin(1)
    farthest_negative = d.where(negative, -torch.inf).amax(1)
    every = (margin + farthest - nearest)[kept]
    hinges = every.relu()
    misreadings = {
        "the nearest negative is at 0: a masked entry?": (margin + farthest)[kept].mean(),
        "the nearest positive was taken: the hardest one is the farthest": (
            (margin + nearest_positive - nearest)[kept].relu().mean()
        ),
        "the farthest negative was taken: the hardest one is the nearest": (
            (margin + farthest - farthest_negative)[kept].relu().mean()
        ),
        "only anchors with a loss above 0 are in your mean: the others count too": (
            hinges[hinges > 0].mean()
        ),
        "right triplets pull your loss down: a hinge is never below 0": every.mean(),
        "your loss is a sum over the anchors: take the mean": hinges.sum(),
    }
    for image in (~kept).nonzero().flatten().tolist()[:1]:
        alone = f"image {image} has no positive in this batch and still counts in your mean"
        misreadings[alone] = hinges.sum() / len(d)
        as_its_own = (margin + farthest.clamp_min(0) - nearest).relu().mean()
        misreadings[f"{alone}: as if it were its own"] = as_its_own
    agree(loss, hinges.mean(), f"the loss of a batch of {len(d)} images", misreadings)


@exercise("02.3", "FaceNet was trained with it; early on it avoids the hardest negatives.")
def check_semi_hard(answer: Answer) -> None:
    grid = torch.tensor([[0.0], [2.0], [2.0], [4.0], [1.0], [9.0], [12.0]])  # ties on purpose
    cases = (
        (torch.tensor(_POINTS), [0, 0, 0, 1, 1, 1, 2, 2, 2]),
        (grid, [0, 0, 1, 1, 1, 2, 3]),
        (normal(3, 9, 3), [5, 2, 2, 5, 7, 2, 7, 8, 5]),
        (normal(4, 4, 2), [0, 1, 2, 3]),
    )
    for points, labels in cases:
        names, distances = torch.tensor(labels), torch.cdist(points, points)
        result = of_type(answer(distances, names), Tensor, "the triplets")
        shape = list(result.shape)
        none = ": without any pair they are [0, 3]" if not result.numel() else ""
        need(shape[1:] == [3], f"triplets must be [M, 3], yours are {shape}{none}")
        need(not result.is_floating_point(), "triplets are whole numbers: indices of images")
        in_batch = ((result >= 0) & (result < len(labels))).all()
        need(in_batch, "an index in your triplets is not in the batch")
        _check_triplets(result.tolist(), distances, names)


def _check_triplets(triplets: list[list[int]], d: Tensor, labels: Tensor) -> None:
    names, same = _names(labels), labels[:, None] == labels
    for a, p, n in triplets:
        need(a != p, f"{names[a]} is its own positive in a triplet")
        need(same[a, p], f"{names[p]} is no positive of {names[a]}")
        need(not same[a, n], f"{names[n]} is no negative of {names[a]}")
    pairs = [(a, p) for a, p in same.nonzero().tolist() if a != p]
    for a, p in pairs:
        chosen = [n for *pair, n in triplets if pair == [a, p]]
        pair, reached = f"anchor {names[a]} with {names[p]}", d[a, chosen]
        others = d[a][~same[a]]
        farther = others[others > d[a, p]]
        if not len(farther):
            none = f"anchor {names[a]} has no semi-hard negative for {names[p]}"
            asked = len(chosen) and (reached == others.max()).all()
            need(asked, f"{none}: see what is asked then")
            continue
        need(chosen, f"{pair} has no triplet: each image of a pair is an anchor, too")
        hard = "is not farther than the positive, so it is hard"
        need((reached > d[a, p]).all(), f"{pair}: the negative {names[chosen[0]]} {hard}")
        nearer = f"a nearer negative than {names[chosen[0]]} is semi-hard too"
        need((reached == farther.min()).all(), f"{pair}: {nearer}")
    need(len(triplets) == len(pairs), f"{len(pairs)} pairs, but {len(triplets)} triplets")


def _names(labels: Tensor) -> list[str]:
    letters = {label: chr(ord("A") + i) for i, label in enumerate(labels.unique().tolist())}
    names = labels.tolist()
    return [f"{letters[label]}{names[: i + 1].count(label)}" for i, label in enumerate(names)]


@exercise("02.4", "Two equal images in a batch can no longer turn a network's weights into NaN.")
def check_safe_distances(answer: Answer) -> None:
    twins = torch.tensor([[1.0, 2.0], [1.0, 2.0], [4.0, 6.0], [-3.0, 0.5]])
    for points in (twins, 1e-3 * normal(0, 5, 3), torch.zeros(3, 2), normal(1, 6, 4)):
        copied, reference = (points.clone().requires_grad_() for _ in range(2))
        result, size = answer(copied, copied=False), len(points)
        numbers(result, (size, size), "the distances", type_=Tensor)
        _check_values(result.detach().double(), torch.cdist(points.double(), points.double()))
        need(result.requires_grad, "no gradient reaches the points: is there a detach on the way?")
        own = _operations(result) & {"Cdist", "EuclideanDist", "LinalgVectorNorm", "Norm"}
        advice = "build it of elementary operations"
        need(not own, f"PyTorch's own distance guards against this already: {advice}")

        # PyTorch's own distance has the gradient 0 at 0, as ours is asked to have.
        right = (reference[:, None] - reference).norm(dim=2)
        weights = normal(2, size, size)
        (slope,), (wanted,) = (
            torch.autograd.grad((d * weights).sum(), x, materialize_grads=True)
            for d, x in ((result, copied), (right, reference))
        )
        why = "the chain rule multiplies what you chose by a slope of infinity"
        need(not slope.isnan().any(), f"the gradient is still NaN: {why}")
        need(slope.isfinite().all(), "the gradient is infinite where two points coincide")
        close = torch.allclose(slope, wanted, rtol=1e-3, atol=1e-4)
        need(close, "the gradient is finite, but not that of the distance")


def _operations(result: Tensor) -> set[str]:
    """Names of the operations that a gradient passes on its way back."""
    waiting, seen = [result.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return {node.name().partition("Backward")[0] for node in seen}


def _check_values(result: Tensor, wanted: Tensor) -> None:
    worst = result[wanted == 0].abs().max().item()
    where = "the diagonal" if result.diagonal().any() else "the distance of two equal points"
    need(worst == 0, f"{where} is {worst:.0e}, not 0".replace("e-0", "e-"))
    squared = wanted.any() and torch.allclose(result, wanted**2, rtol=1e-3, atol=1e-9)
    need(not squared, "these are squared distances: the root is missing")
    close = torch.allclose(result, wanted, rtol=1e-3, atol=1e-6)
    largest = result.flatten()[wanted.argmax()]
    need(close, f"a distance of {wanted.max():.3f} comes out as {largest:.3f}")


def train_small_net(
    seed: int, margin: float, learning_rate: float, batch_norm: bool, slope: float
) -> tuple[nn.Sequential, Tensor, float]:
    """Trains four layers of 16 units for 60 steps of batch hard, on six noisy identities.

    Args:
        seed: of weights and data.
        margin: of batch hard.
        learning_rate: of Adam; 0.1 kills units.
        batch_norm: whether each layer is normalised over the batch.
        slope: of the activation below 0; 0 for ReLU.

    Returns:
        The network in training mode, a batch `[36, 64]`, and the median distance of its embeddings.
    """
    random = torch.Generator().manual_seed(seed)
    centres = torch.rand(6, 64, generator=random)
    labels = torch.arange(6).repeat_interleave(6)
    sizes = [64, 16, 16, 16, 16]
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), *([nn.BatchNorm1d(n_out)] if batch_norm else [])]
            layers.append(nn.LeakyReLU(slope) if slope else nn.ReLU())
        net = nn.Sequential(*layers, nn.Linear(16, 2))
    optimiser = torch.optim.Adam(net.parameters(), lr=learning_rate)
    for _ in range(60):
        batch = centres[labels] + torch.rand(36, 64, generator=random)
        optimiser.zero_grad()
        batch_hard(net(batch), labels, margin).loss.backward()
        optimiser.step()
    with torch.no_grad():
        embeddings = net(batch)
    return net, batch, torch.pdist(embeddings).median().item()


@exercise("02.5", "Notebook 02's collapsed network is found and cured in the same way.")
def check_collapse(answer: Answer) -> None:
    count, cure = parts(answer.value, "living_units", "cure")
    _check_living_units(Answer(count))
    ill = {"margin": 0.5, "learning_rate": 0.1, "batch_norm": False, "slope": 0.0}
    settings = of_type(Answer(cure)(ill), dict, "what cure returns")
    for name in ill.keys() ^ settings.keys():
        wrong(f"there is no setting {name!r}" if name in settings else f"{name!r} is missing")
    changed = {name for name in ill if settings[name] != ill[name]}
    need(changed, "no setting is changed yet: the network still dies")
    for seed in range(3):
        net, batch, spread = train_small_net(seed, **settings)
        living = _living(net, batch)
        dead = min(living) < 4
        same_training = dead and changed == {"margin"}
        need(not same_training, "the gradients agree for margins 0.1 and 5; look at the layers")
        need(not dead, f"with seed {seed}, a layer is dead: {living} units of 16 live")
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
    living = of_type(count(net, batch), list, "what living_units returns")
    layers = "the network has 2 layers of ReLU or LeakyReLU"
    need(len(living) == 2, f"{layers}, your list has {len(living)} entries")
    misreadings = {
        "a unit lives if it answers to one image; yours must answer to all": 1,
        "outputs were counted, not units: a unit that answers to two images is one unit": 6,
        "all units are counted, also those that give 0 for every image": 5,
        "dead units were counted, not living ones": 2,
    }
    leaky = {"a leaky unit below 0 is not dead: what it gives is not 0": 0}
    agree(living[0], 3, "the number of living units in the first layer", misreadings)
    agree(living[1], 2, "the number of living units in the second layer", leaky)


def _living(net: nn.Sequential, images: Tensor) -> list[int]:
    living, x = [], images
    with torch.no_grad():
        for layer in net:
            x = layer(x)
            if isinstance(layer, nn.ReLU | nn.LeakyReLU):
                living.append(int((x != 0).any(0).sum()))
    return living
