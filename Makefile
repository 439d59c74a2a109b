# The words a newcomer types. `make help` lists them.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/ready
# Where the generated code goes; `check-proto` points it at a scratch folder and compares.
OUT    ?= src
# One worker per core, and four at least, as most tests wait: `make test WORKERS=2` says otherwise.
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 4 ? 4 : n)))
PYTEST := $(BIN)/python -m pytest -q

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all sim torture fuzz audit check check-proto check-types fix bench proto docs clean

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

setup: $(READY) ## create .venv and install everything (quick when nothing changed)

$(READY): pyproject.toml scripts/setup
	@PYTHON="$(PYTHON)" scripts/setup "$(VENV)"

demo: $(READY) ## start a cluster here, train on it, show placement, efficiency and cost, stop it
	@$(BIN)/python examples/demo.py

test: $(READY) ## every test but the slow ones
	$(PYTEST) -n $(WORKERS) -m "not slow and not gpu and not slurm" tests

test-all: $(READY) ## every test that this machine can run
	$(PYTEST) -n $(WORKERS) tests

sim: $(READY) ## simulate faults: SEED=7 replays one seed with its trace, SEEDS=1000 runs many
	@PYTHONPATH=tests $(BIN)/python -m simulation.run $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),300))

torture: $(READY) ## kill, cut off, fill up and set back what runs; hours in full, TRIALS="heads agents" runs some
	@PYTHONPATH=tests $(BIN)/python -m torture $(TRIALS)

fuzz: $(READY) ## bad input of every kind: requests, payloads, giants, swapped files; TRIALS="swaps" runs some
	@PYTHONPATH=tests $(BIN)/python -m fuzz $(TRIALS)

audit: $(READY) ## bandit on the source, pip-audit on what is installed (asks PyPI for advisories)
	$(BIN)/bandit -q -ll -c pyproject.toml -r src
	$(BIN)/pip-audit --skip-editable --strict

check: $(READY) check-types ## lint, format, types, house rules, generated code, links
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory check-proto
	$(PYTEST) -n0 tests/tidy

check-types: $(READY)
	$(BIN)/mypy --strict

check-proto: $(READY)
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(MAKE) --no-print-directory proto OUT="$$scratch" && \
	diff -r -x __pycache__ -x __init__.py "$$scratch/gpusched/v1" src/gpusched/v1 || \
	{ echo "src/gpusched/v1 is not what proto/ generates: run 'make proto' and commit the result"; exit 1; }

fix: $(READY) ## let ruff repair and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(READY) ## generate src/gpusched/v1 from proto/
	@$(BIN)/python -m grpc_tools.protoc -I proto --python_out="$(OUT)" --pyi_out="$(OUT)" proto/gpusched/v1/*.proto
	@$(BIN)/python -m grpc_tools.protoc -I proto --grpc_python_out="$(OUT)" proto/gpusched/v1/*_service.proto

bench: $(READY) ## measure; JSON with commit and machine goes to benchmarks/results
	$(BIN)/python -m benchmarks

docs: $(READY) ## rewrite the generated parts of the documentation
	$(BIN)/python scripts/figures.py
	$(BIN)/python scripts/packing_table.py
	$(BIN)/python -m gpusched.cli.reference > docs/reference/cli.md

clean: ## remove .venv and everything generated
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf src/*.egg-info
