# Two commands do it all on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: setup demo test test-all chaos fuzz sbom lint format clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 setup"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup  ## draw a synthetic cohort, cross-validate on it, print the tables and the report's path
	$(BIN)/python jobs/train_cv.py --recipe demo

test: setup  ## the quick tests, with coverage of skinray/
	$(PYTEST) -m "not slow and not chaos and not browser" --cov=skinray --cov-fail-under=85

test-all: setup  ## every test: also slow, chaos and browser ones, and those on real data
	$(PYTEST) --cov=skinray

chaos: setup  ## break real jobs on purpose; benchmarks/chaos.py repeats it and writes the table
	$(PYTEST) -m chaos

fuzz: setup  ## 100,000 spoilt files through every decoder and parser; minutes on two cores that are free
	$(BIN)/python benchmarks/fuzz.py --cases 100000 --keep findings

sbom: setup  ## the parts with their licences as CycloneDX JSON: sbom.json
	$(BIN)/python deploy/sbom.py > sbom.json

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache htmlcov .coverage
