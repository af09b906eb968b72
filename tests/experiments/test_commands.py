"""A finished run's scores are those of its embeddings, and they reach the disk."""

import csv
import errno

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.spatial.distance import cdist
from tiny_experiment import TINY

from tripletlib.__main__ import main as program
from tripletlib.embedding import EmbeddingTable
from tripletlib.evaluation import evaluate
from tripletlib.experiments.commands import score, score_run, write_scores
from tripletlib.experiments.experiment import Experiment
from tripletlib.reranking import k_reciprocal
from tripletlib.training.run_folder import CheckpointError


@pytest.fixture
def trained():
    ours = Experiment(**TINY)
    ours.train(ours.make_model(), ours.open_dataset("off").train, progress="off")
    return ours


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "03_tiny.yaml"
    file.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return file


def tables(experiment):
    folder = experiment.folder / "embeddings"
    return [EmbeddingTable.load(folder / f"{name}.npz") for name in ("query", "gallery")]


def test_scores_are_those_of_the_embeddings_before_and_after(trained):
    plain, re_ranked = score_run(trained, reranking=(5, 2, 0.4), progress="off")
    query, gallery = tables(trained)
    labels = query.pids, gallery.pids, query.camids, gallery.camids
    for scored, distances in (
        (plain, cdist(query.embeddings, gallery.embeddings)),
        (re_ranked, k_reciprocal(query.embeddings, gallery.embeddings, 5, 2, 0.4)),
    ):
        wanted = evaluate(distances, *labels)
        assert scored.map == pytest.approx(wanted.map, abs=1e-6)
        assert scored.map_market == pytest.approx(wanted.map_market, abs=1e-6)
        assert scored.minp == pytest.approx(wanted.minp, abs=1e-6)
        ranks = [scored.rank1, scored.rank5, scored.rank10]
        np.testing.assert_allclose(ranks, wanted.cmc[[0, 4, 9]])
        assert (scored.queries, scored.gallery) == (wanted.valid_count, len(gallery))
        assert (scored.step, scored.tta) == (6, "flip")
    assert (plain.reranking, re_ranked.reranking) == ("none", "5/2/0.4")
    assert plain.map != re_ranked.map


def test_each_augmentation_and_checkpoint_is_scored_for_itself(trained):
    scores = list(score_run(trained, ("5crops", "none"), progress="off"))
    assert [each.tta for each in scores] == ["5crops", "5crops", "none", "none"]
    assert tables(trained)[0].tta == "none"
    early = next(score_run(trained.replace(tta="none", checkpoint_step=4), progress="off"))
    assert early.step == 4
    assert early.map != scores[2].map


def test_the_command_line_leaves_a_file_with_what_it_printed(trained, file, capsys):
    assert score([str(file), "--tta", "none", "--k1", "5", "--k2", "2"]) == 0
    with (trained.folder / "scores.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["reranking"] for row in rows] == ["none", "5/2/0.3"]
    _, *printed = capsys.readouterr().out.splitlines()  # first: how many have a right answer
    for row, line in zip(rows, printed, strict=False):
        assert f"mAP {float(row['map']):.1%} (rectangle)" in line
        assert f"mINP {float(row['minp']):.1%}" in line
        assert f"rank-1 {float(row['rank1']):.1%}" in line


def test_what_is_wrong_is_said_in_one_line(file, capsys):
    assert program(["score", str(file)]) == 2  # never trained
    assert "no usable checkpoint" in capsys.readouterr().err
    assert program(["score", str(file.with_name("03_missing.yaml"))]) == 2
    assert "03_missing.yaml" in capsys.readouterr().err


def test_scores_are_written_whole_or_not_at_all(trained, monkeypatch):
    scores = list(score_run(trained, progress="off"))
    file = write_scores(scores, str(trained.folder))
    whole = file.read_bytes()

    def write_half(_, path, **options):
        path.write_bytes(whole[:20])
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", write_half)
    with pytest.raises(OSError, match=r"free disk space.*scores\.csv"):
        write_scores(scores, trained.folder)
    assert file.read_bytes() == whole
    assert [left.name for left in trained.folder.glob("*scores*")] == ["scores.csv"]


def test_a_run_folder_that_cannot_be_written_is_named(trained, monkeypatch):
    scores = list(score_run(trained, progress="off"))
    (trained.folder / "scores.csv").mkdir()
    with pytest.raises(OSError, match=r"TRIPLETLIB_RUNS.*could not write: .*scores\.csv"):
        write_scores(scores, trained.folder)


def test_a_run_keeps_its_parameters(trained):
    config = yaml.safe_load((trained.folder / "config.yaml").read_text(encoding="utf-8"))
    assert Experiment(**config["experiment"]) == trained
    other = trained.replace(margin=0.1)
    with pytest.raises(CheckpointError, match=r"margin was 0\.5, is 0\.1"):
        other.train(other.make_model(), other.open_dataset("off").train, progress="off")
    again = yaml.safe_load((trained.folder / "config.yaml").read_text(encoding="utf-8"))
    assert again == config  # a refused run changes nothing
