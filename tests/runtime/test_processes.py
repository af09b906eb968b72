"""Two processes train as one does, survive the death of one, and leave its files behind."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import distributed_worker as worker
import numpy as np
import pytest
import torch
import yaml
from tiny_experiment import TINY

from tripletlib.embedding import EmbeddingTable
from tripletlib.evaluation import evaluate_embeddings
from tripletlib.experiments import experiment, scoring
from tripletlib.experiments import train as command_line
from tripletlib.experiments.experiment import Experiment
from tripletlib.runtime import launching
from tripletlib.runtime import processes as distributed
from tripletlib.runtime.launching import ProcessesFailed, agree_on_session
from tripletlib.runtime.paths import REPOSITORY
from tripletlib.training.checkpoints import checkpoint_steps, load_checkpoint
from tripletlib.training.fit import TrainingInterrupted
from tripletlib.training.history import History

TESTS = Path(__file__).parents[1]


ONE_MACHINE = ("--rdzv-endpoint", "127.0.0.1:0", "--nnodes", 1, "--nproc-per-node", 2)


def torchrun(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--rdzv-backend", "c10d"]
    return subprocess.Popen(
        [*command, "--local-addr", "127.0.0.1", *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def finish(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output


@pytest.fixture(scope="module", autouse=True)
def without_gpus():
    """On CPUs: a machine may have one GPU only, and sums on one differ from call to call."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")  # for the processes started here
        patch.setattr(torch.cuda, "is_available", lambda: False)  # for this one
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(folder):
    """What both processes found, and what was printed."""
    worker.train(folder=folder / "of_one", changed={"steps": worker.STEPS})
    (folder / "of_one" / "checkpoints" / "step_00000005.pt").unlink()
    script = (TESTS / "distributed_worker.py", folder)
    output = finish(torchrun(*ONE_MACHINE, "--max-restarts", 1, *script))
    first, second = (torch.load(folder / f"{n}.pt", weights_only=False) for n in range(2))
    return first, second, output


def assert_close(ours, theirs, atol):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        difference = np.nanmax(np.abs(np.asarray(value - theirs[key], np.float64)), initial=0)
        assert difference <= atol, (key, difference)
        assert torch.equal(value.isnan(), theirs[key].isnan()), key


@pytest.mark.parametrize("case", worker.CASES, ids=str)
def test_two_processes_train_as_one_does(two, case):
    alone, (first, second, _) = worker.train(case), two
    atol = 1e-5 if case[0] == "convolutional" else 1e-8  # float32 and float64
    for result in (first, second):
        for part in ("history", "gradients", "weights"):
            assert_close(result[case][part], alone[part], atol)
    start = worker.NETWORKS[case[0]][0]().state_dict()
    moved = [(start[key] - value.cpu()).abs().max() for key, value in alone["weights"].items()]
    assert max(moved) > 100 * atol  # so that equal weights mean something


def test_both_processes_end_with_the_same_weights(two):
    for case in worker.CASES:
        assert_close(two[0][case]["weights"], two[1][case]["weights"], 0)


def test_batch_norm_sees_the_images_of_all_processes(two):
    alone = worker.batch_norms(distributed.Processes())
    for name, whole in alone.items():
        halves = [result["batch_norm"][name] for result in two[:2]]
        for key, value in whole.items():
            if key.startswith("state"):
                joined = halves[1][key]
            elif key.startswith("parameter"):
                joined = halves[0][key] + halves[1][key]
            else:
                joined = torch.cat([half[key] for half in halves])
            assert_close({(name, key): joined}, {(name, key): value}, 1e-12)


def test_only_the_first_process_writes_and_speaks(two, folder):
    first, _, output = two
    run = folder / "disk_of_0" / "run"
    np.testing.assert_array_equal(History.load(run)["loss"], first["written"]["history"]["loss"])
    assert checkpoint_steps(run / "checkpoints") == [2, 4, 5]
    assert (run / "config.yaml").is_file()
    assert len(list((run / "tensorboard").iterdir())) == 1
    assert not (folder / "disk_of_1").exists()
    lines = [line for line in output.splitlines() if line.startswith("epoch ")]
    assert [line.split(" · ")[0] for line in lines] == [f"epoch {n} of 3" for n in (1, 2, 3)]


