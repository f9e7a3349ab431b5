# `make demo` and `make test` are all the set-up there is; both work in a fresh clone.
#
#   make demo      run notebooks/01-first-lease.ipynb on the embedded broker; see build/
#   make test      linters, type checker, import contracts, tests (what .ci/run runs)
#   make test-all  the same, with the tests marked slow
#   make lab       JupyterLab on notebooks/; LAB=--no-browser and the like are passed on
#   make chaos     500 random kills of anything under ten notebooks, some 10 minutes; it prints
#                  its seed. CHAOS="--seed 7 --kills 50" and the like are passed on
#   make bench     the benchmark tables
#   make clean     remove .venv, build/ and caches
#
# PYTHON=python3.12 make test   uses another interpreter (3.11 or newer).
# TORCH=no make test PYTHON=python3.13 VENV=.venv-3.13
#                               the same where torch has no build for it: what needs torch is
#                               skipped; in an environment of its own beside .venv.

PYTHON ?= python3
TORCH ?= yes
JOBS ?= 2

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
TEST_EXTRA := $(if $(filter no,$(TORCH)),test-without-torch,test)
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Without torch's types its classes are of any type.
MYPY := $(BIN)/mypy $(if $(filter no,$(TORCH)),--allow-subclassing-any --no-warn-unused-ignores)
# What an installation depends on. A changed source file needs none: it is editable.
INSTALLED_FROM := pyproject.toml constraints.txt $(wildcard kernelspec/*)
PYTEST := $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal --durations 10

# Jupyter refuses to serve as root, who is the only user in many containers, unless told to.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# Another environment that is active is none of ours: IPython warns of it.
unexport VIRTUAL_ENV

.DELETE_ON_ERROR:
.PHONY: help demo test test-all lint check tests tests-all chaos lab bench clean

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.installed-demo
	$(BIN)/python notebooks/run.py notebooks/01-first-lease.ipynb --output build

lab: $(VENV)/.installed-demo
	$(BIN)/jupyter lab --notebook-dir notebooks $(AS_ROOT) $(LAB)

# Stages one after the other, the first that fails ends the run, also under `make -j`.
test: $(VENV)/.installed-test
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory tests
	@echo "make test: everything passed"

test-all: $(VENV)/.installed-test
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory tests-all
	@echo "make test-all: everything passed"

lint:
	$(BIN)/ruff check . notebooks/run.py
	$(BIN)/ruff format --check . notebooks/run.py

check:
	$(MYPY)
	$(BIN)/lint-imports

tests:
	$(PYTEST) -m "not slow" tests

tests-all:
	$(PYTEST) tests

chaos: $(VENV)/.installed-test
	$(BIN)/python -m tests.chaos --kills 500 --pause 0.8 $(CHAOS)

bench: $(VENV)/.installed-test
	$(BIN)/python benchmarks/cell_latency.py
	$(BIN)/python benchmarks/crossing.py
	$(BIN)/python benchmarks/emulation.py --json
	$(BIN)/python benchmarks/life_cycle.py
	$(BIN)/python benchmarks/scheduling.py
	$(BIN)/python benchmarks/ledger.py
	$(BIN)/python benchmarks/containment.py
	$(BIN)/python benchmarks/publish.py

clean:
	rm -rf $(VENV) .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The test extra includes the demo's, so one installation serves both.
$(VENV)/.installed-test: $(INSTALLED_FROM) | $(VENV)/.created
	@echo "Installing zerokernel with its test tools into $(VENV) (once; some minutes)"
	@$(PIP) install -qq --constraint constraints.txt --editable '.[$(TEST_EXTRA)]'
	@touch $(if $(filter no,$(TORCH)),,$(VENV)/.installed-demo) $@

$(VENV)/.installed-demo: $(INSTALLED_FROM) | $(VENV)/.created
	@echo "Installing zerokernel with what the demo needs into $(VENV) (once; some minutes)"
	@$(PIP) install -qq --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(VENV)/.created:
	@[ "$$(uname -s)" = Linux ] || { \
	    echo "zerokernel runs on Linux only; this is $$(uname -s)." >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { \
	    echo "There is no $(PYTHON) here. Install Python 3.11 or newer, or name one:" \
	         "make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "zerokernel needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)." \
	         "Name another: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu:" \
	         "apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@
