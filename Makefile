# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
# Two commands do all: `make demo` and `make test`. Each sets up what it needs, once.

VENV ?= .venv
PYTHON ?= python3
WORKERS ?= 2
STOP ?=

BIN := $(VENV)/bin
STATUS = $(VENV)/.ibot_mm-status-$(@:run-%=%)
SETUP = $(PYTHON) tools/setup/install.py --venv $(VENV)
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --durations=10

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help clean $(foreach target,demo docs test test-fast test-all lint setup setup-full,$(target) run-$(target))

help:
	@echo 'make demo        pre-train on two CPU cores, fine-tune; tables and pictures at the end'
	@echo 'make test        all tests but whole trainings, exports and sweeps'
	@echo 'make test-fast   the tests that take seconds'
	@echo 'make test-all    all tests'
	@echo 'make lint        ruff and mypy'
	@echo 'make docs        the documentation site, in build/docs; a broken reference fails'
	@echo 'make setup       only the set-up of pre-training'
	@echo 'make setup-full  only the set-up of the tests: compiles operators, 11 minutes once'
	@echo 'make clean       remove the environment and caches, not the compiled operators'
	@echo 'Variables: VENV=$(VENV)  PYTHON=$(PYTHON)  WORKERS=$(WORKERS) (of pytest)  STOP= (of the demo: pretrain)'

# Each of these runs its `run-` twin, then says how it went. `$(error)`, since after a failing
# recipe make would say "Error 1" last.
demo docs test test-fast test-all lint setup setup-full: %: run-%
	$(if $(filter 0,$(shell cat $(STATUS))),@echo 'make $@: passed',$(error make $@ FAILED, the reason is above))

run = @mkdir -p $(VENV) && ( $(1) ); echo $$? > $(STATUS)

run-setup:
	$(call run,$(SETUP) pretrain)
run-setup-full:
	$(call run,$(SETUP) full)
run-demo:
ifneq ($(STOP),pretrain)
	$(if $(STOP),$(error STOP=$(STOP) is not known: STOP=pretrain, or none))
	@echo '==> demo: pre-training comes first; for detection and segmentation mmcv is compiled then,'
	@echo '    11 minutes, once. make demo STOP=pretrain leaves that out.'
endif
	$(call run,$(SETUP) pretrain && $(BIN)/python tools/demo.py pretrain \
		$(if $(STOP),,&& $(SETUP) downstream && $(BIN)/python tools/demo.py transfer))
run-test:
	$(call run,$(SETUP) full && $(PYTEST) -m "not long")
run-test-fast:
	$(call run,$(SETUP) full && $(PYTEST) -m "not slow and not long")
run-test-all:
	$(call run,$(SETUP) full && $(PYTEST))
run-lint:
	$(call run,$(SETUP) full && $(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy ibot_mm)
run-docs:
	$(call run,$(SETUP) docs && $(BIN)/python -m sphinx -W --keep-going docs build/docs)

clean:
	rm -rf $(VENV) build docs/api *.egg-info .pytest_cache .ruff_cache .mypy_cache
