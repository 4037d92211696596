# Needs Python 3.11 or newer with venv and pip, and make; nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DRAWING := $(VENV)/.drawing
DRIVING := $(VENV)/.driving
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help

# Where it is set, each of the hundreds of processes that tests and benchmarks start would compile
# all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --no-build-isolation: pip would fetch a build backend of its own, without hashes.
# The stamp comes last, so that an install that broke half-way is made again.
$(STAMP): requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "AgentFlow needs Python 3.11 or newer, and there is no $(PYTHON). Name one: make PYTHON=python3.13"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("AgentFlow needs Python 3.11 or newer, and $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.13" % v[:2])'
	@echo "Making $(VENV) with $$($(PYTHON) --version), once; what it holds takes a minute or two ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r requirements.txt
	@echo "Installing AgentFlow itself ..."
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# What draws the charts; the tests do without.
$(DRAWING): $(STAMP) requirements-bench.txt
	@$(PIP) install --require-hashes -r requirements-bench.txt
	@touch $@

# What drives a browser; only the tests of the page need it.
$(DRIVING): $(STAMP) requirements-web.txt
	@$(PIP) install --require-hashes -r requirements-web.txt
	@touch $@

.PHONY: demo
demo: $(STAMP) ## Run the example tasks on a local stack, with simulated answers
	$(BIN)/agentflow run examples/prompts.jsonl --simulate

.PHONY: test
test: $(STAMP) ## Run every test
	$(BIN)/python -m pytest -n auto --dist worksteal --ignore tests/deploy

.PHONY: test-deploy
test-deploy: $(STAMP) ## Test the helm chart and the plain manifests (builds helm, with go)
	@tools/install-helm
	AGENTFLOW_REQUIRE_TOOLS=helm $(BIN)/python -m pytest tests/deploy

.PHONY: test-web
test-web: $(DRIVING) tools ## Judge HTTP with what others wrote, and drive the web page in Chromium
	$(BIN)/python -m pytest --long -m long -n auto tests/gateway
	$(BIN)/python -m pytest --web -n 2 tests/web

SECONDS ?= 600
SEED ?=

.PHONY: faults
faults: $(STAMP) ## Run the fault tests at full scale, with the default lease
	$(BIN)/python -m pytest --long tests/faults tests/unit/test_batch_model.py \
		tests/cli/test_run_half_in_batches.py tests/cli/test_run_jobs.py \
		tests/cli/test_run_through_all.py tests/integration/test_docs_blocks.py \
		tests/integration/test_gates.py tests/integration/test_wheel.py

.PHONY: chaos
chaos: $(STAMP) ## Break everything at random under load (SECONDS=600 SEED=...)
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

.PHONY: soak
soak: $(STAMP) ## 300 tasks/s for half an hour: memory, streams, latency (MINUTES=30)
	$(BIN)/python -m bench soak --minutes $(or $(MINUTES),30)

.PHONY: check
check: $(STAMP) ## Lint, format, types (the page's too) and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@tools/check-page

# make bench BENCH=--quick is the short one. It runs alone: a busy machine is refused.
.PHONY: bench
bench: $(DRAWING) tools ## Compare worker designs on 1000 simulated tasks (40 min; BENCH=--quick: 3)
	@bench/workers/install
	$(BIN)/python -m bench compare $(BENCH)
	$(BIN)/python -m bench report $(BENCH)

.PHONY: screenshots
screenshots: $(STAMP) ## Take the dashboard's pictures for the README again
	$(BIN)/python -m tools.screenshots

.PHONY: web-pictures
web-pictures: $(DRIVING) ## Take the web page's pictures for docs/web.md again
	$(BIN)/python -m tools.webpictures

.PHONY: tools
tools: ## Install the nats CLI (go), the Node SDK and Claude CLI (npm), schemathesis, into .tools
	@tools/install

.PHONY: release
release: $(STAMP) ## Build both distributions twice, compare, check, list what is in them, sign
	@tools/release

.PHONY: lock
lock: ## Write the hashed requirements files again
	tools/lock

.PHONY: clean
clean: ## Remove what make made
	rm -rf $(VENV) .bench .tools build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
