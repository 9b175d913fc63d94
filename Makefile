# Each target works in a fresh clone: it creates .venv once and installs into it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check docs install

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $@

install: .venv/installed

demo: install
	$(BIN)/permbench demo

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/docs: .venv/installed
	$(BIN)/pip install --quiet -e '.[docs]'
	touch $@

# The site of these pages, in site/.
docs: .venv/docs
	$(BIN)/mkdocs build --strict --quiet
