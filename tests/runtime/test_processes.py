"""Two processes train as one does, survive the death of one, and leave its files behind."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import distributed_worker as worker
import numpy as np
import pytest
import torch
from started import ONE_MACHINE, assert_stopped_with_a_checkpoint, torchrun, wait_for

from tripletlib.evaluation import evaluate_embeddings
from tripletlib.runtime import Processes
from tripletlib.runtime.launching import agree_on_session
from tripletlib.training import History, load_checkpoint
from tripletlib.training.run_folder import checkpoint_steps

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(folder, without_gpus):
    """What both processes found, and what was printed."""
    worker.train(folder=folder / "of_one", changed={"steps": worker.STEPS})
    (folder / "of_one" / "checkpoints" / "step_00000005.pt").unlink()
    script = (TESTS / "distributed_worker.py", folder)
    with torchrun(*ONE_MACHINE, "--max-restarts", 1, *script) as parent:
        wait_for(lambda: checkpoint_steps(folder / "unwatched" / "checkpoints"), parent)
        first, second = (torch.load(folder / f"{n}.pt", weights_only=False) for n in range(2))
        parent.kill()  # whether its processes end, too, is the matter of one test
        yield first, second, parent.output


def assert_close(ours, theirs, atol):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        difference = np.nanmax(np.abs(np.asarray(value - theirs[key], np.float64)), initial=0)
        assert difference <= atol, (key, difference)
        assert torch.equal(value.isnan(), theirs[key].isnan()), key


@pytest.mark.parametrize("case", worker.CASES, ids=str)
def test_two_processes_train_as_one_does(two, case):
    alone, (first, second, _) = worker.train(case), two
    atol = 1e-8 if case[0] in ("MnistNet", "LuNet") else 1e-5  # float64 and float32
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
    alone = worker.batch_norms(Processes())
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
        assert result["deal"] == (
            "identities x images_per_identity = 15 images cannot be dealt out evenly to 2 "
            "processes; start a number of them that divides it"
        )


def test_queries_are_dealt_out_and_all_are_scored(two):
    alone = evaluate_embeddings(*worker.tables())
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
    processes = Processes()
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


def test_torchruns_death_stops_the_training_with_a_checkpoint(two, folder):
    assert_stopped_with_a_checkpoint(folder / "unwatched")


def test_processes_started_again_do_not_meet_those_that_died():
    store = torch.distributed.HashStore()
    store.set_timeout(timedelta(seconds=60))

    def join(count):
        with ThreadPoolExecutor(count) as threads:
            joining = [threads.submit(agree_on_session, store, n, count) for n in range(1, count)]
            joining.insert(0, threads.submit(agree_on_session, store, 0, count))
            return {future.result(timeout=60) for future in joining}

    first = join(3)
    again = join(3)  # finds what was agreed before
    store.set("session", "of one that died")
    third = join(2)
    assert len(first | again | third) == 3
