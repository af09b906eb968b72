"""The machinery of the checks: time, exceptions, types and shapes, and what it leaves alone."""

import sys

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from pytorch_metric_learning import miners
from pytorch_metric_learning.distances import LpDistance
from torch import nn

from tripletlib.checks import WrongAnswer, check, predicted


def sentence(exercise, answer, **limits):
    with pytest.raises(WrongAnswer) as caught:
        check(exercise, answer, **limits)
    return str(caught.value)


def right_masks(labels):
    same = labels[:, None] == labels
    return same & ~torch.eye(len(labels), dtype=torch.bool), ~same


def test_a_right_answer_is_told_what_it_is_for(capsys):
    check("02.1", right_masks)
    said = capsys.readouterr().out
    assert said.startswith("✓ 02.1 is right. ")
    assert len(said.split(". ", 1)[1]) > 30


def test_an_answer_that_raises_is_told_so():
    def raising(labels):
        return labels["first"]

    said = sentence("02.1", raising)
    assert said.startswith("02.1: it raises ")
    assert "line" in said
    assert "[0, 0, 1, 1]" in said


def test_an_answer_that_never_ends_is_stopped():
    def looping(labels):
        while True:
            pass

    assert "no result after 0.2 seconds" in sentence("02.1", looping, seconds=0.2)


def test_an_answer_that_ends_the_program_does_not():
    assert "return the result" in sentence("02.1", lambda labels: sys.exit(0))


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (lambda labels: None, "return 2 things"),
        (lambda labels: (1, 2, 3), "these are 3"),
        (lambda labels: (labels, labels), "must have the shape [4, 4], yours has [4]"),
        (lambda labels: ([[True]], [[True]]), "must be a tensor, not a list"),
        (None, "hand over the function itself"),
        (torch.zeros(2), "hand over the function itself"),
    ],
)
def test_another_type_or_shape_is_named(answer, part):
    assert part in sentence("02.1", answer)


class Forgetful(nn.Module):
    """A block of 03.3 whose `__init__` makes no layer."""

    def __init__(self, *channels):
        super().__init__()

    def forward(self, images):
        return self.convolution(images)


@pytest.mark.parametrize(
    ("exercise", "answer", "part"),
    [
        ("01.5", lambda log, margin: np.ones(3), "cannot be worked with: ValueError"),
        ("03.3", Forgetful, "cannot be worked with: AttributeError"),
        ("04.5", lambda pids, score, settings, rng: (3, 0.5), "not 3: its index?"),
        ("05.3", lambda order, start, steps, k: ["first"], "cannot be worked with: ValueError"),
    ],
)
def test_what_an_answer_gives_is_named_where_it_cannot_be_used(exercise, answer, part):
    assert part in sentence(exercise, answer)


def test_a_stub_is_not_written_yet():
    def stub(labels):
        raise NotImplementedError

    assert "not written yet" in sentence("02.1", stub)


def test_an_answer_that_spoils_its_input_cannot_spoil_the_check():
    def spoiling(labels):
        masks = right_masks(labels)
        labels.zero_()
        return masks

    check("02.1", spoiling)


def test_warnings_on_the_way_do_not_reach_the_cell(capsys):
    def warning(labels):
        import warnings

        warnings.warn("look here", stacklevel=1)
        return right_masks(labels)

    check("02.1", warning)
    assert not capsys.readouterr().err


def naive_semi_hard(distances, labels):
    """The definition, triplet by triplet."""
    triplets = []
    for a, anchor in enumerate(labels.tolist()):
        others = [n for n, label in enumerate(labels.tolist()) if label != anchor]
        for p, label in enumerate(labels.tolist()):
            if p != a and label == anchor and others:
                reach = distances[a].tolist()
                farther = [n for n in others if reach[n] > reach[p]]
                negative = min(farther, key=reach.__getitem__) if farther else max(
                    others, key=reach.__getitem__)  # fmt: skip
                triplets.append([a, p, negative])
    return torch.tensor(triplets, dtype=torch.long).reshape(-1, 3)


def test_the_check_of_semi_hard_agrees_with_the_definition_and_notices_any_other_choice():
    check("02.3", naive_semi_hard)

    def one_off(distances, labels):
        triplets = naive_semi_hard(distances, labels)
        if len(triplets):
            a, _, chosen = triplets[-1].tolist()
            others = (labels != labels[a]).nonzero().flatten()
            different = others[distances[a, others] != distances[a, chosen]]
            triplets[-1, 2] = different[-1]
        return triplets

    assert "C3" in sentence("02.3", one_off)


def test_semi_hard_negatives_are_those_of_pytorch_metric_learning():
    points = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 3
    miner = miners.TripletMarginMiner(
        margin=1e9, type_of_triplets="semihard", distance=LpDistance(normalize_embeddings=False)
    )
    nearest = {}
    distances = torch.cdist(points, points)
    for a, p, n in torch.stack(miner(points, labels), dim=1).tolist():
        nearest[a, p] = min(nearest.get((a, p), torch.inf), distances[a, n].item())
    triplets = naive_semi_hard(distances, labels).tolist()
    ours = {(a, p): distances[a, n].item() for a, p, n in triplets}
    assert len(nearest) > 10
    assert {pair: ours[pair] for pair in nearest} == pytest.approx(nearest, abs=1e-5)


def test_nan_is_named():
    assert "NaN" in sentence("02.4", lambda points: points @ points.T * torch.nan)


@pytest.mark.parametrize("name", ["02.9", "07.1", "night", ""])
def test_an_exercise_that_is_not_there_is_no_wrong_answer(name):
    with pytest.raises(ValueError, match="there is no exercise"):
        check(name, right_masks)


def test_a_notebook_shows_the_sentence_without_a_traceback(capsys):
    shell = InteractiveShell()
    shell.run_cell("from tripletlib.checks import check\ncheck('02.1', lambda labels: 3)")
    said = capsys.readouterr().out
    assert "✗ 02.1: return 2 things" in said
    assert "Traceback" not in said


def test_a_prediction_must_be_written_first():
    for empty in ("", "   ", "\n"):
        with pytest.raises(WrongAnswer, match="write your prediction"):
            predicted(empty)
    for given in ("it falls", 0, 0.5):
        predicted(given)
