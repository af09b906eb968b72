"""What odd parameter files mean: an experiment, or one line that says what to write instead."""

import ast
import json
import math
import os
import re
import string
import tempfile
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from papermill.cli import _resolve_type
from papermill.cli import papermill as papermill_command
from papermill.exceptions import PapermillExecutionError
from tiny_experiment import TINY

from tripletlib.__main__ import main as program
from tripletlib.experiments import Experiment, commands, open_retrieval
from tripletlib.publishing import runner
from tripletlib.runtime import REPOSITORY, ParameterError

FIELDS = Experiment.model_fields
(NOTEBOOK,) = (REPOSITORY / "notebooks").glob("03_*.ipynb")
CELL = {
    name: ast.literal_eval(parameter["default"])
    for name, parameter in papermill.inspect_notebook(str(NOTEBOOK)).items()
}

# Files, or lines of one that also names its run; and what they change
READ = {
    "learning_rate: 5e-4": {"learning_rate": 0.0005},
    "learning_rate: '0.0005'": {"learning_rate": 0.0005},
    "learning_rate: 1": {"learning_rate": 1.0},
    "steps: 8000.0": {"steps": 8000},
    "steps: 8e3": {"steps": 8000},
    "steps: 1.0e+3": {"steps": 1000},
    "steps: '8000'": {"steps": 8000},
    "steps: 8_000": {"steps": 8000},
    "steps: +600  # in all": {"steps": 600},
    'augment: "no"': {"augment": False},
    "augment: 'false'": {"augment": False},
    "augment: off": {"augment": False},
    "augment: 0": {"augment": False},
    "skip_unreadable: 'Yes'": {"skip_unreadable": True},
    "original_network: 1": {"original_network": True},
    "resume: 'false'": {"resume": False},
    "resume: yes": {"resume": True},
    "resume: unfinished": {"resume": "unfinished"},
    "margin: 1": {"margin": 1.0},
    "margin: '0.5'": {"margin": 0.5},
    "margin: 'soft'": {"margin": "soft"},
    "tta: none": {"tta": "none"},
    "metric: cosine": {"metric": "cosine"},
    "start_from: ''": {"start_from": ""},
    "decay_start: 0": {"decay_start": 0},
    "dataset_root: ~/people": {"dataset_root": "~/people"},
    "network: trinet\nweights: ''": {"network": "trinet", "weights": ""},
    "run_name: '2026-11-25'": {"run_name": "2026-11-25"},
    "run_name: 1e3": {"run_name": "1e3"},
    "run_name: 'no'": {"run_name": "no"},
    "run_name: people/first": {"run_name": "people/first"},
    "\ufeffrun_name: begins_with_a_mark": {"run_name": "begins_with_a_mark"},
    "run_name: windows\r\nsteps: 600\r\n": {"run_name": "windows", "steps": 600},
    "{run_name: flow, steps: 600}": {"run_name": "flow", "steps": 600},
}
# The same; and what the one line says
REFUSED = {
    "steps: 8000.5": "steps: 8000.5 should be a whole number; for example 1000",
    "steps: true": "steps: true should be a whole number; for example 1000",
    "steps: 'many'": "steps: 'many' should be a whole number",
    "steps: 1,000": "steps: '1,000' should be a whole number",
    "steps: [600]": "steps: [600] should be a whole number",
    "steps: {now: 600}": "steps: {'now': 600} should be a whole number",
    "steps: 0": "steps: 0 should be greater than or equal to 1",
    "steps: -600": "steps: -600 should be greater than or equal to 1",
    "steps: 1e300": "steps: '1e300' should be",
    "steps: 99999999999": "steps: 99999999999 should be less than or equal to 10000000",
    "steps:": "steps: null is no value; give one or leave the line out",
    "steps: ~": "steps: null is no value",
    "seed: null": "seed: null is no value",
    "steps: 0600": "line 2: steps: 0600 is no plain number; write decimal digits",
    "steps: 0x20": "line 2: steps: 0x20 is no plain number",
    "steps: 1:30": "line 2: steps: 1:30 is no plain number",
    "margin: 1:30.5": "line 2: margin: 1:30.5 is no plain number",
    "steps: 600\nsteps: 700": "line 3: steps is given a second time, first in line 2; remove",
    "steps:\t600": "line 2: not valid YAML, found character '\\t'",
    "\tsteps: 600": "write spaces in place of tabs",
    "steps: 600: 700": "line 2: not valid YAML, mapping values are not allowed here",
    "steps: [600": "line 3: not valid YAML",
    "steps: !!python/name:os.system": "line 2: not valid YAML, could not determine a constructor",
    "steps:\n" + "- " * 3000: "is nested too deeply",
    "---\nsteps: 600\n---\nsteps: 700": "not valid YAML",
    "1: 600": "line 2: a key must be text; write `parameter: value`",
    "yes: 600": "line 2: a key must be text",
    "<<: {steps: 600}": "line 2: a key must be text",
    "learning_rate: .nan": "learning_rate: nan is no finite number; write one such as 0.5",
    "learning_rate: -.inf": "learning_rate: -inf is no finite number",
    "learning_rate: 1e400": "learning_rate: '1e400' should be a finite number",
    "learning_rate: 0": "learning_rate: 0 should be greater than 0; for example 0.004",
    "learning_rate: on": "learning_rate: true should be a number",
    "margin: -0.5": "margin: -0.5 should be greater than or equal to 0 or 'soft'",
    "margin: sfot": "margin: 'sfot' should be a number or 'soft'; for example 'soft'",
    "margin: true": "margin: true should be a number or 'soft'",
    "margin: 0,5": "margin: '0,5' should be a number or 'soft'",
    "beta1_in_decay: 1.5": "beta1_in_decay: 1.5 should be less than 1; for example 0.9",
    "decay_start: 2000": "decay_start: 2000 must lie before decay_end: 1000",
    "warm_up: 700": "warm_up: 700 must end before decay_start: 600; lower it",
    "network: trinet\nneck: true": "neck: true needs an identity_loss above 0",
    "network: resnet50": "network: 'resnet50' should be 'lunet' or 'trinet'",
    "augment: maybe": "augment: 'maybe' should be true or false; for example true",
    "augment: 2": "augment: 2 should be true or false",
    "resume: finished": "resume: 'finished' should be true or false or 'unfinished'",
    "loss: hard": "loss: 'hard' should be 'batch_hard', 'batch_hard_nonzero', 'batch_all', "
    "'batch_all_nonzero', 'batch_sample', 'random_triplets', 'semi_hard' or 'lifted'",
    "loss: [batch_hard]": "loss: ['batch_hard'] should be 'batch_hard'",
    "tta: 5crops-flip": "tta: '5crops-flip' should be 'none', 'flip', '5crops' or '5crops+flip'",
    "metric: manhattan": "metric: 'manhattan' should be 'euclidean'",
    "precision: int8": "precision: 'int8' should be 'auto', 'float32' or 'bfloat16'",
    "device: gpu": "device: 'gpu' should match pattern",
    "dataset: market": "dataset: 'market' should be 'synthetic', 'market1501' or 'folders'",
    "dataset_root: 1501": "dataset_root: 1501 should be text, in quotes",
    "dataset_root: ''": "dataset_root: '' should",
    'dataset_root: "a\\0b"': "dataset_root: 'a\\x00b' should",
    "embedding_dim: 0": "embedding_dim: 0 should be greater than or equal to 1",
    "width: 1e5": "width: '1e5' should be less than or equal to 4",
    "images_per_identity: 1e8": "images_per_identity: '1e8' should be less than or equal to",
    "image_height: 100000": "image_height: 100000 should be less than or equal to 1024",
    "synthetic_identities: 0": "synthetic_identities: 0 should be greater than or equal to 4",
    "synthetic_identities: 12": "identities: 8 are more than the 6 training people that synthetic",
    "identities: 70\nimages_per_identity: 1000": "are 70,000 images in a batch; write numbers",
    "image_height: 1024\nimage_width: 1024\nidentities: 64\nwidth: 4": "map alone has 512 GiB",
    "checkpoint_every: 0": "checkpoint_every: 0 should be greater than or equal to 1",
    "processes: -2": "processes: -2 should be greater than or equal to 1",
    "processes: 3": "processes: 3 does not divide identities x images_per_identity = 32",
    "lerning_rate: 0.1": "lerning_rate is no parameter here; did you mean learning_rate?",
    "Steps: 600": "Steps is no parameter here; did you mean steps?",
    "batch: 600": "batch is no parameter here; the parameters are ",
    "'st\\neps': 5": "is no parameter here",
    "loss: hard\nsteps: many": "loss: 'hard' should be ",
    "start_from: ../x": "start_from: '../x' should name a folder below ",
    "run_name: ../x": "run_name: '../x' should name a folder below ",
    "run_name: /tmp/x": "run_name: '/tmp/x' should name a folder below ",
    "run_name: ~/x": "run_name: '~/x' should name a folder below ",
    "run_name: .": "run_name: '.' should name a folder below ",
    "run_name: ''": "run_name: '' should name a folder below ",
    "run_name:": "run_name: null is no value",
    "run_name: 2026-11-25": "run_name: 2026-11-25 is a date to YAML; write it in quotes",
    "run_name: 2026-99-99": "run_name: 2026-99-99 is a date to YAML; write it in quotes",
    "run_name: 42": "run_name: 42 should be text, in quotes; for example 'my_run_name'",
    "run_name: no": "run_name: false should be text, in quotes",
    "run_name: [a]": "run_name: ['a'] should be text, in quotes",
    "run_name: " + "x" * 500: "should have at most 200 characters",
    'run_name: "a\\0b"': "run_name: 'a\\x00b' should name a folder below ",
    "steps: 600  # no run_name": "run_name is missing; add it, for example run_name: my_run_name",
    "# run_name: commented out": "it is empty; write lines of the form `parameter: value`",
    "- run_name": "write lines of the form `parameter: value`",
    "run_name": "write lines of the form `parameter: value`",
    "experiment: {run_name: a}": "experiment is no parameter here",
}
NOT_TEXT = {
    b"": "it is empty; write lines of the form `parameter: value`",
    b"run_name: \xff\xfe": "is no UTF-8 text; save it as UTF-8",
    b"run_name: a\0": "not valid YAML",
}
# Only the file's own spelling shows these: plain papermill hands over something else.
SEEN_IN_THE_FILE_ONLY = (
    "a second time",
    "no plain number",
    "a date to YAML",
    "a key must be text",
    "run_name is missing",
)


