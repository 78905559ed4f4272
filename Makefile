# Needs python3 (3.11 or newer, with venv) and make; everything else is fetched into .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
# Some searches of the core, shallower than in the main run: enough to visit everything.
export SHALLOW := STORM_SEEDS=200 EXPLORE_DEEP=2

.DEFAULT_GOAL := help
.PHONY: help demo test pythons compiled compiled-test gate lint types imports coverage changelog fuzz conformance schedules simulate chaos soak many storm scrape bench bench-smoke mutants venv format map diagram lock clean

help:                   ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

demo: .venv/demo        ## set up, then run the demo
	$(BIN)/dromos demo

test: .venv/test        ## set up, then run the tests, here and on every other CPython of this machine
	$(BIN)/python -m pytest
	@scripts/test_other_pythons.sh

pythons: .venv/test     ## run the tests on the other CPythons only
	@scripts/test_other_pythons.sh

compiled: .venv/compile ## compile the optional listener in place, for this Python (needs a C compiler)
	$(BIN)/python hatch_build.py

compiled-test: .venv/compile    ## compile it, run with it the tests that concern it, and remove it
	@scripts/test_compiled.sh

gate: lint types imports coverage docs changelog        ## everything a change must pass, besides the tests

lint: .venv/dev         ## ruff, and the list of files in ARCHITECTURE.md
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python scripts/file_map.py --check

types: .venv/dev        ## mypy strict and pyright strict
	$(BIN)/mypy
	$(BIN)/pyright --warnings --project pyproject.toml --pythonpath $(BIN)/python

imports: .venv/dev      ## the architecture's contracts
	$(BIN)/lint-imports --no-logo

coverage: .venv/dev     ## the core, by its own tests: every branch
	$(SHALLOW) $(BIN)/coverage run -m pytest -q -m "not slow" --timeout=0 tests/core
	$(BIN)/coverage report --include='src/dromos/_core/*' --fail-under=100

.PHONY: docs
docs: .venv/docs        ## the documents, as pages in docs/_build/html: no warning, no link into nowhere
	$(BIN)/sphinx-build -q -W --keep-going -n docs docs/_build/html

changelog: .venv/dev    ## what the fragments in changelog.d will say
	$(BIN)/towncrier build --draft --version next

FUZZ_STREAMS ?= 20000
EXAMPLES ?= 5000
fuzz: .venv/test        ## all that parses what strangers send (EXAMPLES=5000 each, FUZZ_STREAMS=20000)
	$(BIN)/python -m tests.fuzz.run --examples $(EXAMPLES) --streams $(FUZZ_STREAMS)

conformance: .venv/test ## Autobahn's test suite through whole sessions, and docs/conformance.md (needs CPython 2.7)
	$(BIN)/python -m tests.conformance

SCHEDULES ?= 10000
schedules: .venv/test   ## random fault schedules of a whole bridge in virtual time (SCHEDULES=10000)
	SCHEDULES=$(SCHEDULES) $(BIN)/python -m pytest -q --timeout=0 tests/driver/test_schedules.py

SEEDS ?= 100
simulate: .venv/test    ## simulated worlds of many sessions and days (SEEDS=100), or one (SEED=7)
	$(BIN)/python -m tests.simulation.run $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

chaos: .venv/test       ## every fault in every state, on real sockets and both dialers
	$(BIN)/python -m tests.chaos

MINUTES ?= 10
BRIDGES ?= 500
soak: .venv/test        ## bridges on real sockets with faults, memory and descriptors watched (MINUTES=10)
	$(BIN)/python -m tests.soak.run --minutes $(MINUTES) --bridges $(BRIDGES) --plot soak.svg

SESSIONS ?= 5000
many: .venv/test        ## thousands of sessions in one process, through a restart of the far side (SESSIONS=5000)
	$(BIN)/python -m tests.many.run --sessions $(SESSIONS)

storm: .venv/bench      ## 2,000 real links dropped at once, beside a model of a million; writes docs/scale.md
	$(BIN)/python -m tests.storm.run

scrape: .venv/test      ## what a Prometheus scrape of 10,000 sessions costs, within its bar of 100 ms
	$(BIN)/python -m benchmarks.scrape

ROUNDS ?= 7
BENCH ?= --callgrind
bench: .venv/bench      ## what it costs, beside other clients (ROUNDS=7; BENCH='--only idle', or --help)
	$(BIN)/python -m benchmarks --rounds $(ROUNDS) $(BENCH) --json benchmarks/results/bench.json --plot benchmarks/results/bench.svg

bench-smoke: .venv/bench        # does the harness work? seconds, and no figure counts
	$(BIN)/python -m benchmarks --smoke --json benchmarks/results/smoke.json
	$(BIN)/python -m benchmarks.scrape --sessions 200 --scrapes 3

mutants: .venv/dev      ## do the core's tests notice a changed core?
	$(SHALLOW) $(BIN)/mutmut run
	$(BIN)/mutmut results

venv: .venv/dev         ## set up for development

format: .venv/dev       ## let ruff repair what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

map: .venv/test         ## write what ARCHITECTURE.md says of files and states anew
	$(BIN)/python scripts/file_map.py
	$(BIN)/python -m tests.core.diagram

diagram: .venv/test     ## draw the state machine in ARCHITECTURE.md as the exploration finds it
	$(BIN)/python -m tests.core.diagram

lock:                   ## write the locks anew after a change of dependencies
	scripts/lock.sh

clean:                  ## remove the environments and all that was generated
	rm -f src/dromos/dialers/_compiled_for_*
	rm -rf .venv .venv-* mutants .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist docs/_build

# One environment in three steps, each taken again only when its lock or pyproject.toml has changed.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dromos needs Python 3.11 or newer: make PYTHON=python3.x")'
	@echo 'setting up .venv'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/demo: requirements.lock pyproject.toml | .venv/bin/python
	@$(PIP) -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv/test: requirements-test.lock .venv/demo
	@$(PIP) -r requirements-test.lock
	@touch $@

.venv/bench: requirements-bench.lock .venv/test
	@$(PIP) -r requirements-bench.lock
	@touch $@

.venv/compile: requirements-compile.lock .venv/test
	@$(PIP) -r requirements-compile.lock
	@touch $@

.venv/docs: requirements-docs.lock .venv/test
	@$(PIP) -r requirements-docs.lock
	@touch $@

.venv/dev: requirements-dev.lock .venv/test
	@$(PIP) -r requirements-dev.lock
	@touch $@
