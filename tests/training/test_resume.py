"""A run that was stopped, in whatever way, ends as one that never was."""

import errno
import os
import platform
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from small_training import blobs, settings, small_net
from started import started, wait_for
from torch import nn
from torch.distributed import HashStore

from tripletlib.runtime import Processes, StopRequest, launching
from tripletlib.training import step as trainer
from tripletlib.training.fit import (
    NonFiniteLossError,
    TrainingInterrupted,
    fit,
    seed_everything,
)
from tripletlib.training.history import COLUMNS, History
from tripletlib.training.run_folder import CheckpointError, checkpoint_file, checkpoint_steps

STEPS = 60


def train(folder=None, *, model=None, callbacks=(), resume=True, every=10, **changed):
    model = model or small_net()
    history = fit(
        model,
        *blobs(),
        settings(**{"steps": STEPS, "augment": True, "steps_per_epoch": 1} | changed),
        folder,
        callbacks=callbacks,
        progress="off",
        checkpoint_every=every if folder else None,
        resume=resume,
    )
    return model, history


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C counts, also where the tests were started with it ignored, as nohup does."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


@pytest.fixture(scope="module")
def never_stopped():
    return train()


def assert_same(run, reference):
    for column in COLUMNS:
        np.testing.assert_array_equal(run[1][column], reference[1][column], err_msg=column)
    for (name, ours), theirs in zip(
        run[0].state_dict().items(), reference[0].state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


class StopAt:
    """A callback that fails at a step, as a crash would."""

    def __init__(self, step):
        self.step = step

    def __call__(self, report):
        if report.step == self.step:
            raise RuntimeError("crash")


@pytest.mark.parametrize("step", [1, 9, 10, 11, 25, 59, 60])
def test_after_a_crash_the_run_ends_as_if_nothing_had_happened(tmp_path, never_stopped, step):
    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path, callbacks=[StopAt(step)])
    torch.manual_seed(123)  # a new process would not have the old random state either
    run = train(tmp_path)
    assert_same(run, never_stopped)
    np.testing.assert_array_equal(History.load(tmp_path)["loss"], never_stopped[1]["loss"])


def test_what_torchrun_starts_again_goes_on_whatever_resume_says(
    tmp_path, never_stopped, monkeypatch
):
    train(tmp_path, steps=40)  # of another call of torchrun: it must not be taken for this one's
    fitting, torchruns_store = sys.modules["tripletlib.training.fit"], HashStore()

    def start(session):
        processes = Processes(store=torchruns_store, session=session)
        monkeypatch.setattr(fitting, "current_processes", lambda: processes)

    start("first")
    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path, callbacks=[StopAt(35)], resume=False)
    start("second")
    seen = []
    assert_same(train(tmp_path, callbacks=[seen.append], resume=False), never_stopped)
    assert seen[0].step == 31
    train(tmp_path, callbacks=[seen.append], resume=False)  # a second call in the same process
    assert seen[-60].step == 1


def test_a_finished_run_comes_back_at_once(tmp_path, never_stopped):
    train(tmp_path)
    seen = []
    run = train(tmp_path, callbacks=[seen.append])
    assert seen == []
    assert_same(run, never_stopped)
    assert not run[0].training


def test_without_resume_an_earlier_run_is_replaced(tmp_path):
    train(tmp_path, steps=40, every=5)
    train(tmp_path, steps=10, every=10, resume=False)
    assert checkpoint_steps(tmp_path / "checkpoints") == [10]
    assert len(History.load(tmp_path)) == 10


def test_only_an_unfinished_run_goes_on(tmp_path, never_stopped):
    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path, callbacks=[StopAt(35)], resume="unfinished")
    seen = []
    assert_same(train(tmp_path, callbacks=[seen.append], resume="unfinished"), never_stopped)
    assert seen[0].step == 31
    train(tmp_path, callbacks=[seen.append], resume="unfinished", steps=10)  # other settings too
    assert seen[-1].step == 10
    assert checkpoint_steps(tmp_path / "checkpoints") == [10]


def test_an_unfinished_run_with_other_settings_is_not_thrown_away(tmp_path):
    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path, callbacks=[StopAt(35)], resume="unfinished")
    with pytest.raises(CheckpointError, match=r"steps was 60, is 70.*start over with resume=False"):
        train(tmp_path, resume="unfinished", steps=70)
    assert checkpoint_steps(tmp_path / "checkpoints") == [10, 20, 30]


def test_another_word_for_resume_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="resume must be True, False or 'unfinished', got 'yes'"):
        train(tmp_path, resume="yes")


