# Everything a stranger needs: `make demo` and `make test` work on a fresh Debian-like machine with Python 3.11.
# All state lives in .venv and .state inside the checkout; `make clean` removes it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
READY := .state/ready
# No bytecode or caches outside the checkout; a clean HOME stays clean.
export PYTHONDONTWRITEBYTECODE :=
export UV_CACHE_DIR ?= $(CURDIR)/.state/uv
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CACHE_DIR ?= $(CURDIR)/.state/pip

# Half of the suite waits: three files of tests at a time on two processors, each file by one process, in the order that tests/conftest.py gives.
SIDE_BY_SIDE := -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test lint format docs attacks loss bench clean tools

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

$(READY): pyproject.toml scripts/setup.sh
	@bash scripts/setup.sh
	@mkdir -p .state && touch $@

demo: $(READY)  ## start a platform, deploy real functions, call them cold, warm and by events, take everything down
	@$(BIN)/python -m scripts.demo

test: $(READY)  ## lint, type check, every test; the first two beside the others, told at the end
	@bash scripts/programs.sh
	@$(BIN)/python -m compileall -q src # sandboxes see the source read-only: none of them could keep what it compiles
	@$(MAKE) lint >.state/lint.txt 2>&1 & lint=$$!; failed=0; \
	$(BIN)/python -m pytest $(if $(PYTEST_ARGS),$(PYTEST_ARGS),$(SIDE_BY_SIDE)) || failed=1; \
	wait $$lint || failed=1; cat .state/lint.txt; exit $$failed

lint: $(READY)  ## ruff, format, mypy, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --cache-dir .state/import_linter >.state/imports.txt 2>&1 || { cat .state/imports.txt; exit 1; }
	@grep -E '^Contracts:' .state/imports.txt

format: $(READY)  ## ruff's own fixes and format
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

docs: $(READY)  ## write docs/reference from the code
	@$(BIN)/python -m scripts.docs

attacks: $(READY)  ## try every way out of a sandbox; writes docs/contracts/isolation-results.md
	@$(BIN)/python -m scripts.attacks

loss: $(READY)  ## 50,000 events through every source, 30 kills; writes docs/contracts/loss-results.md
	@$(BIN)/python -m scripts.loss

tools: $(READY)  ## system tools that only the benchmarks need (wrk, a JDK)
	@command -v wrk >/dev/null || bash scripts/packages.sh wrk
	@command -v javac >/dev/null || bash scripts/packages.sh openjdk-17-jdk-headless

bench: tools  ## measure every budget against its reference; table and JSON in bench/results
	@$(BIN)/python -m bench $(BENCH_ARGS)

clean:  ## remove everything the targets above made
	@rm -rf $(VENV) .state out build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
