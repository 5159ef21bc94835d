PY := .venv/bin/python

.PHONY: help demo test fresh setup-oracle tools lint bench soak pythons clean system

help:
	@echo 'make demo          let a CMA allocation fail, find the pages, fix the driver'
	@echo 'make test          install the tools that the tests use, and run the tests'
	@echo 'make fresh         run CI recipes, demo and tests on a minimal Debian 12 and 13 (as root; RELEASE=13 for only one)'
	@echo 'make lint          check style and types'
	@echo 'make bench         measure the cost of pinnerfs, for some minutes (also into bench.json)'
	@echo 'make setup-oracle  install the tools that the tests use'
	@echo 'make soak          run stress tests for half an hour: load, faults, bad input'
	@echo 'make pythons       run the tests on each Python from 3.11 on, installed from the sdist'
	@echo 'make clean         remove the environment and all caches'

demo: .venv/.stamp
	@.ci/demo

# With PYTHONDONTWRITEBYTECODE each of the thousand processes that the tests start would compile pinnerfs.
test: .venv/.stamp tools
	@$(PY) -m compileall -q pinnerfs
	.venv/bin/pytest --numprocesses auto --maxprocesses 8 --dist worksteal

# Without permission to install the tools, their tests are skipped. The summary lists them and the missing tools.
tools: system
	-@.ci/setup oracle

fresh: .venv/.stamp
	@.ci/fresh $(RELEASE)

setup-oracle:
	.ci/setup oracle

lint: .venv/.stamp
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/codespell
	.venv/bin/mypy

# Rows whose tools cannot be installed have the reason instead of figures.
bench: .venv/.stamp
	-@.ci/setup bench
	-$(PY) -m tests.bench

soak: .venv/.stamp
	PINNERFS_REQUIRE_FUSE=1 .venv/bin/pytest tests/soak --soak

# Takes some minutes for each Python.
pythons: .venv/.stamp
	.ci/pythons

clean:
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installs what pip cannot: libfuse 2, fusermount, Python itself. Fast if nothing is missing.
system:
	@.ci/setup

# --clear removes dependencies that are no longer in pyproject.toml.
.venv/.stamp: pyproject.toml | system
	@for python in python3 python3.13 python3.12 python3.11; do \
		if $$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "$$python -m venv --clear .venv"; \
			exec $$python -m venv --clear .venv; \
		fi; \
	done; echo 'pinnerfs needs Python 3.11 or newer with its venv module, and found none' >&2; exit 1
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