@pytest.fixture
def write(tmp_path):
    def write(text):
        file = tmp_path / "03_odd.yaml"
        whole = text if "run_name" in text else f"run_name: odd\n{text}\n"
        file.write_bytes(whole.encode())
        return file

    return write


def told(file):
    """The one line that the class raises for a file."""
    with pytest.raises(ParameterError) as caught:
        Experiment.from_file(file)
    line = str(caught.value)
    assert line.isprintable()  # no line break either
    assert line.startswith(str(file))
    return line


def with_defaults(changed):
    return Experiment(**{"run_name": "odd"} | changed)


def in_the_notebook(parameters):
    """What the notebook makes of parameters that papermill writes into a cell of their own."""
    return Experiment.from_notebook(CELL | parameters)


def papermills_reading(file):
    """What plain papermill reads, or nothing where it refuses to or could not write it down."""
    try:
        parameters = papermill.iorw.read_yaml_file(str(file))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return {}
    names = parameters if isinstance(parameters, dict) else {}
    return names if all(isinstance(name, str) and name.isidentifier() for name in names) else {}


@pytest.mark.parametrize(("text", "changed"), READ.items(), ids=map(repr, READ))
def test_what_is_read_means_the_same_everywhere(write, text, changed, monkeypatch):
    file, seen = write(text), []
    wanted = with_defaults(changed)
    assert Experiment.from_file(file) == wanted
    monkeypatch.setattr(Experiment, "run", lambda experiment, embed: seen.append(experiment))
    assert commands.train([str(file)]) == 0
    assert seen == [wanted]
    notebook, parameters = runner.read_parameters(file)
    assert notebook == NOTEBOOK
    assert in_the_notebook(parameters) == wanted
    assert in_the_notebook(papermills_reading(file)) == wanted


