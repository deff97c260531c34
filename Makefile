# make demo   a randomised trial on real faces, and its report, in minutes
# make test   the environment with the development extras, and the tests
# make lint   ruff and pyright

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/installed
	@$(BIN)/atat run orl-rct
	@$(BIN)/atat report orl-rct

test: .venv/developing
	@$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/developing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

clean:
	rm -rf .venv build *.egg-info

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "atat-ray needs Python 3.11 or newer, and $(PYTHON) is not;" \
		"give one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	@echo "installing atat-ray into .venv (PyTorch is large: a minute or more)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/developing: .venv/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
