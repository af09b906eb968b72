"""Processes start from a notebook, a command or torchrun, and end well in whatever way."""

import os
import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import distributed_worker as worker
import failing_worker as failing
import numpy as np
import pytest
import yaml
from started import assert_stopped_with_a_checkpoint, outcomes, started, torchrun, wait_for
from tiny_experiment import TINY

from tripletlib.__main__ import main
from tripletlib.embedding import EmbeddingTable
from tripletlib.experiments import commands, experiment
from tripletlib.experiments.experiment import Experiment
from tripletlib.runtime import ProcessesFailed, launch
from tripletlib.training import History, TrainingInterrupted, load_checkpoint
from tripletlib.training.run_folder import checkpoint_steps


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    root = tmp_path_factory.mktemp("roots")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPLETLIB_DATA", str(root / "data"))
        patch.setenv("TRIPLETLIB_RUNS", str(root / "runs"))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield root


# One of the processes dies at once, and torchrun starts both again. The first command leaves its
# group, the second joins another and ends the process.
TRAIN_AND_SCORE = """
import os, signal, sys
if os.environ["RANK"] == "1" and not os.path.exists(sys.argv[1] + ".died"):
    open(sys.argv[1] + ".died", "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
from tripletlib.__main__ import main
from tripletlib.experiments.commands import train
sys.exit(train([sys.argv[1], "--embed", "--score"]) or main(["score", *sys.argv[1:]]))
"""
# What was embedded by flip is embedded anew for none, and then again: nothing is read from a file.
SCORING = "--tta", "none", "flip", "--k1", "5", "--k2", "2"


