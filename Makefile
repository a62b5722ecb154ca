# The commands of this project. Each sets up what it needs first (setup.sh); `make` alone lists them.
.DEFAULT_GOAL := help
# Each command sets up first, and several at once would do that several times.
ifndef SIDE_BY_SIDE
.NOTPARALLEL:
endif
.PHONY: help demo test test-fast test-vm test-matrix bench lint made docs generate constraints setup setup-fast setup-lab setup-test setup-bench

# Some containers set it. The tests start thousands of short programs, and each would be compiled anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
# Two machines side by side: an emulated one keeps little more than one processor busy.
MACHINES := $(PYTEST) -n 2 --dist loadgroup --no-loadscope-reorder
# The modules that have some: to read all others takes each of the two a quarter of a minute.
IN_MACHINES = $(sort $(shell grep --recursive --files-with-matches --include='test_*.py' 'mark\.vm' tests))
# A module's tests share what is costly to make, so they stay together; few long ones (execute) begin before many short.
# One more than processors: many wait, for a daemon or a clock.
FAST := $(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder -m "not vm and not matrix"

help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: setup-lab ## Watch the installer install a machine, from blank disks to a booted host
	$(PYTHON) -m tests.lab demo

test: setup-test ## Everything that CI runs: the checks, the fast tests, the tests in machines
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target SIDE_BY_SIDE=1 lint made
	$(FAST)
	$(MACHINES) -m vm $(IN_MACHINES)

test-fast: setup-fast lint ## The checks and the tests that need no machine
	$(FAST)

test-vm: setup-lab ## The tests that boot machines
	$(MACHINES) -m vm $(IN_MACHINES)

test-matrix: setup-lab ## The combinations that take hours
	$(MACHINES) -m matrix

bench: setup-bench ## Measure, and print ratios
	$(PYTHON) -m tests.bench

lint: setup ## Format, style, types and import rules
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m ruff check
	$(PYTHON) -m mypy
	.venv/bin/lint-imports

docs: setup ## Build the site (site/)
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet

generate: setup ## Write anew what is generated: completions, manual pages, catalogues of words
	$(PYTHON) -m hv.manual
	$(PYTHON) -m tests.words

constraints: setup ## Take the newest versions of the Python packages, and write them down
	$(PYTHON) -m pip install --quiet --upgrade --upgrade-strategy eager --use-pep517 --editable '.[host,server,postgresql,dev,docs]'
	sed -i '/^[^#]/d' constraints.txt
	$(PYTHON) -m pip freeze --exclude-editable | grep -v '^libvirt-python=' >>constraints.txt

made: # What the tests of machines are run in
	$(PYTHON) -m tests.lab build
	$(PYTHON) -m tests.network_manager

setup: ## Install what `hv` needs, into .venv; the other commands do it themselves
	@./setup.sh

setup-lab:
	@./setup.sh lab

setup-fast:
	@./setup.sh tests

setup-test:
	@./setup.sh tests lab libvirt

setup-bench:
	@./setup.sh lab libvirt bench
