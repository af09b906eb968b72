"""What test_processes.py runs in several processes: `torchrun distributed_worker.py FOLDER`."""

import os
import signal
import sys
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from small_training import Poisoned, blobs
from torch import nn

from tripletlib.datasets.decoding import UnreadableImageError
from tripletlib.embedding import EmbeddingTable
from tripletlib.evaluation import evaluate_embeddings
from tripletlib.models import LuNet, MnistNet
from tripletlib.runtime import atomic_write, current_processes, end_at_once, process_group
from tripletlib.runtime.processes import sync_batch_norm
from tripletlib.training.fit import NonFiniteLossError, TrainingInterrupted, fit, seed_everything
from tripletlib.training.history import COLUMNS
from tripletlib.training.settings import TrainingSettings

STEPS = 5


class InDouble(nn.Module):
    """A network in float64, without the biases that have no gradient: see `convolutional`."""

    def __init__(self, inner):
        super().__init__()
        self.body, self.head = inner.body.double(), inner.head.double()
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.bias.requires_grad_(False)

    def forward(self, images):
        return self.head(self.body(images.double()))


def convolutional():
    """Both kinds of batch-normalisation, and no bias whose gradient is zero.

    A bias in front of a batch-normalisation, or at the end, where it moves all embeddings alike,
    changes nothing; Adam would make full steps of the rounding errors that its gradient consists
    of, and float32 weights could not be compared.
    """
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(),
        nn.Linear(144, 16, bias=False), nn.BatchNorm1d(16), nn.Tanh(),
        nn.Linear(16, 4, bias=False),
    )  # fmt: skip


class WithNeck(nn.Module):
    """A network whose identity loss stands behind a batch-normalisation."""

    def __init__(self):
        super().__init__()
        self.inner, self.neck = convolutional(), nn.BatchNorm1d(4)
        # With mean 0, nothing but rounding would move the classifier for who is not in the batch.
        nn.init.constant_(self.neck.bias.requires_grad_(False), 0.5)

    def forward(self, images):
        embeddings = self.inner(images)
        return embeddings if self.training else self.neck(embeddings)


def other_weights():
    """The same network as a run did not begin with: what it ends with, it read in a checkpoint."""
    seed_everything(1)
    return convolutional()


def pictures(channels, height, width):
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 5)
    images = generator.integers(0, 200, (30, channels, height, width), dtype=np.uint8)
    images[np.arange(30), :, 4 * labels] += 50
    return images, labels


NETWORKS = {
    "convolutional": (convolutional, lambda: blobs()),
    "with a neck": (WithNeck, lambda: blobs()),
    "MnistNet": (lambda: InDouble(MnistNet()), lambda: pictures(1, 28, 28)),
    "LuNet": (lambda: InDouble(LuNet(4, 0.05, (32, 16))), lambda: pictures(3, 32, 16)),
}
CASES = [
    ("convolutional", loss, augment)
    for loss in ("batch_hard", "batch_all")
    for augment in (False, True)
] + [
    ("with a neck", "batch_hard", True),
    ("MnistNet", "batch_all", True),
    ("LuNet", "batch_hard", True),
]


def settings(**changed):
    values = {"identities": 4, "images_per_identity": 4, "learning_rate": 1e-3, "steps": STEPS}
    values |= {"loss": "batch_hard", "margin": 0.5, "decay_start": 0, "augment": False}
    return TrainingSettings(**values | {"precision": "float32", "steps_per_epoch": 2} | changed)


def train(case=("convolutional", "batch_hard", True), folder=None, model=None, **options):
    """Trains a network of `NETWORKS`; returns history, weights and last gradients."""
    name, loss, augment = case
    make, data = NETWORKS[name]
    seed_everything(0)
    model = make() if model is None else model
    beside = {"identity_loss": 1.0, "random_erasing": True} if name == "with a neck" else {}
    chosen = settings(loss=loss, augment=augment, **beside, **options.pop("changed", {}))
    options = {"progress": "off", "checkpoint_every": 2 if folder else None} | options
    history = fit(model, *data(), chosen, folder, **options)
    return {
        "history": {column: torch.tensor(history[column]) for column in COLUMNS},
        "weights": {key: value.clone() for key, value in model.state_dict().items()},
        "gradients": {
            key: value.grad.clone()
            for key, value in model.named_parameters()
            if value.grad is not None
        },
    }


class SignalAt(nn.Module):
    """Sends its process a signal in one forward pass, once: a file remembers."""

    def __init__(self, step, number, mark):
        super().__init__()
        self.inner, self.step, self.number, self.mark = convolutional(), step, number, mark
        self.passes = 0

    def forward(self, images):
        self.passes += 1
        last = current_processes().rank == current_processes().count - 1
        if self.passes == self.step and last and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), self.number)
        return self.inner(images)


def message_of(error_type, action):
    try:
        action()
    except error_type as error:
        return str(error)
    return "no error"


def batch_norms(processes):
    """Synchronised layers on half of a batch: outputs, gradients and statistics."""
    results = {}
    for name, (layer, features) in batch_norm_cases().items():
        mine = features.chunk(processes.count)[processes.rank].clone().requires_grad_()
        sync = partial(sync_batch_norm, layer) if processes.count > 1 else layer
        outputs = [sync(mine), sync(mine + 1)]
        weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype)
        weights = weights.view_as(features).chunk(processes.count)[processes.rank]
        ((outputs[0] + outputs[1] ** 2) * weights).sum().backward()
        results[name] = {"output": outputs[0].detach(), "gradient": mine.grad}
        results[name] |= {f"state {key}": value for key, value in layer.state_dict().items()}
        results[name] |= {f"parameter {k}": v.grad for k, v in layer.named_parameters()}
    return results