@pytest.mark.parametrize(("text", "line"), REFUSED.items(), ids=lambda text: repr(text)[:40])
def test_what_is_refused_is_told_in_the_same_line_everywhere(write, text, line, capsys):
    file = write(text)
    said = told(file)
    assert line in said
    for command in (
        lambda: program(["train", str(file)]),
        lambda: program(["score", str(file)]),
        lambda: program(["notebooks", "run", "--params", str(file)]),
    ):
        assert command() == 2
        printed = capsys.readouterr()
        assert printed.err == f"error: {said}\n"
        assert not printed.out
    parameters = papermills_reading(file)
    if parameters and not any(words in said for words in SEEN_IN_THE_FILE_ONLY):
        with pytest.raises(ParameterError):
            in_the_notebook(parameters)


@pytest.mark.parametrize(("content", "line"), NOT_TEXT.items())
def test_what_is_no_text_is_refused(tmp_path, content, line):
    file = tmp_path / "03_odd.yaml"
    file.write_bytes(content)
    assert line in told(file)


def test_what_is_no_file_is_refused(tmp_path, capsys):
    assert "cannot be read: Is a directory" in told(tmp_path)
    os.mkfifo(tmp_path / "pipe.yaml")  # reading it would wait for ever
    assert "it is no file" in told(tmp_path / "pipe.yaml")
    assert program(["train", str(tmp_path / "03_none.yaml")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: there is no parameter file {tmp_path / '03_none.yaml'}; ")
    assert "03_synthetic_full.yaml" in said


def test_a_file_is_found_by_name_from_home_and_from_the_repository(tmp_path, monkeypatch):
    (tmp_path / "03_mine.yaml").write_text("run_name: mine", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    wanted = with_defaults({"run_name": "mine"})
    for path in ("~/03_mine.yaml", Path("~/03_mine.yaml"), tmp_path / "03_mine.yaml"):
        assert Experiment.from_file(path) == wanted
    named = Experiment.from_file("03_synthetic_full.yaml")
    assert Experiment.from_file("notebooks/params/03_synthetic_full.yaml") == named
    with pytest.raises(ParameterError, match=rf"no parameter file {REPOSITORY}/03_mine\.yaml"):
        Experiment.from_file("03_mine.yaml")  # not from the working directory


def test_there_are_at_least_sixty_odd_files():
    assert len(READ) + len(REFUSED) + len(NOT_TEXT) >= 60


@pytest.mark.parametrize(
    ("argument", "changed"),
    [
        ("augment=false", {"augment": False}),
        ("augment=False", {"augment": False}),
        ("augment=no", {"augment": False}),
        ("steps=600", {"steps": 600}),
        ("steps=6e2", {"steps": 600}),
        ("learning_rate=5e-4", {"learning_rate": 0.0005}),
        ("width=0.5", {"width": 0.5}),
        ("resume=true", {"resume": True}),
        ("tta=None", "tta: null should be 'none'"),
        ("steps=nan", "steps: nan should be a finite number"),
        ("steps=True", "steps: true should be a whole number"),
        ("lerning_rate=0.1", "did you mean learning_rate?"),
        ("run_name=42", "run_name: 42 should be text"),
    ],
)
def test_papermills_command_line(argument, changed):
    name, value = argument.split("=")
    given = {name: _resolve_type(value)}  # what `papermill -p` makes of it
    if isinstance(changed, dict):
        assert in_the_notebook(given) == with_defaults({"run_name": CELL["run_name"]} | changed)
    else:
        with pytest.raises(ParameterError, match=re.escape(changed)):
            in_the_notebook(given)


def test_the_cells_values_are_the_defaults():
    ours = with_defaults({})
    assert CELL.keys() <= FIELDS.keys()
    assert len(CELL) <= 15
    for name, value in CELL.items():
        if name != "run_name":
            assert getattr(ours, name) == value, name
            assert type(getattr(ours, name)) is type(value), name


def test_later_cells_may_have_other_names():
    jupyters = {"In": ["", "steps = 1000"], "Out": {}, "_i": "", "np": np}
    first = Experiment.from_notebook(CELL | jupyters)
    with pytest.raises(ParameterError, match="people is no parameter here"):
        Experiment.from_notebook(CELL | {"people": 6})
    again = CELL | {"people": 6, "experiment": first, "width": 0.5}
    assert Experiment.from_notebook(again) == first.replace(width=0.5)


FOUND = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(["soft", "unfinished", "true", "no", "5e-4", "8000.0", "../x", "\ud800"]),
    st.integers().map(str),
    st.floats().map(str),
    st.binary(),
    st.dates(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(), st.integers(), max_size=2),
)
NAMES = st.sampled_from(sorted(FIELDS)) | st.text(string.ascii_letters + "_", min_size=1)


def attempt(parameters):
    try:
        return Experiment(**parameters), ""
    except ParameterError as error:
        return None, str(error)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(NAMES, FOUND, max_size=4), st.booleans())
def test_whatever_is_given_an_experiment_or_an_error_that_names_it(parameters, named):
    given = ({"run_name": "a"} if named else {}) | parameters
    experiment, error = attempt(given)
    if experiment is None:
        assert error.isprintable()
        assert any(name in error for name in given | {"run_name": ""})
        return
    for name, value in given.items():
        found = getattr(experiment, name)
        # Nothing is used as what it does not say: a number is that number, a word that word.
        if isinstance(found, bool):
            assert str(value).lower() in (
                ("true", "yes", "y", "t", "on", "1", "1.0")
                if found
                else ("false", "no", "n", "f", "off", "0", "0.0", "-0.0")
            )
        elif isinstance(found, int | float):
            assert not isinstance(value, bool)
            assert math.isfinite(found)
            assert float(value) == found
        else:
            assert found == value


VALID = {
    "run_name": st.from_regex(r"[0-9a-z_.-]{0,8}[0-9a-z]", fullmatch=True),
    "learning_rate": st.floats(1e-12, 10),
    "margin": st.just("soft") | st.floats(0, 1e6),
    "beta1_in_decay": st.floats(0, 0.999),
    "augment": st.booleans(),
    "steps": st.integers(1, 10_000_000),
    "seed": st.integers(0, 2**32 - 1),
    "dataset_root": st.text(string.printable[:-5], min_size=1),
    "width": st.floats(0.001, 4),
    "resume": st.booleans() | st.just("unfinished"),
}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries(VALID))
def test_what_is_written_down_is_read_again(parameters):
    ours = Experiment(**parameters)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "03_written.yaml"
        file.write_text(yaml.safe_dump(ours.model_dump()), encoding="utf-8")
        assert Experiment.from_file(file) == ours


