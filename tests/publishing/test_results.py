"""The results page says what `results.csv` says, and that rests on the runs kept beside it."""

import csv
import re
import shutil

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import yaml

from tripletlib.publishing import results
from tripletlib.publishing.results import (
    COLUMNS,
    FOLDER,
    MEASURED,
    SCORES,
    SECTIONS,
    keep_run,
    main,
    read_config,
    read_results,
    write_thinned,
)
from tripletlib.publishing.results_page import (
    TITLES,
    digits_table,
    draw_curves,
    draw_retrieval_scores,
    filled_page,
)
from tripletlib.training.history import History

mpl.use("agg")
ROWS = read_results()
MEASURED_ROWS = [row for row in ROWS if row["source"] == MEASURED]
RUNS = sorted({row["run"] for row in MEASURED_ROWS})


def read(file):
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_page_shows_what_the_table_says():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert filled_page(page, ROWS) == page
    for section in SECTIONS:
        assert (FOLDER / f"curves_{section}.png").is_file()
        assert f"curves_{section}.png" in page
    for section in ("drawn", "market1501"):
        assert (FOLDER / f"scores_{section}.png").is_file()
        assert f"scores_{section}.png" in page


def test_a_changed_number_would_be_noticed():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for number, row in enumerate(ROWS):
        score = next(name for name in SCORES if row[name])
        changed = [*ROWS[:number], row | {score: "0.01234"}, *ROWS[number + 1 :]]
        assert filled_page(page, changed) != page, row


def test_every_section_has_measured_rows():
    assert {row["section"] for row in MEASURED_ROWS} == set(SECTIONS) == set(TITLES)


@pytest.mark.parametrize("run", RUNS)
def test_every_number_rests_on_a_kept_run(run):
    rows = [row for row in MEASURED_ROWS if row["run"] == run]
    folder, config = FOLDER / "runs" / run, read_config(run)
    steps = config["training"]["steps"]
    history = History.load(folder)
    last = int(history["step"][-1])
    assert last == steps // 100 * 100  # the last whole hundred
    rate = results_rate(config["training"], last)
    np.testing.assert_allclose(history["learning_rate"][-1], rate, rtol=1e-4)
    if (folder / "scores.csv").is_file():
        scores = read(folder / "scores.csv")
        assert len(scores) == len(rows)
        for row, score in zip(rows, scores, strict=True):
            for name in ("step", "tta", "reranking", *SCORES[1:]):
                assert row[name] == score[name], name
    else:
        (row,) = rows
        assert row["accuracy"] == read(folder / "accuracy.csv")[-1]["accuracy"]
    for row in rows:
        assert int(row["step"]) == steps
        assert row["command"]
        assert float(row["minutes"]) > 0


def results_rate(training, step):
    """The schedule, written down once more: constant, then down to a thousandth."""
    if training["decay_start"] is None or step <= training["decay_start"]:
        return training["learning_rate"]
    share = (step - training["decay_start"]) / (training["decay_end"] - training["decay_start"])
    return training["learning_rate"] * 0.001 ** min(share, 1)


def test_no_picture_lies_among_the_kept_runs():
    kinds = {file.suffix for file in (FOLDER / "runs").rglob("*") if file.is_file()}
    assert kinds == {".yaml", ".csv"}


@pytest.fixture
def finished(tmp_path):
    """A run folder of 250 steps, and an empty results folder."""
    run = tmp_path / "runs" / "03_tiny"
    with History(run) as history:
        generator = torch.Generator().manual_seed(0)
        for step in range(1, 251):
            history.record(
                step=step,
                learning_rate=0.1,
                loss=1 / step,
                active_fraction=step / 250,
                embeddings=torch.randn(6, 2, generator=generator),
            )
    config = {"training": {"steps": 250, "seed": 3, "decay_start": None, "learning_rate": 0.1},
              "machine": {"threads": 1, "processor": "x", "precision": "float32"},
              "versions": {"torch": "2"}, "started": "2026-01-02"}  # fmt: skip
    (run / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (run / "accuracy.csv").write_text("epoch,step,accuracy\n1,100,0.5\n2,250,0.75\n")
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "results.csv").write_text(",".join(COLUMNS) + "\n")
    return run, folder


def test_a_run_is_kept_once(finished):
    run, folder = finished
    for minutes in (3, 4):
        keep_run(run, "digits", "tiny", minutes, "make tiny", folder)
    (row,) = read_results(folder)
    assert (row["accuracy"], row["step"], row["minutes"]) == ("0.75", "250", "4")
    assert sorted(file.name for file in (folder / "runs" / "03_tiny").iterdir()) == [
        "accuracy.csv",
        "config.yaml",
        "history.csv",
    ]


def test_a_thinned_log_holds_means_of_a_hundred_steps(finished, tmp_path):
    history = History.load(finished[0])
    write_thinned(history, tmp_path / "history.csv")
    thin = History.load(tmp_path)
    assert thin["step"].tolist() == [100, 200]
    np.testing.assert_allclose(thin["loss"][1], history["loss"][100:200].mean(), rtol=1e-4)
    np.testing.assert_allclose(thin["loss"], thin["mean_loss_100"], rtol=1e-4)
    np.testing.assert_allclose(thin["active_fraction"][0], np.arange(1, 101).mean() / 250)
    np.testing.assert_allclose(thin["norm_p50"][0], history["norm_p50"][99], rtol=1e-4)


