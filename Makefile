# Everything needs only python3 (3.11 or newer), make and a package index.
# PYTHON=python3.12 make test      uses another interpreter.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# two processes: XLA maps memory for every compiled program, and one process can run out of maps
MATHEMATICS := tests/data tests/distributions tests/dynamics tests/energies tests/equivalence tests/families
PROGRAM     := tests/inference tests/models tests/reports $(wildcard tests/test_*.py) probam

.PHONY: demo test test-slow check format bench clean
.DELETE_ON_ERROR:

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "probam needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## fit three memories to real data, verify them, write the reports into out/demo
	$(BIN)/python examples/demo.py

test: $(READY)  ## the whole suite but the long statistical checks
	$(BIN)/python -m pytest --durations=10 $(MATHEMATICS) $(ARGS)
	$(BIN)/python -m pytest --durations=10 $(PROGRAM) $(ARGS)

test-slow: $(READY)  ## the long statistical checks
	$(BIN)/python -m pytest -m slow --timeout=3600 --durations=15 $(ARGS)

check: $(READY)  ## lint, format, types, import contracts, constraints
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/check_constraints.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) out build dist *.egg-info