def test_checkpoints_do_not_tell_how_many_processes_made_them(two, folder, tmp_path):
    alone = worker.train(folder=tmp_path / "one")
    ours, theirs = (
        load_checkpoint(run / "checkpoints")
        for run in (tmp_path / "one", folder / "disk_of_0" / "run")
    )
    assert ours["model"].keys() == theirs["model"].keys()
    assert ours["settings"] == theirs["settings"]
    assert_close(two[0]["went on from one"]["weights"], alone["weights"], 1e-5)
    copy = shutil.copytree(folder / "disk_of_0" / "run", tmp_path / "two")
    (copy / "checkpoints" / "step_00000005.pt").unlink()
    back = worker.train(folder=copy, model=worker.other_weights(), resume=True)
    assert_close(back["weights"], alone["weights"], 1e-5)


def test_a_signal_to_one_process_stops_all_with_a_checkpoint(two, folder):
    for result in two[:2]:
        assert result["stopped"].startswith("stopped after step 3, which is saved")
    saved = checkpoint_steps(folder / "disk_of_0" / "stopped" / "checkpoints")
    assert saved == [2, 3, 4, 5]  # 3 when it was asked, the others when they were due
    assert_undisturbed(two, "gone on")


def assert_undisturbed(two, name):
    """Bit for bit the end of a run of two processes that nothing happened to."""
    undisturbed = two[0]["written"]
    weights = {f"inner.{key}": value for key, value in undisturbed["weights"].items()}
    for result in two[:2]:
        assert_close(result[name]["weights"], weights, 0)
        assert_close(result[name]["history"], undisturbed["history"], 0)


def test_a_loss_that_is_not_finite_stops_all(two):
    for result in two[:2]:
        assert result["nan"].startswith("the loss is nan at step 3 ")


def test_a_batch_that_cannot_be_dealt_out_is_named(two):
    for result in two[:2]:
        assert result["deal"].startswith(
            "a batch of P x K = 3 x 5 = 15 images cannot be dealt out evenly to 2 processes; "
            "start 1 of them, or change identities or images_per_identity"
        )


def test_queries_are_dealt_out_and_all_are_scored(two):
    alone = evaluate_embeddings(*worker.tables(), block=2)
    assert alone.valid_queries.tolist() == [True] * 5 + [False] * 2
    for result in two[:2]:
        for name, value in vars(alone).items():
            np.testing.assert_allclose(result["scores"][name], value, atol=1e-12, err_msg=name)


def test_errors_of_one_process_reach_all(two):
    for result in two[:2]:
        assert (result["first fails"], result["last fails"]) == ("'key'", "'last'")
        assert (result["one fails"], result["all"]) == ("'last'", [0, 1])
        assert "picture.jpg" in result["unreadable"]
        assert "cut off" in result["unreadable"]


def test_the_first_process_goes_first(two):
    assert [result["turns"] for result in two[:2]] == [[], ["turn_0"]]


def test_shares_are_all_rows_in_order():
    processes = distributed.Processes()
    assert processes.share(7) == slice(0, 7)
    processes.count = 3
    shares = []
    for processes.rank in range(3):
        shares += range(10)[processes.share(10)]
    assert shares == list(range(10))


def test_after_a_workers_death_torchrun_goes_on_to_the_same_end(two, folder):
    assert (folder / "was_killed").exists()
    assert [result["restarts"] for result in two[:2]] == ["1", "1"]
    assert_undisturbed(two, "killed")
    assert len(History.load(folder / "killed")) == worker.STEPS


