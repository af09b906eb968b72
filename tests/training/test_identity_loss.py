"""What a training may do beside the triplet loss: identity loss, warm-up, random erasing."""

import math

import numpy as np
import pytest
import torch
from small_training import blobs, settings, small_net
from torch import nn
from torch.nn import functional as F

from tripletlib.runtime import Processes
from tripletlib.training import fit, load_checkpoint
from tripletlib.training.step import Trainer


class WithNeck(nn.Module):
    """Keeps the last images that it saw."""

    def __init__(self):
        super().__init__()
        self.inner, self.neck = small_net(), nn.BatchNorm1d(2)

    def forward(self, images):
        self.seen = images
        embeddings = self.inner(images)
        return embeddings if self.training else F.normalize(self.neck(embeddings))


def trainer(model, **changed):
    images, labels = blobs()
    return Trainer(model, images, labels + 7, settings(**changed), Processes(), "")


def test_it_is_the_mean_of_smoothed_cross_entropies_behind_the_neck():
    model = WithNeck()
    ours, indices = trainer(model, identity_loss=0.5), [0, 31, 2, 59, 40]
    torch.manual_seed(0)
    nn.init.normal_(ours.classifier.weight)
    embeddings = torch.randn(5, 2)
    found = ours.identity_loss(embeddings, torch.tensor(indices))
    total = 0.0
    for scores, true in zip(
        ours.classifier(model.neck(embeddings)).tolist(), blobs()[1][indices], strict=True
    ):
        logs = [score - math.log(sum(map(math.exp, scores))) for score in scores]
        total -= sum((0.1 / 6 + 0.9 * (k == true)) * logs[k] for k in range(6))
    assert found.item() == pytest.approx(0.5 * total / 5)


def test_the_classifier_learns_the_identities():
    ours = trainer(WithNeck(), identity_loss=1.0)
    for _ in range(60):
        ours.take_step()
    with torch.no_grad():
        scores = ours.classifier(ours.model.neck(ours.model(ours.images / 255)))
    right = scores.argmax(1).numpy() == blobs()[1]
    assert right.mean() > 0.6  # guessing: one in six


def test_the_log_shows_the_triplet_loss_alone():
    plain, ours = (trainer(small_net(), identity_loss=weight) for weight in (0, 1))
    (first, other), (second, again) = ((one.take_step(), one.take_step()) for one in (plain, ours))
    assert first["loss"] == pytest.approx(second["loss"])
    for _ in range(3):
        other, again = plain.take_step(), ours.take_step()
    assert other["loss"] != pytest.approx(again["loss"], rel=1e-5)  # it has moved the weights


def test_where_it_is_not_finite_nothing_changes():
    ours = trainer(small_net(), identity_loss=1.0)
    nn.init.constant_(ours.classifier.weight, math.inf)
    before = [weights.clone() for weights in ours.model.parameters()]
    assert not math.isfinite(ours.take_step()["loss"])
    assert all(map(torch.equal, before, ours.model.parameters()))


def test_a_stopped_run_goes_on_with_its_classifier(tmp_path):
    changed = {"identity_loss": 0.5, "warm_up": 4, "random_erasing": True, "augment": True}
    chosen = settings(steps=8, **changed)

    def run(model, **resume):
        keep = {"progress": "off", "checkpoint_every": 4} | resume
        fit(model, *blobs(), chosen, tmp_path / "run", **keep)
        return load_checkpoint(tmp_path / "run" / "checkpoints")

    whole, resumed = WithNeck(), WithNeck()
    end = run(whole)
    (tmp_path / "run" / "checkpoints" / "step_00000008.pt").unlink()
    again = run(resumed, resume=True)
    for part in ("model", "classifier"):
        assert end[part].keys() == again[part].keys()
        for name, value in end[part].items():
            assert value.equal(again[part][name]), name
    assert again["classifier"]["weight"].abs().max() > 0
    assert not any("classifier" in name for name in again["model"])


def test_the_rate_grows_linearly():
    chosen = settings(warm_up=10, learning_rate=0.1, decay_start=15, decay_end=20)
    rates = [chosen.learning_rate_at(step) for step in (1, 5, 10, 15, 20)]
    assert rates == pytest.approx([0.01, 0.05, 0.1, 0.1, 0.0001])


@pytest.mark.parametrize("wanted", [False, True])
def test_batches_are_erased_if_asked_for(wanted):
    ours = trainer(WithNeck(), random_erasing=wanted, precision="float32")
    ours.take_step()
    grey = (ours.model.seen == 0.5).flatten(1).any(1)  # no byte is half of 255
    assert wanted == bool(grey.any())
    assert not grey.all()
    rest = (ours.model.seen[~grey] * 255).round().numpy()
    assert np.isin(rest, blobs()[0]).all()
