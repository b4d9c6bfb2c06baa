# make quickstart: install into .venv, measure a real Gemma 3 270M on this machine, show the table.
# make test:       install what the tests need, run them all.
# make check:      formatting, lint, types, arrows between the folders.
# make test-fast:  the tests that take seconds.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Options for the quickstart's run, for example: make quickstart RUN="--set processes=1"
RUN ?=
# Options for pytest, for example: make test PYTEST="-k store"
PYTEST ?=

.PHONY: quickstart test test-fast check clean

quickstart: $(VENV)/.quickstart
	$(BIN)/bench run quickstart $(RUN)
	@echo "Open the dashboard with: $(BIN)/bench dashboard"

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST)

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m "not slow and not engine and not browser" $(PYTEST)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_arrows.py

clean:
	rm -rf $(VENV) .bench build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Gemmeter needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.quickstart: $(VENV)/.python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[quickstart]"
	touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@
	touch $(VENV)/.quickstart
