# Everything needs only python3 (3.11 or newer), make and a package index.
# PYTHON=python3.12 make test      uses another interpreter.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# workers of the test suite: most of its time goes into compilation, which uses one core
JOBS   ?= 2

# what runs the programs of the documentation's pages
PAGES  ?= tests/repository/test_printed.py

# where it is set, every run compiles tests and checked annotations anew: a third of what collecting them takes
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo docs test test-slow validate check audit release format bench bench-scale bench-first screenshots gpu clean
.DELETE_ON_ERROR:

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "probam needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## fit three memories to real data, verify them, write the reports into out/demo
	$(BIN)/python examples/demo.py

docs: $(READY)  ## run what the pages print, then build the site into out/docs; PAGES= leaves the running out
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs]'
	$(if $(PAGES),$(BIN)/python -m pytest -n $(JOBS) -m slow --timeout=3600 $(PAGES))
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs out/docs
	@echo "open out/docs/index.html"

# every annotation is checked as the program runs (tests/annotations.py); PROBAM_CHECK_TYPES=0 make test leaves it out
test: $(READY)  ## the whole suite but the long statistical checks
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --durations=15 $(ARGS)

test-slow: $(READY)  ## the long statistical checks, annotations unchecked
	PROBAM_CHECK_TYPES=0 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m slow --timeout=3600 --durations=15 $(ARGS)

validate: $(READY)  ## the long checks, calibration, held-out densities and verdicts; results go into docs/validation.md
	-PROBAM_CHECK_TYPES=0 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m slow --timeout=3600 --junitxml=out/slow.xml
	$(BIN)/python -m benchmarks.validation --slow out/slow.xml --output docs/validation.md
	$(BIN)/python -m benchmarks.held_out --engines em gibbs --output docs/validation.md
	$(BIN)/python -m benchmarks.verdicts --output docs/validation.md
	$(BIN)/python -m benchmarks.cells --jobs $(JOBS) --output docs/validation.md

bench: $(READY)  ## probam and its peers in one interleaved run; TASKS names some
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m benchmarks $(TASKS)

bench-scale: $(READY)  ## how CPU seconds and memory grow with rows, memories and features; TASKS names some
	$(BIN)/python -m benchmarks.scale $(TASKS)

bench-first: $(READY)  ## CPU seconds to the first answer: cold, with rows of another number, warm; COMMANDS names some
	$(BIN)/python -m benchmarks.first_answer $(COMMANDS)

screenshots: $(READY)  ## the pictures of reports in docs/images, taken anew; needs Chromium
	$(BIN)/python -m benchmarks.screenshots

gpu: $(READY)  ## the tests that need a GPU, and a GPU against its rooflines and the CPU: under ten minutes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,cuda]'
	PROBAM_CHECK_TYPES=0 $(BIN)/python -m pytest -m gpu -rs $(ARGS)
	$(BIN)/python -m benchmarks.gpu

check: $(READY)  ## lint, format, types, import contracts, constraints
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/check_constraints.py

audit: $(READY)  ## known vulnerabilities of the pinned dependencies, where the index answers
	$(BIN)/python .ci/audit.py

release: $(READY)  ## wheel and sdist of the last commit, their SBOM and hashes, into out/release
	$(BIN)/python .ci/release.py out/release

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) out build dist *.egg-info
