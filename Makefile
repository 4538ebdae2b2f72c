# Start with `make demo` or `make test`. Every target installs what it needs first.
PYTHON ?= python3
WORKDIR ?= runs/digits
JOBS ?= 2
VENV := .venv
CONSTRAINTS := constraints.txt
# The newest JAX needs Python >= 3.12; pyenv may have one that is not the default.
PYTHON_NEWEST ?= $(or $(wildcard $(shell pyenv prefix 3.12 2>/dev/null)/bin/python),python3.12)
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs

.PHONY: install demo test test-default test-smoke test-slow test-versions docs clean

install: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bap_jax needs Python >= 3.11; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[test]'
	touch $@

demo: install
	$(RUN) -m bap_jax.main --config=experiments/digits.py --workdir=$(WORKDIR) --config.method=nft
	$(RUN) -m bap_jax.main --config=experiments/digits.py --workdir=$(WORKDIR) --config.method=ceag
	$(RUN) -m bap_jax.compare $(WORKDIR) --out=$(WORKDIR)/compare.html

test: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m basedpyright
	$(MAKE) --no-print-directory test-default

test-default: install
	$(RUN) -m pytest -n $(JOBS) --dist loadscope

test-smoke: install
	$(RUN) -m pytest -m smoke -n $(JOBS) --dist loadgroup

test-slow: install
	BAP_OPTIMIZED=1 $(RUN) -m pytest -m slow -n $(JOBS) --dist loadgroup

# The default tests with the oldest and the newest releases that pyproject.toml allows.
test-versions:
	$(MAKE) --no-print-directory test-default VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt
	$(MAKE) --no-print-directory test-default VENV=.venv-newest PYTHON=$(PYTHON_NEWEST)

# -E reads every page anew: a page that is not read again would not warn again.
docs: $(DOCS_STAMP)
	$(RUN) -m sphinx -b html -E -W --keep-going -q -d docs/_build/doctrees docs docs/_build/html
	@echo "documentation: docs/_build/html/index.html"

$(DOCS_STAMP): $(STAMP)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest runs docs/_build docs/notebooks docs/project