def batch_norm_cases():
    seed_everything(0)
    flat, maps = torch.randn(12, 5).double() * 3 + 7, torch.randn(8, 3, 4, 2).double() - 5
    cases = {
        "1d": (nn.BatchNorm1d(5), flat),
        "2d": (nn.BatchNorm2d(3), maps),
        "plain average": (nn.BatchNorm1d(5, momentum=None), flat),
        "no parameters": (nn.BatchNorm2d(3, affine=False), maps),
        "no statistics": (nn.BatchNorm1d(5, track_running_stats=False), flat),
    }
    for layer, _ in cases.values():
        layer.double()
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
    return cases


def everything(folder, processes):
    """All that must be seen in two processes, in one start of them, which takes seconds."""
    # Dies in step 4, two steps after a checkpoint; torchrun starts both again, from the beginning.
    # With other weights then: only those of the checkpoint lead to the end of a run left in peace.
    seed_everything(int(os.environ["TORCHELASTIC_RESTART_COUNT"]))
    killed = SignalAt(4, signal.SIGKILL, folder / "was_killed")
    results = {"killed": train(folder=folder / "killed", model=killed, resume=False)}
    results["restarts"] = os.environ["TORCHELASTIC_RESTART_COUNT"]
    results |= {case: train(case) for case in CASES}
    own = folder / f"disk_of_{processes.rank}"  # machines need not see each other's disks
    results["batch_norm"] = batch_norms(processes)
    with mock.patch("tripletlib.evaluation.scores.BLOCK", 2):
        results["scores"] = vars(evaluate_embeddings(*tables()))
    results["written"] = train(folder=own / "run", progress="lines")
    results["deal"] = message_of(
        ValueError, lambda: train(changed={"identities": 3, "images_per_identity": 5})
    )
    results["nan"] = message_of(
        NonFiniteLossError,
        lambda: fit(Poisoned(3, np.nan), *blobs(), settings(), progress="off"),
    )
    seed_everything(0)
    stopping = SignalAt(3, signal.SIGTERM, folder / f"asked_{processes.rank}")
    results["stopped"] = message_of(
        TrainingInterrupted, lambda: train(folder=own / "stopped", model=stopping, resume=True)
    )
    os.kill(os.getpid(), signal.SIGTERM)  # comes late, also to the one that nobody had asked
    seed_everything(1)
    again = SignalAt(0, signal.SIGTERM, folder)
    results["gone on"] = train(folder=own / "stopped", model=again, resume=True)
    results["went on from one"] = train(
        folder=folder / "of_one", model=other_weights(), resume=True
    )
    results["one fails"] = message_of(KeyError, lambda: processes.from_all(fail_in_last(processes)))
    results["all"] = processes.from_all(lambda: processes.rank)
    results["first fails"] = message_of(KeyError, lambda: processes.from_first(lambda: {}["key"]))
    unreadable = UnreadableImageError("picture.jpg", "cut off")  # pickle cannot carry it
    results["unreadable"] = message_of(
        ValueError, lambda: processes.in_turn(lambda: raise_(unreadable))
    )
    results["turns"] = processes.in_turn(lambda: sorted(turn(folder, processes)))
    results["last fails"] = message_of(KeyError, lambda: processes.in_turn(fail_in_last(processes)))
    return results


def tables():
    """Seven queries, the last two without a right answer, and a gallery."""
    generator = np.random.default_rng(0)
    pids = {"query": np.array([1, 2, 3, 1, 2, 8, 9]), "gallery": np.arange(30) % 4}
    return [
        EmbeddingTable(
            embeddings=generator.normal(size=(len(ids), 3)).astype(np.float32) + ids[:, None],
            pids=ids,
            camids=np.arange(len(ids)) % 3,
            paths=np.arange(len(ids)).astype(str),
            step=0,
            tta="none",
        )
        for ids in pids.values()
    ]


def turn(folder, processes):
    here = [file.name for file in folder.glob("turn_*")]
    (folder / f"turn_{processes.rank}").touch()
    return here


def raise_(error):
    raise error


def fail_in_last(processes):
    return lambda: {}["last"] if processes.rank == processes.count - 1 else None


def train_on(folder):
    """Trains until it is stopped."""
    train(folder=folder, changed={"steps": 10**6}, checkpoint_every=10)


def train_until_stopped(folder):
    """Notes in a file how it was stopped."""
    message = message_of(TrainingInterrupted, lambda: train_on(folder))
    os.kill(os.getpid(), signal.SIGTERM)  # as of a watch on the parent that looks a moment later
    with atomic_write(folder / f"stopped_{current_processes().rank}") as unfinished:
        unfinished.write_text(message)  # whoever waits for the file finds it whole


if __name__ == "__main__":
    where = Path(sys.argv[1])
    with process_group() as group:
        torch.save(everything(where, group), where / f"{group.rank}.pt")
        train_until_stopped(where / "unwatched")  # torchrun is killed meanwhile
    end_at_once(0)