def test_processes_started_again_do_not_meet_those_that_died():
    store = distributed.dist.HashStore()
    store.set_timeout(timedelta(seconds=60))

    def join(count):
        with ThreadPoolExecutor(count) as threads:
            joining = [threads.submit(agree_on_session, store, n, count) for n in range(1, count)]
            joining.insert(0, threads.submit(agree_on_session, store, 0, count))
            return {future.result(timeout=60) for future in joining}

    first = join(3)
    again = join(3)  # finds what was agreed before
    store.set("session", "proposed by-one-that-died")
    third = join(2)
    assert len(first | again | third) == 3


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    root = tmp_path_factory.mktemp("roots")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPLETLIB_DATA", str(root / "data"))
        patch.setenv("TRIPLETLIB_RUNS", str(root / "runs"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        yield root


@pytest.fixture(scope="module")
def two_machines(roots):
    """The command line under two torchruns that find each other, one process each."""
    values = TINY | {"run_name": "two_machines", "identities": 4}
    file = roots / "03_two_machines.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--nnodes", 2, "--nproc-per-node", 1, "--rdzv-endpoint", f"127.0.0.1:{port}"]
    command = [*place, "-m", "tripletlib", "train", file, "--embed"]
    machines = [torchrun(*command) for _ in range(2)]
    outputs = [finish(machine) for machine in machines]
    return Experiment(**values), outputs


def test_two_machines_train_and_embed_as_one_process_does(two_machines):
    ours, outputs = two_machines
    spoken = [output for output in outputs if output]
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


def test_two_processes_score_as_one_does(two_machines, roots):
    ours = two_machines[0].replace(run_name="scored")
    shutil.copytree(two_machines[0].folder, ours.folder)
    file = roots / "03_scored.yaml"
    file.write_text(yaml.safe_dump(ours.model_dump()), encoding="utf-8")
    scores = ours.folder / "scores.csv"
    re_ranking = ("--tta", "none", "--k1", 5, "--k2", 2)
    output = finish(torchrun(*ONE_MACHINE, "-m", "tripletlib", "score", file, *re_ranking))
    begins = [line.split(" · ")[0] for line in output.splitlines()]
    assert begins == ["step 6", "step 6", str(scores)]
    together = scores.read_text(encoding="utf-8")
    for table in (ours.folder / "embeddings").iterdir():
        table.unlink()
    assert scoring.main([str(file), *map(str, re_ranking)]) == 0
    assert scores.read_text(encoding="utf-8") == together  # rounded to six digits


def test_a_file_that_one_machine_lacks_is_named_by_that_machine(tmp_path):
    command = [sys.executable, "-m", "tripletlib", "train", str(tmp_path / "missing.yaml")]
    place = {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "4", "RANK": "2"}
    for rank, said in (("0", "missing.yaml"), ("1", "")):
        environment = os.environ | place | {"LOCAL_RANK": rank}
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert process.returncode == 2
        assert said in process.stderr
        assert bool(process.stderr) == bool(said)


def test_a_notebook_trains_in_two_processes_and_is_interrupted(two_machines, monkeypatch, capfd):
    same, _ = two_machines
    ours = same.replace(run_name="notebook", processes=2, resume="unfinished")
    data, model = ours.open_dataset("off"), ours.make_model()

    def stop_at_the_first_epoch(text, **options):
        sys.stdout.write(text)
        if text.startswith("epoch 1 of"):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(launching, "print", stop_at_the_first_epoch, raising=False)
    with pytest.raises(TrainingInterrupted, match=r"step \d is saved; run it again to go on"):
        ours.train(model, data.train)
    (stopped_at,) = checkpoint_steps(ours.folder / "checkpoints")
    assert 3 <= stopped_at < 6
    monkeypatch.undo()

    capfd.readouterr()
    history = ours.train(model, data.train)
    assert "epoch 2 of 2 · step 6" in capfd.readouterr().out
    # Stopped or not, started from here or there: the same two processes.
    np.testing.assert_array_equal(history["loss"], History.load(same.folder)["loss"])
    trained = load_checkpoint(same.folder / "checkpoints")["model"]
    assert all(value.equal(trained[name]) for name, value in model.state_dict().items())
    assert not model.training
    for split in (data.query, data.gallery):  # embedded by both processes, not once more here
        assert EmbeddingTable.load(ours.folder / "embeddings" / f"{split.name}.npz").step == 6


def test_processes_that_fail_say_why(tmp_path, capfd):
    with pytest.raises(ProcessesFailed, match="the training in 1 processes ended with status 1"):
        launching.launch([str(tmp_path / "missing.yaml")], 1)
    errors = capfd.readouterr().err
    assert errors.count("error: ") == 1
    assert "missing.yaml" in errors.splitlines()[0]


def test_the_command_line_starts_the_processes_itself(roots, monkeypatch):
    started = []
    monkeypatch.setattr(experiment, "launch", lambda *arguments: started.append(arguments))
    file = roots / "03_more.yaml"
    file.write_text(yaml.safe_dump(TINY | {"processes": 2}), encoding="utf-8")
    assert command_line.main([str(file), "--embed"]) == 0
    (((_, option), processes),) = started
    assert (option, processes) == ("--embed", 2)
