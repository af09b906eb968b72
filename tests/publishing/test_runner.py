"""The runner on notebooks of a few cells; the real ones run in `make run`."""

import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from tripletlib.__main__ import main as program
from tripletlib.publishing import runner
from tripletlib.runtime import REPOSITORY

GOOD = """
from tripletlib.runtime import show_headlines
show_headlines({"twice": 2 * number})
"""
UNWATCHED = "import os\nassert 'JPY_SESSION_NAME' not in os.environ"


def write_notebook(path, body):
    parameters = nbformat.v4.new_code_cell(
        "number = 1  # doubled", metadata={"tags": ["parameters"]}
    )
    notebook = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(body)])
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(notebook, path)


@pytest.fixture
def folder(tmp_path):
    write_notebook(tmp_path / "01_good.ipynb", GOOD)
    write_notebook(tmp_path / "02_bad.ipynb", "1 / 0")
    write_notebook(tmp_path / "03_unwatched.ipynb", UNWATCHED)
    (tmp_path / "params").mkdir()
    return tmp_path


def test_one_failing_notebook_is_named_and_the_others_run_without_a_front_end(
    folder, monkeypatch, capfd
):
    monkeypatch.setattr(runner, "find_notebooks", lambda: sorted(folder.glob("*.ipynb")))
    monkeypatch.setenv("TRIPLETLIB_RUNS", str(folder / "runs"))
    monkeypatch.setenv("JPY_SESSION_NAME", "somebody's notebook")
    assert runner.main(["run"]) == 1
    printed = capfd.readouterr()
    assert "FAILED 02_bad, cell [2]: ZeroDivisionError: division by zero" in printed.err
    rows = [line for line in printed.out.splitlines() if line.startswith(("01_", "02_", "03_"))]
    assert [("twice 2" in row, "FAILED" in row) for row in rows] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    for name in ("01_good", "02_bad", "03_unwatched"):
        assert (folder / "runs" / "default" / f"{name}.ipynb").is_file()
        assert (folder / "runs" / "default" / f"{name}.html").is_file()


def test_parameters_reach_the_notebook_their_number_names(folder):
    file = folder / "params" / "01_more.yaml"
    file.write_text("number: 21\n")
    notebook, parameters = runner.read_parameters(file, folder)
    assert notebook.name == "01_good.ipynb"
    outcome = runner.execute(notebook, folder / "out.ipynb", parameters)
    assert outcome.error is None
    assert outcome.headlines == {"twice": "42"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "01_typo.yaml",
            "nmuber: 2",
            r"_typo\.yaml, nmuber is no parameter here; did you mean number\?",
        ),
        ("77_none.yaml", "number: 2", "must begin with a notebook's number"),
        ("01_kind.yaml", "number: true", "number: true should be of the kind of 1"),
        ("01_list.yaml", "- 1", "parameter: value"),
        ("01_broken.yaml", "a: [1", "not valid YAML"),
    ],
)
def test_bad_parameter_files_are_errors(folder, name, text, message):
    file = folder / "params" / name
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        runner.read_parameters(file, folder)


def test_missing_parameter_file_lists_the_ones_there(capsys):
    assert program(["notebooks", "run", "--params", "nowhere.yaml"]) == 2
    told = capsys.readouterr().err
    assert re.search(r"no parameter file .*nowhere\.yaml; .*01_mnist_original\.yaml", told)


def test_refresh_renews_the_good_and_keeps_the_bad(folder, monkeypatch):
    monkeypatch.setenv("TRIPLETLIB_RUNS", str(folder / "runs"))
    bad_before = (folder / "02_bad.ipynb").read_text()
    outcomes = runner.refresh(sorted(folder.glob("0[23]*.ipynb")))
    assert [outcome.error is None for outcome in outcomes] == [False, True]
    renewed = nbformat.read(folder / "03_unwatched.ipynb", as_version=4)
    assert [cell.execution_count for cell in renewed.cells] == [1, 2]
    assert (folder / "02_bad.ipynb").read_text() == bad_before


@pytest.fixture
def project(tmp_path):
    """A bare copy of what `make` needs, without an environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, tmp_path)
    return tmp_path


def make(project, *arguments):
    # Below another make, as in `make test`, it would also print the folders that it enters.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    return subprocess.run(
        ["make", *arguments], cwd=project, env=environment, capture_output=True, text=True
    )


def test_make_without_python_says_so_in_one_line(project):
    result = make(project, "setup", "PYTHON=no-such-python")
    assert result.returncode != 0
    assert "error: no 'no-such-python' found: install Python 3.11" in result.stderr
    assert not (project / ".venv").exists()


def test_make_with_an_old_python_says_so_in_one_line(project):
    old = project / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    old.chmod(0o755)
    result = make(project, "setup", f"PYTHON={old}")
    assert result.returncode != 0
    assert "needs Python 3.11 or newer" in result.stderr
    assert "is Python 3.9.2" in result.stderr


def test_make_help_lists_every_target(project):
    listed = make(project).stdout
    for target in ("setup", "run", "test", "bench", "lab", "notebooks", "constraints", "clean"):
        assert f"make {target}" in listed


def in_place_of_python(project, script):
    """Arguments that let `make` call a script, without an environment."""
    for name in ("python", "ready"):
        (project / name).write_text(f"#!/bin/sh\n{script}\n")
        (project / name).chmod(0o755)
    return f"BIN={project}", f"READY={project / 'ready'}"


@pytest.mark.parametrize("file", ["my own file.yaml", "it's.yaml", "a(1);b.yaml", "*.yaml"])
def test_make_run_takes_any_file_name(project, file):
    place = in_place_of_python(project, "printf '%s\\n' \"$@\"")
    for target, *before in (("run", "notebooks", "run", "--params"), ("sweep", "sweep")):
        told = make(project, target, f"PARAMS={file}", *place).stdout
        assert told.splitlines()[-3 - len(before) :] == ["-m", "tripletlib", *before, file]


def test_make_hashes_writes_what_pip_reports(project):
    archive = {"archive_info": {"hashes": {"sha256": "0f" * 32}}}
    packages = [
        {"metadata": {"name": "numpy", "version": "2.1.0"}, "download_info": archive},
        {"metadata": {"name": "tripletlib", "version": "0.1.0"}, "download_info": {"dir_info": {}}},
    ]
    (project / "reported.json").write_text(json.dumps({"install": packages}))
    (project / ".venv").mkdir()
    pip = 'if [ "$2" = pip ]; then cp reported.json .venv/report.json; exit; fi'
    make(project, "hashes", *in_place_of_python(project, f'{pip}\nexec {sys.executable} "$@"'))
    written = (project / "constraints-hashed.txt").read_text()
    assert written == f"numpy==2.1.0 --hash=sha256:{'0f' * 32}\n"


@pytest.mark.parametrize("arguments", [["refresh", "--params", "x.yaml"], ["publish"], []])
def test_a_wrong_command_line_is_refused(arguments):
    with pytest.raises(SystemExit, match="2"):
        runner.main(arguments)
