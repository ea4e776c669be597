# `make run` and `make test` need only Python 3.11+, make and a network. `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
PAGE := gateway/static/index.html
IMAGE ?= gpu-telemetry-pipeline
TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
PROCESSES := queue collector streamer gateway alerts

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: all
all: check test web ## Everything that CI does

# --- the virtualenv -------------------------------------------------------------------------------

# pip is the last that comes into a virtualenv: one that was left half made is made again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "This Python cannot make virtualenvs; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(BIN)/pip
	@echo "Installing what the pipeline needs into $(VENV) …"
	@$(PIP) install --require-hashes -r requirements/runtime.txt || \
		{ echo "The first run needs a network that reaches the package index; see pip's words above" >&2; exit 1; }
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	@echo "Installing what the tests need into $(VENV) …"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

.PHONY: dev
dev: $(VENV)/.dev ## Make the virtualenv for development, with the git hooks
	@git rev-parse --git-dir >/dev/null 2>&1 && $(BIN)/pre-commit install || true

.PHONY: lock
lock: $(VENV)/.dev ## Pin the newest versions of all dependencies again
	@$(BIN)/python scripts/lock.py

# --- run ------------------------------------------------------------------------------------------

$(PAGE): $(shell find web/src web/public -type f 2>/dev/null) web/package-lock.json web/index.html web/vite.config.ts | $(VENV)/.runtime
	@echo "Building the dashboard …"
	@$(BIN)/python scripts/npm.py --prefix web ci --no-audit --no-fund --loglevel=error
	@$(BIN)/python scripts/npm.py --prefix web run build --silent
	@touch $@

.PHONY: web
web: $(PAGE) ## Build the dashboard

.PHONY: run
run: $(VENV)/.runtime $(PAGE) ## Start the whole pipeline on the sample, dashboard on http://127.0.0.1:8080
	@$(BIN)/telemetry up $(ARGS)

# --- check ----------------------------------------------------------------------------------------

.PHONY: test
test: $(VENV)/.dev $(PAGE) ## Run all tests
	@scripts/browser.sh
	@scripts/servers.sh
	@$(BIN)/python scripts/npm.py --prefix web test --silent
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: soak
soak: $(VENV)/.dev $(PAGE) ## Run the same tests in longer rounds
	@TELEMETRY_TEST_ROUNDS=20 $(BIN)/python -m pytest --timeout=3600 -m "not once" $(ARGS)

.PHONY: simulate
simulate: $(VENV)/.dev ## Run the queue in a simulation of all that can go wrong, for many seeds; ARGS="--seeds N"
	@$(BIN)/python -m tests.simulation $(ARGS)

.PHONY: check
check: $(VENV)/.dev ## Verify style, types, import contracts, stubs and protos; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate_stubs.py --check
	$(BIN)/python scripts/generate_docs.py --check
	$(BIN)/python scripts/document_metrics.py --check
	$(BIN)/python scripts/document_values.py --check
	$(BIN)/python scripts/lint_protos.py
	$(BIN)/python scripts/npm.py --prefix web ci --no-audit --no-fund --loglevel=error
	$(BIN)/python scripts/npm.py --prefix web run check --silent
	$(BIN)/python scripts/npm.py --prefix web run check:workflows --silent

.PHONY: lint
lint: $(VENV)/.dev ## Mend what can be mended: format, sort imports, simple fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: protos
protos: $(VENV)/.dev ## Generate the stubs from protos/
	$(BIN)/python scripts/generate_stubs.py

.PHONY: docs
docs: $(VENV)/.dev ## Generate the parts of docs/ that come from the code
	$(BIN)/python scripts/generate_docs.py
	$(BIN)/python scripts/document_metrics.py
	$(BIN)/python scripts/document_values.py
	$(BIN)/telemetry alerts export > helm/telemetry-pipeline/rules/gpu.rules.yaml

$(VENV)/.docs: requirements/docs.txt $(VENV)/.runtime
	@$(PIP) install --require-hashes -r requirements/docs.txt
	@touch $@

.PHONY: docs-site
docs-site: $(VENV)/.docs ## Build the docs as a site into site/; a link that leads nowhere fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

.PHONY: audit
audit: $(VENV)/.dev ## Look for known vulnerabilities in what is pinned
	@$(BIN)/python scripts/audit.py

.PHONY: wheel
wheel: $(VENV)/.dev $(PAGE) ## Build the wheel and the source distribution, dashboard included, into dist/
	$(BIN)/uv build --no-build-isolation --python $(BIN)/python --out-dir dist

.PHONY: coverage
coverage: $(VENV)/.dev $(PAGE) ## Run the Python tests and report coverage in htmlcov/
	@$(BIN)/python -m pytest --cov --cov-report=term --cov-report=html $(ARGS)

.PHONY: bench
bench: $(VENV)/.runtime $(VENV)/.dev ## Measure the way from CSV to stored and queryable
	@$(BIN)/python -m benchmarks.pipeline $(ARGS)

.PHONY: bench-queue
bench-queue: $(VENV)/.runtime $(VENV)/.dev ## Measure the queue next to Redis Streams and NATS JetStream
	@$(BIN)/python -m benchmarks.queue $(ARGS)

.PHONY: bench-store
bench-store: $(VENV)/.runtime $(VENV)/.dev ## Measure the store next to Prometheus, VictoriaMetrics and SQLite
	@scripts/servers.sh
	@$(BIN)/python -m benchmarks.store $(ARGS)

.PHONY: bench-backlog
bench-backlog: $(VENV)/.runtime $(VENV)/.dev ## Measure a collector's memory while it works through a backlog of 1 GB
	@$(BIN)/python -m benchmarks.backlog $(ARGS)

.PHONY: bench-alerts
bench-alerts: $(VENV)/.runtime $(VENV)/.dev ## Measure what alert rules cost, and how soon an alert is told
	@$(BIN)/python -m benchmarks.alerts $(ARGS)

.PHONY: bench-api
bench-api: $(VENV)/.runtime $(VENV)/.dev ## Measure the REST API next to a bare route on the same server
	@$(BIN)/python -m benchmarks.api $(ARGS)

# --- deploy ---------------------------------------------------------------------------------------

.PHONY: docker-build
docker-build: ## Build the images
	for target in $(PROCESSES); do \
		docker build --file deploy/docker/Dockerfile --target $$target --tag $(IMAGE)-$$target:$(TAG) \
			--build-arg VERSION=$(TAG) --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null) . || exit 1; done

.PHONY: docker-push
docker-push: ## Push the images; IMAGE names the registry and repository
	for target in $(PROCESSES); do docker push $(IMAGE)-$$target:$(TAG) || exit 1; done

.PHONY: helm-install
helm-install: ## Install or upgrade the chart in the current Kubernetes context
	helm upgrade --install telemetry-pipeline helm/telemetry-pipeline $(ARGS)

.PHONY: clean
clean: ## Remove what was built; data/ stays
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis htmlcov .coverage* \
		build dist site *.egg-info gateway/static web/node_modules
