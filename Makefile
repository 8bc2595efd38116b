# make sweep         install into .venv and run the built-in sweep
# make test          what CI runs: make check, and the tests
# make test-all      in addition, tests that take long and rarely fail: when an issue is closed, and before a release
# make check         ruff and mypy, which the pre-commit hooks run as well
# make docs          the API reference, built from the docstrings into build/api
# make cluster-test  a cluster of hosts on this machine, from `ray up` to `ray down` (as root; it names the packages it needs)
# make slurm-test  a SLURM of three hosts on this machine: cancelled, requeued, a node killed (as root; it names the packages)
# make faults        inject every fault into real sweeps
# make audit         look up known vulnerabilities of the packages in constraints.txt
# make lock          write constraints.txt again from what is installed
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: sweep test test-all check docs cluster-test slurm-test faults audit install lock clean
sweep: install
	$(BIN)/python -m bias_transfer.sweep

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: check
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not faults'

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# pdoc imports every module; one of their dependencies asks `uname` for the kind of machine, which pdoc has to allow.
docs: install
	PDOC_ALLOW_EXEC=1 $(BIN)/python -m pdoc --output-directory build/api bias_transfer analysis
	@echo "API reference: build/api/index.html"

cluster-test: $(VENV)/.cluster
	$(BIN)/python tests/cluster/run.py

slurm-test: $(VENV)/.cluster
	$(BIN)/python tests/slurm/run.py

faults: $(VENV)/.cluster
	$(BIN)/python -m pytest tests/faults -m faults -v --fault-table

audit:
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet pip-audit
	build/audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/.cluster: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,cluster]'
	touch $@

# Torch's local build tag (+cpu, +cu130) is left out of constraints.txt, so that the same file installs a CUDA build on a
# machine with a GPU.
lock: $(VENV)/.cluster
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' > constraints.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
