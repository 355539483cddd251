# Two commands are enough: `make run` starts a node, `make test` tests it. Both set up what they need.
#
# PYTHON=…  the Python (3.11 or newer) to build the environment with; by default the first one found
# CONFIG=…  the configuration for `make run`
# ARGS=…    arguments for `make bench`, for pytest, and for `make lock` (--upgrade: newer versions)

PYTHON ?=
CONFIG ?= config/dev.yaml
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest -q
NODE_PEERS := tests/peers/node/node_modules/.package-lock.json
# Kernels that call no C functions, and so run as plain Python too, where every index is checked.
PURE := tests/unit/mediacodecs tests/unit/packetio/test_log.py tests/unit/engine/test_numbering.py tests/fuzz \
	$(addprefix tests/unit/loadtest/engine/test_,$(addsuffix .py,capture frames held links packets repair synthetic))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test test-unit test-pure fuzz test-e2e test-peers soak check format bench lock clean kernels \
	chromium firefox gstreamer str0m

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## set up, compile the packet engine, start a node (CONFIG=config/dev.yaml)
	@$(BIN)/weir serve $(CONFIG)

test: test-unit test-pure fuzz test-e2e ## set up, run all tests
	@echo "All tests passed."

test-unit: $(VENV)/.installed-dev kernels ## unit tests, kernels compiled
	$(PYTEST) tests/unit $(ARGS)

test-pure: $(VENV)/.installed-dev ## pure kernels as plain Python
	NUMBA_DISABLE_JIT=1 $(PYTEST) $(PURE) $(ARGS)

fuzz: $(VENV)/.installed-dev ## fuzz the parsers against their plain twins, with bounds checks
	NUMBA_BOUNDSCHECK=1 WEIR_CACHE_DIR=$(CURDIR)/$(VENV)/var/weir-bounds $(PYTEST) tests/fuzz $(ARGS)

test-e2e: $(VENV)/.installed-dev kernels chromium firefox gstreamer ## real browsers and peers against a node
	$(PYTEST) tests/e2e $(ARGS)

# Needs npm (Node.js 20 or newer) and cargo, and minutes: so no part of `make test`.
test-peers: $(VENV)/.installed-dev kernels chromium firefox gstreamer $(NODE_PEERS) str0m ## each client publishes and watches; writes docs/CLIENTS.md
	$(PYTEST) tests/peers $(ARGS)
	WAITING_CROWD=500 $(PYTEST) tests/e2e/test_waiting_crowd.py

soak: $(VENV)/.installed-dev ## long runs, and what needs rights of its own (network namespaces, tc)
	$(PYTEST) tests/soak $(ARGS)

check: $(VENV)/.installed-dev ## lint, format, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## put the sources in form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.installed ## measure speed and memory (ARGS=--help lists what can be chosen)
	@$(BIN)/weir bench -- $(ARGS)

lock: $(VENV)/.installed ## write the lock files anew after a change of pyproject.toml (ARGS=--upgrade: newer versions)
	@scripts/make-lock $(BIN)/python locks $(ARGS)

clean: ## remove the environment, the compiled kernels and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Before tests begin, whose time is limited: compiling takes a minute, and several beside a busy neighbour.
kernels: $(VENV)/.installed
	@$(BIN)/python -c 'from mediaserver.engine.warm import warm; warm(lambda name, done, total: None)'
	@$(BIN)/python -c 'from loadtest.engine.engine import ClientEngine as E; e = E(1, 1); e.compile(); e.stop()'

chromium firefox gstreamer:
	@scripts/need-debian $@

$(NODE_PEERS): tests/peers/node/package-lock.json
	@echo "Installing the clients on Node.js"
	@npm ci --prefix tests/peers/node --no-audit --no-fund --loglevel error
	@touch $@

str0m: # cargo knows what is to be done
	@echo "Building the client on str0m"
	@nice cargo build --quiet --jobs 1 --manifest-path tests/peers/str0m/Cargo.toml --target-dir $(VENV)/var/str0m

# A stamp each: a second run installs nothing. Versions and hashes are those of the lock files.
$(VENV)/.installed: pyproject.toml locks/run.txt locks/build.txt scripts/make-venv scripts/find-python
	@scripts/make-venv $(VENV) $(PYTHON)
	@echo "Installing Weir's packages"
	@$(PIP) --require-hashes -r locks/run.txt -r locks/build.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed locks/dev.txt
	@echo "Installing the packages for tests"
	@$(PIP) --require-hashes -r locks/dev.txt
	@touch $@
