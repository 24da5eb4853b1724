# Frontispiece. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Compiled once here, else by every process that starts: PyTorch and its libraries take seconds. Also where
# PYTHONDONTWRITEBYTECODE is set.
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow test-all lint format protos release-protos lock clean train-house evaluate-house load compose-test

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.dev ## Make the virtual environment with everything, development tools too

run: $(VENV)/.run ## Start the whole system on this machine; Ctrl-C stops it
	@$(BIN)/python -m local

PYTEST := $(BIN)/python -m pytest -n auto --dist loadgroup

test: $(VENV)/.dev ## Run the tests, all but the slow ones
	@$(PYTEST) -m 'not slow and not fp8' $(PYTEST_ARGS)

test-slow: $(VENV)/.dev ## Run the slow tests: kills, crashes, interpreted kernels
	@$(PYTEST) -m 'slow or fp8' $(PYTEST_ARGS)

test-all: $(VENV)/.dev ## Run all tests, as .ci/run does
	@$(PYTEST) -m '' $(PYTEST_ARGS)

lint: $(VENV)/.dev ## Check style, types, imports and contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo 'run `make format`'; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code
	@cd protos && ../$(BIN)/buf breaking --against released.binpb

format: $(VENV)/.dev ## Format code and contracts
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .
	@cd protos && ../$(BIN)/buf format -w

protos: $(VENV)/.dev ## Generate the committed stubs from protos/
	@cd protos && PATH="$(CURDIR)/$(BIN):$$PATH" buf generate

release-protos: $(VENV)/.dev ## At a release: what later contracts are compared with
	@cd protos && ../$(BIN)/buf build --exclude-source-info -o released.binpb

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --no-annotate
RUN_EXTRAS := --extra generator --extra storage --extra posts --extra gateway --extra local --extra build

lock: $(VENV)/.bootstrap ## Resolve requirements/*.txt from pyproject.toml
	@$(LOCK) pyproject.toml $(RUN_EXTRAS) --extra house --extra dev -o requirements/dev.txt
	@$(LOCK) pyproject.toml $(RUN_EXTRAS) -c requirements/dev.txt -o requirements/run.txt
	@for extra in generator storage posts gateway; do \
		$(LOCK) pyproject.toml --extra $$extra -c requirements/dev.txt -o requirements/$$extra.txt || exit 1; done

PROFILE ?= smoke latency
load: $(VENV)/.dev ## Load-test a system of its own with ghz (PROFILE="smoke latency" | step | spike | soak)
	@$(BIN)/python -m bench.load $(PROFILE) $(LOAD_ARGS)

compose-test: $(VENV)/.dev ## Build, use, kill and restart the compose deployment; needs a container engine
	@$(BIN)/python -m tests.deploy

PRESET ?= cpu
HOUSE_WORK ?= var/house
HOUSE_MODEL ?= models/house/weights

train-house: $(VENV)/.dev ## Train the default model (PRESET=cpu or gpu); resumes where it stopped
	@$(BIN)/python -m models.house.train_vae --work $(HOUSE_WORK) --preset $(PRESET)
	@$(BIN)/python -m models.house.train_text --work $(HOUSE_WORK) --preset $(PRESET)
	@$(BIN)/python -m models.house.train_unet --work $(HOUSE_WORK) --preset $(PRESET)
	@$(BIN)/python -m models.house.export --work $(HOUSE_WORK) --preset $(PRESET) --out $(HOUSE_WORK)/weights
	@$(BIN)/python -m models.house.train_prose --work $(HOUSE_WORK) --preset $(PRESET) --model $(HOUSE_WORK)/weights

evaluate-house: $(VENV)/.dev ## Evaluate the default model (HOUSE_MODEL=folder) and draw its contact sheet
	@$(BIN)/python -m models.house.evaluate --work $(HOUSE_WORK) --preset $(PRESET) --model $(HOUSE_MODEL) \
		--sheet $(HOUSE_WORK)/sheet.png

clean: ## Remove the virtual environment and caches; keeps var/, where tasks, posts and images are
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/.bootstrap: requirements/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

# The project itself is installed editable, so that `frontispiece`, `rpc` and the services are importable from anywhere.
$(VENV)/.run: $(VENV)/.bootstrap requirements/run.txt pyproject.toml
	@echo 'installing (PyTorch is large: about 3 GB the first time)'
	@$(INSTALL) --require-hashes -r requirements/run.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@
