# `make` alone lists the targets. The only needs are make and Python 3.11 or later.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := $(VENV)/.packages
READY := $(VENV)/.ready
# the first Python that is new enough; PYTHON=/path/to/python overrides it
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2])' 2>/dev/null && echo $$python && break; done)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# options of pytest, e.g. make test PYTEST="-k streams"; a file stays on one worker, so its client programs run once
PYTEST ?= -n 2 --dist loadfile
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
CLIENTS := tests/wire/envs

.PHONY: help setup serve mlflow test check bench peers chaos soak eval train-guard prices lock

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY)  ## make .venv from requirements.lock (done once, and again when the lock changes)

# uv, itself out of the lock, installs in seconds; pip does the same in minutes where uv cannot (a mirror only pip knows)
$(PACKAGES): requirements.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed and none was found (Debian: apt-get install python3 python3-venv)." >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment (Debian: apt-get install python3-venv)." >&2; exit 1; }
	@awk '/^[^ ]/ { mine = /^uv==/ } mine' requirements.lock > $(VENV)/uv.lock
	$(PIP) --require-hashes --requirement $(VENV)/uv.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes --requirement requirements.lock \
		|| $(PIP) --no-deps --require-hashes --requirement requirements.lock
	@touch $@

$(READY): $(PACKAGES) pyproject.toml
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

serve: setup  ## start the gateway on http://127.0.0.1:8000 (ARGS="--config lockgate.yaml" passes options)
	@exec $(BIN)/lockgate serve $(ARGS)

mlflow: setup  ## open MLflow on the local store: http://127.0.0.1:5001 (ARGS="--port 5002" passes options)
	@exec $(BIN)/lockgate mlflow $(ARGS)

test: setup  ## run the tests; the last lines are pytest's summary
	@$(BIN)/python -m pytest $(PYTEST)

check: setup  ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## measure against the controls of the same run (minutes; wants an idle machine)
	$(BIN)/python bench/run.py $(if $(PART),--part $(PART)) $(if $(ROUNDS),--rounds $(ROUNDS))

peers: setup  ## measure beside the LiteLLM proxy and Portkey's gateway, from their packages (minutes; idle machine)
	PYTHONPATH=tests/wire $(BIN)/python bench/peers.py $(if $(ROUNDS),--rounds $(ROUNDS))

chaos: setup  ## kill providers under 200 clients and judge what they saw (minutes)
	@PYTHONPATH=tests $(BIN)/python tests/chaos/storm.py

soak: setup  ## every policy under every kind of caller for MINUTES=20; nothing may grow
	@PYTHONPATH=tests:tests/chaos $(BIN)/python tests/chaos/soak.py $(if $(MINUTES),--minutes $(MINUTES))

eval: setup  ## measure guards and semantic cache on the data folder named by LOCKGATE_DATA (absent: says so)
	@PYTHONPATH=. $(BIN)/python tests/eval/guards.py
	@PYTHONPATH=. $(BIN)/python tests/eval/cache.py

train-guard: setup  ## train the injection classifier anew from LOCKGATE_DATA and our own texts (about a minute)
	@$(PIP) --editable '.[train]'
	@$(BIN)/python -m policies.guards.train

prices: setup  ## make the table of prices anew from the installed litellm (no network)
	$(BIN)/python tools/prices.py

lock: setup  ## resolve every lock file anew, with hashes and without index addresses
	$(COMPILE) --upgrade --extra dev pyproject.toml --output-file requirements.lock
	$(COMPILE) --no-annotate --constraint requirements.lock pyproject.toml --output-file deploy/requirements.lock
	set -e; for name in openai2 openai3 langchain llamaindex node stack; do \
		$(COMPILE) --no-annotate --upgrade $(CLIENTS)/$$name/requirements.in --output-file $(CLIENTS)/$$name/requirements.lock; done
	$(COMPILE) --no-annotate --upgrade bench/envs/peers/requirements.in --output-file bench/envs/peers/requirements.lock
	for folder in $(CLIENTS)/node bench/envs/peers; do \
		npm --prefix $$folder update --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved=true; done
