# Every target works from a clean clone: the virtual environment is made on demand, from a plain python3.
#
# Where that one is a shared library built without optimizations, as version managers build it, and the system's is not,
# the system's: a commit takes a sixth less time (docs/adr/0010). PYTHON=python3 says otherwise.
WHOLE := import ensurepip, sys, sysconfig, venv; options = sysconfig.get_config_var("CONFIG_ARGS") or ""; \
	shared = "/libpython" in open("/proc/self/maps").read() and "--enable-optimizations" not in options; \
	sys.exit(shared or sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 /usr/bin/python3; do $$p -c '$(WHOLE)' 2>/dev/null && echo $$p && exit; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Tests of real processes wait for half of their time: two more at once than there are cores, up to eight.
TEST_JOBS := $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 6 ] && n=6; echo $$((n + 2)))
# Those of a client, a monitor or a command wait for most of theirs.
UNIT_JOBS := $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 6 ] && n=6; echo $$((2 * n + 2)))
FAST_TESTS := $(wildcard tests/unit tests/golden)

# Tests start nodes by the hundred: their modules are compiled once, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install check format lint types contracts unit unit-pure unit-shell test simulate demo bench clean

help:
	@echo "make demo     three regions on this machine, in under a minute"
	@echo "make test     all tests, with real processes"
	@echo "make check    format, lint, types, import contracts, fast tests"
	@echo "make simulate whole clusters in one thread, where much goes wrong: SEEDS=1000 FIRST=1"
	@echo "make bench    throughput, latency, memory"
	@echo "make clean    remove the environment and every cache"

install: $(INSTALLED)

# The build backend is installed first so that its version too comes from constraints.txt.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "redwire needs Python 3.11 or later, \
	this is " + sys.version.split()[0] + "; set PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about a minute, once), with $$($(BIN)/python -c \
	'import sys; print("Python", sys.version.split()[0], "of", sys.base_prefix)')"
	@$(PIP) install --constraint constraints.txt hatchling editables
	@$(PIP) install --constraint constraints.txt --no-build-isolation --editable '.[dev,fast]'
	@touch $@

# Side by side: the types of a new clone take as long as the tests of the pure modules.
check: $(INSTALLED)
	@$(MAKE) --no-print-directory --jobs 3 --output-sync=target format lint contracts types unit-pure unit-shell

format: $(INSTALLED)
	$(BIN)/ruff format --check .

lint: $(INSTALLED)
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/mypy

contracts: $(INSTALLED)
	$(BIN)/lint-imports --no-logo

# Side by side: measuring coverage takes nearly twice the time, and only the pure modules' own tests count for it.
unit: $(INSTALLED)
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target unit-pure unit-shell

unit-pure:
	$(BIN)/pytest -q $(FAST_TESTS) --only pure -m "not slow" --hypothesis-profile=check --cov --cov-report=term

unit-shell:
	$(BIN)/pytest -q -n $(UNIT_JOBS) --dist worksteal $(FAST_TESTS) --only shell -m "not slow" --hypothesis-profile=check

test: $(INSTALLED)
	$(BIN)/pytest -q -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder tests

simulate: $(INSTALLED)
	@PYTHONPATH=. $(BIN)/python tests/simulation/simulate.py --seeds $(or $(SEEDS),200) --first $(or $(FIRST),1)

demo: $(INSTALLED)
	@$(BIN)/redwire demo

bench: $(INSTALLED)
	@$(BIN)/redwire bench

clean:
	rm -rf $(VENV) .venv313 .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis .coverage .coverage.* dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
