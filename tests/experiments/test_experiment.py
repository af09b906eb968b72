"""One parameter file means one training, from the notebook and from the command line."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from started import outcomes, started
from tiny_experiment import TINY

from tripletlib.__main__ import main
from tripletlib.datasets.decoding import UnreadableImageError
from tripletlib.embedding import EmbeddingTable
from tripletlib.evaluation import evaluate_embeddings
from tripletlib.experiments import Experiment, experiment, open_retrieval
from tripletlib.runtime import REPOSITORY, ParameterError
from tripletlib.runtime import processes as distributed
from tripletlib.runtime.launching import ProcessesFailed
from tripletlib.training.history import History
from tripletlib.training.run_folder import CheckpointError, checkpoint_file, checkpoint_steps

FILES = sorted((REPOSITORY / "notebooks" / "params").glob("03_*.yaml"))
FILES = [file for file in FILES if "losses" not in file.stem]  # no grids


@pytest.fixture
def write(tmp_path):
    def write(**changed):
        file = tmp_path / "03_tiny.yaml"
        file.write_text(yaml.safe_dump(TINY | changed), encoding="utf-8")
        return file

    return write


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_parameter_files_are_whole_experiments(file):
    ours = Experiment.from_file(file)
    settings = ours.settings()
    assert ours.run_name == file.stem
    assert file.read_text(encoding="utf-8").startswith("# ")
    assert (settings.steps, settings.identities) == (ours.steps, ours.identities)
    assert settings.learning_rate_at(ours.steps) == pytest.approx(ours.learning_rate / 1000)


def test_there_are_the_full_experiments():
    assert [file.stem for file in FILES] == [
        "03_market1501_cpu",
        "03_market1501_cpu_augmented",
        "03_market1501_original",
        "03_market1501_paper",
        "03_market1501_paper64",
        "03_market1501_trinet",
        "03_synthetic_full",
        "03_synthetic_wide",
    ]


def test_the_papers_recipe():
    paper = Experiment.from_file(next(file for file in FILES if "paper" in file.stem)).settings()
    assert paper.margin == "soft"
    assert [paper.beta1_at(step) for step in (15_000, 15_001)] == [0.9, 0.5]
    assert paper.learning_rate_at(20_000) == pytest.approx(1e-3 * 0.001**0.5)


@pytest.mark.usefixtures("own_people")
def test_damaged_pictures_are_left_out_only_if_asked_for():
    ours = Experiment(**TINY)
    data = ours.open_dataset("off")
    damaged = Path(data.train.paths[0])
    damaged.write_bytes(b"no picture")
    with pytest.raises(UnreadableImageError, match=damaged.name):
        _ = ours.open_dataset("off").train.images
    skipping = Experiment(**TINY | {"skip_unreadable": True}).open_dataset("off")
    assert len(skipping.train) == len(data.train) - 1
    assert list(skipping.train.skipped) == [str(damaged)]


def test_missing_data_is_said_in_one_line(write, capsys):
    file = write(dataset="market1501", dataset_root="nowhere")
    assert main(["train", str(file)]) == 2
    assert re.fullmatch(r"error: dataset_root: 'nowhere': .+\n", capsys.readouterr().err)


# The command line, and then what it has imported
TRAIN = """
import sys
from tripletlib.__main__ import main
status = main(["train", *sys.argv[1:]])
print("imported:", *sorted({name.partition(".")[0] for name in sys.modules}))
sys.exit(status)
"""
OF_JUPYTER = {"IPython", "ipykernel", "ipywidgets", "jupyter_client", "jupyter_core", "matplotlib",
              "mlxtend", "nbformat", "papermill", "sklearn", "anywidget"}  # fmt: skip


def test_a_run_from_the_command_line_needs_no_jupyter_goes_on_and_ends_once(
    write, capsys, set_threads
):
    set_threads(1)  # as a new process has here: more would round sums in another order
    ours, command = Experiment(**TINY), ["train", str(write()), "--embed"]
    ((status, printed, errors),) = outcomes(started("-c", TRAIN, *command[1:]))
    assert status == 0, errors
    assert "epoch 2 of 2 · step 6" in printed
    imported = set(printed.partition("imported:")[2].split())
    assert "torch" in imported
    assert not imported & OF_JUPYTER
    assert checkpoint_steps(ours.folder / "checkpoints") == [4, 6]
    assert len(History.load(ours.folder)) == 6
    files = [ours.folder / "embeddings" / f"{name}.npz" for name in ("query", "gallery")]
    tables = [EmbeddingTable.load(file) for file in files]
    assert {(table.step, table.tta) for table in tables} == {(6, "flip")}
    assert [len(table) for table in tables] == [36, 36 * 4 + 22]
    not_compared = {"tensorboard", ".writer"}  # the lock names the process that held it last
    files = [file for file in ours.folder.rglob("*") if not not_compared & set(file.parts)]
    before = {file: file.read_bytes() for file in files if file.is_file()}

    assert main(command) == 0  # finished: no step, the same files
    assert "epoch" not in capsys.readouterr().out
    assert before == {file: file.read_bytes() for file in before}

    (ours.folder / "checkpoints" / "step_00000006.pt").unlink()  # stopped after step 4, as it were
    assert main(command) == 0
    assert "step 6" in capsys.readouterr().out
    same = [file for file in before if file.suffix != ".pt"]  # zip archives differ in their padding
    assert len(same) == 4
    assert all(file.read_bytes() == before[file] for file in same)

    write(margin=0.1)
    assert main(command) == 2
    assert "margin was 0.5, is 0.1" in capsys.readouterr().err


@pytest.fixture
def embedded(monkeypatch):
    """What is embedded anew: test-time augmentation and number of pictures of each call."""
    calls, embed = [], experiment.embed

    def note(model, images, *, tta, **rest):
        calls.append((tta, len(images)))
        return embed(model, images, tta=tta, **rest)

    monkeypatch.setattr(experiment, "embed", note)
    return calls


def test_a_table_of_other_weights_settings_or_step_is_made_anew(embedded):
    ours = Experiment(**TINY)
    data, model = ours.open_dataset("off"), ours.make_model()

    def table(run=ours, step=6):
        return run.embedding_table(model, data.query, data.root, step, "off")

    first = table()
    np.testing.assert_array_equal(table().embeddings, first.embeddings)
    assert (first.content, first.precision) == (data.query.fingerprint, "float32")
    assert len(embedded) == 1
    assert table(step=7).step == 7
    assert table(ours.replace(tta="none")).tta == "none"
    assert table(ours.replace(precision="bfloat16")).precision == "bfloat16"
    assert table().tta == "flip"
    assert len(embedded) == 5
    replace(table(), pids=first.pids + 1).save(ours.folder / "embeddings" / "query.npz")
    np.testing.assert_array_equal(table().pids, first.pids)
    assert len(embedded) == 6
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    assert table().weights != first.weights
    assert len(embedded) == 7


def test_a_network_that_learnt_by_cosines_is_ranked_by_them():
    ours = Experiment(**TINY)
    data, model = ours.open_dataset("off"), ours.make_model()
    plain, unit = (
        run.embedding_table(model, data.query, data.root, 6, "off").embeddings
        for run in (ours, ours.replace(run_name="cosine", metric="cosine"))
    )
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, plain / lengths, atol=1e-5)
    assert np.abs(lengths - 1).max() > 0.01  # the plain ones have other lengths


@pytest.mark.usefixtures("own_people")
def test_a_table_of_other_pictures_or_labels_is_made_anew(embedded):
    ours = Experiment(**TINY, dataset="market1501")
    model = ours.make_model()

    def table():
        data = ours.open_dataset("off")
        return data.query, ours.embedding_table(model, data.query, data.root, 6, "off")

    query, first = table()
    assert first.paths[0].startswith("query/")
    one, other = Path(query.paths[0]), Path(query.paths[1])
    picture, size = one.read_bytes(), one.stat().st_size
    one.write_bytes(other.read_bytes().ljust(size, b"\0")[:size])  # another, of the same size
    _, replaced = table()
    assert not np.array_equal(replaced.embeddings[0], first.embeddings[0])
    one.write_bytes(picture)
    np.testing.assert_array_equal(table()[1].embeddings, first.embeddings)
    one.rename(one.with_name("9999_" + one.name.split("_", 1)[1]))
    _, relabelled = table()
    assert relabelled.pids.max() == 9999
    assert len(embedded) == 4
    (ours.folder / "embeddings" / "query.npz").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"query\.npz is not an embedding table"):
        table()


def test_one_more_person_among_the_queries_leaves_no_old_number(embedded, tmp_path):
    rng = np.random.default_rng(0)

    def add(part, names, pictures):
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            for k in range(pictures):
                pixels = rng.integers(0, 255, (32, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{part}_{k}.png")

    add("train", ["xena", "yan"], 2)
    add("query", ["ben", "carla"], 1)
    add("gallery", ["ben", "carla"], 2)
    ours = Experiment(**TINY | {"dataset": "folders", "dataset_root": str(tmp_path)})
    model = ours.make_model()

    def score():
        data = ours.open_dataset("off")
        query, gallery = (
            ours.embedding_table(model, split, data.root, 6, "off")
            for split in (data.query, data.gallery)
        )
        assert gallery.pids.tolist() == data.gallery.pids.tolist()
        return evaluate_embeddings(query, gallery, device="cpu").map

    before = score()
    add("query", ["anna"], 1)
    assert score() == pytest.approx(before)


def test_weights_come_back_from_a_checkpoint():
    ours = Experiment(**TINY)
    data = ours.open_dataset("off")
    model = ours.make_model()
    ours.train(model, data.train, progress="off")
    again = ours.make_model()
    assert ours.load_weights(again) == 6
    trained = model.cpu().state_dict()
    assert all(value.equal(trained[name]) for name, value in again.state_dict().items())
    assert ours.replace(checkpoint_step=4).load_weights(again) == 4
    with pytest.raises(CheckpointError, match="steps there: 4, 6"):
        ours.replace(checkpoint_step=5).load_weights(again)


def test_weights_are_for_pictures_of_their_size_and_say_if_they_know_not_of_which(caplog):
    ours = Experiment(**TINY)
    ours.train(ours.make_model(), ours.open_dataset("off").train, progress="off")
    small = ours.replace(image_height=24)
    with pytest.raises(
        CheckpointError, match="32 x 16; write image_height: 32 and image_width: 16"
    ):
        small.load_weights(small.make_model())
    assert not caplog.records
    file = checkpoint_file(ours.folder / "checkpoints", 6)
    state = torch.load(file, weights_only=True)
    del state["settings"]["data"]["fingerprint"]
    torch.save(state, file)
    assert ours.load_weights(ours.make_model()) == 6
    assert "does not say on which pictures it was trained" in caplog.text


def test_odd_words_about_the_pictures_are_none():
    ours = Experiment(**TINY)
    ours.train(ours.make_model(), ours.open_dataset("off").train, progress="off")
    file = checkpoint_file(ours.folder / "checkpoints", 6)
    state = torch.load(file, weights_only=True)
    for images in (None, 5, [36, 3], [36, 3, 32], "32 x 16"):
        state["settings"]["data"]["images"] = images
        torch.save(state, file)
        assert ours.load_weights(ours.make_model()) == 6, images


def test_weights_of_another_metric_are_refused_but_may_be_begun_with():
    ours = Experiment(**TINY)
    training = ours.open_dataset("off").train
    ours.train(ours.make_model(), training, progress="off")
    other = ours.replace(metric="cosine")
    with pytest.raises(CheckpointError, match="metric: euclidean; write that in place of cosine"):
        other.load_weights(other.make_model())
    second = other.replace(run_name="second", start_from="tiny")
    assert len(second.train(second.make_model(), training, progress="off")) == 6


def test_a_trinet_is_trained_opened_and_taken_for_no_other(write, capsys):
    trinet = {"network": "trinet", "backbone": "mobilenet_v2", "weights": "", "neck": True}
    file = write(**trinet, embedding_dim=1280, identity_loss=1, warm_up=4, random_erasing=True)
    ours = Experiment.from_file(file)
    ours.run(embed_afterwards=False)
    opened = open_retrieval(file, progress="off")
    assert opened.name.endswith(", TriNet after 6 steps")
    lengths = np.linalg.norm(opened.query.embeddings, axis=1)  # of means of two rows of length 1
    assert opened.query.embeddings.shape[1] == 1280
    assert 0.5 < lengths.min() <= lengths.max() < 1 + 1e-5
    training = ours.open_dataset("off").train
    other = ours.replace(last_stride=2)  # whose weights have the same shapes
    with pytest.raises(CheckpointError, match="last_stride was 1, is 2"):
        other.train(other.make_model(), training, progress="off")
    with pytest.raises(CheckpointError, match="with last_stride: 1; write that in place of 2"):
        other.load_weights(other.make_model())
    begun = other.replace(run_name="second", start_from="tiny", steps=1)
    assert len(begun.train(begun.make_model(), training, progress="off")) == 1
    assert main(["ship", str(file)]) == 2
    assert "network: trinet cannot ship; a lunet can" in capsys.readouterr().err
    missing = ours.replace(weights="missing.pt")
    with pytest.raises(ParameterError, match=r"^weights: 'missing.pt': .*missing\.pt cannot be r"):
        missing.make_model()
    assert open_retrieval(write(**missing.model_dump()), progress="off").name == opened.name


class Recording(distributed.Processes):
    """One process that notes what is done in turn."""

    def __init__(self):
        super().__init__()
        self.results = []

    def in_turn(self, action):
        self.results.append(action())
        return self.results[-1]


def test_processes_decode_in_turn(monkeypatch):
    ours, processes = Experiment(**TINY), Recording()
    monkeypatch.setattr(experiment, "current_processes", lambda: processes)
    model, data = ours.make_model(), ours.open_dataset("off")
    ours.train(model, data.train, progress="off")
    ours.embedding_table(model, data.query, data.root, 6, "off")
    assert processes.results[0] is data.train.images
    assert processes.results[-1] == data.query.fingerprint


def test_a_run_can_start_from_anothers_weights():
    first = Experiment(**TINY)
    training = first.open_dataset("off").train
    first.train(first.make_model(), training, progress="off")
    second = Experiment(**TINY | {"run_name": "second", "start_from": "tiny", "steps": 1})
    model = second.make_model()
    second.train(model, training, progress="off")
    trained = first.make_model()
    first.load_weights(trained)
    # One step of Adam moves a weight by at most its rate; the random weights lie further away.
    for (name, ours), before, random in zip(
        model.cpu().named_parameters(),
        trained.parameters(),
        first.make_model().parameters(),
        strict=True,
    ):
        assert (ours - before).abs().max() <= 1.01 * second.learning_rate, name
        if name.startswith("body.0."):
            assert (ours - random).abs().max() > 2 * second.learning_rate
    config = yaml.safe_load((second.folder / "config.yaml").read_text(encoding="utf-8"))
    assert config["experiment"]["start_from"] == "tiny"
    shutil.rmtree(first.folder)
    again = second.make_model()
    second.train(again, training, progress="off")  # resumed: the earlier run is not needed
    assert all(map(torch.equal, again.cpu().parameters(), model.parameters()))
    other = second.replace(start_from="tiny/other")
    with pytest.raises(CheckpointError, match=r"start_from was 'tiny', is 'tiny/other'"):
        other.train(other.make_model(), training, progress="off")


def test_a_run_to_start_from_that_cannot_be_used_is_named():
    training = Experiment(**TINY).open_dataset("off").train
    missing = Experiment(**TINY | {"start_from": "missing"})
    with pytest.raises(CheckpointError, match=r"no usable checkpoint in .*missing"):
        missing.train(missing.make_model(), training, progress="off")
    narrow = Experiment(**TINY)
    narrow.train(narrow.make_model(), training, progress="off")
    wide = Experiment(**TINY | {"run_name": "wide", "width": 0.06, "start_from": "tiny"})
    with pytest.raises(CheckpointError, match=r"tiny.*holds another network") as caught:
        wide.train(wide.make_model(), training, progress="off")
    assert len(str(caught.value).splitlines()) == 1


def test_an_embedding_that_fails_does_not_cost_a_finished_training(monkeypatch):
    ours = Experiment(**TINY | {"processes": 2, "resume": "unfinished"})
    training = ours.open_dataset("off").train

    def fail(*_):
        raise ProcessesFailed("no")

    def train_and_fail(*_):
        alone = ours.replace(processes=1)
        alone.train(alone.make_model(), training, progress="off")
        fail()

    monkeypatch.setattr(experiment, "launch", train_and_fail)
    model = ours.make_model()
    with pytest.warns(UserWarning, match="training is finished, the embedding is not: no"):
        assert len(ours.train(model, training)) == 6
    monkeypatch.setattr(experiment, "launch", fail)  # and leaves the earlier run as it was
    with pytest.raises(ProcessesFailed):
        ours.train(model, training)
