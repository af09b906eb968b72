"""The project's files agree with each other."""

import re
import tomllib

import pytest
import yaml

from tripletlib.runtime.paths import REPOSITORY

CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


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


def test_every_module_is_in_the_readme():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for module in (REPOSITORY / "tripletlib").glob("[a-z]*.py"):
        assert f"{module.name} " in readme, module.name
