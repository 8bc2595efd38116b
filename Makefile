# make sweep: install and run the embedded default. make test: what CI runs. make cluster-test: a cluster of hosts on this
# machine, from `ray up` to `ray down` (as root; it names the packages that it needs). make faults: every fault, injected for
# real. make audit: known faults of what constraints.txt names.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: sweep test cluster-test faults audit install lock clean
sweep: install
	$(BIN)/python -m bias_transfer.sweep

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

cluster-test: $(VENV)/.cluster
	$(BIN)/python tests/cluster/run.py

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

# Write constraints.txt anew from what is installed. Torch's local build tag (+cpu, +cu130) is left out, so that the same
# file gives a CUDA build on a machine with a GPU.
lock: $(VENV)/.cluster
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' > constraints.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