def test_config_yaml_repeats_the_experiment(tmp_path):
    ours = Experiment(**TINY)
    ours.train(ours.make_model(), ours.open_dataset("off").train, progress="off")
    config = ours.folder / "config.yaml"
    assert Experiment.from_file(config) == ours
    log = (ours.folder / "history.csv").read_bytes()
    for file in (ours.folder / "checkpoints").iterdir():
        file.unlink()
    assert commands.train([str(config)]) == 0
    assert (ours.folder / "history.csv").read_bytes() == log
    assert Experiment.from_file(config) == ours


def test_notebooks_4_and_5_open_the_network_of_a_short_file(tmp_path):
    file = tmp_path / "03_short.yaml"
    drawn = "dataset_root: people\nsynthetic_identities: 12\nidentities: 6\n"
    file.write_text(f"run_name: short\nsteps: 2\n{drawn}", encoding="utf-8")
    ours = in_the_notebook(papermills_reading(file))
    assert Experiment.from_file(file) == ours
    model, data = ours.make_model(), ours.open_dataset("off")
    ours.train(model, data.train, progress="off")
    table = ours.embedding_table(model, data.query, data.root, 2, "off")
    opened = open_retrieval(str(file), progress="off")
    assert opened.image_size == (64, 32)
    np.testing.assert_array_equal(opened.query.embeddings, table.embeddings)
    shown = opened.embed(data.query.images[:3])  # by the network that was loaded
    np.testing.assert_allclose(shown, table.embeddings[:3], rtol=0.02, atol=0.02)


