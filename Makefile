# make train: sets up .venv, then trains the embedded sequence.   make test: the same environment, the tests.
# Paths are relative, so that a checkout may lie in a folder whose name has a space.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# What is installed: exact (constraints.txt), or the lowest or the newest that pyproject.toml allows; `make clean` in between.
VERSIONS ?= exact
INSTALL_exact = $(BIN)/python -m pip install --progress-bar off --constraint constraints.txt
INSTALL_newest = $(BIN)/python -m pip install --progress-bar off
INSTALL_lowest = $(BIN)/python -m pip install --quiet uv && $(BIN)/uv pip install --python $(BIN)/python --resolution lowest-direct

.PHONY: train test test-rest test-all coverage notebooks embedded far beyond beyond-far beyond-eight matrix soak bench bench-check site lint types check clean

train: $(INSTALLED)
	$(BIN)/packnet-train

# Every promise; then what is marked `exhaustive`: the same over more networks, optimizers, strategies and instants.
PYTEST := -m pytest -n 2 --dist loadfile
test: $(INSTALLED)
	$(BIN)/python $(PYTEST) -m "not exhaustive and not soak"

test-rest: $(INSTALLED)
	$(BIN)/python $(PYTEST) -m "exhaustive and not soak"

test-all: test test-rest

# Which lines the tests run, with those that the commands run in processes of their own.
coverage: $(INSTALLED)
	$(BIN)/coverage erase
	$(BIN)/coverage run $(PYTEST) -m "not exhaustive and not soak"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Executes notebooks/, and holds what they print against the outputs that they come with; WRITE=1 writes new ones.
WRITE ?=
notebooks: $(INSTALLED)
	$(BIN)/python notebooks/run.py $(if $(WRITE),--write)

# The embedded benchmark: every method on one sequence, two at a time, then the table. SEEDS=0,1,2 for mean and spread.
SEEDS ?= 0
METHODS := individual classifier_only finetune lwf lwf_frozen joint packnet_50 packnet_75 packnet_75_norms \
	packnet_75_global packnet_75_global_norms packnet_90_global_norms
empty :=
comma := ,
EMBEDDED = OMP_NUM_THREADS=1 $(BIN)/packnet-train -m hydra/launcher=joblib hydra.launcher.n_jobs=2 logger=none \
	sweep.share=true seed=$(SEEDS) hydra.sweep.dir=runs/$@ \
	experiment=$(subst $(empty) $(empty),$(comma),$(METHODS:%=embedded/%))

embedded: $(INSTALLED)
	$(EMBEDDED)
	$(BIN)/packnet-report runs/$@

# The same on tasks whose domains differ.
far: $(INSTALLED)
	$(EMBEDDED) sequence=far
	$(BIN)/packnet-report runs/$@

# What goes beyond the paper, beside individual networks: on the default sequence, on far, and on one of eight tasks.
BEYOND := individual individual_distilled packnet_75 packnet_90_global_norms packnet_90_masks packnet_90_distilled \
	best_same_width best individual_wide packnet_90_gradual packnet_90_learned packnet_90_taylor
beyond: METHODS := $(BEYOND)
beyond: $(INSTALLED)
	$(EMBEDDED)
	$(BIN)/packnet-report runs/$@

beyond-far beyond-eight: METHODS := $(BEYOND)
beyond-far beyond-eight: $(INSTALLED)
	$(EMBEDDED) sequence=$(@:beyond-%=%)
	$(BIN)/packnet-report runs/$@

# Runs what the promise is tested under, and writes docs/promise.md from the outcomes.
matrix: $(INSTALLED)
	$(BIN)/python $(PYTEST) tests/promise --write-matrix

soak: $(INSTALLED)
	$(BIN)/python -m pytest -m soak

# What packing costs, in benchmarks/speed.json; and whether any of it has become 15 % worse. ROWS="prune step" for some.
ROWS ?=
SPEED = $(BIN)/python benchmarks/speed.py $(if $(ROWS),--rows $(ROWS))
bench: $(INSTALLED)
	$(SPEED)

bench-check: $(INSTALLED)
	$(SPEED) --check

# The documentation as pages, in build/site. The variable silences what the theme prints of itself.
site: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

check: lint types test-all

clean:
	rm -rf .venv build *.egg-info src/*.egg-info

# Made anew when what is to be installed changes.
$(INSTALLED): pyproject.toml setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "packnet_pl needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(or $(INSTALL_$(VERSIONS)),$(error VERSIONS=$(VERSIONS): allowed are exact, lowest and newest)) --editable '.[dev]'
	touch $(INSTALLED)
