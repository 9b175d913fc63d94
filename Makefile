# Each target works in a fresh clone: it creates .venv once and installs what it needs into it.
# PIP_CONSTRAINT=requirements.lock before a target takes exactly the versions that were tested.
PYTHON ?= python3
BIN := .venv/bin
# PyTorch without CUDA: auto (where there is no NVIDIA GPU and the index answers), cpu (always) or
# default (whatever pip finds). To change it later: rm -r .venv
TORCH ?= auto
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: demo test check docs readme install lock

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	torch=$$($(BIN)/python tools/torch_index.py '$(TORCH)' '$(TORCH_INDEX)' torch==2.13.0) \
	  && $(BIN)/pip install --quiet $$torch
	$(BIN)/pip install --quiet -e .
	touch $@

.venv/dev: .venv/installed
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $@

install: .venv/installed

demo: .venv/installed
	$(BIN)/permbench reproduce --quick

test: .venv/dev
	$(BIN)/python -m pytest

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/docs: .venv/installed
	$(BIN)/pip install --quiet -e '.[docs]'
	touch $@

# The site, in site/. (With --quiet mkdocs would not count what --strict refuses.)
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# What pages take from records and from conf/reproduce: tables, and ARTIFACT.md.
readme: .venv/installed
	$(BIN)/python -m tools.generated_pages

# The versions of this .venv, without those of local builds, for requirements.lock.
lock: .venv/dev
	{ sed '/^#/!Q' requirements.lock; \
	  $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//'; } > .venv/lock
	mv .venv/lock requirements.lock
