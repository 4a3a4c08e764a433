# `make demo` and `make test` work on a fresh checkout: the environment is made when it is needed.

# The first interpreter that is new enough, by its real path.
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys; sys.version_info >= (3, 11) and print(sys.executable)' 2>/dev/null)))
# Without a working uv there is one in a virtual environment of its own, which pip may write to everywhere.
UV := $(if $(shell uv --version 2>/dev/null),uv,.uv/bin/uv)
BIN := .venv/bin
ENVIRONMENT := .venv/.complete
# Tests of networks need torch, a few gigabytes.
NEURAL := .venv/.neural

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format spec clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

setup: $(ENVIRONMENT)  ## make the environment in .venv (the other targets do so by themselves)

demo: $(ENVIRONMENT)  ## encode and decode a real clip; the results stay in demo/
	@$(BIN)/python examples/demo.py demo

test: $(NEURAL) lint  ## everything that has to pass before a commit
	$(BIN)/pytest -n 2

lint: $(ENVIRONMENT)  ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(ENVIRONMENT)  ## put the source into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

spec: $(ENVIRONMENT)  ## regenerate what in spec/ is made from the code
	$(BIN)/python spec/generate.py

clean:  ## remove what was made, except the environment
	rm -rf demo build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -not -path './.uv/*' -prune -exec rm -rf {} +

$(ENVIRONMENT): pyproject.toml uv.lock | $(filter .uv/%,$(UV))
	$(if $(PYTHON),,$(error Python 3.11 or later is needed; name it with PYTHON=...))
	UV_PYTHON_DOWNLOADS=never $(UV) sync --locked --extra codec --python $(PYTHON)
	@touch $@

$(NEURAL): $(ENVIRONMENT)
	UV_PYTHON_DOWNLOADS=never $(UV) sync --locked --extra codec --extra neural --python $(PYTHON)
	@touch $@

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv
