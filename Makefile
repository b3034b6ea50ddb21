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
GROUND_BUNDLE ?= bundles/cities
PIP_AUDIT := build/audit/bin/pip-audit
AUDIT = $(PYTHON) tools/audit.py $(PIP_AUDIT) $(wildcard requirements/*-*.txt)

FUZZ_INPUTS ?= 100000

.DEFAULT_GOAL := help
.PHONY: help demo up test check format protos load chaos soak fuzz clean setup setup-test image compose-test sbom k8s-check lock docs docs-serve

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*## "} {printf "  make %-12s %s\n", $$1, $$2}'

demo: setup ## start the platform, locate the pictures from above in samples/, then the photographs in samples/ground, stop
	@$(BIN)/geofix demo samples --bundle $(BUNDLE)
	@$(BIN)/geofix demo samples/ground --bundle $(GROUND_BUNDLE)

up: setup ## start the platform and leave it running: the page at http://127.0.0.1:8080, gRPC at :50051, until Ctrl-C
	@$(BIN)/geofix up --bundle $(BUNDLE)

test: setup-test ## run every test (installs torch for the training tests)
	@$(BIN)/python -m pytest tests

check: setup-test $(PIP_AUDIT) ## formatting, lint, types, import arrows, protos, licences, alerts, secrets, known vulnerabilities
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy shared services training tests tools benchmarks
	@$(BIN)/lint-imports
	@$(BIN)/python tools/check_protos.py
	@$(BIN)/python tools/check_licences.py
	@$(BIN)/python tools/check_operations.py
	@$(BIN)/python tools/check_secrets.py
	@$(AUDIT) || test $$? -eq 3 # not audited: it has said so

format: setup-test ## format the code and the protos
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@$(BIN)/buf format -w proto

.PHONY: release-contract
release-contract: setup-test ## keep the contract as it is now as that of the last release, which later ones must not break
	@$(BIN)/python tools/check_protos.py --release

protos: setup-test ## generate shared/geofix/v1 and docs/api.md from proto/
	@$(BIN)/python tools/make_protos.py shared
	@$(BIN)/python tools/make_reference.py

.PHONY: bench-batch bench-cache
bench-batch: setup ## a batch as one call of the classifier, or as a call an image (half a minute)
	@$(BIN)/python benchmarks/batch.py

bench-cache: setup ## what a cached answer costs, against the same server answering a constant (2 minutes)
	@$(BIN)/python benchmarks/cache.py

.PHONY: release-check
release-check: ## build wheel and source archive; install, import and test the wheel in empty environments (some minutes)
	@$(PYTHON) tools/release_check.py

.PHONY: audit
audit: $(PIP_AUDIT) ## known vulnerabilities of what images install (pip-audit asks pypi.org; what it cannot audit is said)
	@$(AUDIT)

$(PIP_AUDIT):
	@$(PYTHON) -m venv build/audit && build/audit/bin/pip install -q pip-audit==2.10.1

.PHONY: bench-retrieval bench-build gallery-kills gallery-photos
bench-retrieval: setup ## searches in a gallery: Lite, a server, numpy, faiss, LanceDB, usearch (12 minutes to half an hour; RETRIEVAL=--small)
	@$(PIP) --editable '.[bench]'
	@$(BIN)/python benchmarks/retrieval.py $(RETRIEVAL)

bench-build: setup-test ## `geofix gallery add` against the bare backbone, images a second: a network of the published size, then the demo's (6 minutes)
	@test -f build/b4/bundle.json || $(BIN)/python benchmarks/b4.py build/b4
	@$(BIN)/python benchmarks/gallery_build.py --bundle build/b4 --images 240
	@$(BIN)/python benchmarks/gallery_build.py

gallery-kills: setup ## kill and resume `geofix gallery add` on Milvus Lite 40 times; every row is read after each (some 4 minutes)
	@$(BIN)/python benchmarks/gallery_kills.py

gallery-photos: setup-test ## does another photograph of the same landmark come back first? PHOTOS=DIR with truth.csv (4 minutes)
	@$(BIN)/python benchmarks/gallery_photos.py $(PHOTOS)

load: setup ## load the platform on this machine: images a second and latency (LOAD="--rate 50" and so on; about a minute)
	@$(BIN)/python benchmarks/load.py $(LOAD)

SERVICES := classifier embedder retrieval gateway web
IMAGE_TAG ?= 0.1.0
DOCKER ?= docker
# Certificates for package indexes behind a proxy with a CA of its own: make image CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
CA_BUNDLE ?=
BUILD = DOCKER_BUILDKIT=1 $(DOCKER) build $(if $(CA_BUNDLE),--secret id=ca$(comma)src=$(CA_BUNDLE)) --build-arg VERSION=$(IMAGE_TAG) \
	--build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(date -u +%Y-%m-%dT%H:%M:%SZ)
comma := ,

image: ## build the images of all services and of the bundle, and print their sizes (needs Docker)
	@for service in $(SERVICES); do $(BUILD) --build-arg SERVICE=$$service --tag geofix/$$service:$(IMAGE_TAG) . || exit 1; done
	@$(BUILD) --target bundle --build-arg BUNDLE=$(BUNDLE) --tag geofix/bundle:$(notdir $(BUNDLE)) .
	@sh tools/image_sizes.sh $(IMAGE_TAG) $(SERVICES)

compose-test: setup ## build and run docker-compose.yml: locate, kill, roll, stop (needs Docker with Compose; about 5 minutes)
	@$(BIN)/python tools/compose_test.py

sbom: setup ## write a CycloneDX bill of materials for each image's requirements into dist/
	@test -x build/sbom/bin/cyclonedx-py || { $(PYTHON) -m venv build/sbom && build/sbom/bin/pip install -q cyclonedx-bom==7.2.1; }
	@mkdir -p dist && for list in requirements/*-*.txt; do \
		build/sbom/bin/cyclonedx-py requirements $$list --of JSON -o dist/sbom-$$(basename $$list .txt).json; done; ls -l dist/sbom-*

k8s-check: setup-test ## build every overlay with every component, check schemas, settings and policies
	@$(BIN)/python -m pytest -q tests/contract
	@test -x build/checkov/bin/checkov || { $(PYTHON) -m venv build/checkov && build/checkov/bin/pip install -q checkov==3.2.500; }
	@mkdir -p build/rendered && for overlay in dev prod; do $(BIN)/kubectl kustomize k8s/overlays/$$overlay > build/rendered/$$overlay.yaml; done
	@build/checkov/bin/checkov --skip-download --quiet --compact --config-file k8s/checkov.yaml --directory build/rendered

lock: ## resolve what images install (requirements/, with hashes), from pyproject.toml and constraints.txt
	@test -x build/lock/bin/pip-compile || { $(PYTHON) -m venv build/lock && build/lock/bin/pip install -q pip-tools==7.6.2; }
	@sed -i 's#^geofix @ file:\.#geofix @ file://$(CURDIR)#' requirements/lock.txt # pip-compile starts from it, to change no more than it must
	@build/lock/bin/pip-compile --quiet --generate-hashes --strip-extras --no-header --no-emit-index-url --no-emit-find-links \
		$(foreach extra,$(SERVICES) lite cpu gpu openvino metrics otel,--extra $(extra)) --constraint constraints.txt --output-file requirements/lock.txt pyproject.toml
	@sed -i 's#^geofix @ file:///.*#geofix @ file:.#' requirements/lock.txt # where it was resolved is nobody's business
	@$(PYTHON) tools/make_requirements.py

docs: setup-test ## build the site into build/site, its generated pages first; no network is needed
	@$(BIN)/python tools/make_reference.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

.PHONY: screenshots
screenshots: setup-test ## take the pictures of the page in docs/screenshots (some 2 minutes; needs Chromium); look at them
	@$(BIN)/python tools/make_screenshots.py

docs-serve: setup-test ## show the site at http://127.0.0.1:8000 while you write
	@$(BIN)/python -m mkdocs serve

chaos: setup ## kill, stop, slow down and cut off each part under load; every answer is checked (some 10 minutes; CHAOS="--only kill")
	@$(BIN)/python benchmarks/chaos.py $(CHAOS)

soak: setup ## load for 3 + 10 minutes and watch memory, descriptors and tasks (SOAK="--seconds 60 --warm-up 20")
	@$(BIN)/python benchmarks/soak.py $(SOAK)

fuzz: setup-test ## 100,000 damaged images, messages and bytes (some 10 minutes); FUZZ_INPUTS=n, GEOFIX_FUZZ_SEED=anything for others
	@$(PIP) --editable '.[up,cpu,dev,fuzz]'
	@$(BIN)/python tools/fuzz_decoder.py --inputs $$(( $(FUZZ_INPUTS) * 2 / 5 ))
	@GEOFIX_FUZZ_INPUTS=$$(( $(FUZZ_INPUTS) * 3 / 5 )) $(BIN)/python -m pytest tests/fuzz -q -s

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
	@$(PIP) --editable '.[up,cpu,openvino,train,swc,ray,dev]'
	@# timm asks for a torchvision that matches a torch build; the plain wheel is enough for it (docs/training.md)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement tools/constraints-no-deps.txt
	@touch $@
