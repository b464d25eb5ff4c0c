# Every target sets up what it needs. `make run` serves the demo model, `make test` runs every test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Dify's SDK, which judges the API as Dify's plugin does, has an environment of its own.
DIFY := .venv-dify
STATE ?= .state
ARGS ?=
# Tests of one file stay in one process, because they share daemons and models.
PARALLEL ?= -n auto --dist loadfile
# Fast ones wait for a quarter of their time, so half as many processes again as there are cores.
FAST_PARALLEL ?= -n $(shell echo $$(( ($$(nproc 2>/dev/null || echo 2) * 3 + 1) / 2 ))) --dist loadfile
FAST := HYPOTHESIS_PROFILE=quick $(BIN)/pytest $(FAST_PARALLEL) -m "not slow"

# pip must not read a site's own configuration of hashes or targets; its index settings stay in force.
PIP_OPTIONS := --require-virtualenv --disable-pip-version-check
PIP := $(BIN)/python -m pip $(PIP_OPTIONS)
# llama.cpp compiles on all cores and for this machine's processor.
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell nproc 2>/dev/null || echo 2)
# The tests start hundreds of Python processes: without compiled files each would compile the product for itself.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup dify run test test-fast test-offline check format lock bench bench-step bundle release-check clean

help:
	@echo "make run     set up and serve the demo model over mutual TLS"
	@echo "make test    set up and run every test"
	@echo "make test-offline  every test that builds no system, where loopback is the only network (as root); ARGS=tests/…"
	@echo "make check   format, lint, types, import contracts, fast tests"
	@echo "make bench   measure our own overhead, then compare with llama-server (builds it once; about 20 minutes)"
	@echo "make bench-step  where the host's part of an engine step goes"
	@echo "make bundle  the offline bundle of this commit, signed with KEY; CUDA_WHEEL=llama_cpp_python-….whl makes that for GPUs"
	@echo "make release-check  make the bundle twice, and compare (about 25 minutes)"
	@echo "make lock    resolve requirements/*.in anew (needs uv)"
	@echo "make clean   remove the virtual environment, caches and the local state"

setup: $(VENV)/.complete

$(VENV)/.complete: requirements/build.lock requirements/dev.lock pyproject.toml
	@sh requirements/preflight.sh "$(PYTHON)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --require-hashes -r requirements/build.lock
	@echo "Installing the dependencies. llama.cpp compiles from source once: about 3 minutes on 2 cores."
	$(PIP) install --quiet --no-build-isolation --require-hashes -r requirements/dev.lock
	PYTHONWARNINGS=ignore $(PIP) install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

dify: $(DIFY)/.complete

$(DIFY)/.complete: requirements/dify.lock requirements/dify_python.sh
	rm -rf $(DIFY)
	"$$(sh requirements/dify_python.sh "$(PYTHON)")" -m venv $(DIFY)
	$(DIFY)/bin/python -m pip $(PIP_OPTIONS) install --quiet --require-hashes --only-binary :all: -r requirements/dify.lock
	@touch $@

run: setup
	$(BIN)/appliance serve --demo --state-dir $(STATE) $(ARGS)

test: setup dify
	$(BIN)/pytest $(PARALLEL)

test-fast: setup
	$(FAST)

# Whatever needs the network is fetched before: the two environments, and JSON Schema's own tests. Left out is tests/system, which
# makes systems with debootstrap from mirrors and bundles from a package index; the machines that it boots have no network in `make test` either.
test-offline: setup dify
	$(BIN)/python -c 'from tests.engine.test_json_schema_suite import schemas; next(schemas())'
	unshare --net -- sh -c 'ip link set lo up && exec "$$@"' sh $(BIN)/pytest $(PARALLEL) --ignore tests/system $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(FAST)

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m bench.overhead
	$(BIN)/python -m bench.compare $(ARGS)

bench-step: setup
	$(BIN)/python -m bench.step $(ARGS)

# Signs with KEY, which is made where there is none: keep it off this machine, and its fingerprint on paper.
RELEASE ?= build/release
KEY ?= release-signing.key
CUDA_WHEEL ?=
BUNDLE := $(BIN)/python -m release bundle --key $(KEY) \
  $(if $(CUDA_WHEEL),--backend cuda13 --engine-wheel $(CUDA_WHEEL))

bundle: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BUNDLE) --out $(RELEASE)

# From two folders, so that neither a path nor anything left over gets into it.
release-check: setup
	rm -rf $(RELEASE)/check-1 $(RELEASE)/check-again-2
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BUNDLE) --out $(RELEASE)/check-1
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BUNDLE) --out $(RELEASE)/check-again-2
	sha256sum $(RELEASE)/check-1/*.tar $(RELEASE)/check-again-2/*.tar
	cmp $(RELEASE)/check-1/*.tar $(RELEASE)/check-again-2/*.tar

lock:
	cd requirements && for name in build runtime cuda13 dev dify; do \
	  uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	    --quiet $$name.in -o $$name.lock; done

clean:
	rm -rf $(VENV) $(DIFY) $(STATE) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
