"""The results page says what `results.csv` says, and that rests on the runs kept beside it."""

import csv
import re
import shutil
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conditions import table_of

from tripletlib.__main__ import main as program
from tripletlib.publishing import results
from tripletlib.publishing.results import (
    FOLDER,
    LOSS_TABLES,
    MEASURED,
    TITLES,
    draw_curves,
    draw_losses,
    draw_retrieval_scores,
    filled_page,
    main,
    read_losses,
    read_results,
)
from tripletlib.training import History

TABLE = read_results()
MEASURED_ROWS = TABLE[TABLE["source"] == MEASURED]
SCORES = ["accuracy", "map", "map_market", "rank1", "rank5"]
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")


def read(file):
    return pd.read_csv(file, dtype=str, keep_default_na=False)


def test_the_page_shows_what_the_table_says():
    assert filled_page(PAGE, TABLE) == PAGE
    figures = {file.name for file in FOLDER.glob("*.png")}
    expected = {f"curves_{section}.png" for section in TITLES}
    expected |= {"scores_drawn.png", "scores_market1501.png"}
    assert figures == expected | ({"losses.png"} if len(read_losses()) > 1 else set())
    assert figures <= set(re.findall(r"\]\((\w+\.png)\)", PAGE))


def test_a_changed_number_would_be_noticed():
    for number, row in enumerate(TABLE.to_dict("records")):
        changed = TABLE.copy()
        score = next(name for name in SCORES if row[name])
        changed.iloc[number, changed.columns.get_loc(score)] = "0.01234"
        assert filled_page(PAGE, changed) != PAGE, row


def test_every_section_has_measured_rows():
    assert set(MEASURED_ROWS["section"]) == set(TITLES)


@pytest.mark.parametrize("run", sorted(set(MEASURED_ROWS["run"])))
def test_every_number_rests_on_a_kept_run(run):
    rows = MEASURED_ROWS[MEASURED_ROWS["run"] == run]
    folder = FOLDER / "runs" / run
    training = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["training"]
    steps, history = training["steps"], History.load(folder)
    last = int(history["step"][-1])
    assert last == steps // 100 * 100  # the last whole hundred
    expected = learning_rate(training, last)
    np.testing.assert_allclose(history["learning_rate"][-1], expected, rtol=1e-4)
    if (folder / "scores.csv").is_file():
        scores = read(folder / "scores.csv")
        assert len(scores) == len(rows)
        for name in ("step", "tta", "reranking", *SCORES[1:]):
            assert list(rows[name]) == list(scores[name]), name
    else:
        assert list(rows["accuracy"]) == [read(folder / "accuracy.csv")["accuracy"].iloc[-1]]
    assert set(rows["step"]) == {str(steps)}
    assert (rows["command"] != "").all()
    assert (pd.to_numeric(rows["minutes"]) > 0).all()


def learning_rate(training, step):
    """The schedule, written down once more: constant, then down to a thousandth."""
    if not training["decay_start"] or step <= training["decay_start"]:
        return training["learning_rate"]
    share = (step - training["decay_start"]) / (training["decay_end"] - training["decay_start"])
    return training["learning_rate"] * 0.001 ** min(share, 1)


