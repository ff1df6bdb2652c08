# make demo         the whole story on this machine: data, tune, train, export, serve, a new version
# make test         style, types and tests, on real data and real servers
# make test-reliability  each fault ten times: killed, frozen, full disk; prints a table
# make unit         the unit tests alone: no process, no server; well under a minute
# make lint         style, types, spelling and the layers of imports
# make js           types and unit tests of the web page, where Node.js is
# make coverage     statement coverage by sub-package, from the unit and functional tests
# make fuzz         13,000 malformed requests and images at a time, for MINUTES=10
# make sbom         a software bill of materials (CycloneDX) with licences: build/sbom.cdx.json
# make test-docker  the tests of docker-compose.yml alone; starts an engine where none runs
#
# Each makes .venv and installs what is missing; a second run installs nothing. ARGS=... is passed
# on: make test ARGS="-k gates".

SHELL := /bin/bash
# Every process would compile our modules again, and pytest rewrite its assertions.
unexport PYTHONDONTWRITEBYTECODE
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-reliability unit coverage fuzz sbom test-docker lint js js-checks proto async constraints clean

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
INSTALLED := .venv/.installed
MIN_TFS := .venv/min-tfs-client
# One more than there are cores: tests also wait, for containers and polls.
WORKERS ?= $(shell nproc | awk '{print ($$1 < 4 ? $$1 : 4) + 1}')

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

demo: $(INSTALLED)
	$(BIN)/servable demo $(ARGS)

test: $(INSTALLED) $(MIN_TFS)/.installed
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line lint js
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

# `make test` has each fault once.
ROUNDS ?= 10
test-reliability: $(INSTALLED)
	$(BIN)/python -m pytest tests/reliability --reliability-alone --reliability-rounds=$(ROUNDS) $(ARGS)

unit: $(INSTALLED)
	$(BIN)/python -m pytest -q -n 2 tests/unit $(ARGS)

# A floor for what most other code stands on.
COVERED := serving/servable_serving/{core,repository,release,server/json,server/lifecycle} \
	client/servable_client/{engine,codec}
coverage: $(INSTALLED) $(MIN_TFS)/.installed
	$(BIN)/python -m pytest -q -n $(WORKERS) --cov --cov-report= tests/unit tests/functional $(ARGS)
	@for part in $(COVERED); do \
		printf '%-50s %s %%\n' "$$part" "$$($(BIN)/coverage report --include="$$part/*" --format=total)"; done
	@for part in $(COVERED); do \
		$(BIN)/coverage report --include="$$part/*" --fail-under=90 >/dev/null || { \
		echo "$$part is covered by less than 90 %"; exit 1; }; done

MINUTES ?= 10
fuzz: $(INSTALLED)
	@end=$$((SECONDS + 60 * $(MINUTES))); total=0; while (( SECONDS < end )); do \
		seed=$$((RANDOM * 32768 + RANDOM)); \
		SERVABLE_FUZZ_SEED=$$seed $(BIN)/python -m pytest -q -p no:cacheprovider \
		tests/functional/serving/test_fuzz.py tests/functional/serving/test_fuzz_images.py $(ARGS) || { \
		echo "repeat it with SERVABLE_FUZZ_SEED=$$seed"; exit 1; }; \
		total=$$((total + 13000)); echo "$$total requests and images, seed $$seed"; done

# Its tools are not part of what it lists.
SBOM := build/sbom-tools
sbom: $(INSTALLED)
	$(BIN)/python -m venv $(SBOM)
	$(SBOM)/bin/python -m pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7,<8'
	$(SBOM)/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml \
		--output-format JSON --output-file build/sbom.cdx.json

test-docker: $(INSTALLED)
	-tests/system/stack/engine
	$(BIN)/python -m pytest tests/system/stack $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell
	$(BIN)/shellcheck .ci/run examples/go/build serving/tensorflow_model_server tests/programs \
		tests/system/stack/engine trainer/train-and-push

js:
	@if command -v npm >/dev/null && node -e 'process.exit(+(process.versions.node.split(".")[0] < 20))'; \
	then $(MAKE) --no-print-directory js-checks; \
	else echo 'skipping the JavaScript checks: they need Node.js 20 or newer, with npm'; fi

js-checks: node_modules/.installed
	npm run --silent check
	npm test --silent

node_modules/.installed: package.json package-lock.json
	npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# Debian keeps ensurepip, which venv needs, in a package of its own.
$(BIN)/python:
	@[[ -n "$(PYTHON)" ]] || { echo 'Python 3.11, 3.12 or 3.13 is needed; name it with make PYTHON=...'; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo 'installing python3-venv, which this Python lacks'; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y python3-venv; } \
		|| { echo 'as root, install the package python3-venv; then try again'; exit 1; }
	$(PYTHON) -m venv .venv

# The mark comes last, so that an interrupted installation is taken up again.
$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing into .venv; a minute or two, TensorFlow is large'
	@# pip unpacks the large ones for a minute without a word.
	@while sleep 20 >/dev/null 2>&1; do echo "still installing, $$SECONDS s"; done & \
	trap "kill $$!" EXIT; \
	$(BIN)/python -m pip install --progress-bar off --disable-pip-version-check \
		--editable '.[trainer,serving,dev]' --constraint constraints.txt
	@touch $@

# A client of TensorFlow Serving for the tests, with the old protobuf that it needs.
OTHER_CLIENTS := tests/functional/serving/other_clients
$(MIN_TFS)/.installed: $(OTHER_CLIENTS)/requirements.txt | $(INSTALLED)
	$(BIN)/python -m venv --without-pip $(MIN_TFS)
	$(BIN)/python -m pip --python $(MIN_TFS)/bin/python install --quiet \
		--disable-pip-version-check --requirement $<
	@touch $@

proto: $(INSTALLED)
	cd client/servable_client/_wire && ../../../$(BIN)/python -m grpc_tools.protoc -I. \
		--include_imports --descriptor_set_out=wire.binpb --pyi_out=. wire.proto
	cd serving/servable_serving/server/proto && ../../../../$(BIN)/python -m grpc_tools.protoc -I. \
		--include_imports --descriptor_set_out=config.binpb --pyi_out=. config.proto
	cd serving/servable_serving/server/proto && ../../../../$(BIN)/python -m grpc_tools.protoc -I. \
		--descriptor_set_out=platform.binpb --pyi_out=. platform.proto

# AsyncClient, from Client.
async: $(INSTALLED)
	$(BIN)/python client/generate_async.py
	$(BIN)/ruff format --quiet client/servable_client/_async_client.py

constraints: $(INSTALLED)
	sed -i '/^[^#]/d' constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable >>constraints.txt

clean:
	rm -rf .venv node_modules build dist
