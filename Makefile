PY := .venv/bin/python

.PHONY: help demo test fresh setup-oracle tools lint bench soak pythons clean system

help:
	@echo 'make demo          mount a scenario, read it, change the threshold, unmount'
	@echo 'make test          install the tools that the tests run and compare with, and run the tests'
	@echo 'make fresh         run demo and tests on a minimal Debian 12 and 13 (root; RELEASE=13 for one of them)'
	@echo 'make lint          check style and types'
	@echo 'make bench         measure what all of it costs, for some minutes (into bench.json, too)'
	@echo 'make setup-oracle  install the tools that the tests compare with'
	@echo 'make soak          attack it for half an hour: load, faults, bad input'
	@echo 'make pythons       run the tests on each Python from 3.11 on, installed from the sdist'
	@echo 'make clean         remove the environment and all caches'

demo: .venv/.stamp
	@.ci/demo

test: .venv/.stamp tools
	.venv/bin/pytest

# Who may not install the tools runs the tests without them. The summary says which those are, and what is missing.
tools: system
	-@.ci/setup oracle

fresh:
	@.ci/fresh $(RELEASE)

setup-oracle:
	.ci/setup oracle

lint: .venv/.stamp
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/codespell
	.venv/bin/mypy

# What cannot be installed cannot be measured; the table says so.
bench: .venv/.stamp
	-@.ci/setup bench
	-$(PY) -m tests.bench

soak: .venv/.stamp
	PINNERFS_REQUIRE_FUSE=1 .venv/bin/pytest tests/soak --soak

# Some minutes a Python.
pythons: .venv/.stamp
	.ci/pythons

clean:
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What pip cannot install: libfuse 2, fusermount, Python itself. Quick when all of it is there.
system:
	@.ci/setup

# --clear: a dependency taken out of pyproject.toml shall not linger in the environment.
.venv/.stamp: pyproject.toml | system
	@for python in python3 python3.13 python3.12 python3.11; do \
		if $$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "$$python -m venv --clear .venv"; \
			exec $$python -m venv --clear .venv; \
		fi; \
	done; echo 'pinnerfs needs Python 3.11 or newer with its venv module, and found none' >&2; exit 1
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
