"""The project's files agree with each other, and the package is whole where it is installed."""

import ast
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
import typing
import zipfile
from pathlib import Path

import grimp
import nbformat
import pytest
import yaml

from tripletlib import __version__
from tripletlib.publishing import find_notebooks
from tripletlib.runtime import REPOSITORY

CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
PACKAGE = REPOSITORY / "tripletlib"
ROOMS = {f"tripletlib.{door.parent.name}" for door in PACKAGE.glob("*/__init__.py")}
KERNELS = {f"tripletlib.{file.stem}" for file in PACKAGE.glob("[a-z]*.py")}


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def split(requirement):
    name, version = re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", requirement).groups()
    return name, version


def test_conda_environment_lists_the_same_packages(project):
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))
    listed = {line for line in environment["dependencies"] if isinstance(line, str)}
    needed = {f"python{project['requires-python']}", "pip"}
    for requirement in project["dependencies"]:
        name, version = split(requirement)
        needed.add(CONDA_NAMES.get(name, name) + version)
    assert listed == needed


def test_every_requirement_has_a_last_tested_version(project):
    pinned = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").lower()
    extras = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *extras["dev"], *extras["bench"]]:
        name = split(requirement)[0].replace("_", "-")
        assert re.search(rf"^{name}==\d", pinned, re.MULTILINE), name


def test_no_requirement_comes_from_a_named_host():
    for name in ("constraints.txt", "environment.yml", "pyproject.toml", "Makefile"):
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        assert "-url" not in text
        assert "://" not in text
        assert " @ " not in text


def test_the_version_is_written_once_more_in_the_project_only(project):
    assert project["version"] == __version__


def test_rooms_are_entered_by_their_doors():
    offered = {f"{room}.{name}" for room in ROOMS for name in importlib.import_module(room).__all__}
    graph = grimp.build_graph("tripletlib", cache_dir=None)
    behind = [
        f"{importer} imports {imported}"
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if importer.split(".")[1:2] != imported.split(".")[1:2]
        and imported not in ROOMS | KERNELS | offered
    ]
    assert len(graph.modules) > len(ROOMS | KERNELS)
    assert behind == []


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_door_says_what_the_room_is_for_and_what_it_offers(room):
    door = importlib.import_module(room)
    assert door.__doc__
    assert door.__all__
    assert all(hasattr(door, name) for name in door.__all__)


def test_notebooks_come_in_by_doors_and_kernel_files():
    addresses = set()
    for path in find_notebooks():
        cells = nbformat.read(path, as_version=4).cells
        for cell in (cell for cell in cells if cell.cell_type == "code"):
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom) and node.module == "tripletlib":
                    addresses |= {f"tripletlib.{alias.name}" for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    addresses.add(node.module)
                elif isinstance(node, ast.Import):
                    addresses |= {alias.name for alias in node.names}
    ours = {address for address in addresses if address.partition(".")[0] == "tripletlib"}
    assert ours <= ROOMS | KERNELS
    assert 8 <= len(ours) <= 13


def test_what_is_named_slow_is_there():
    for named in (REPOSITORY / "tests" / "slow_tests.txt").read_text(encoding="utf-8").split():
        file, _, test = named.partition("::")
        assert (REPOSITORY / file).exists(), named
        assert not test or f"def {test}(" in (REPOSITORY / file).read_text(encoding="utf-8"), named


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A wheel of this clone, unpacked in a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    source, target = folder / "source", folder / "installed"
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(PACKAGE, source / "tripletlib", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(target)
    return target


def files(package):
    return {
        file.relative_to(package)
        for file in package.rglob("*")
        if file.is_file() and file.suffix != ".pyc" and not file.name.startswith(".")
    }


def test_a_wheel_holds_every_file_weights_and_javascript_included(installed):
    assert files(installed / "tripletlib") == files(PACKAGE)
    assert {".safetensors", ".js", ".css"} <= {file.suffix for file in files(PACKAGE)}


IMPORT_ALL = """
import sys, tripletlib.checks, tripletlib.evaluation, tripletlib.losses
print(*sorted(sys.modules))
import importlib.metadata, pkgutil
for module in pkgutil.walk_packages(tripletlib.__path__, "tripletlib."):
    importlib.import_module(module.name)
from tripletlib.experiments.retrieval import load_pretrained
print(tripletlib.__file__, type(load_pretrained()[0]).__name__)
(script,) = importlib.metadata.entry_points(group="console_scripts", name="tripletlib")
script.load()(["--help"])
"""


@pytest.fixture(scope="module")
def printed(installed):
    """What a process outside the clone prints that imports the wheel, and then calls its script."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=installed.parent,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_losses_scores_and_checks_load_neither_pictures_nor_training_nor_jupyter(printed):
    loaded = set(printed[0].split())
    assert loaded >= {"tripletlib.checks", "tripletlib.evaluation"}
    assert not loaded & {"PIL", "pandas", "matplotlib", "IPython", "tripletlib.training"}


def test_every_room_of_a_wheel_is_imported_outside_the_clone(printed, installed):
    assert printed[1].split() == [str(installed / "tripletlib" / "__init__.py"), "LuNet"]
    assert "score a trained experiment" in "".join(printed[2:])


def test_the_status_of_the_command_line_is_the_processs():
    done = subprocess.run([sys.executable, "-m", "tripletlib"], capture_output=True, text=True)
    assert done.returncode == 2  # no command was given
    assert "score a trained experiment" in done.stdout


# What opens these has found the folder already.
OPENED = {"tripletlib.datasets.Pictures", "tripletlib.datasets.ReidDataset"}
OPENED |= {"tripletlib.datasets.Split", "tripletlib.datasets.Market1501"}


def functions_of(room):
    """What a door offers to be called: functions, classes and the public methods of these."""
    door = importlib.import_module(room)
    for name in door.__all__:
        offered = getattr(door, name)
        if inspect.isclass(offered):
            if f"{room}.{name}" not in OPENED:
                yield f"{room}.{name}", offered.__init__
            methods = ((name, getattr(offered, name)) for name in vars(offered))
            yield from (
                (f"{room}.{offered.__name__}.{name}", method)
                for name, method in methods
                if name[0] != "_" and (inspect.isfunction(method) or inspect.ismethod(method))
            )
        elif inspect.isfunction(offered):
            yield f"{room}.{name}", offered


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_path_may_be_text_everywhere(room):
    for name, function in functions_of(room):
        for parameter, kind in typing.get_type_hints(function).items():
            kinds = kind, *typing.get_args(kind)
            assert Path not in kinds or str in kinds or parameter == "return", (name, parameter)
