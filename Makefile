# `make` alone lists what there is. Python 3.11 or newer and make are all that must be there.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
STORE := sqlite:///$(CURDIR)/mlruns/mlflow.db

export MLFLOW_DISABLE_TELEMETRY := true
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help install run ui check test test-all wheel clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The environment holds the lock that it was made from; another lock makes another environment.
install: ## make .venv from requirements.lock (5 GB), where it is not there yet or the lock has changed
	@if ! cat requirements.lock requirements-oracles.txt | cmp -s - $(VENV)/requirements.lock; then \
		set -e; found=; \
		for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
			if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then echo "heatproof needs Python 3.11 or newer: make install PYTHON=/path/to/python"; exit 1; fi; \
		echo "making $(VENV) with $$found"; \
		"$$found" -m venv --clear $(VENV); \
		$(BIN)/python -m pip install --progress-bar off -r requirements.lock; \
		$(BIN)/python -m pip install --progress-bar off --no-deps -r requirements-oracles.txt; \
		$(BIN)/python -m pip install --no-deps --no-build-isolation -e .; \
		cat requirements.lock requirements-oracles.txt > $(VENV)/requirements.lock; \
	fi

run: install ## run the default job on generated slices; more settings: make run ARGS='seed=2 metrics=[nine]'
	@$(BIN)/heatproof $(ARGS)

ui: install ## open the MLflow page on the runs of this folder
	@if [ -n "$$MLFLOW_TRACKING_URI" ]; then echo "runs go to $$MLFLOW_TRACKING_URI: open that address"; \
	elif [ ! -f mlruns/mlflow.db ]; then echo "no runs yet: make run"; \
	else $(BIN)/mlflow ui --backend-store-uri "$(STORE)"; fi

check: install ## format, lint, types, layers
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install ## the default test suite
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m "not slow and not browser"

test-all: install ## every test, also the slow ones and those that need Chromium
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

wheel: install ## build dist/*.whl
	$(BIN)/python -m build --wheel --no-isolation

clean: ## remove build outputs and caches; results, mlruns and .venv stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
