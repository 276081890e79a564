# `make demo` and `make test` do everything from a fresh clone: environment, installation, run. Both may be repeated.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint format parity bench clean

demo: $(VENV)/installed
	$(BIN)/posterior demo

test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# PHOTOS is the folder of test photographs, with the subfolders cid22_val, clic2025, set14 and bsd100
PHOTOS ?= ../shared/data/photos_test
bench: $(VENV)/installed
	$(BIN)/python -m benchmarks.photos --photos $(PHOTOS)

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "posterior needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,demo]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info demo-report .pytest_cache .mypy_cache .ruff_cache
