# `make` alone prints what there is. Everything runs in .venv, which is made on first use.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
BIN := .venv/bin
READY := .venv/.ready
# Two processes share the files of tests: on two cores three and four took longer, as trainings that
# take turns on a core slow each other. `make test PARALLEL=` runs one file after the other.
PARALLEL ?= --numprocesses 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup run sweep check test bench lab notebooks course slides site constraints hashes clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make or update the virtual environment .venv

# The mark is written last: an install that broke off is done again.
$(READY): pyproject.toml $(wildcard $(CONSTRAINTS))
	@command -v "$(PYTHON)" >/dev/null || { echo "error: no '$(PYTHON)' found: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: tripletlib needs Python 3.11 or newer, '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1); name another: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.[dev,bench]'
	@touch $@

run: $(READY) ## execute the notebooks into runs/default/, or one experiment: make run PARAMS=notebooks/params/FILE.yaml
	$(BIN)/python -m tripletlib notebooks run $(if $(PARAMS),--params "$$PARAMS")

sweep: $(READY) ## run a grid of experiments, one for each combination: make sweep PARAMS=notebooks/params/FILE.yaml
	$(BIN)/python -m tripletlib sweep "$${PARAMS:?write make sweep PARAMS=notebooks/params/FILE.yaml}"

check: export OMP_NUM_THREADS ?= 1
check: $(READY) ## lint, types and the fast tests, in about a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

# Notebooks are tested into a folder of their own, so that a test never touches a user's runs. One
# thread: on a shared machine, threads that wait for each other's cores made one minute into eight.
# What takes longest begins first, or one process would still work on it when the others are done.
# Types are checked beside the tests: faults are said at once, and at the end that there are some.
test: export OMP_NUM_THREADS ?= 1
test: $(READY) ## lint, types, tests, and the notebooks against their committed outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	runs=$$(mktemp -d) || exit; $(BIN)/mypy & types=$$!; \
	trap 'kill $$types 2>/dev/null; rm -rf "$$runs"' EXIT; trap 'exit 130' INT TERM; \
	TRIPLETLIB_RUNS="$$runs" $(BIN)/python -m pytest $(PARALLEL) --no-loadscope-reorder --tb short \
		--nbval-lax --nbval-cell-timeout 900 --nbval-kernel-name python3 --ignore notebooks/exercises \
		notebooks tests/browser tests/publishing tests/runtime tests/course tests tripletlib; \
	status=$$?; wait $$types || { echo "error: mypy failed, see above" >&2; status=1; }; exit $$status

bench: $(READY) ## measure the kernels against their peers
	$(BIN)/python tests/benchmarks/conditions.py $(if $(RANK_CYLIB),--cython "$$RANK_CYLIB")
	$(BIN)/python tests/benchmarks/bench_training.py
	$(BIN)/python tests/benchmarks/bench_browser.py
	$(BIN)/python tests/benchmarks/bench_pages.py

# Root may not start JupyterLab without being asked to; containers often have no other user.
lab: $(READY) ## open JupyterLab on this machine only, with its token
	$(BIN)/jupyter lab --ip=127.0.0.1 $$([ "$$(id -u)" != 0 ] || echo --allow-root) notebooks/01_mnist_2d_embedding.ipynb

notebooks: $(READY) ## execute the notebooks and renew their committed outputs
	$(BIN)/python -m tripletlib notebooks refresh

course: $(READY) ## build exercise sheets and lessons for students and teachers into course/
	$(BIN)/python -m tripletlib course

slides: $(READY) ## make a deck of slides of each lesson into course/slides/
	$(BIN)/python -m tripletlib slides

site: $(READY) ## build the lessons and sheets as a static site into course/site/
	$(BIN)/python -m pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.[site]'
	$(BIN)/python -m tripletlib site

constraints: $(READY) ## renew constraints.txt from the newest versions that pyproject.toml allows
	$(BIN)/python -m pip install --upgrade --upgrade-strategy eager --editable '.[dev,bench,site]'
	$(BIN)/python -m pip freeze --all --exclude pip --exclude-editable > constraints.txt
	@touch $(READY)

# pip reports the SHA-256 of every file that it would install; the package itself is no such file.
define WRITE_HASHES
import json, sys
for package in json.load(open(sys.argv[1]))["install"]:
    name, version = (package["metadata"][key] for key in ("name", "version"))
    if "archive_info" in package["download_info"]:
        digest = package["download_info"]["archive_info"]["hashes"]["sha256"]
        print(f"{name}=={version} --hash=sha256:{digest}")
endef
export WRITE_HASHES
hashes: $(READY) ## write constraints-hashed.txt: the tested versions with the hashes of their files
	$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --report .venv/report.json --constraint constraints.txt '.[dev,bench]'
	$(BIN)/python -c "$$WRITE_HASHES" .venv/report.json > constraints-hashed.txt

clean: ## remove .venv and caches; data/ and runs/ stay
	rm -rf .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
