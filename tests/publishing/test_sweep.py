"""A grid's cells are the runs that its file names; each is run once, and told in one table."""

import json
import signal

import nbformat
import pandas as pd
import pytest
import yaml
from started import started, wait_for

from tripletlib.__main__ import main as program
from tripletlib.experiments.commands import score_run
from tripletlib.experiments.experiment import Experiment
from tripletlib.publishing.sweep import main, read_grid
from tripletlib.runtime import ParameterError
from tripletlib.training import find_parameter_file, read_parameter_file
from tripletlib.training.run_folder import checkpoint_steps

QUICK = read_parameter_file(find_parameter_file("03_losses_quick.yaml"))
FEW = {"synthetic_identities": 12, "steps": 6, "decay_start": 0, "checkpoint_every": 6}
SCORES = ["map", "map_market", "minp", "rank1", "rank5", "rank10"]


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIPLETLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TRIPLETLIB_RUNS", str(tmp_path / "runs"))

    def write(name, **parameters):
        file = tmp_path / name
        file.write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")
        return str(file)

    return write


@pytest.fixture
def notebooks(tmp_path):
    """A folder with one notebook, in which one parameter is a list."""
    source = (
        'number = 1.5  # or "none"\nsizes = [1, 2]  # both\nseed = 0  # start\nrun_name = "a"  # b'
    )
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    toy = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})
    nbformat.write(toy, tmp_path / "07_toy.ipynb")
    return tmp_path


def test_lists_are_axes_unless_the_notebook_has_a_list(write, notebooks):
    file = write("07_a.yaml", run_name="b", number=[0.5, "none"], sizes=[3], seed=[4, 5])
    cells = read_grid(file, notebooks)
    assert [cell.place for cell in cells] == [
        {"number": number, "seed": seed} for number in (0.5, "none") for seed in (4, 5)
    ]
    assert {tuple(cell.parameters["sizes"]) for cell in cells} == {(3,)}
    assert [cell.parameters["run_name"] for cell in cells[1:3]] == [
        "b/number-0.5_seed-5",
        "b/number-none_seed-4",
    ]
    nested = read_grid(write("07_a.yaml", run_name="b", sizes=[[3], [4, 5]], seed=6), notebooks)
    assert [cell.place for cell in nested] == [{"sizes": s, "seed": 6} for s in ([3], [4, 5])]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"number": 2.5}, "a grid needs a parameter whose value is a list of values"),
        ({"number": []}, "a grid needs a parameter whose value is a list of values"),
        ({"sizes": [1, 2]}, "a grid needs a parameter whose value is a list of values"),
        ({"number": [2.5, 1.5, 2.5]}, "a list has the same value twice"),
        ({"number": [2.5, "some"]}, "number: 'some' should be of the kind of 1.5"),
        ({"nmuber": [2.5, 1.5]}, "nmuber is no parameter here; did you mean number?"),
    ],
)
def test_what_is_no_grid_is_told_before_anything_runs(write, notebooks, parameters, message):
    file = write("07_a.yaml", **parameters)
    with pytest.raises(ParameterError) as caught:
        read_grid(file, notebooks)
    assert str(caught.value).startswith(file)
    assert str(caught.value).count(message) == 1


def test_a_bad_cell_of_an_experiment_is_told_before_anything_runs(write, tmp_path, capsys):
    assert program(["sweep", write("03_a.yaml", **QUICK | {"margin": [0.5, -1]})]) == 2
    assert "margin: -1 should be greater than or equal to 0" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_each_cell_is_run_once_and_a_failed_one_again(write, tmp_path, capsys):
    grid = {"loss": ["batch_hard", "lifted"], "margin": "soft", "seed": 1, "run_name": "grid"}
    file = write("03_grid.yaml", **QUICK | FEW | grid)
    runs = tmp_path / "runs" / "grid"
    in_the_way = runs / "loss-lifted" / "checkpoints"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    cell = QUICK | FEW | grid | {"loss": "batch_hard", "run_name": "grid/loss-batch_hard"}
    earlier = {"parameters": cell | {"steps": 5}, "row": dict.fromkeys(SCORES, 2)}
    kept = runs / "loss-batch_hard" / "row.json"  # of other parameters: the cell is run again
    kept.parent.mkdir()
    kept.write_text(json.dumps(earlier), encoding="utf-8")

    assert main([file]) == 1
    assert "2 cells, 1 of them failed" in capsys.readouterr().out
    first = pd.read_csv(runs / "sweep.csv")
    assert list(first) == ["run", "loss", "seed", *SCORES, "seconds", "error"]
    assert first["map"][0] < 1
    assert list(first["loss"]) == grid["loss"]
    assert list(first["map"].isna()) == [False, True]
    assert "checkpoints" in first["error"][1]
    assert pd.isna(first["error"][0])

    in_the_way.unlink()
    assert main([file]) == 0
    second = pd.read_csv(runs / "sweep.csv")
    assert [*second.loc[0, [*SCORES, "seconds"]]] == [*first.loc[0, [*SCORES, "seconds"]]]
    assert second["error"].isna().all()
    lifted = Experiment(**cell | {"loss": "lifted", "run_name": "grid/loss-lifted"})
    assert lifted.folder == runs / "loss-lifted"
    alone = next(score_run(lifted, progress="off"))
    assert [*second.loc[1, SCORES]] == pytest.approx(
        [getattr(alone, score) for score in SCORES], abs=1e-5
    )


def test_a_sweep_that_is_stopped_saves_what_its_cells_have_learnt(write, tmp_path):
    long = {"loss": ["batch_hard"], "margin": 0.5, "seed": 1, "run_name": "grid"}
    long |= {"steps": 1_000_000, "checkpoint_every": 1_000_000, "steps_per_epoch": 2}
    file, run = write("03_grid.yaml", **QUICK | FEW | long), tmp_path / "runs/grid/loss-batch_hard"
    log = run / "log.txt"
    with started("-m", "tripletlib", "sweep", file) as sweep:
        wait_for(lambda: log.is_file() and "epoch 1 of" in log.read_text(encoding="utf-8"), sweep)
        sweep.send_signal(signal.SIGTERM)
        assert sweep.wait(timeout=120) == 1
        assert sweep.error_output.endswith("stopped; the same command goes on\n")
    (step,) = checkpoint_steps(run / "checkpoints")
    assert step < long["steps"]
    assert not (run / "row.json").exists()


def test_a_notebook_is_executed_and_its_headlines_are_the_row(write, tmp_path):
    few = {"epochs": 1, "steps_per_epoch": 10, "images_per_digit": 2}
    file = write("01_grid.yaml", run_name="grid", loss=["lifted"], embedding_dim=8, **few)
    assert main([file]) == 0
    (row,) = pd.read_csv(tmp_path / "runs/grid/sweep.csv").to_dict("records")
    run = tmp_path / "runs/grid/loss-lifted"
    assert (row["run"], row["loss"]) == ("loss-lifted", "lifted")
    accuracy = pd.read_csv(run / "accuracy.csv")["accuracy"].iloc[-1]
    assert row["k-NN accuracy"] == pytest.approx(accuracy, abs=6e-4)  # shown in tenths of a percent
    assert (run / "01_mnist_2d_embedding.html").is_file()
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert (config["training"]["loss"], config["machine"]["threads"]) == ("lifted", 1)
