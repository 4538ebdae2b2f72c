# Start with `make demo` or `make test`. Every target installs what it needs first.
PYTHON ?= python3
WORKDIR ?= runs/digits
JOBS ?= 2
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs

.PHONY: install demo test test-smoke test-slow docs clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bap_jax needs Python >= 3.11; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: install
	$(RUN) -m bap_jax.main --config=experiments/digits.py --workdir=$(WORKDIR) --config.method=nft
	$(RUN) -m bap_jax.main --config=experiments/digits.py --workdir=$(WORKDIR) --config.method=ceag
	$(RUN) -m bap_jax.compare $(WORKDIR) --out=$(WORKDIR)/compare.html

test: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m basedpyright
	$(RUN) -m pytest -n $(JOBS) --dist loadscope

test-smoke: install
	$(RUN) -m pytest -m smoke -n $(JOBS) --dist loadgroup

test-slow: install
	BAP_OPTIMIZED=1 $(RUN) -m pytest -m slow -n $(JOBS) --dist loadgroup

# -E reads every page anew: a page that is not read again would not warn again.
docs: $(DOCS_STAMP)
	$(RUN) -m sphinx -b html -E -W --keep-going -q -d docs/_build/doctrees docs docs/_build/html
	@echo "documentation: docs/_build/html/index.html"

$(DOCS_STAMP): $(STAMP)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) runs docs/_build docs/notebooks docs/project
