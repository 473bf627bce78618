# Two commands for everybody: `make lab` shows a cluster, `make test` tries every promise.

PYTHON ?= python3
BIN := .venv/bin
SHELL := bash
.SHELLFLAGS := -o pipefail -c
FOLDERS := cluster ansible_2016 engine facts checks operations templates deploys

.PHONY: lab lab-up lab-down check static unit unit-paths unit-rest test test-today test-rest test-vm
.PHONY: bench conformance releases promises rendered settings picture clean

lab: lab-up
	$(BIN)/pyinfra inventories/lab.py deploys/scratch.py -y
	$(BIN)/python -m tests.show

lab-up: .venv/installed
	$(BIN)/python -m tests.lab up

lab-down: .venv/installed
	$(BIN)/python -m tests.lab down

check: .venv/installed .links
	@$(MAKE) --no-print-directory --jobs=3 --output-sync static unit

static:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .links/pyinfra_kube
	PYTHONPATH=.links $(BIN)/lint-imports

# Two halves, for two processors. What pyinfra patches keeps pytest-xdist from working.
WHOLE_PATHS := $(patsubst %,tests/unit/test_%.py,tools_that_fail scratch_runs paths rendered endpoint phase)

unit: unit-paths unit-rest

unit-paths:
	$(BIN)/pytest -q $(WHOLE_PATHS)

unit-rest:
	$(BIN)/pytest -q tests/unit $(WHOLE_PATHS:%=--ignore=%)

# All examples of each property. Two labs at once, for hosts wait more than they work.
TODAY := $(addprefix tests/e2e/,promises test_today.py test_unfit_hosts.py)

test: export HYPOTHESIS_PROFILE = full
test: check
	@$(MAKE) --no-print-directory --keep-going --jobs=2 test-today test-rest

test-today: export PYINFRA_KUBE_LAB = today
test-today:
	$(BIN)/pytest -v --durations=20 $(TODAY) 2>&1 | sed -u 's/^/today  /'

test-rest: export PYINFRA_KUBE_LAB = rest
test-rest:
	$(BIN)/pytest -v --durations=20 tests/e2e $(TODAY:%=--ignore=%) 2>&1 | sed -u 's/^/rest   /'

# A host with a kernel of its own, as a virtual machine. Each instruction is emulated: an hour.
test-vm: .venv/installed
	$(BIN)/pytest -v --capture=no tests/vm

promises: .venv/installed
	$(BIN)/pytest -v --full tests/e2e/promises

# Kubernetes' own suite judges a cluster that the package builds; docs/conformance.md says how.
conformance: .venv/installed
	$(BIN)/python -m tests.conformance $(OPTIONS)

bench: .venv/installed
	$(BIN)/python -m tests.bench $(OPTIONS)

# A cluster of every release that can be had here, or of RELEASES="1.36 1.37": docs/releases.md.
releases: .venv/installed
	$(BIN)/python -m tests.releases $(RELEASES)

# Every file of every host of a few clusters, in examples/rendered.
rendered: .venv/installed
	$(BIN)/python -m tests.rendered

# The pages that are made from tables: docs/settings.md, hosts.md, ports.md and cis.md.
settings: .venv/installed
	$(BIN)/python -m tests.settings
	$(BIN)/python -m tests.hosts_page
	$(BIN)/python -m tests.ports_page
	$(BIN)/python -m tests.cis

picture: .venv/installed
	$(BIN)/python docs/picture.py

clean:
	rm -rf .venv .links build dist *.egg-info

# The packages as they are imported, for the tools that read folders.
.PHONY: .links
.links:
	@rm -rf .links && mkdir .links
	@cp -rs $(CURDIR)/package .links/pyinfra_kube
	@for folder in $(FOLDERS); do cp -rs $(CURDIR)/$$folder .links/pyinfra_kube/; done

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv || { apt-get update -q && apt-get install -q -y python3-venv && $(PYTHON) -m venv .venv; }
	$(BIN)/pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@
