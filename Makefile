PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lock bench clean

help: ## this list
	@echo "make <target>:"
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /    \1\t/' | expand -t 12

setup: $(STAMP) ## the virtual environment in .venv, from requirements.lock (only when that changed)

# Only what cannot be installed by pip is checked by hand, before the long part.
$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON). Install Python 3.11 or newer, or say: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: $$($(PYTHON) --version). Say: make PYTHON=/path/to/a/newer/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Installing into $(VENV) (some minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## a real campaign on an embedded farm, from photos to a contact sheet
	@$(BIN)/farm demo

test: check ## everything that must hold: check, then every test
	@$(BIN)/python -m pytest

check: setup ## style, types, layers, dependencies, dead code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/deptry .
	$(BIN)/vulture

lock: setup ## resolve the ranges of pyproject.toml anew into requirements.lock
	@$(BIN)/python ops/lock.py
	@git --no-pager diff --stat requirements.lock ops/docker

bench: setup ## a quick run of every benchmark in ops/bench
	@for bench in $(sort $(wildcard ops/bench/[a-z]*.py)); do echo "== $$bench"; $(BIN)/python $$bench --quick || exit 1; done

clean: ## removes the virtual environment and caches; .farm (your pictures) stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist *.egg-info
