# make demo   the whole idea on simulated LSST coadds: demo/report.html
# make test   lint, types and the test suite
# make docs   the documentation, in doc/_build/html
# make clean  remove the virtual environment and the demo
#
# Both install the pinned requirements.lock into .venv first, once. Choose the
# interpreter with PYTHON=python3.12 and the environment's place with VENV=.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTS ?=

.PHONY: demo test docs clean

demo: $(INSTALLED)
	$(BIN)/residualdetect demo --out demo

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 $(TESTS)

docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .[docs]
	$(BIN)/python -m sphinx -q -W --keep-going -b html doc doc/_build/html

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "meas_residualdetect needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) -V 2>&1)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

clean:
	rm -rf $(VENV) demo doc/_build doc/api
