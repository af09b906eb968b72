"""Checks of sheet 03: the protocol, AP, the residual block, an honest choice, flip averaging."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tripletlib.checks.answers import (
    Answer,
    agree,
    exercise,
    generator,
    need,
    number,
    numbers,
    parts,
    tensor,
    type_name,
    wrong,
)
from tripletlib.evaluation import average_precision


@exercise("03.1", "Every score of a re-identification system begins with this filter.")
def check_protocol(answer: Answer) -> None:
    """Which gallery pictures count for a query."""
    # person, camera, how many; the query is person 7 in camera 2
    groups = [(7, 2, 4), (7, 1, 3), (7, 5, 2), (8, 2, 9), (11, 2, 3), (8, 1, 5), (0, 2, 2),
              (0, 3, 4), (-1, 2, 3), (-1, 4, 3)]  # fmt: skip
    rows = np.concatenate([np.tile((pid, camid), (count, 1)) for pid, camid, count in groups])
    pids, camids = np.random.default_rng(0).permutation(rows).T
    cases = (
        (7, 2, pids, camids),
        (8, 1, pids, camids),
        (9, 1, np.array([8, 8]), np.array([1, 2])),
        (9, 1, np.array([], int), np.array([], int)),
    )
    for pid, camid, of_gallery, cameras in cases:
        counts = answer(pid, camid, of_gallery, cameras)
        kept = numbers(counts, [len(of_gallery)], "what counts", "b")
        same, own, junk = of_gallery == pid, cameras == camid, of_gallery == -1
        distractor = of_gallery == 0
        stranger = ~same & ~junk & ~distractor

        gone = ~kept
        for lost, sentence in (
            (stranger & own & gone, "strangers from the query's camera are gone"),
            (same & ~own & gone, "right answers from other cameras are gone"),
            (distractor & gone, "distractors (pid 0) are gone: they stay, and are never right"),
            (stranger & gone, "strangers are gone"),
        ):
            need(not lost.any(), f"{lost.sum()} {sentence}")
        for left, sentence in (
            (junk & kept, "bad boxes (pid -1) still count"),
            (same & own & kept, "pictures of the query's person in its own camera still count"),
        ):
            need(not left.any(), f"{left.sum()} {sentence}")


@exercise("03.2", "mAP, the score of every table in the field, is the mean of it over the queries.")
def check_average_precision(answer: Answer) -> None:
    """AP by the rectangle rule."""
    random = np.random.default_rng(1)
    lists = [np.isin(np.arange(1, 10), [1, 5, 9]), np.ones(4, bool), np.array([False, True])]
    lists += [random.random(30) < share for share in (0.1, 0.5)]
    lists += [np.zeros(5, bool), np.array([], bool)]
    for right in lists:
        ap = number(answer(right), "AP")
        wanted = average_precision(right)
        places = np.arange(1, len(right) + 1)
        precision = np.cumsum(right) / places
        marks = f"right answers at ranks {places[right].tolist()} of {len(right)}"
        if np.isnan(wanted):
            need(
                np.isnan(ap), f"a list of {len(right)} without a right answer has no AP: return NaN"
            )
            continue
        misreadings = {
            "divide by the number of right answers": (precision * right).sum() / len(right),
            "wrong pictures add their precision, too: look at the ranks of right answers only": (
                precision.mean()
            ),
            "ranks begin at 1: at the first place the precision is a whole": (
                float(np.mean(np.arange(1, right.sum() + 1) / np.maximum(places[right] - 1, 1)))
            ),
            "that is the precision of the whole list, in any order": right.mean(),
            "this is the trapezoid rule; the exercise asks for rectangles": (
                average_precision(right, "trapezoid")
            ),
        }
        agree(ap, wanted, misreadings, f"{marks} do not make an AP of {ap:.3f}")


@exercise("03.3", "LuNet is a row of twelve such blocks, with a max-pooling every one to three.")
def check_block(answer: Answer) -> None:
    """A pre-activation residual block."""
    need(isinstance(answer.value, type), "hand over the class, by its name and without brackets")
    need(issubclass(answer.value, nn.Module), "the class must be an nn.Module")
    for n_in, n_inner, n_out in ((32, 8, 32), (128, 64, 256), (64, 16, 32)):
        block = answer(n_in, n_inner, n_out, about=f"channels {n_in}, {n_inner}, {n_out}")
        images = torch.randn(2, n_in, 8, 4, generator=generator(0))
        result = _forward(block, images, n_in, n_out)
        size = list(result.shape)
        need(size[1:2] == [n_out], f"{n_out} channels are asked for, {size[1:2]} come out")
        need(
            size == [2, n_out, 8, 4],
            f"a map of 8 x 4 comes out as {' x '.join(map(str, size[2:]))}: is the 3 x 3 "
            "convolution padded?",
        )
        kernels = sorted(c.kernel_size[0] for c in block.modules() if isinstance(c, nn.Conv2d))
        expected = [1, 1, 3] if n_in == n_out else [1, 1, 1, 3]
        need(
            kernels == expected,
            f"from {n_in} to {n_out} channels the kernels are {kernels}, not {expected}",
        )
        if n_in == n_out:
            order = _order_of_layers(block, images)
            need(
                order == ["norm", "conv"] * 3,
                "a batch-normalisation comes before each convolution; here the order is "
                + ", ".join(order),
            )
            _check_sum(block, images)
    _check_activations(answer(1, 1, 1))


def _forward(block: nn.Module, images: Tensor, n_in: int, n_out: int) -> Tensor:
    try:
        result = block(images)
    except NotImplementedError:
        wrong("not written yet: fill in the stub and run its cell, then check again")
    except RuntimeError as error:
        if n_in != n_out and "must match" in str(error):
            wrong(f"{n_in} and {n_out} channels cannot be added")
        wrong(f"with {n_in} channels in and {n_out} out, forward raises: {error}")
    need(isinstance(result, Tensor), f"forward must return a tensor, not {type_name(result)}")
    return result


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


def _check_activations(block: nn.Module) -> None:
    """A block of single channels that only activates: -1 becomes -0.3 three times over."""
    with torch.no_grad():
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.zero_()
                layer.weight[..., layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = 1
                if layer.bias is not None:
                    layer.bias.zero_()
        minus_one = -torch.ones(1, 1, 3, 3)
        residual = (block.eval()(minus_one) - minus_one)[0, 0, 1, 1].item()
    misreadings = {
        "nothing passes below 0: the ReLU is leaky, with slope 0.3": 0.0,
        "no leaky ReLU is found: one comes before each convolution": -1.0,
        "one leaky ReLU is found: one comes before each convolution": -0.3,
        "two leaky ReLUs are found: one comes before each convolution": -0.09,
        "the leaky ReLU has PyTorch's usual slope, 0.01, not 0.3": -1e-6,
    }
    agree(residual, -0.027, misreadings, "the activation is not a leaky ReLU of slope 0.3")


def _check_sum(block: nn.Module, images: Tensor) -> None:
    """With all convolutions at 0 only what came in is left."""
    with torch.no_grad():
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.zero_()
                if layer.bias is not None:
                    layer.bias.zero_()
        result = block(images)
    need(result.any(), "with all convolutions at 0 nothing comes out: what came in must be added")
    if torch.allclose(result, images, atol=1e-5):
        return
    negative = images < 0
    positive_kept = torch.allclose(result[~negative], images[~negative], atol=1e-5)
    need(not positive_kept, "the sum is activated once more: this block leaves it as it is")
    wrong("with all convolutions at 0 something else than what came in comes out")


@exercise("03.4", "Notebook 04's last warning, and every honest table, rests on this.")
def check_honest_choice(answer: Answer) -> None:
    """Chooses a setting on training people, and reports it on the test people."""
    for seed in range(3):
        random = np.random.default_rng(seed)
        settings = [(stripes, bins) for stripes in (3, 6, 9) for bins in (3, 4)]
        table = {
            part: dict(zip(settings, random.permutation(6) / 10 + 0.1, strict=True))
            for part in ("training", "test")
        }
        looked: list[tuple[str, Any]] = []
        result = answer(settings, _recording(table, looked), copied=False)
        best, reported = parts(result, ("the chosen setting", "its score on the test people"))
        need(best in table["test"], f"the chosen setting {best!r} is none of those given")
        value = number(reported, "the score")
        looks = [setting for part, setting in looked if part == "test"]
        right = max(settings, key=table["training"].__getitem__)
        if len(set(looks)) > 1:
            wrong(f"the test people were asked for {len(set(looks))} settings: choose it on "
                  "training people")  # fmt: skip
        need(best == right, "another setting is better on the training people")
        if np.isclose(value, table["training"][best]):
            wrong("that is the score on the people it was chosen on: report the test people's")
        need(np.isclose(value, table["test"][best]), "the score is not that of the chosen setting")


def _recording(
    table: dict[str, dict[Any, float]], looked: list[tuple[str, Any]]
) -> Callable[[Any, str], float]:
    def score(setting: Any, people: str) -> float:
        if people not in table:
            wrong(f"score takes 'training' or 'test' people, not {people!r}")
        looked.append((people, setting))
        return table[people][setting]

    return score


@exercise("03.5", "`embed(..., tta='flip')` does so; notebook 04 measures what it is worth.")
def check_flip(answer: Answer) -> None:
    """Mean of the embeddings of a picture and of its mirror image."""
    images = torch.rand(3, 3, 6, 4, generator=generator(0))
    weights = torch.randn(3 * 6 * 4, 5, generator=generator(1))

    def model(batch: Tensor) -> Tensor:
        return (batch.flatten(1) @ weights).square()

    result = tensor(answer(model, images), (3, 5), "the embeddings")
    plain, mirrored, upside = model(images), model(images.flip(3)), model(images.flip(2))
    misreadings = (
        ((plain + upside) / 2, "top and bottom are exchanged"),
        ((plain + model(images.flip(2, 3))) / 2, "top and bottom are exchanged as well"),
        (plain + mirrored, "this is the sum of the two embeddings: their mean is asked for"),
        (mirrored, "only the mirror image is embedded"),
        (plain, "the mirror image changes nothing here: is it embedded?"),
        (
            model((images + images.flip(3)) / 2),
            "the two pictures are averaged, a ghost with two left sides: average their embeddings",
        ),
        ((plain + model(images.flip(1))) / 2, "red and blue are exchanged, not left and right"),
    )
    if torch.allclose(result, (plain + mirrored) / 2, rtol=1e-4, atol=1e-5):
        return
    for misread, sentence in misreadings:
        if torch.allclose(result, misread, rtol=1e-4, atol=1e-5):
            wrong(sentence)
    wrong("these are not the means of the two embeddings")
