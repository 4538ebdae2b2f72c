# Two commands for a stranger: `make demo` and `make test`. Both install first.
PYTHON ?= python3
WORKDIR ?= runs/digits
JOBS ?= 2
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: install demo test test-smoke test-slow clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bap_jax needs Python >= 3.11; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: install
	$(RUN) -m bap_jax.main --config=experiments/digits.py --workdir=$(WORKDIR) --config.method=nft
	$(RUN) -m bap_jax.main --config=experiments/digits.py --workdir=$(WORKDIR) --config.method=ceag

test: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest -n $(JOBS) --dist loadscope

test-smoke: install
	$(RUN) -m pytest -m smoke -n $(JOBS) --dist loadgroup

test-slow: install
	BAP_OPTIMIZED=1 $(RUN) -m pytest -m slow

clean:
	rm -rf $(VENV) runs