def test_scores_of_a_retrieval_run_become_rows_of_the_page(finished):
    run, folder = finished
    (run / "accuracy.csv").unlink()
    (run / "scores.csv").write_text(
        "step,tta,reranking,queries,gallery,map,map_market,rank1,rank5,rank10\n"
        "250,flip,none,9,9,0.401,0.39,0.5,0.6,0.7\n250,flip,20/6/0.3,9,9,0.451,0.44,0.52,0.62,0.7\n"
    )
    rows = keep_run(run, "market1501", "tiny", 3, "make tiny", folder)
    assert [row["reranking"] for row in rows] == ["none", "20/6/0.3"]
    page = "".join(f"<!-- {name} -->\n<!-- end -->\n" for name in ("runs", *SECTIONS))
    page = page.replace("-->\n<!-- end", "-->\n\n<!-- end")
    text = filled_page(page, read_results(folder), folder)
    assert (
        "| tiny | 250 | flip | 40.1 | 39.0 | 50.0 | 60.0 | 45.1 | 44.0 | 52.0 | 62.0 | 3 |" in text
    )
    assert "- **03_tiny**: [settings](runs/03_tiny/config.yaml)" in text
    figure = draw_curves(read_results(folder), "tiny", folder)
    assert [len(ax.lines) for ax in figure.axes] == [1, 1, 1]
    assert figure.axes[2].get_title() == "Median distance in the batch"
    plt.close(figure)
    with pytest.raises(ValueError, match="<!-- digits -->"):
        filled_page(text.replace("digits", "letters"), read_results(folder), folder)


def test_curves_of_a_run_on_digits_end_in_its_accuracy(finished):
    run, folder = finished
    rows = keep_run(run, "digits", "tiny", 3, "make tiny", folder)
    figure = draw_curves(rows, "tiny", folder)
    right = figure.axes[2]
    assert right.get_title() == "5-NN accuracy on held-out digits"
    np.testing.assert_allclose(right.lines[0].get_xydata(), [[100, 0.5], [250, 0.75]])
    plt.close(figure)


@pytest.mark.parametrize(("step", "early"), [(5620, "50.0"), (100, "")])
def test_accuracies_are_also_compared_after_as_many_steps(finished, step, early):
    run, folder = finished
    (run / "accuracy.csv").write_text(f"epoch,step,accuracy\n1,{step},0.5\n2,250,0.75\n")
    table = digits_table(keep_run(run, "digits", "tiny", 3, "make tiny", folder), folder)
    assert table.splitlines()[-1] == f"| tiny | 3 | 250 | float32 | {early} | 75.0 | 0.007 | 3 |"


def test_scores_are_drawn_before_and_after_re_ranking_best_at_the_top():
    rows = [row for row in ROWS if row["section"] == "market1501"]
    figure = draw_retrieval_scores(rows, "Market-1501")
    left, right = figure.axes
    for ax, score in ((left, "map_market"), (right, "rank1")):
        plain, reranked = (line.get_xdata() for line in ax.lines)
        values = [float(row[score]) for row in rows if row["reranking"] == "none"]
        np.testing.assert_allclose(sorted(plain), sorted(values))
        assert np.isfinite(reranked).sum() == sum(row["reranking"] != "none" for row in rows)
    assert (np.diff(left.lines[0].get_xdata()) >= 0).all()
    names = [label.get_text() for label in left.get_yticklabels()]
    assert "TriNet, the paper's *" in names[-1]
    assert "as its authors report it" in figure.get_suptitle()
    plt.close(figure)


def test_what_cannot_be_kept_is_said(finished, monkeypatch, capsys):
    run, folder = finished
    with pytest.raises(ValueError, match="section must be one of"):
        keep_run(run, "people", "tiny", 3, "make", folder)
    (run / "accuracy.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"accuracy\.csv"):
        keep_run(run, "digits", "tiny", 3, "make", folder)
    assert not (folder / "runs").exists()
    lines = (run / "history.csv").read_text().splitlines()
    (run / "history.csv").write_text("\n".join(lines[:101]) + "\n")
    with pytest.raises(ValueError, match="holds 100 of 250 steps"):
        keep_run(run, "digits", "tiny", 3, "make", folder)
    monkeypatch.setenv("TRIPLETLIB_RUNS", str(run.parent))
    about = ["--section", "digits", "--what", "x", "--minutes", "1", "--command", "make"]
    assert main(["missing", *about]) == 2
    assert "missing" in capsys.readouterr().err


def test_the_command_line_keeps_a_run(finished, monkeypatch, capsys):
    run, folder = finished
    monkeypatch.setenv("TRIPLETLIB_RUNS", str(run.parent))
    monkeypatch.setattr(results.keep_run, "__defaults__", (folder,))
    about = ["--section", "digits", "--what", "x", "--minutes", "1", "--command", "make"]
    assert main(["03_tiny", *about]) == 0
    assert "03_tiny: 1 rows" in capsys.readouterr().out
    assert len(read_results(folder)) == 1


def test_a_table_with_other_columns_is_refused(finished):
    _, folder = finished
    shutil.copy(folder / "results.csv", folder / "backup.csv")
    (folder / "results.csv").write_text("run,score\n")
    with pytest.raises(ValueError, match="must have the columns section, run"):
        read_results(folder)


def test_every_kept_run_is_on_the_page():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    kept = {folder.name for folder in (FOLDER / "runs").iterdir()}
    assert kept == set(RUNS)
    assert set(re.findall(r"runs/([\w-]+)/config\.yaml", page)) == kept