def test_the_kept_runs_are_those_of_the_table_and_hold_no_picture():
    assert {folder.name for folder in (FOLDER / "runs").iterdir()} == set(MEASURED_ROWS["run"])
    kinds = {file.suffix for file in (FOLDER / "runs").rglob("*") if file.is_file()}
    assert kinds == {".yaml", ".csv"}


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A run folder of 250 steps, and a results folder with an empty table and page."""
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
    TABLE.head(0).to_csv(folder / "results.csv", index=False)
    marks = "".join(f"<!-- {name} -->\n\n<!-- end -->\n" for name in ("runs", "losses", *TITLES))
    (folder / "README.md").write_text(marks)
    monkeypatch.setattr(results, "FOLDER", folder)
    monkeypatch.setenv("TRIPLETLIB_RUNS", str(run.parent))
    return run, folder


def keep(name="03_tiny", section="digits", minutes="3"):
    about = ["--section", section, "--what", "tiny", "--minutes", minutes, "--command", "make tiny"]
    return program(["results", "keep", name, *about])


def test_a_run_is_kept_once(finished, capsys):
    _, folder = finished
    assert (keep(minutes="3"), keep(minutes="4")) == (0, 0)
    assert "03_tiny: 1 rows in" in capsys.readouterr().out
    (row,) = read_results(folder).to_dict("records")
    assert (row["accuracy"], row["step"], row["minutes"]) == ("0.75", "250", "4")
    files = {file.name for file in (folder / "runs" / "03_tiny").iterdir()}
    assert files == {"accuracy.csv", "config.yaml", "history.csv"}


def test_rows_of_other_runs_stay_as_they_were_written(finished):
    _, folder = finished
    TABLE.to_csv(folder / "results.csv", index=False)
    assert keep() == 0
    table = read_results(folder)
    others = table[table["run"] != "03_tiny"].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, TABLE)
    assert list(table["section"].unique()) == list(TITLES)


def test_a_thinned_log_holds_means_of_a_hundred_steps(finished):
    run, folder = finished
    history = History.load(run)
    assert keep() == 0
    thin = History.load(folder / "runs" / "03_tiny")
    assert thin["step"].tolist() == [100, 200]
    np.testing.assert_allclose(thin["loss"][1], history["loss"][100:200].mean(), rtol=1e-4)
    np.testing.assert_allclose(thin["loss"], thin["mean_loss_100"], rtol=1e-4)
    np.testing.assert_allclose(thin["active_fraction"][0], np.arange(1, 101).mean() / 250)
    np.testing.assert_allclose(thin["norm_p50"][0], history["norm_p50"][99], rtol=1e-4)


def test_scores_of_a_retrieval_run_become_a_row_of_the_page(finished, capsys):
    run, folder = finished
    (run / "accuracy.csv").unlink()
    (run / "scores.csv").write_text(
        "step,tta,reranking,queries,gallery,map,map_market,rank1,rank5,rank10\n"
        "250,flip,none,9,9,0.401,0.39,0.5,0.6,0.7\n250,flip,20/6/0.3,9,9,0.451,0.44,0.52,0.62,0.7\n"
    )
    assert keep(section="market1501") == 0
    text = filled_page((folder / "README.md").read_text(), read_results(folder), folder)
    scores = "40.1 | 39.0 | 50.0 | 60.0 | 45.1 | 44.0 | 52.0 | 62.0"
    assert f"| tiny | 250 | flip | {scores} | 3 |" in text.splitlines()
    assert "- **03_tiny**: [settings](runs/03_tiny/config.yaml)" in text
    figure = draw_curves(read_results(folder), "tiny", folder)
    assert [len(ax.lines) for ax in figure.axes] == [1, 1, 1]
    assert figure.axes[2].get_title() == "Median distance in the batch"


def test_the_page_and_its_figures_are_renewed(finished):
    _, folder = finished
    for file in (FOLDER / "runs").rglob("*.*"):
        target = folder / "runs" / file.relative_to(FOLDER / "runs")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    TABLE.to_csv(folder / "results.csv", index=False)
    for name in LOSS_TABLES:
        if (FOLDER / f"{name}.csv").is_file():
            shutil.copy(FOLDER / f"{name}.csv", folder)
    assert main(["page"]) == 0
    page = (folder / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- (?!speed)\w+ -->\n\|.*?<!-- end -->", PAGE, re.DOTALL)
    assert len(blocks) == len(TITLES) + 1  # that of the losses
    assert all(block in page for block in blocks)
    figures = {file.name for file in folder.glob("*.png")}
    assert figures == {file.name for file in FOLDER.glob("*.png")}


def test_a_page_without_a_mark_is_refused(finished):
    with pytest.raises(ValueError, match="<!-- digits -->"):
        filled_page(PAGE.replace("<!-- digits", "<!-- letters"), TABLE)


def test_curves_of_a_run_on_digits_end_in_its_accuracy(finished):
    _, folder = finished
    assert keep() == 0
    figure = draw_curves(read_results(folder), "tiny", folder)
    right = figure.axes[2]
    assert right.get_title() == "5-NN accuracy on held-out digits"
    np.testing.assert_allclose(right.lines[0].get_xydata(), [[100, 0.5], [250, 0.75]])


@pytest.mark.parametrize(("step", "early"), [(5620, "50.0"), (100, "")])
def test_accuracies_are_also_compared_after_as_many_steps(finished, step, early):
    run, folder = finished
    (run / "accuracy.csv").write_text(f"epoch,step,accuracy\n1,{step},0.5\n2,250,0.75\n")
    assert keep() == 0
    text = filled_page((folder / "README.md").read_text(), read_results(folder), folder)
    assert f"| tiny | 3 | 250 | float32 | {early} | 75.0 | 0.007 | 3 |" in text.splitlines()


def test_scores_are_drawn_before_and_after_re_ranking_best_at_the_top():
    rows = TABLE[TABLE["section"] == "market1501"]
    plain = rows["reranking"] == "none"
    figure = draw_retrieval_scores(rows, "Market-1501")
    for ax, score in zip(figure.axes, ("map_market", "rank1"), strict=True):
        after, before = (container.datavalues for container in ax.containers)
        measured = pd.to_numeric(rows.loc[plain, score])
        np.testing.assert_allclose(sorted(before), sorted(measured))
        assert np.count_nonzero(after) == np.count_nonzero(~plain)
        written = [text.get_text() for text in ax.texts if text.get_text()]
        assert len(written) == len(rows)
    assert (np.diff(figure.axes[0].containers[1].datavalues) >= 0).all()
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert "TriNet, the paper's *" in names[-1]
    assert "as its authors report it" in figure.get_suptitle()


@pytest.mark.parametrize("missing", ["accuracy.csv", "config.yaml", "history.csv"])
def test_a_run_that_lacks_a_file_is_not_kept(finished, capsys, missing):
    run, folder = finished
    (run / missing).unlink()
    assert keep() == 2
    assert missing in capsys.readouterr().err
    assert not (folder / "runs").exists()


def test_an_unfinished_run_is_not_kept(finished, capsys):
    run, folder = finished
    lines = (run / "history.csv").read_text().splitlines()
    (run / "history.csv").write_text("\n".join(lines[:101]) + "\n")
    assert keep() == 2
    assert "holds 100 of 250 steps" in capsys.readouterr().err
    assert not (folder / "runs").exists()


def test_a_table_with_other_columns_is_refused(finished):
    _, folder = finished
    (folder / "results.csv").write_text("run,score\n")
    with pytest.raises(ValueError, match="must have the columns section, run"):
        read_results(folder)


@pytest.fixture
def swept(finished, monkeypatch):
    """The results folder, and a sweep's rows and file; its mAPs are 0, 0.1, 0.2, ... in order."""
    run, folder = finished
    shutil.copy(FOLDER / "paper_losses.csv", folder)
    cells = [*product(["batch_all", "batch_hard"], ["0.5", "soft"], [0, 1, 2])]
    rows = pd.DataFrame(cells, columns=["loss", "margin", "seed"])
    rows = rows.assign(run="a", map_market=np.arange(len(rows)) / 10, seconds=1, error="")
    monkeypatch.setattr(results, "read_grid", {"03_losses.yaml": cells}.get)
    file = run.parent / "03_losses" / "sweep.csv"
    file.parent.mkdir()
    return folder, rows, file