@pytest.fixture(scope="module")
def two_machines(roots):
    """The command line under two torchruns that find each other, one process each."""
    values = TINY | {"run_name": "two_machines", "identities": 4}
    file, script = roots / "03_two_machines.yaml", roots / "train_and_score.py"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    script.write_text(TRAIN_AND_SCORE, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--nnodes", 2, "--nproc-per-node", 1, "--rdzv-endpoint", f"127.0.0.1:{port}"]
    command = [*place, "--max-restarts", 1, script, file, *SCORING]
    return Experiment(**values), outcomes(torchrun(*command), torchrun(*command))


def test_both_end_with_status_0_though_a_worker_was_killed_and_started_again(two_machines, roots):
    assert (roots / "03_two_machines.yaml.died").exists()
    statuses, _, errors = zip(*two_machines[1], strict=True)
    assert statuses == (0, 0), errors


def test_two_machines_train_and_embed_as_one_process_does(two_machines):
    ours, ends = two_machines
    spoken = [output for _, output, _ in ends if output]
    assert len(spoken) == 1  # the other machine is silent
    assert "epoch 2 of 2 · step 6" in spoken[0]
    data, model = ours.open_dataset("off"), ours.make_model()
    alone = ours.replace(run_name="one_process")
    history = alone.train(model, data.train, progress="off")
    np.testing.assert_allclose(
        History.load(ours.folder)["loss"], history["loss"], rtol=0.01, atol=0
    )
    assert ours.load_weights(model) == 6
    for split in (data.query, data.gallery):
        table = EmbeddingTable.load(ours.folder / "embeddings" / f"{split.name}.npz")
        mine = alone.embedding_table(model, split, data.root, 6, "off")
        np.testing.assert_allclose(table.embeddings, mine.embeddings, rtol=0, atol=1e-5)
        assert table.paths.tolist() == mine.paths.tolist()
        assert f"{split.name}: {len(split)} embeddings of step 6" in spoken[0]


def test_two_machines_score_as_one_process_does(two_machines, roots):
    ours, ends = two_machines
    at_the_door, *lines = "".join(output for _, output, _ in ends).splitlines()[-6:]
    assert "queries have a right answer" in at_the_door  # said by the first process alone
    scores = ours.folder / "scores.csv"
    said = [line for _, output, _ in ends for line in output.splitlines()]
    assert said.count(str(scores)) == 2  # after `train --score`, and after `score`
    assert [line.split(" · ")[0] for line in lines] == ["step 6"] * 4 + [str(scores)]
    alone = ours.replace(run_name="scored")
    shutil.copytree(ours.folder, alone.folder)
    (alone.folder / "scores.csv").unlink()
    file = roots / "03_scored.yaml"
    file.write_text(yaml.safe_dump(alone.model_dump()), encoding="utf-8")
    assert commands.score([str(file), *SCORING]) == 0
    assert (alone.folder / "scores.csv").read_bytes() == scores.read_bytes()


@pytest.mark.parametrize(("rank", "said"), [("0", "missing.yaml"), ("1", "")])
def test_a_file_that_one_machine_lacks_is_named_by_that_machine(
    tmp_path, monkeypatch, capsys, rank, said
):
    ended = []
    monkeypatch.setattr("tripletlib.runtime.end_at_once", ended.append)
    place = {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": rank}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    main(["train", str(tmp_path / "missing.yaml")])
    assert ended == [2]
    errors = capsys.readouterr().err
    assert said in errors
    assert bool(errors) == bool(said)


def test_a_notebook_trains_in_two_processes(two_machines, capfd):
    same, _ = two_machines
    ours = same.replace(run_name="notebook", processes=2)
    data, model = ours.open_dataset("off"), ours.make_model()
    history = ours.train(model, data.train)
    assert "epoch 2 of 2 · step 6" in capfd.readouterr().out
    # Started from here or there: the same two processes.
    np.testing.assert_array_equal(history["loss"], History.load(same.folder)["loss"])
    trained = load_checkpoint(same.folder / "checkpoints")["model"]
    assert all(value.equal(trained[name]) for name, value in model.state_dict().items())
    assert not model.training
    for split in (data.query, data.gallery):  # embedded by both processes, not once more here
        assert EmbeddingTable.load(ours.folder / "embeddings" / f"{split.name}.npz").step == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_handed_on_once(tmp_path, number):
    def interrupt():
        try:
            wait_for(lambda: checkpoint_steps(tmp_path / "checkpoints"))
        finally:  # or the training would go on for ever
            os.kill(os.getpid(), number)

    def handler(number, frame):  # these tests go on if nobody else takes the signal
        pass

    earlier = signal.signal(number, handler)
    try:
        with ThreadPoolExecutor(1) as executor:
            executor.submit(interrupt)
            with pytest.raises(TrainingInterrupted, match=r"stopped after step .* is saved"):
                launch(partial(worker.train_on, tmp_path), 2)
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, earlier)
    assert len(checkpoint_steps(tmp_path / "checkpoints")) >= 2  # one is of the step it stopped at


def test_the_command_line_starts_the_processes_itself(roots, monkeypatch):
    started = []
    monkeypatch.setattr(experiment, "launch", lambda *arguments: started.append(arguments))
    file = roots / "03_more.yaml"
    file.write_text(yaml.safe_dump(TINY | {"processes": 2}), encoding="utf-8")
    assert commands.train([str(file), "--embed"]) == 0
    (((action, processes)),) = started
    assert (action.args, processes) == ((True,), 2)


@pytest.mark.parametrize(
    ("how", "raised", "message"),
    [
        (failing.refuse, FileNotFoundError, "no such data"),
        (failing.die, ProcessesFailed, "process 1 of 2 died with status -9"),
    ],
)
def test_what_ends_one_process_ends_all_and_is_raised_here(how, raised, message, capfd):
    with pytest.raises(raised, match=message):
        launch(partial(failing.fail_in, 1, how), 2)
    output = capfd.readouterr().out
    assert "process 0 of 2" in output
    if Path("/proc/self/net/tcp").exists():
        # A semaphore would be said to leak.
        assert output.count("ports [], 0 semaphores") == 2


LAUNCH = """
import sys
from functools import partial
from pathlib import Path
from distributed_worker import train_until_stopped
from tripletlib.runtime import launch
launch(partial(train_until_stopped, Path(sys.argv[1])), 2)
"""


def test_the_death_of_the_parent_stops_the_training_with_a_checkpoint(tmp_path):
    with started("-c", LAUNCH, tmp_path) as parent:
        wait_for(lambda: checkpoint_steps(tmp_path / "checkpoints"), parent)
        parent.kill()
        assert_stopped_with_a_checkpoint(tmp_path)
