# make demo  - set everything up and fuse the sample study
# make test  - the same set-up with the test tools, then all tests
# make quick - the same set-up, then fast tests of every room (under 90 s on two cores)
# make fuzz  - feed mutated files to the readers for MINUTES=5
# make docs  - build the documentation in site/ (strict: a broken link stops it)
# make floors - the quick tests with the lowest versions that pyproject.toml allows
# make panel-bindings - the tests of the panel with the oldest and the newest napari, and with PySide6
# make bench - print the benchmarks (speed and memory, registration)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test quick floors panel-bindings fuzz bench lint docs packages clean

demo: $(VENV)/.demo
	$(BIN)/medfuse batch sample_data/study --out demo_out
	@echo
	@echo "Open demo_out/study.html in a browser; each case has its own report.html beside its volumes."

WORKERS ?= 2
test: $(VENV)/.test packages
	.ci/with-display $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

quick: $(VENV)/.test packages
	.ci/with-display $(BIN)/python -m pytest -m quick

floors: $(VENV)/.test
	$(PIP) uv
	PATH="$(CURDIR)/$(BIN):$$PATH" UV_INDEX_STRATEGY=unsafe-best-match \
	  UV_EXTRA_INDEX_URL=$${UV_EXTRA_INDEX_URL-https://download.pytorch.org/whl/cpu} \
	  $(BIN)/python tools/floors.py

BINDINGS ?=
panel-bindings: $(VENV)/.test packages
	.ci/with-display $(BIN)/python tools/bindings.py $(BINDINGS)

MINUTES ?= 5
fuzz: $(VENV)/.test
	MEDFUSE_FUZZ_MINUTES=$(MINUTES) $(BIN)/python -m pytest --timeout 0 tests/imaging/test_fuzz.py \
	  tests/imaging/test_second_reader.py

bench: $(VENV)/.test
	$(BIN)/python workflows/benchmarks/pipeline.py
	$(BIN)/python workflows/benchmarks/registration.py
	$(BIN)/python workflows/benchmarks/read_back.py
	$(BIN)/python workflows/benchmarks/volume_mode.py

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Open site/index.html in a browser."

lint: $(VENV)/.test
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/mypy

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 1))' || \
	  { echo "medfuse needs Python 3.11.1 or newer; try: make demo PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml constraints.txt
	$(PIP) -e .
	touch $@

$(VENV)/.test: $(VENV)/.python pyproject.toml constraints.txt
	$(PIP) -e '.[test]'
	touch $@ $(VENV)/.demo

$(VENV)/.docs: $(VENV)/.python pyproject.toml constraints.txt
	$(PIP) -e '.[docs]'
	touch $@ $(VENV)/.demo

packages:
	@.ci/qt-packages

clean:
	rm -rf $(VENV) site demo_out demo_out.uid-salt build *.egg-info