def test_a_sweep_of_losses_is_shown_beside_the_papers_table(swept):
    folder, rows, file = swept
    rows.to_csv(file, index=False)
    assert main(["sweep", "03_losses"]) == 0
    text = filled_page((folder / "README.md").read_text(), read_results(folder), folder)
    lines = text.splitlines()
    assert "| batch all | soft | 40.0 (30.0 to 50.0) | 61.0 |" in lines
    assert "| batch hard | 0.5 | 70.0 (60.0 to 80.0) | 65.1 |" in lines
    assert "](losses.png)" in text

    figure = draw_losses(read_losses(folder))
    ours, papers = figure.axes
    assert [ax.get_title() for ax in figure.axes] == [
        LOSS_TABLES[name][0] for name in ("03_losses", "paper_losses")
    ]
    assert [label.get_text() for label in ours.get_yticklabels()] == ["batch all", "batch hard"]
    for ax, points in ((ours, [[10, 70], [40, 100]]), (papers, [[60.3, 65.12], [61.04, 65.77]])):
        assert [bars.get_label() for bars in ax.containers] == ["0.5", "soft"]
        for bars, scores in zip(ax.containers, points, strict=True):
            np.testing.assert_allclose(bars.lines[0].get_xdata(orig=False), scores)
    _, _, (interval,) = ours.containers[0].lines
    np.testing.assert_allclose(
        [ends[:, 0] for ends in interval.get_segments()], [[0, 20], [60, 80]]
    )


@pytest.mark.parametrize(
    ("trouble", "good"),
    [("a cell failed", 11), ("a cell is missing", 11), ("a seed is missing", 7)],
)
def test_an_unfinished_sweep_is_not_kept(swept, capsys, trouble, good):
    folder, rows, file = swept
    rows.loc[4, "error"] = "status 1: out of memory"
    rows = {
        "a cell failed": rows,
        "a cell is missing": rows.drop(4),
        "a seed is missing": rows[rows["seed"] != 2],
    }[trouble]
    rows.to_csv(file, index=False)
    assert program(["results", "sweep", "03_losses"]) == 2
    assert f"03_losses holds {good} of 12 cells: finish the sweep first" in capsys.readouterr().err
    assert not (folder / "03_losses.csv").exists()


def test_the_speeds_on_the_page_are_those_that_were_measured():
    with (FOLDER / "speed.csv").open(encoding="utf-8", newline="") as file:
        assert table_of([*csv.DictReader(file)]) in PAGE


def test_the_ladder_on_the_page_is_the_kept_one():
    ladder = pd.read_csv(FOLDER / "ladder.csv")
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    scores = "map_market", "rank1", "reranked_map_market", "reranked_rank1"
    for row, seeds in ladder.groupby("row"):
        cells = [", ".join(f"{100 * value:.1f}" for value in seeds[score]) for score in scores]
        assert f"| {row} | {' | '.join(cells)} |" in page.splitlines()
