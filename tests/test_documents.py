"""What README and docs/ show and name is there, runs, and is true."""

import ast
import re
import shlex

import nbformat
import pandas as pd
import pytest
import torch
import yaml

from tripletlib import __version__
from tripletlib.__main__ import COMMANDS, main
from tripletlib.publishing import find_headlines, find_notebooks
from tripletlib.publishing.results import read_results
from tripletlib.runtime import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "data/README.md", "notebooks/results/README.md")),
    REPOSITORY / "notebooks" / "GLOSSARY.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def read_commands():
    """The words behind `tripletlib` in every code block and every inline code of the pages."""
    found = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = FENCE.findall(text)
        lines = [line for block in blocks for line in block.splitlines()]
        for code in [*lines, *re.findall(r"`([^`\n]+)`", FENCE.sub("", text))]:
            for call in re.split(r"(?:^|(?<=[ /]))tripletlib ", code)[1:]:
                found.add(tuple(shlex.split(call.partition(", then ")[0], comments=True)))
    return sorted(filter(None, found))


def test_every_page_is_looked_at():
    names = ["install.md", "self-study.md", "teaching.md", "training.md"]
    assert [page.name for page in PAGES[4:]] == names
    commands = {words[0] for words in read_commands()}
    assert commands == {"--help", *COMMANDS}


@pytest.mark.parametrize("words", read_commands(), ids=" ".join)
def test_commands_on_the_pages_are_understood(words, capsys):
    named = [word for word in words[:2] if word.isalpha()]
    with pytest.raises(SystemExit, match="0"):
        main([*named, "--help"])
    told = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", told), option


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            plain = (re.sub(r"[^\w -]", "", heading.lower()) for heading in headings)
            assert anchor in {heading.replace(" ", "-") for heading in plain}, target


def test_files_and_targets_that_the_pages_name_are_there():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    files = set(re.findall(r"\b(?:notebooks|tests|docs|tripletlib)/[\w/]+\.(?:\w+)", text))
    written = {file for file in files if not re.search(r"FILE|my_pictures", file)}
    assert len(written) > 10
    assert [file for file in sorted(written) if not (REPOSITORY / file).exists()] == []
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE))
    assert named == targets


def test_every_notebook_and_parameter_file_has_its_line():
    linked = re.findall(r"\]\((notebooks/\d\w+\.ipynb)\)", README)
    assert [REPOSITORY / link for link in linked] == find_notebooks()
    training = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+\.yaml)` \|", training, re.MULTILINE)
    files = (REPOSITORY / "notebooks" / "params").glob("*.yaml")
    assert sorted(listed) == sorted(file.name for file in files)


def test_the_map_shows_every_room_and_kernel_and_nothing_else():
    (drawn,) = (block for block in FENCE.findall(README) if block.startswith("tripletlib/\n"))
    lines = [line.split(maxsplit=1) for line in drawn.splitlines()[1:]]
    package = REPOSITORY / "tripletlib"
    rooms = {f"{door.parent.name}/" for door in package.glob("*/__init__.py")}
    kernels = {file.name for file in package.glob("[a-z]*.py")}
    assert sorted(name for name, _ in lines) == sorted(rooms | kernels)


def test_functions_that_the_readme_points_to_are_in_those_files():
    pointers = re.findall(r"\[`(\w+)`\]\((tripletlib/[\w/]+\.py)\)", README)
    assert len(pointers) == 3
    for name, file in pointers:
        tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_code_in_the_readme_runs_and_re_ranking_helps(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    torch.manual_seed(0)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["embeddings"].grad.isfinite().all()
    before, after = map(float, re.findall(r"mAP ([\d.]+)%", capsys.readouterr().out))
    assert 50 < before < after - 5


def score(row):
    return f"mAP {100 * float(row['map_market']):.1f}, rank-1 {100 * float(row['rank1']):.1f}"


def expected_scores():
    """By experiment the scores before and after re-ranking that the README must show."""
    table = read_results()
    expected = {}
    accuracies = table["accuracy"].where(table["accuracy"] != "").astype(float) * 100
    by_name = accuracies.groupby(table["what"].str.replace(r"seed \d", "three seeds", regex=True))
    for what, values in by_name:
        low, high = f"{values.min():.1f}", f"{values.max():.1f}"
        expected[what] = [f"5-NN accuracy {low if low == high else f'{low} to {high}'}", ""]
    ten = table["tta"] == "5crops+flip"
    for what, rows in table[ten].groupby("what"):
        plain, again = rows[rows["reranking"] == "none"], rows[rows["reranking"] != "none"]
        cells = [score(row) for part in (plain, again) for row in part.to_dict("records")]
        expected[what] = [*cells, ""][:2]
    notebook = nbformat.read(find_notebooks()[3], as_version=4)
    shown = find_headlines(notebook)
    maps = re.findall(r"[\d.]+(?=% \(trapezoid)", shown["mAP"] + shown["re-ranked mAP"])
    ranks = re.findall(r"[\d.]+(?=%)", shown["rank-1"])
    cells = [f"mAP {first}, rank-1 {second}" for first, second in zip(maps, ranks, strict=True)]
    return expected | {"the LuNet that ships, in notebook 04": cells}


def test_the_results_in_the_readme_are_those_that_were_kept():
    section = README.partition("## Results")[2].partition("\n\nHow many times")[0]
    rows = re.findall(r"^\| (?!data|---)(.+?) \|$", section, re.MULTILINE)
    assert len(rows) == 10
    expected = expected_scores()
    for row in rows:
        _, what, *cells = (cell.strip(" *") for cell in row.split("|"))
        assert cells == expected[what.partition(";")[0]], what


def test_the_speeds_in_the_readme_are_those_that_were_measured():
    file = REPOSITORY / "notebooks" / "results" / "speed.csv"
    speeds = pd.read_csv(file)
    shown = re.findall(r"^\| `(\w+)` \| (.+?) \| ([\d. |]+) \|$", README, re.MULTILINE)
    assert len(shown) == 3
    for kernel, peer, cells in shown:
        rows = speeds[(speeds["kernel"] == kernel) & (speeds["peer"] == peer)]
        largest = rows[rows["size"] == rows["size"].iloc[-1]]  # one row a condition
        ratios = [float(cell) for cell in cells.split("|")]
        assert ratios == pytest.approx(largest["ratio"].tolist(), rel=0.04), kernel


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    urls = [reference["url"] for reference in citation["references"]]
    assert all(url.startswith("https://arxiv.org/abs/") for url in urls)
