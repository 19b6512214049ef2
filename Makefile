# make app    set up on first use, then run the app, its lab and one worker per device
# make test   set up with the test tools, then run the tests; PYTEST_ADDOPTS='-m ""' adds the slow ones
# make check  ruff, mypy and the tests

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Without an NVIDIA GPU torch's CPU build is enough: 190 MB instead of several GB.
TORCH_INDEX ?= $(if $(shell nvidia-smi -L 2>/dev/null),,--extra-index-url https://download.pytorch.org/whl/cpu)
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt
# Every test's torch has one thread, so two processes fill two cores: a file in one of them, the browser tests first.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: app test check
.DELETE_ON_ERROR:

app: $(VENV)/app.stamp
	$(BIN)/stillroom up

test: $(VENV)/test.stamp
	$(PYTEST)

check: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

$(VENV)/app.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Stillroom needs Python 3.11 or newer: make PYTHON=python3.11 app")'
	@echo "Setting up $(VENV) with the tested set; the first time this takes a few minutes."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) $(TORCH_INDEX) torch==2.13.0
	$(INSTALL) -e .
	touch $@

$(VENV)/test.stamp: $(VENV)/app.stamp
	$(INSTALL) -e '.[test]'
	touch $@
