# The two commands a newcomer needs: `make demo` and `make test`. `make` alone lists the rest.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## List these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

$(VENV)/.installed: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "this Python cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: install
install: $(VENV)/.installed ## Create the virtual environment with everything Python (the others do it by themselves)

.PHONY: demo
demo: $(VENV)/.installed ## CA, lab Mender Server, edge and devices on this machine (ARGS=--exit: stop after the table)
	$(BIN)/mtls-ambassador demo $(ARGS)

.PHONY: test
test: $(VENV)/.installed ## All tests; one that lacks its Debian package is skipped and names it (many wait rather than work: 4 at once)
	$(BIN)/pytest -n 4 --dist loadgroup $(ARGS)

.PHONY: unit
unit: $(VENV)/.installed ## Only the fast tests: offline, no processes
	$(BIN)/pytest tests/unit $(ARGS)

.PHONY: e2e
e2e: $(VENV)/.installed ## Only the tests with the real Mender client, openssl and so on
	$(BIN)/pytest tests/e2e $(ARGS)

.PHONY: bench
bench: $(VENV)/.installed ## The edge beside nginx, HAProxy and a bare Envoy (ARGS='--quick' or '--json FILE')
	$(BIN)/python -m bench $(ARGS)

.PHONY: lint
lint: $(VENV)/.installed ## Format check, ruff, mypy strict
	$(BIN)/ruff format --check src tests bench
	$(BIN)/ruff check src tests bench
	$(BIN)/mypy

.PHONY: format
format: $(VENV)/.installed ## Let ruff format and mend what it can
	$(BIN)/ruff format src tests bench
	$(BIN)/ruff check --fix src tests bench

.PHONY: docs
docs: $(VENV)/.installed ## Write the generated reference pages anew (a test fails when they are stale)
	$(BIN)/python -m tests.reference_pages

.PHONY: lock
lock: ## Pin the newest allowed versions of all dependencies, with hashes (needs uv)
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-header --no-annotate -q \
	  $(ARGS) -o requirements.lock pyproject.toml
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-header --no-annotate -q \
	  -c requirements.lock --group dev -o requirements-dev.lock pyproject.toml

.PHONY: clean
clean: ## Remove what the other targets made
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build
