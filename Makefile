# demo and test work on a fresh machine: they make .venv themselves, from pinned and hashed packages.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
AGENTS := .agents
NODE_VERSION := 22.23.3
CLAUDE_VERSION := 2.1.329
FOLDERS := agentgov ledger rollback gates report harness cli tests bench

.DEFAULT_GOAL := help
.PHONY: help demo test check test-agents bench agents constraints clean
.SUFFIXES:

help:
	@echo "make demo         the whole story in a throwaway repository, without a network"
	@echo "make test         all tests that need no agent"
	@echo "make check        format, lint, types, contents of the wheel"
	@echo "make test-agents  drive real agents against a scripted model server (needs npm once)"
	@echo "make bench        measure, and print the figures of docs/performance.md (BENCH_QUICK=1: roughly)"

$(STAMP): constraints.txt pyproject.toml
	@set -eu; \
	for python in "$(PYTHON)" python3.13 python3.12 python3.11 none; do \
		if [ "$$python" = none ]; then \
			echo "error: agentgov needs Python 3.11 or later; say which: make PYTHON=/path/to/python3.11" >&2; \
			exit 1; \
		fi; \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
	done; \
	if ! "$(BIN)/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "making $(VENV) with $$("$$python" -V)"; \
		rm -rf "$(VENV)"; "$$python" -m venv "$(VENV)" || { \
			echo "error: $$python cannot make a virtual environment (Debian: apt install python3-venv)" >&2; \
			exit 1; \
		}; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/agentgov demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 -q -m "not agents" tests

check: $(STAMP)
	$(BIN)/ruff format --check $(wildcard $(FOLDERS))
	$(BIN)/ruff check $(wildcard $(FOLDERS))
	$(BIN)/mypy .types/agentgov tests $(if $(wildcard bench/*.py),bench)
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/unit/test_packaging.py tests/unit/test_layers.py

# A folder of its own, exact versions: nothing of the user's node installation is changed.
agents: $(AGENTS)/node_modules/.bin/claude

$(AGENTS)/node_modules/.bin/claude:
	@command -v npm >/dev/null || { echo "error: npm is missing, so no agent can be installed" >&2; exit 1; }
	mkdir -p $(AGENTS)
	npm install --prefix $(AGENTS) --no-audit --no-fund --save-exact --loglevel=error \
		node@$(NODE_VERSION) @anthropic-ai/claude-code@$(CLAUDE_VERSION)

test-agents: $(STAMP) agents
	$(BIN)/python -m pytest -q -m agents tests/agents

bench: $(STAMP)
	@set -eu; for bench in append hooks recorder redaction search snapshots startup storage verify; do \
		echo "== bench/$$bench.py"; $(BIN)/python -m "bench.$$bench"; \
	done

constraints:
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --generate-hashes --no-header --no-emit-options --no-emit-index-url \
		--no-emit-find-links --strip-extras --all-extras --all-build-deps --allow-unsafe \
		--output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