@pytest.fixture
def beginning(tmp_path):
    """Notebook 03 up to the cell that makes the experiment; it is written down, then refused."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    sources = [cell.source for cell in notebook.cells]
    (last,) = (k for k, source in enumerate(sources) if "Experiment.from_notebook" in source)
    shown = nbformat.v4.new_code_cell("print(experiment.model_dump_json())")
    again = nbformat.v4.new_code_cell(f"steps = 8000.5\n{sources[last]}")
    notebook.cells = [*notebook.cells[: last + 1], shown, again]
    nbformat.write(notebook, tmp_path / "03_beginning.ipynb")
    return tmp_path / "03_beginning.ipynb"


def test_plain_papermill_takes_what_the_file_says_and_ends_with_the_same_line(beginning, write):
    file = write("steps: 8000.5")
    line = "error: " + told(file).removeprefix(f"{file}, ")
    write("run_name: short\nsteps: 600\nwidth: 0.5\nlearning_rate: 5e-4\n")
    output = beginning.with_name("executed.ipynb")
    arguments = ["-f", str(file), "-p", "augment", "false", "-p", "image_height", "128"]
    with pytest.raises(PapermillExecutionError) as caught:
        papermill_command.main([str(beginning), str(output), *arguments], standalone_mode=False)
    assert line in str(caught.value).splitlines()  # which Python prints at the end
    cells = nbformat.read(output, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    (found,) = (json.loads(output.text) for output in outputs if output.get("name") == "stdout")
    wanted = Experiment.from_file(file).replace(augment=False, image_height=128)
    assert Experiment(**found) == wanted
    (error,) = (output for output in outputs if output.output_type == "error")
    assert error.traceback == [line]
