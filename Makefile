# make train: sets up .venv, then trains the embedded sequence.   make test: the same environment, the whole test suite.
# Paths are relative, so that a checkout may lie in a folder whose name has a space.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# What is installed: exact (constraints.txt), or the lowest or the newest that pyproject.toml allows; `make clean` in between.
VERSIONS ?= exact
INSTALL_exact = $(BIN)/python -m pip install --progress-bar off --constraint constraints.txt
INSTALL_newest = $(BIN)/python -m pip install --progress-bar off
INSTALL_lowest = $(BIN)/python -m pip install --quiet uv && $(BIN)/uv pip install --python $(BIN)/python --resolution lowest-direct

.PHONY: train test embedded far matrix soak lint types check clean

train: $(INSTALLED)
	$(BIN)/packnet-train

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not soak"

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

# Runs what the promise is tested under, and writes docs/promise.md from the outcomes.
matrix: $(INSTALLED)
	$(BIN)/python -m pytest tests/promise -n 2 --dist loadfile --write-matrix

soak: $(INSTALLED)
	$(BIN)/python -m pytest -m soak

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf .venv build *.egg-info src/*.egg-info

# Made anew when what is to be installed changes.
$(INSTALLED): pyproject.toml setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "packnet_pl needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(or $(INSTALL_$(VERSIONS)),$(error VERSIONS=$(VERSIONS): allowed are exact, lowest and newest)) --editable '.[dev]'
	touch $(INSTALLED)