def test_without_resume_ctrl_c_says_how_to_go_on(tmp_path):
    with pytest.raises(TrainingInterrupted, match="run it again with resume=True to go on"):
        train(tmp_path, callbacks=[lambda _: os.kill(os.getpid(), signal.SIGINT)], resume=False)


def test_a_new_run_leaves_no_embeddings_of_the_old_one(tmp_path):
    train(tmp_path, steps=10)
    table = tmp_path / "embeddings" / "query.npz"
    table.parent.mkdir()
    table.write_bytes(b"of the old weights")
    train(tmp_path, steps=10)
    assert table.exists()
    train(tmp_path, steps=10, resume="unfinished")
    assert not table.exists()


def test_a_cut_newest_checkpoint_is_skipped(tmp_path, never_stopped):
    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path, callbacks=[StopAt(35)])
    newest = checkpoint_file(tmp_path / "checkpoints", 30)
    newest.write_bytes(newest.read_bytes()[:1000])
    assert_same(train(tmp_path), never_stopped)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_two_steps_with_a_checkpoint(tmp_path, never_stopped, number):
    before = signal.getsignal(number)

    def interrupt(report):
        if report.step == 23:
            os.kill(os.getpid(), number)

    with pytest.raises(TrainingInterrupted, match="run it again to go on") as caught:
        train(tmp_path, callbacks=[interrupt])
    stopped_at = checkpoint_steps(tmp_path / "checkpoints")[-1]
    assert stopped_at == 23
    assert f"step {stopped_at}" in str(caught.value)
    assert caught.value._render_traceback_() == [str(caught.value)]
    assert signal.getsignal(number) is before
    assert_same(train(tmp_path), never_stopped)


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    def interrupt_twice(report):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        train(tmp_path, callbacks=[interrupt_twice])
    assert not isinstance(caught.value, TrainingInterrupted)


def test_sigterm_may_come_twice():
    with StopRequest() as stop:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("processes", "asked", "error", "kept"),
    [
        (2, False, TrainingInterrupted, True),  # another process was asked
        (2, True, OSError, True),  # asked, and then the disk is full: it must say so
        (2, False, OSError, False),
        (2, True, None, False),
        (1, True, TrainingInterrupted, False),
    ],
)
def test_a_process_that_stops_with_its_group_is_not_ended_by_a_late_signal(
    monkeypatch, processes, asked, error, kept
):
    monkeypatch.setattr(launching, "_current", Processes(count=processes))
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with suppress(OSError, TrainingInterrupted), StopRequest():
            if asked:
                signal.raise_signal(signal.SIGTERM)
            if error is not None:
                raise error
        for number, handler in earlier.items():
            assert (signal.getsignal(number) != handler) is kept
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


ORDERS = (torch.contiguous_format, torch.channels_last)


def convolutional_net():
    """Convolutions of several channels: their weights have a memory order.

    No bias whose gradient is zero: Adam would make full steps of its rounding errors.
    """
    seed_everything(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.Tanh(),
        nn.Conv2d(6, 6, 3, bias=False), nn.Flatten(), nn.Linear(96, 2, bias=False),
    )  # fmt: skip


@pytest.mark.parametrize("orders", [ORDERS, ORDERS[::-1]], ids=("to last", "from last"))
def test_a_run_goes_on_in_another_memory_order(tmp_path, monkeypatch, orders):
    """As when it goes on on a GPU, or was begun there and goes on where there is no oneDNN."""
    monkeypatch.setattr(trainer, "choose_layout", lambda _: orders[0])
    reference, history = train(model=convolutional_net(), precision="float32")
    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path, model=convolutional_net(), callbacks=[StopAt(30)], precision="float32")
    monkeypatch.setattr(trainer, "choose_layout", lambda _: orders[1])
    model, resumed = train(tmp_path, model=convolutional_net(), precision="float32")
    np.testing.assert_allclose(resumed["loss"], history["loss"], rtol=1e-3)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)


def test_other_settings_are_named(tmp_path):
    train(tmp_path, steps=10)
    with pytest.raises(CheckpointError, match=r"learning_rate was 0\.01, is 0\.5.*margin was 0\.5"):
        train(tmp_path, steps=10, learning_rate=0.5, margin="soft")
    assert len(History.load(tmp_path)) == 10  # nothing was lost


