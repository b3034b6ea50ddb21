# The one entry point for people and for CI. `make help` lists it.
# Everything is installed into .venv at the root; nothing else on the machine is touched.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# The CPU build of torch, where pip's own choice would be a CUDA build of several GB:
#   make test TORCH_INDEX="--index-url https://download.pytorch.org/whl/cpu"
TORCH_INDEX ?=
TORCH := torch==2.13.0
BUNDLE ?= bundles/orbit

.DEFAULT_GOAL := help
.PHONY: help demo up test check format protos load clean setup setup-test

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*## "} {printf "  make %-12s %s\n", $$1, $$2}'

demo: setup ## start the platform, locate the images in samples/, print where they are from, stop
	@$(BIN)/geofix demo samples --bundle $(BUNDLE)

up: setup ## start the platform and leave it running: the page at http://127.0.0.1:8080, gRPC at :50051, until Ctrl-C
	@$(BIN)/geofix up --bundle $(BUNDLE)

test: setup-test ## run every test (installs torch for the training tests)
	@$(BIN)/python -m pytest tests

check: setup-test ## formatting, lint, types, import arrows, protos
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy shared services training tests tools benchmarks
	@$(BIN)/lint-imports
	@$(BIN)/python tools/check_protos.py

format: setup-test ## format the code and the protos
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@$(BIN)/buf format -w proto

protos: setup-test ## generate shared/geofix/v1 from proto/
	@$(BIN)/python tools/make_protos.py shared

load: setup ## load the platform on this machine: images a second and latency (LOAD="--rate 50" and so on; about a minute)
	@$(BIN)/python benchmarks/load.py $(LOAD)

clean: ## remove what was built and installed here
	rm -rf $(VENV) .cache build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

setup: $(VENV)/.serving
setup-test: $(VENV)/.testing

$(VENV)/bin/python:
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit("geofix needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.serving: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing geofix and what it serves with (about a minute) ..."
	@$(PIP) --editable '.[up,cpu]'
	@touch $@

$(VENV)/.testing: pyproject.toml constraints.txt tools/constraints-no-deps.txt $(VENV)/.serving
	@echo "installing what the tests need, torch among it (some minutes) ..."
	@$(PIP) $(TORCH_INDEX) $(TORCH)
	@$(PIP) --editable '.[up,cpu,train,swc,dev]'
	@# timm asks for a torchvision that matches a torch build; the plain wheel is enough for it (docs/training.md)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement tools/constraints-no-deps.txt
	@touch $@
