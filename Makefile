# Every target sets up what it needs.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
export VENV
# as the command sets it: BLAS threads mostly wait for each other
export OPENBLAS_NUM_THREADS ?= 1

FAST := not gpu and not slow and not chaos and not shared_data

.PHONY: help setup demo check format test test-all golden docs lock clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

setup: $(VENV)/.stamp ## Virtual environment, locked packages, system libraries (when root)

$(VENV)/.stamp: requirements.lock pyproject.toml scripts/setup.sh
	@bash scripts/setup.sh

demo: setup ## Studio clips to shards, report, training and a sampled video, below demo/
	@bash scripts/demo.sh

format: setup ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: setup ## Format, lint, types, import layers, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m "$(FAST)"

test: setup ## All tests but the long matrices and those that need a GPU
	$(BIN)/python -m pytest -m "not gpu and not long"

test-all: setup ## Everything that runs without a GPU
	$(BIN)/python -m pytest -m "not gpu"

golden: setup ## Rewrite golden files on purpose; review the diff
	$(BIN)/python -m pytest -q tests/golden --update-golden

docs: setup ## Write docs/stages.md and docs/commands.md from the code
	$(BIN)/python -m scripts.stage_docs
	$(BIN)/python -m scripts.command_docs

lock: setup ## Resolve the dependencies again
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --generate-hashes --quiet -o requirements.lock

clean: ## Remove what the commands here made
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