def test_a_run_from_before_there_were_some_settings_goes_on_compiled_or_not(
    tmp_path, never_stopped
):
    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path, callbacks=[StopAt(25)])
    file = checkpoint_file(tmp_path / "checkpoints", 20)
    state = torch.load(file, weights_only=True)
    for name in ("identity_loss", "warm_up", "random_erasing", "compiled"):
        del state["settings"][name]
    torch.save(state, file)
    with pytest.raises(CheckpointError, match="identity_loss was 0, is 1"):
        train(tmp_path, identity_loss=1)
    assert_same(train(tmp_path, compiled=True), never_stopped)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_resumed_run_goes_on_within_a_tolerance(tmp_path):
    """CUDA adds gradients up in no fixed order, and rounding grows from step to step."""
    _, whole = train(tmp_path / "whole", device="cuda", precision="float32")
    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path / "stopped", device="cuda", precision="float32", callbacks=[StopAt(20)])
    _, resumed = train(tmp_path / "stopped", device="cuda", precision="float32")
    np.testing.assert_allclose(resumed["loss"][:30], whole["loss"][:30], rtol=1e-2, atol=1e-3)


def test_another_network_is_named(tmp_path):
    train(tmp_path, steps=10)
    with pytest.raises(CheckpointError, match=r"first .*weight: its shape was not there, is"):
        train(tmp_path, steps=10, model=torch.nn.Sequential(*small_net(), torch.nn.Linear(2, 2)))


def test_a_loss_that_is_not_finite_names_the_last_checkpoint(tmp_path):
    model = small_net()

    def poison(report):
        if report.step == 15:
            torch.nn.init.constant_(model[1].weight, float("nan"))

    with pytest.raises(
        NonFiniteLossError, match=r"at step 16 .* the last checkpoint is of step 10"
    ):
        train(tmp_path, model=model, callbacks=[poison])


def test_checkpoints_need_a_folder():
    with pytest.raises(ValueError, match="needs a run_folder"):
        fit(small_net(), *blobs(), settings(), checkpoint_every=5, progress="off")


def test_tensorboard_is_cut_back_to_the_checkpoint(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path, callbacks=[StopAt(35)])
    train(tmp_path)
    events = accumulator.EventAccumulator(
        str(tmp_path / "tensorboard"), size_guidance={"scalars": 0}
    )
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, STEPS + 1))


# Writes a part of the eighth checkpoint, and waits to be killed.
HALF_A_CHECKPOINT = """
import sys, time, torch
from contextlib import suppress
from pathlib import Path
sys.path.append({here!r})
from test_resume import train
save, calls = torch.save, []
def save_a_part(state, stream):
    calls.append(1)
    if len(calls) < 8:
        return save(state, stream)
    stream.write(b"PK half a checkpoint")
    stream.flush()
    print("writes", flush=True)
    time.sleep(600)
torch.save = save_a_part
train(Path({folder!r}), every=2, resume=False)
"""


def test_a_run_has_one_writer_and_goes_on_when_that_was_killed(tmp_path, never_stopped):
    train(tmp_path, steps=10)
    folder = tmp_path / "checkpoints"
    script = HALF_A_CHECKPOINT.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    with started("-c", script) as writer:
        wait_for(lambda: writer.output == "writes\n", writer)
        name = re.escape(f"process {writer.pid} on {platform.node()}")
        with pytest.raises(CheckpointError, match=rf"is being written by {name}; wait"):
            train(tmp_path, steps=10, resume=False)
        assert len(History.load(tmp_path)) == 16  # which reading does not disturb
        writer.kill()
        writer.wait()
    assert checkpoint_steps(folder)[-1] == 14
    (unfinished,) = folder.glob(".step_00000016*")
    assert unfinished.stat().st_size > 0
    seen = []
    assert_same(train(tmp_path, every=2, callbacks=[seen.append]), never_stopped)
    assert seen[0].step == 15
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("name", ["history.csv", "config.yaml"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_cannot_be_written_names_the_file(
    tmp_path, never_stopped, monkeypatch, name, code
):
    whole_open = Path.open

    def refuse(path, *args, **kwargs):
        if path.name.lstrip(".").startswith(name.split(".")[0]):
            if code == errno.ENOSPC:
                return whole_open(Path("/dev/full"), *args, **kwargs)
            raise OSError(code, os.strerror(code), str(path))
        return whole_open(path, *args, **kwargs)

    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path, callbacks=[StopAt(20)])
    (tmp_path / "config.yaml").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(OSError, match=rf"TRIPLETLIB_RUNS.*resume=True.*{name}") as caught:
            train(tmp_path)
    assert caught.value.errno == code
    assert_same(train(tmp_path), never_stopped)


def other_pictures():
    return blobs(seed=1)


def other_labels():
    pictures, labels = blobs()
    return pictures, labels[::-1].copy()


@pytest.mark.parametrize("data", [other_pictures, other_labels])
@pytest.mark.parametrize("given", ["", "of a split"])
def test_a_run_is_not_resumed_on_other_data(tmp_path, data, given):
    options = {"progress": "off", "checkpoint_every": 10, "resume": True}
    fit(small_net(), *blobs(), settings(steps=10), tmp_path, fingerprint=given and "A", **options)
    with pytest.raises(CheckpointError, match=r"pictures or their labels were .*resume=False"):
        fit(small_net(), *data(), settings(steps=10), tmp_path, fingerprint=given, **options)
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())["data"]
    assert len(written["fingerprint"]) == (1 if given else 16)


