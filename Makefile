# Everything a developer and CI need. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
export PIP_NO_WARN_SCRIPT_LOCATION := 1
# Most tests wait for something. Not on a server of your own: each would empty it under the other.
TWO_AT_A_TIME := $(if $(TEST_QUEUE_URL),,--numprocesses=2 --dist=worksteal)

.DEFAULT_GOAL := help
.PHONY: help install dev check format test chaos peers bench docs lock clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## create .venv from the hashed lock (what `make dev` needs)

dev: install ## start everything here: queue server, API, worker, mailbox, demo application
	@exec $(BIN)/postroom dev

check: $(VENV)/.tested ## format, lint, types, import contracts, dead code, generated docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/python -m docs.generate --check

format: $(VENV)/.tested ## rewrite the files in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(VENV)/.tested ## every test, on its own queue server and SMTP servers
	$(BIN)/python -m pytest $(TWO_AT_A_TIME) $(ARGS)

chaos: $(VENV)/.tested ## kill everything under load, two relays too, account for every mail (JOBS=2000 KILLS=40 SEED=1)
	@JOBS=$(JOBS) KILLS=$(KILLS) SEED=$(SEED) $(BIN)/python -m tests.chaos

peers: ## fetch the mail parser (npm) and mail servers (apt-get) of others that tests use; installs nothing
	sh tests/peers/fetch.sh

bench: $(VENV)/.tested ## measure everything beside other tools, after `make peers` (ARGS="--quick", "--only drain", "--help")
	@$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.installed ## write the generated pages anew (docs/settings.md, docs/faults.md)
	$(BIN)/python -m docs.generate

lock: ## resolve the dependencies again, with hashes and without registry addresses
	$(PYTHON) -m venv .lock-venv && .lock-venv/bin/pip install --quiet uv
	PATH="$(CURDIR)/.lock-venv/bin:$$PATH" sh requirements/lock.sh

clean: ## remove the environment and every cache (not .postroom, which holds data)
	rm -rf $(VENV) .lock-venv .peers .bench build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.installed: requirements/run.txt pyproject.toml
	@echo "Installing Postroom into $(VENV) (once; a few seconds) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Postroom needs Python 3.11 or newer; set PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements/run.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed requirements/test.txt
	@$(PIP) -r requirements/test.txt
	@touch $@
