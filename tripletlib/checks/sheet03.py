"""Checks of sheet 03: the protocol, AP, the residual block, an honest choice, flip averaging."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tripletlib.checks.answers import Answer, exercise
from tripletlib.checks.values import agree, need, normal, number, numbers, of_type, parts, wrong
from tripletlib.evaluation import average_precision


@exercise("03.1", "Every score of a re-identification system begins with this filter.")
def check_protocol(answer: Answer) -> None:
    # person, camera, how many; the query is person 7 in camera 2
    groups = [(7, 2, 4), (7, 1, 3), (7, 5, 2), (8, 2, 9), (11, 2, 3), (8, 1, 5), (0, 2, 2),
              (0, 3, 4), (-1, 2, 3), (-1, 4, 3)]  # fmt: skip
    rows = np.concatenate([np.tile((pid, camid), (count, 1)) for pid, camid, count in groups])
    rows = np.random.default_rng(0).permutation(rows)
    none = np.empty((0, 2), int)
    for pid, camid, table in ((7, 2, rows), (8, 1, rows), (9, 1, rows[:1]), (9, 1, none)):
        pids, camids = table.T
        kept = numbers(answer(pid, camid, pids, camids), [len(pids)], "what counts", "b")
        same, own, junk, distractor = pids == pid, camids == camid, pids == -1, pids == 0
        stranger = ~same & ~junk & ~distractor
        for mistaken, sentence in (
            (~kept & stranger & own, "strangers from the query's camera are gone"),
            (~kept & same & ~own, "right answers from other cameras are gone"),
            (~kept & distractor, "distractors (pid 0) are gone: they stay, and are never right"),
            (~kept & stranger, "strangers are gone"),
            (kept & junk, "bad boxes (pid -1) still count"),
            (kept & same & own, "pictures of the query's person in its own camera still count"),
        ):
            need(not mistaken.any(), f"{mistaken.sum()} {sentence}")


@exercise("03.2", "mAP, the score of every table in the field, is its mean over the queries.")
def check_average_precision(answer: Answer) -> None:
    random = np.random.default_rng(1)
    lists = [np.isin(np.arange(1, 10), [1, 5, 9]), np.ones(4, bool), np.array([False, True])]
    lists += [random.random(30) < share for share in (0.1, 0.5)]
    for right in lists:
        places = np.arange(1, len(right) + 1)
        precision, hits = np.cumsum(right) / places, np.arange(1, right.sum() + 1)
        misreadings = {
            "divide by the number of right answers": (precision * right).mean(),
            "wrong pictures add their precision, too: look at the ranks of right answers only": (
                precision.mean()
            ),
            "ranks begin at 1: at the first place the precision is a whole": (
                np.mean(hits / np.maximum(places[right] - 1, 1))
            ),
            "that is the precision of the whole list, in any order": right.mean(),
            "this is the trapezoid rule; the exercise asks for rectangles": (
                average_precision(right, "trapezoid")
            ),
        }
        what = f"the AP of right answers at ranks {places[right].tolist()} of {len(right)}"
        agree(answer(right), average_precision(right), what, misreadings)
    for count in (5, 0):
        ap = number(answer(np.zeros(count, bool)), "the AP")
        none = f"a list of {count} without a right answer"
        need(np.isnan(ap), f"{none} has no AP: return NaN")


@exercise("03.3", "LuNet is a row of twelve such blocks, with a max-pooling every one to three.")
def check_block(answer: Answer) -> None:
    need(isinstance(answer.value, type), "hand over the class, by its name and without brackets")
    need(issubclass(answer.value, nn.Module), "the class must be an nn.Module")
    for n_in, n_inner, n_out in ((32, 8, 32), (128, 64, 256), (64, 16, 32)):
        block = answer(n_in, n_inner, n_out, about=f"channels {n_in}, {n_inner}, {n_out}")
        images = normal(0, 2, n_in, 8, 4)
        result = _forward(block, images, n_in, n_out)
        size = list(result.shape)
        need(size[1:2] == [n_out], f"{n_out} channels are asked for, {size[1:2]} come out")
        changed = f"a map of 8 x 4 comes out as {' x '.join(map(str, size[2:]))}"
        need(size == [2, n_out, 8, 4], f"{changed}: is the 3 x 3 convolution padded?")
        kernels = sorted(layer.kernel_size[0] for layer in _convolutions(block))
        expected = [1, 1, 3] if n_in == n_out else [1, 1, 1, 3]
        these = f"from {n_in} to {n_out} channels the kernels are {kernels}"
        need(kernels == expected, f"{these}, not {expected}")
        if n_in == n_out:
            order = _order_of_layers(block, images)
            rule = "a batch-normalisation comes before each convolution"
            need(order == ["norm", "conv"] * 3, f"{rule}; here the order is {', '.join(order)}")
            _check_sum(block, images)
    _check_activations(answer(1, 1, 1))


def _forward(block: nn.Module, images: Tensor, n_in: int, n_out: int) -> Tensor:
    try:
        return of_type(block(images), Tensor, "what forward returns")
    except NotImplementedError:
        wrong("not written yet: fill in the stub and run its cell, then check again")
    except RuntimeError as error:
        differ = "must match" in str(error)
        need(not differ or n_in == n_out, f"{n_in} and {n_out} channels cannot be added")
        need(not differ, "maps of two sizes are added: is the 3 x 3 convolution padded?")
        wrong(f"with {n_in} channels in and {n_out} out, forward raises: {error}")


def _convolutions(block: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]


def _order_of_layers(block: nn.Module, images: Tensor) -> list[str]:
    order: list[str] = []
    handles = [
        layer.register_forward_hook(lambda *_, kind=kind: order.append(kind))
        for layer in block.modules()
        for kind, type_ in (("norm", nn.BatchNorm2d), ("conv", nn.Conv2d))
        if isinstance(layer, type_)
    ]
    block(images)
    for handle in handles:
        handle.remove()
    return order


@torch.no_grad()
def _set_kernels(block: nn.Module, centre: float) -> None:
    """All convolutions give `centre` times what is in the middle of their windows."""
    for layer in _convolutions(block):
        layer.weight.zero_()
        layer.weight[..., layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = centre
        if layer.bias is not None:
            layer.bias.zero_()


@torch.no_grad()
def _check_sum(block: nn.Module, images: Tensor) -> None:
    """With all convolutions at 0 only what came in is left."""
    _set_kernels(block, 0)
    result, at_zero = block(images), "with all convolutions at 0"
    need(result.any(), f"{at_zero} nothing comes out: what came in must be added")
    as_came = torch.isclose(result, images, atol=1e-5)
    activated = as_came[images >= 0].all() and not as_came.all()
    need(not activated, "the sum is activated once more: this block leaves it as it is")
    need(as_came.all(), f"{at_zero} something else than what came in comes out")


@torch.no_grad()
def _check_activations(block: nn.Module) -> None:
    """A block of single channels that only activates: -1 is multiplied by the slope three times."""
    _set_kernels(block, 1)
    minus_one = -torch.ones(1, 1, 3, 3, dtype=torch.float64)
    residual = (block.double().eval()(minus_one) - minus_one)[0, 0, 1, 1].item()
    misreadings = {
        "nothing passes below 0: the ReLU is leaky, with slope 0.3": 0.0,
        "no leaky ReLU is found: one comes before each convolution": 1.0,
        "one leaky ReLU is found: one comes before each convolution": np.cbrt(0.3),
        "two leaky ReLUs are found: one comes before each convolution": np.cbrt(0.09),
        "the leaky ReLU has PyTorch's usual slope, 0.01, not 0.3": 0.01,
    }
    agree(np.cbrt(-residual), 0.3, "the slope of the leaky ReLU", misreadings)


@exercise("03.4", "Notebook 04's sweep warns of the opposite; honest tables are made like this.")
def check_honest_choice(answer: Answer) -> None:
    settings = [(stripes, bins) for stripes in (3, 6, 9) for bins in (3, 4)]
    for seed in range(3):
        random = np.random.default_rng(seed)
        table = {
            (setting, people): value
            for people in ("training", "test")
            for setting, value in zip(settings, random.permutation(6) / 10 + 0.1, strict=True)
        }
        looked: set[tuple[Any, str]] = set()

        def score(setting: Any, people: str, table: Any = table, looked: Any = looked) -> float:
            known = people in ("training", "test")
            need(known, f"score takes 'training' or 'test' people, not {people!r}")
            looked.add((setting, people))
            return table[setting, people]

        result = answer(settings, score, copied=False)
        best, reported = parts(result, "the chosen setting", "its score on the test people")
        need(best in settings, f"the chosen setting {best!r} is none of those given")
        asked = sum(people == "test" for _, people in looked)
        advice = "choose it on training people"
        need(asked <= 1, f"the test people were asked for {asked} settings: {advice}")
        right = max(settings, key=lambda setting: table[setting, "training"])
        need(best == right, "another setting is better on the training people")
        chosen_on = "that is the score on the people it was chosen on: report the test people's"
        misreadings = {chosen_on: table[best, "training"]}
        agree(reported, table[best, "test"], "the score of the chosen setting", misreadings)


@exercise("03.5", "`embed(..., tta='flip')` does so; notebook 04 measures what it is worth.")
def check_flip(answer: Answer) -> None:
    images, weights = normal(0, 3, 3, 6, 4), normal(1, 3 * 6 * 4, 5)

    def model(batch: Tensor) -> Tensor:
        return (batch.flatten(1) @ weights).square()

    def mean_with(*axes: int) -> Tensor:
        return (plain + model(images.flip(axes))) / 2

    result = answer(model, images)
    numbers(result, (3, 5), "the embeddings", type_=Tensor)
    plain, mirrored = model(images), model(images.flip(3))
    ghost = "the two pictures are averaged, a ghost with two left sides: average their embeddings"
    for expected, sentence in (
        (mean_with(3), ""),
        (mean_with(2), "top and bottom are exchanged"),
        (mean_with(2, 3), "top and bottom are exchanged as well"),
        (plain + mirrored, "this is the sum of the two embeddings: their mean is asked for"),
        (mirrored, "only the mirror image is embedded"),
        (plain, "the mirror image changes nothing here: is it embedded?"),
        (model((images + images.flip(3)) / 2), ghost),
        (mean_with(1), "red and blue are exchanged, not left and right"),
    ):
        if torch.allclose(result, expected, rtol=1e-4, atol=1e-5):
            need(not sentence, sentence)
            return
    wrong("these are not the means of the two embeddings")
