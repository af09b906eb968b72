"""What must hold of every notebook in the repository; that its cells run is nbval's part."""

import ast
import math
import re
import subprocess
import sys

import nbformat
import papermill
import pytest

from tripletlib.experiments import Experiment
from tripletlib.publishing import find_headlines, find_notebooks, read_parameters
from tripletlib.publishing.sweep import read_grid
from tripletlib.runtime import REPOSITORY
from tripletlib.training.settings import LOSSES

NOTEBOOKS = find_notebooks()
PARAMETER_FILES = sorted((REPOSITORY / "notebooks" / "params").glob("*.yaml"))
GRIDS = [file for file in PARAMETER_FILES if "losses" in file.stem]
MARK = "# NBVAL_CHECK_OUTPUT"
MINIMUM_CHECKED = 3


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks_and_parameter_files():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]
    assert PARAMETER_FILES


def test_every_cell_was_executed_in_order_without_error(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert "error" not in kinds


def test_enough_cells_are_checked_and_each_has_something_to_compare(notebook):
    checked = [cell for cell in code_cells(notebook) if cell.source.startswith(MARK)]
    assert len(checked) >= MINIMUM_CHECKED
    for cell in checked:
        texts = [output.get("text") or output.get("data", {}).get("text/plain") for output in
                 cell.outputs]  # fmt: skip
        assert any(texts), cell.source


def test_a_wrong_committed_output_fails(tmp_path):
    """Nbval really compares: each notebook's first checked output, as it is and changed."""
    toys, expected = nbformat.v4.new_notebook(), []
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        toys.metadata = notebook.metadata
        cell = next(cell for cell in code_cells(notebook) if cell.source.startswith(MARK))
        printed = "".join(output.get("text", "") for output in cell.outputs)
        for outcome, shown in (("PASSED", printed), ("FAILED", printed + "and more\n")):
            toy = nbformat.v4.new_code_cell(
                f"{MARK}\nprint({printed!r}, end='')", execution_count=1
            )
            toy.outputs = [nbformat.v4.new_output("stream", name="stdout", text=shown)]
            toys.cells.append(toy)
            expected.append(outcome)
    nbformat.write(toys, tmp_path / "toys.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-rA", "-c", "/dev/null"]
    done = subprocess.run([*command, tmp_path], capture_output=True, text=True)
    for number, outcome in enumerate(expected):
        assert re.search(rf"^{outcome} .*Cell {number}\b", done.stdout, re.MULTILINE), done.stdout


def test_text_leads_and_cells_are_short(notebook):
    cells = code_cells(notebook)
    texts = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    assert len(texts) >= len(cells)
    tagged = [cell for cell in cells if "tags" in cell.metadata]  # parameters: one a line
    assert max(len(cell.source.splitlines()) for cell in cells if cell not in tagged) <= 15
    assert max(len(cell.source.splitlines()) for cell in tagged) <= 30
    assert texts[0].source.startswith("# ")


def test_it_is_small_and_carries_no_state(path, notebook):
    assert path.stat().st_size < 500_000
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    assert "papermill" not in notebook.metadata


def test_it_names_no_folder_of_one_machine(path):
    assert not re.search(
        r"(?<![\w.])/(home|Users|root|tmp|work)/", path.read_text(encoding="utf-8")
    )


def test_it_ends_with_headlines(notebook):
    assert find_headlines(notebook)


def test_parameters_are_literals_with_a_comment(notebook):
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for line in tagged[0].source.splitlines():
        # papermill cannot read a line with two equals signs, not even in the comment
        assert re.fullmatch(r"[a-z_0-9]+ = [^=#]+  # [^=]+", line), line


def names_used(notebook):
    """Names that the code behind the parameters reads or assigns, and whether it assigns them."""
    cells = [cell for cell in code_cells(notebook) if "tags" not in cell.metadata]
    return {
        (node.id, isinstance(node.ctx, ast.Store))
        for cell in cells
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Name)
    }


def test_parameters_are_never_reassigned(path, notebook):
    names = set(papermill.inspect_notebook(str(path)))
    assert not names & {name for name, assigned in names_used(notebook) if assigned}


def test_an_experiments_parameters_are_read_from_it():
    """Only there they are checked; and a later cell's name would be taken for a parameter."""
    (path,) = (path for path in NOTEBOOKS if path.name.startswith("03_"))
    used = {name for name, _ in names_used(nbformat.read(path, as_version=4))}
    assert not used & set(Experiment.model_fields)


@pytest.mark.parametrize("file", sorted({*PARAMETER_FILES} - {*GRIDS}), ids=lambda file: file.stem)
def test_parameter_files_name_what_their_notebook_has(file):
    _, parameters = read_parameters(file)
    assert parameters["run_name"] == file.stem


@pytest.mark.parametrize("file", GRIDS, ids=lambda file: file.stem)
def test_grids_of_losses_are_whole(file):
    cells = read_grid(file)
    assert {cell.folder.parent.name for cell in cells} == {file.stem}
    axes = {name: {cell.place[name] for cell in cells} for name in ("loss", "margin", "seed")}
    assert len(cells) == math.prod(map(len, axes.values()))
    if not file.stem.endswith("quick"):
        assert axes["loss"] == set(LOSSES)
        assert (axes["margin"], axes["seed"]) == ({0.1, 0.2, 0.5, 1.0, "soft"}, {0, 1, 2})
