"""Where files go must not depend on where the program was started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tripletlib.runtime import REPOSITORY, data_root, files, run_folder, runs_root

# The file alone: its room's door would import PyTorch, for seconds.
PRINT_PATHS = """
import runpy, sys
paths = runpy.run_path(sys.argv[1])
print(paths["data_root"](), paths["runs_root"](), paths["run_folder"]("a"), sep="\\n")
"""


def paths_seen_from(folder: Path, **variables: str) -> list[Path]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TRIPLETLIB_")}
    output = subprocess.run(
        [sys.executable, "-c", PRINT_PATHS, files.__file__],
        cwd=folder,
        env=inherited | variables,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [Path(line) for line in output.splitlines()]


@pytest.mark.parametrize("set_both", [False, True])
def test_the_working_directory_does_not_matter(tmp_path: Path, set_both: bool) -> None:
    elsewhere, variables = tmp_path / "elsewhere", {}
    elsewhere.mkdir()
    expected = [REPOSITORY / "data", REPOSITORY / "runs", REPOSITORY / "runs" / "a"]
    if set_both:
        # An absolute value stands; a relative one is meant from the repository.
        variables = {"TRIPLETLIB_DATA": str(tmp_path / "d"), "TRIPLETLIB_RUNS": "some/runs"}
        expected = [tmp_path / "d", REPOSITORY / "some/runs", REPOSITORY / "some/runs" / "a"]
    assert paths_seen_from(REPOSITORY, **variables) == expected
    assert paths_seen_from(elsewhere, **variables) == expected


@pytest.mark.parametrize("value", ["", "relative/folder", "~/folder", "/absolute/folder"])
def test_values_of_the_variables(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {
        "relative/folder": REPOSITORY / "relative/folder",
        "~/folder": Path.home() / "folder",
        "/absolute/folder": Path("/absolute/folder"),
    }
    for variable, root, default in (
        ("TRIPLETLIB_DATA", data_root, "data"),
        ("TRIPLETLIB_RUNS", runs_root, "runs"),
    ):
        monkeypatch.setenv(variable, value)
        assert root() == expected.get(value, REPOSITORY / default)


def test_repository_is_the_folder_of_pyproject() -> None:
    assert (REPOSITORY / "pyproject.toml").is_file()
    assert REPOSITORY.is_absolute()


@pytest.mark.parametrize("name", ["a", "a/b", "01_mnist_quick", "..a", "a..b"])
def test_run_folder_lies_below_the_runs_root(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPLETLIB_RUNS", str(tmp_path))
    assert run_folder(name) == runs_root() / name
    assert not list(tmp_path.iterdir()), "asking for a path must not create it"


def test_runs_may_be_reached_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large_disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "large_disk", target_is_directory=True)
    monkeypatch.setenv("TRIPLETLIB_RUNS", str(tmp_path / "runs"))
    assert run_folder("a") == tmp_path / "runs" / "a"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/..", "a/../..", "a/../../b", "/a", "{root}", "{root}/a"]
)
def test_run_folder_cannot_leave_the_runs_root(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPLETLIB_RUNS", str(tmp_path))
    with pytest.raises(ValueError, match=r"run name .* must name a folder below"):
        run_folder(name.format(root=tmp_path))
