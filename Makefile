# Works with GNU Make 3.81 and later. Variables: PORT, WORKSPACE, PYTHON, VENV, CONSTRAINTS (a pip constraints file), ARGS (for run, test, bench).

VENV ?= .venv
PYTHON ?=
CONSTRAINTS ?=
PORT ?=
WORKSPACE ?=
ARGS ?=

PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check $(if $(CONSTRAINTS),--constraint "$(CONSTRAINTS)")

# A stamp's name holds the checksum of what it stands for: unchanged requirements are never installed twice.
RUN_FILES := requirements.txt requirements-embedded.txt $(CONSTRAINTS)
RUN_STAMP := $(VENV)/.installed-run-$(shell cat $(RUN_FILES) | cksum | tr ' ' '-')
DEV_STAMP := $(VENV)/.installed-dev-$(shell cat $(RUN_FILES) requirements-dev.txt requirements-login.txt | cksum | tr ' ' '-')

.PHONY: help run setup test check format bench clean

help:
	@echo "make run     set everything up (once) and open the dashboard"
	@echo "make test    all tests; those that drive a browser are skipped when no Chromium is found"
	@echo "make check   lint, format and types"
	@echo "make format  rewrite files in the project's format"
	@echo "make bench   measure speed and print a table"
	@echo "make clean   remove the virtual environment and tool caches; your workspace stays"

run: $(RUN_STAMP)
	@exec $(PY) -m core serve $(if $(PORT),--port "$(PORT)") $(if $(WORKSPACE),--workspace "$(WORKSPACE)") $(ARGS)

setup: $(RUN_STAMP)

test: $(DEV_STAMP)
	$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

check: $(DEV_STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --project pyproject.toml --pythonpath $(PY)

format: $(DEV_STAMP)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(DEV_STAMP)
	$(PY) -m bench $(ARGS)

clean:
	rm -rf "$(VENV)" .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './data/*' -prune -exec rm -rf {} +

$(RUN_STAMP): | $(PY)
	@echo "Installing the packages (once; a few minutes)..."
	@$(PIP) -r requirements.txt
	@$(PIP) --quiet --no-deps -r requirements-embedded.txt
	@rm -f "$(VENV)"/.installed-run-*
	@touch "$@"

$(DEV_STAMP): $(RUN_STAMP) | $(PY)
	@echo "Installing the tools for the checks (once)..."
	@$(PIP) --quiet -r requirements-dev.txt
	@rm -f "$(VENV)"/.installed-dev-*
	@touch "$@"

# The newest Python found, from 3.11 on. PYTHON=path chooses another.
$(PY):
	@chosen=; unusable=; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3.14 python3.13 python3.12 python3.11 python3 python); do \
	  command -v "$$candidate" >/dev/null 2>&1 || continue; \
	  "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	  if "$$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then chosen=$$candidate; break; else unusable=$$candidate; fi; \
	done; \
	if [ -z "$$chosen" ] && [ -n "$$unusable" ]; then \
	  echo "$$unusable cannot make virtual environments: install its venv package (on Debian and Ubuntu: apt install python3-venv), then run make again." >&2; exit 1; fi; \
	if [ -z "$$chosen" ]; then \
	  echo "Neuron Atlas needs Python 3.11 or newer and found none: install one, or name it with make run PYTHON=/path/to/python3." >&2; exit 1; fi; \
	echo "Making $(VENV) with $$("$$chosen" --version)"; \
	"$$chosen" -m venv --clear "$(VENV)"
