# make demo        the whole idea on simulated LSST coadds: demo/report.html
# make test        lint, types and the test suite
# make test-slow   the tests that take longer than 20 seconds
# make test-stack  those that need the Science Pipelines, in their environment
# make test-train  those that need Detectron2, in an environment that has it
# make coverage    what make test covers: lines and branches, at least 90 %
# make docs        the documentation, in doc/_build/html
# make results     every number and figure of the documentation (hours; SCENES=4 for fewer
#                  scenes, ONLY="comparison skies" for some, BLENDS=folder of real blends)
# make clean       remove the virtual environment and the demo
#
# They install the pinned requirements.lock into .venv first, once. Choose the
# interpreter with PYTHON=python3.12 and the environment's place with VENV=.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTS ?=
# Where stack and train are not, their tests skip with the reason.
QUICK := -n 2 -m "not slow"
# pytest ends with 5 if there was nothing to run.
OR_NONE := || [ $$? -eq 5 ]
SCENES ?= 30
BLENDS ?=
ONLY ?=

.PHONY: demo test test-slow test-stack test-train coverage docs results clean

demo: $(INSTALLED)
	$(BIN)/residualdetect demo --out demo

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(QUICK) $(TESTS)

test-slow: $(INSTALLED)
	$(BIN)/pytest -m slow $(TESTS)

test-stack:
	$(PYTHON) -m pytest -m stack $(TESTS) $(OR_NONE)

test-train:
	$(PYTHON) -m pytest -m train $(TESTS) $(OR_NONE)

coverage: $(INSTALLED)
	$(BIN)/pytest $(QUICK) --cov --cov-report=term:skip-covered --cov-fail-under=90 $(TESTS)

docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	$(BIN)/python -m sphinx -q -W --keep-going -b html doc doc/_build/html

results: $(INSTALLED)
	$(BIN)/python benchmarks/results.py $(ONLY) --scenes $(SCENES) $(if $(BLENDS),--blends $(BLENDS))

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "meas_residualdetect needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) -V 2>&1)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

clean:
	rm -rf $(VENV) demo doc/_build doc/api
