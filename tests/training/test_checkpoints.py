import errno
import io
import logging
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from tripletlib.training.run_folder import (
    CheckpointError,
    checkpoint_file,
    checkpoint_steps,
    load_checkpoint,
    save_checkpoint,
)


def state(value=1.0):
    return {"model": {"weight": torch.full((50, 50), value)}, "settings": {"margin": "soft"}}


def test_what_is_saved_is_loaded(tmp_path):
    save_checkpoint(tmp_path, 7, state())
    loaded = load_checkpoint(tmp_path)
    assert loaded["step"] == 7
    assert loaded["settings"] == {"margin": "soft"}
    assert torch.equal(loaded["model"]["weight"], state()["model"]["weight"])


def test_the_newest_is_loaded_unless_another_is_asked_for(tmp_path):
    for step in (100, 9, 20):
        save_checkpoint(tmp_path, step, state(step))
    assert checkpoint_steps(tmp_path) == [9, 20, 100]
    assert load_checkpoint(tmp_path)["step"] == 100
    assert load_checkpoint(tmp_path, 9)["model"]["weight"][0, 0] == 9


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-400])


def flip_one_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut_short, flip_one_bit, empty])
def test_a_damaged_newest_gives_way_to_the_one_before(tmp_path, damage, caplog):
    for step in (10, 20):
        save_checkpoint(tmp_path, step, state(step))
    damage(checkpoint_file(tmp_path, 20))
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(tmp_path)["step"] == 10
    assert "step_00000020.pt is damaged" in caplog.text
    with pytest.raises(CheckpointError, match=r"step_00000020\.pt is damaged"):
        load_checkpoint(tmp_path, 20)


def test_stray_files_beside_the_checkpoints_change_nothing(tmp_path, caplog):
    save_checkpoint(tmp_path, 2, state())
    file = checkpoint_file(tmp_path, 2)
    names = "step_00000002 (copy).pt", "step_final.pt", "._step_00000002.pt", "step_9.pt", "x.pt"
    for name in (*names, "step_000000003.pt"):
        (tmp_path / name).write_bytes(file.read_bytes())
    (tmp_path / "step_00000004.pt").mkdir()
    os.mkfifo(tmp_path / "step_00000005.pt")
    assert checkpoint_steps(tmp_path) == [2]
    assert load_checkpoint(tmp_path)["step"] == 2
    assert not caplog.records


@pytest.mark.parametrize(
    "foreign",
    [{"weight": torch.zeros(2)}, [1, 2], state() | {"step": 19}, {"step": 20, "model": 1}],
)
def test_a_readable_file_that_is_no_checkpoint_gives_way(tmp_path, foreign, caplog):
    save_checkpoint(tmp_path, 10, state())
    torch.save(foreign, checkpoint_file(tmp_path, 20))
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(tmp_path)["step"] == 10
    assert "step_00000020.pt is no checkpoint of step 20 of a training" in caplog.text


def test_where_all_are_damaged_the_way_out_is_named(tmp_path):
    for step in (10, 20):
        save_checkpoint(tmp_path, step, state())
        empty(checkpoint_file(tmp_path, step))
    with pytest.raises(CheckpointError, match=r"none of the 2 checkpoints .*resume: false"):
        load_checkpoint(tmp_path)


def test_a_missing_step_lists_those_there(tmp_path):
    save_checkpoint(tmp_path, 10, state())
    with pytest.raises(CheckpointError, match="steps there: 10"):
        load_checkpoint(tmp_path, 11)
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"step_00000010\.pt is no folder; move it away"):
        load_checkpoint(checkpoint_file(tmp_path, 10))


class RunsCode:
    """A pickle that calls a function when it is read."""

    def __reduce__(self):
        return (print, ("code from a checkpoint ran",))


def test_a_checkpoint_that_carries_code_is_refused(tmp_path, capsys):
    torch.save({"step": 1, "model": RunsCode()}, checkpoint_file(tmp_path, 1))
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path)
    plain = io.BytesIO()
    pickle.dump(RunsCode(), plain)
    checkpoint_file(tmp_path, 2).write_bytes(plain.getvalue())
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("where", ["open", "write", "fsync", "replace"])
def test_a_failed_write_names_the_file_and_leaves_the_earlier_ones(
    tmp_path, monkeypatch, code, where
):
    save_checkpoint(tmp_path, 10, state(10))

    def fail(*args, **kwargs):
        raise OSError(code, "injected")

    target = {
        "open": (Path, "open"),
        "write": (torch, "save"),
        "fsync": (os, "fsync"),
        "replace": (Path, "replace"),
    }[where]
    with monkeypatch.context() as patch:
        patch.setattr(*target, fail)
        with pytest.raises(
            CheckpointError, match=r"step_00000020\.pt could not be written.*resume"
        ):
            save_checkpoint(tmp_path, 20, state(20))
    assert [file.name for file in tmp_path.iterdir()] == ["step_00000010.pt"]
    assert load_checkpoint(tmp_path)["step"] == 10


def test_a_half_written_file_is_never_a_checkpoint(tmp_path):
    save_checkpoint(tmp_path, 10, state())
    (tmp_path / ".step_00000020-0123abcd.pt").write_bytes(b"half")
    assert checkpoint_steps(tmp_path) == [10]


def test_the_file_is_an_archive_with_checksums(tmp_path):
    save_checkpoint(tmp_path, 10, state())
    assert zipfile.ZipFile(checkpoint_file(tmp_path, 10)).testzip() is None
