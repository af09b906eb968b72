from importlib import import_module

import numpy as np
import pytest
import torch
import yaml
from small_training import Poisoned, blobs, settings, small_net
from torch import nn

from tripletlib.training.fit import (
    EpochReport,
    NonFiniteLossError,
    TrainingSettings,
    fit,
)
from tripletlib.training.history import COLUMNS, History
from tripletlib.training.settings import LOSSES


def train(run_folder=None, callbacks=(), **changed):
    model = small_net()
    history = fit(
        model, *blobs(), settings(**changed), run_folder, callbacks=callbacks, progress="off"
    )
    return model, history


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("margin", [0.5, "soft"])
def test_training_lowers_the_loss(loss, margin):
    _, history = train(loss=loss, margin=margin)
    assert history["loss"][-10:].mean() < 0.6 * history["loss"][:10].mean()


def test_the_same_seed_gives_the_same_history():
    (first, one), (second, two) = train(), train()
    for column in COLUMNS:
        np.testing.assert_array_equal(one[column], two[column])
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


class Looks(list):
    """A callback that does not wait for an epoch's end."""

    between_epochs = True

    def __call__(self, report):
        self.append(report.step)


def test_a_callback_may_look_between_epochs_and_when_a_finished_run_comes_back(
    tmp_path, monkeypatch
):
    looks, epochs = Looks(), []
    keep = {"checkpoint_every": 12, "resume": True, "progress": "off"}

    def train(name):
        folder, callbacks = tmp_path / name, [looks, epochs.append]
        fit(small_net(), *blobs(), settings(steps=12), folder, callbacks, **keep)

    module = import_module("tripletlib.training.fit")
    monkeypatch.setattr(module, "LOOK_EVERY", np.inf)
    train("patient")
    assert looks == [5, 10, 12]
    monkeypatch.setattr(module, "LOOK_EVERY", 0)
    train("curious")
    train("curious")
    assert looks == [5, 10, 12, *range(1, 13), 12]
    assert [report.step for report in epochs] == 2 * [5, 10, 12]


def test_another_seed_gives_another_history():
    assert not np.array_equal(train()[1]["loss"], train(seed=1)[1]["loss"])


def test_steps_are_counted_not_passes():
    _, history = train(steps=7)
    assert history["step"].tolist() == list(range(1, 8))


def test_the_schedule_reaches_the_optimiser():
    model, history = train(steps=30, decay_start=10, decay_end=20)
    rates = history["learning_rate"]
    assert rates[9] == pytest.approx(0.01)
    assert rates[19] == pytest.approx(0.00001)
    still = [parameter.detach().clone() for parameter in model.parameters()]
    shorter, _ = train(steps=20, decay_start=10, decay_end=20)
    # Ten steps at a thousandth of the rate move no weight by more than 10 * 1e-5.
    for before, after in zip(shorter.parameters(), still, strict=True):
        assert (before - after).abs().max() < 1.5e-4


def test_epochs_default_to_one_look_at_the_set_and_end_with_the_last_step():
    seen: list[EpochReport] = []
    train(callbacks=[seen.append], steps=12)  # ceil(60 images / 12 a batch) = 5 steps an epoch
    assert [(report.epoch, report.epochs, report.step) for report in seen] == [
        (1, 3, 5),
        (2, 3, 10),
        (3, 3, 12),
    ]


def test_the_model_ends_in_evaluation_mode():
    assert not train(steps=1)[0].training


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_run_folder_gets_settings_and_log(tmp_path):
    _, history = train(tmp_path / "run", steps=5, margin="soft")
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["training"]["margin"] == "soft"
    assert TrainingSettings(**config["training"]) == settings(steps=5, margin="soft")
    assert config["network"] == {"class": "Sequential", "parameters": count(small_net())}
    assert len(config["data"].pop("fingerprint")) == 16
    assert config["data"] == {"images": [60, 1, 8, 8], "identities": 6}
    assert config["machine"]["threads"] == torch.get_num_threads()
    assert config["machine"]["precision"] in ("float32", "bfloat16")  # what "auto" chose
    assert config["versions"]["torch"] == torch.__version__
    np.testing.assert_array_equal(History.load(tmp_path / "run")["loss"], history["loss"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("loss", LOSSES)
def test_embeddings_that_are_not_finite_stop_with_the_step(tmp_path, value, loss):
    with pytest.raises(NonFiniteLossError, match=r"at step 4 \(learning rate 1\.00e-02\)"):
        fit(Poisoned(4, value), *blobs(), settings(loss=loss), tmp_path, progress="off")
    assert len(History.load(tmp_path)) == 3  # what was learnt before is on disk


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((4, 1, 8, 8)), np.zeros(4, int), "uint8"),
        (np.zeros((4, 8, 8), np.uint8), np.zeros(4, int), r"\[N, C, H, W\]"),
        (np.zeros((4, 1, 8, 8), np.uint8), np.zeros(3, int), "with labels .* with .3.$"),
        (np.zeros((4, 1, 8, 8), np.uint8), np.zeros(4, int), "lower `identities`"),
    ],
)
def test_bad_data_is_named(images, labels, message):
    with pytest.raises(ValueError, match=message):
        fit(small_net(), images, labels, settings(), progress="off")


def test_lines_are_one_an_epoch(capsys):
    fit(small_net(), *blobs(), settings(steps=10), progress="lines")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1 of 2 · step 5 · loss ")


def test_bfloat16_trains_too():
    _, history = train(precision="bfloat16")
    assert history["loss"][-10:].mean() < 0.6 * history["loss"][:10].mean()


class OnePoint(nn.Module):
    """A network that embeds everything in one point, as a collapsed one does."""

    def __init__(self):
        super().__init__()
        self.point = nn.Parameter(torch.zeros(1, 2))

    def forward(self, images):
        return self.point.expand(len(images), 2)


@pytest.mark.parametrize("margin", [0.5, "soft"])
def test_a_collapse_is_said_in_one_line(capsys, margin):
    fit(OnePoint(), *blobs(), settings(steps=300, margin=margin), progress="off")
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1
    assert printed[0].startswith("step 200: the embeddings have collapsed")
    assert "batch-normalisation" in printed[0]


def test_a_good_training_is_not_called_a_collapse(capsys):
    fit(small_net(), *blobs(), settings(steps=300), progress="off")
    assert capsys.readouterr().out == ""
