# On a fresh machine, start with `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two processes (tests/conftest.py says which tests go where).
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadscope

.PHONY: setup demo test test-all check format chaos bench fuzz sbom clean

setup: $(VENV)/.installed  ## install skinray and its tools into .venv

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

check: setup  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup  ## format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

chaos: setup  ## break real jobs on purpose; benchmarks/chaos repeats it and writes the table
	$(PYTEST) -m chaos

bench: setup  ## measure the speed of every part, an hour on an idle machine; writes docs/performance.md
	$(BIN)/python -m benchmarks.performance --measure

fuzz: setup  ## 100,000 corrupted files through every decoder and parser; minutes on two free cores
	$(BIN)/python -m benchmarks.fuzz.run --cases 100000 --keep findings

sbom: setup  ## the parts with their licences as CycloneDX JSON: sbom.json
	$(BIN)/python deploy/sbom.py > sbom.json

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache htmlcov .coverage