def test_a_run_that_does_not_say_on_what_is_never_resumed(tmp_path):
    train(tmp_path, steps=10)
    file = checkpoint_file(tmp_path / "checkpoints", 10)
    state = torch.load(file, weights_only=True)
    del state["settings"]["data"]["fingerprint"]
    torch.save(state, file)
    with pytest.raises(CheckpointError, match=r"does not say on which pictures.*resume=False"):
        train(tmp_path, steps=10)
    train(tmp_path, steps=10, resume=False)


def test_what_is_not_ours_stays_in_the_folder(tmp_path):
    train(tmp_path, steps=10)
    names = "checkpoints/step_final.pt", "checkpoints/step_00000010 (copy).pt"
    own = [tmp_path / name for name in (*names, "embeddings/mine.npz", "tensorboard/notes.txt")]
    for file in own:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    train(tmp_path, steps=10, resume=False)
    assert {file.read_text() for file in own} == {"mine"}
    assert len(train(tmp_path, steps=10)[1]) == 10


def test_a_checkpoint_that_lacks_a_part_is_named(tmp_path):
    train(tmp_path, steps=10)
    file = checkpoint_file(tmp_path / "checkpoints", 10)
    state = torch.load(file, weights_only=True)
    del state["optimizer"]
    torch.save(state, file)
    with pytest.raises(CheckpointError, match=r"step_00000010\.pt does not fit .*resume: false"):
        train(tmp_path, steps=10)


@pytest.mark.parametrize(
    ("settings_or_log", "said"),
    [
        ({"settings": {"steps": "many", "model": [1]}}, "does not say on which pictures|layers"),
        ({"settings": {}}, "does not say on which pictures|layers"),
        ({"history": torch.zeros(3, 2)}, r"its log, of the shape \[3, 2\], is not of these steps"),
        ({"history": torch.full((10, 20), torch.nan)}, "does not fit this training .*these steps"),
        ({"history": "lost"}, "does not fit this training"),
        ({"optimizer": {"state": {}}}, "does not fit this training"),
        ({"model": {}}, "does not fit this training .*Missing key"),
    ],
)
def test_a_checkpoint_with_odd_parts_is_named(tmp_path, settings_or_log, said):
    train(tmp_path, steps=10)
    file = checkpoint_file(tmp_path / "checkpoints", 10)
    torch.save(torch.load(file, weights_only=True) | settings_or_log, file)
    with pytest.raises(CheckpointError, match=said) as caught:
        train(tmp_path, steps=10)
    assert len(str(caught.value).splitlines()) == 1


def test_scores_of_an_earlier_run_do_not_stay(tmp_path):
    train(tmp_path, steps=10)
    (tmp_path / "scores.csv").write_text("step,map")
    train(tmp_path, steps=10)
    assert (tmp_path / "scores.csv").exists()
    train(tmp_path, steps=10, resume=False)
    assert not (tmp_path / "scores.csv").exists()


@pytest.mark.parametrize(
    "name",
    ["embeddings", "embeddings/query.npz", "history.csv", "tensorboard", "config.yaml", ".writer"],
)
def test_what_lies_in_the_place_of_a_file_or_folder_is_named(tmp_path, name):
    place = tmp_path / name
    place.parent.mkdir(exist_ok=True)
    if name in ("embeddings", "tensorboard"):
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "mine").touch()
    with pytest.raises(OSError, match=r"move away|make the folder writable") as caught:
        train(tmp_path, steps=10)
    assert str(place) in str(caught.value)
    assert place.exists()


@pytest.mark.parametrize("name", [".", "checkpoints"])
def test_a_file_in_the_folders_place_is_named_before_the_training(tmp_path, name):
    (tmp_path / "run").mkdir()
    place = tmp_path / "run" / name
    if place.is_dir():
        place.rmdir()
    place.write_text("no folder")
    with pytest.raises(OSError, match="move away what lies in its place"):
        train(tmp_path / "run", callbacks=[StopAt(1)])
    assert place.read_text() == "no folder"


def test_a_run_can_be_read_while_it_is_trained(tmp_path):
    seen = []
    train(tmp_path, callbacks=[lambda _: seen.append(len(History.load(tmp_path)))], steps=50)
    assert seen == list(range(1, 51))


def test_the_folder_may_be_text_from_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    train("~/run", steps=10)
    assert len(History.load("~/run")) == 10
    assert checkpoint_steps(str(tmp_path / "run" / "checkpoints")) == [10]
