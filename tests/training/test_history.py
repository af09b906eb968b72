import csv
import errno
import math
import os

import numpy as np
import pytest
import torch

from tripletlib.training.history import COLUMNS, History

EMBEDDINGS = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])


def record(history, steps, loss=lambda step: 1 / step, first=1):
    for step in range(first, steps + 1):
        history.record(
            step=step,
            learning_rate=0.1,
            loss=loss(step),
            active_fraction=0.5,
            embeddings=EMBEDDINGS,
        )


def test_every_step_is_kept_and_details_now_and_then():
    history = History()
    record(history, 25)
    np.testing.assert_allclose(history["loss"], 1 / np.arange(1, 26))
    assert np.flatnonzero(~np.isnan(history["norm_p50"])).tolist() == [9, 19]


def test_percentiles_are_of_norms_entries_and_each_pair_once():
    history = History()
    record(history, 10, first=10)
    norms = [history[f"norm_p{p}"][0] for p in (0, 50, 100)]
    entries = [history[f"entry_p{p}"][0] for p in (0, 100)]
    distances = [history[f"distance_p{p}"][0] for p in (0, 50, 100)]
    assert norms == pytest.approx([0, 5, 10])
    assert entries == pytest.approx([0, 8])
    assert distances == pytest.approx([5, 5, 10])  # pairs: 5, 10, 5; no zero from the diagonal


def test_percentiles_agree_with_numpy_on_many_values():
    history = History()
    embeddings = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    history.record(step=10, learning_rate=1, loss=1, active_fraction=1, embeddings=embeddings)
    expected = np.percentile(embeddings.numpy(), (0, 5, 50, 95, 100))
    found = [history[f"entry_p{p}"][0] for p in (0, 5, 50, 95, 100)]
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_mean_loss_of_each_hundred_steps():
    history = History()
    record(history, 250, loss=float)
    means = history["mean_loss_100"]
    assert np.flatnonzero(~np.isnan(means)).tolist() == [99, 199]
    assert means[[99, 199]] == pytest.approx([50.5, 150.5])


def test_file_reads_back_as_it_was_written(tmp_path):
    with History(tmp_path) as history:
        record(history, 110)
    loaded = History.load(tmp_path)
    for column in COLUMNS:
        np.testing.assert_allclose(loaded[column], history[column])
    with (tmp_path / "history.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert first["norm_p50"] == ""


def test_tensorboard_holds_scalars_and_histograms(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with History(tmp_path) as history:
        record(history, 100)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"loss", "active_fraction", "mean_loss_100", "norm/p50"} <= set(tags["scalars"])
    assert set(tags["histograms"]) == {"embedding_entries", "embedding_norms"}
    assert len(events.Scalars("loss")) == 100


def test_a_new_log_replaces_the_earlier_one(tmp_path):
    for steps in (30, 20):
        with History(tmp_path) as history:
            record(history, steps)
    assert len(History.load(tmp_path)) == 20
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_a_line_that_is_being_written_is_left_out_and_a_damaged_one_named(tmp_path):
    with History(tmp_path) as history:
        record(history, 5)
    file = tmp_path / "history.csv"
    whole = file.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1]) + 1):
        file.write_bytes(whole[: -cut - 1])
        assert len(History.load(tmp_path)) == 4
    for damage in (b"6,x\r\n", b"6,0.1\r\n", b"\xff\r\n"):
        file.write_bytes(whole + damage)
        with pytest.raises(ValueError, match=r"history\.csv is not a training log"):
            History.load(tmp_path)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"history\.csv is not a training log"):
        History.load(tmp_path)
    file.unlink()
    os.mkfifo(file)  # reading it would wait for ever
    with pytest.raises(ValueError, match="is not a training log: it is no file"):
        History.load(tmp_path)


def test_recent_leaves_out_cells_without_a_value():
    history = History()
    record(history, 12, loss=float)
    assert history.recent("loss", 2) == pytest.approx(11.5)
    assert math.isfinite(history.recent("norm_p50", 4))


def test_unknown_column_and_foreign_file_are_named(tmp_path):
    with pytest.raises(KeyError, match="active_fraction"):
        History()["accuracy"]
    (tmp_path / "history.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"history\.csv is not a training log"):
        History.load(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("method", ["__init__", "add_scalar", "add_histogram", "close"])
def test_a_disk_that_cannot_take_the_board_is_named(tmp_path, monkeypatch, method, code):
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter
    whole = getattr(writer, method)

    def refuse(self, *args, **kwargs):
        if method == "close":  # the files themselves must not stay open
            whole(self, *args, **kwargs)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(writer, method, refuse)
    with pytest.raises(OSError, match=r"TRIPLETLIB_RUNS.*resume=True.*tensorboard") as caught:  # noqa: SIM117
        with History(tmp_path) as history:
            record(history, 100)
    assert caught.value.errno == code
