# Two commands matter: `make demo` and `make test`. Both need Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV ?= .venv
PEERS ?= .venv-peers
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := --quiet --disable-pip-version-check -c constraints.txt

# the axe-core of the accessibility tests is fetched on demand; it is MPL 2.0 and not part of the package
.PHONY: axe demo test test-slow lint constraints faults goldens comparison scaling bench gpu lessons docs clean help

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP) setuptools
	$(BIN)/pip install $(PIP) --no-build-isolation -e '.[dev]'
	@$(BIN)/python -m sfumato.networks || true
	@touch $@

demo: $(READY) ## sample the shipped model, train on digits for a minute, sample that, show the report
	@BIN=$(BIN) sh scripts/demo.sh

test: $(READY) lint ## set up and pass the default tests (ten to twenty minutes on two cores, by their speed, in two processes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(READY) ## the longer checks
	$(BIN)/python -m pytest -m slow

lint: $(READY) ## ruff and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

constraints: $(READY) ## check constraints.txt; write it anew: install '.[dev,docs]', then python scripts/constraints.py
	$(BIN)/python scripts/constraints.py --check

faults: $(READY) ## kill the commands 100 times, fill the disk, forbid writing, compare; only rows not yet known to hold
	$(BIN)/python scripts/faults.py $(if $(MINUTES),--minutes $(MINUTES))

goldens: $(READY) ## print docs/goldens.md anew from the recorded numbers of the official code
	$(BIN)/python -m pytest tests/core tests/convert tests/evaluate/test_evaluation_goldens.py --golden-table docs/goldens.md

comparison: $(READY) ## write the tables and plots of docs/comparison.md anew from the stored results
	$(BIN)/python scripts/write_comparison.py

scaling: $(READY) ## write the tables of docs/scaling.md anew from the operations and memory of the network
	$(BIN)/python scripts/scaling.py

$(PEERS)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install $(PIP) setuptools
	$(PEERS)/bin/pip install $(PIP) --no-build-isolation -e '.[fast]' diffusers 'huggingface-hub<2' einops scipy
	$(PEERS)/bin/pip install $(PIP) --no-deps denoising-diffusion-pytorch ema-pytorch pytorch-fid torch-fidelity
	@$(PEERS)/bin/python -m sfumato.networks || true
	@touch $@

bench: $(PEERS)/.ready ## beside the peers, which get an environment of their own: sampling, training, features; the loop's overhead
	$(PEERS)/bin/python benchmarks/sampler_overhead.py
	$(PEERS)/bin/python benchmarks/peers.py
	$(PEERS)/bin/python benchmarks/measuring.py

gpu: ## on a machine with a GPU: check, time and train everything in about eight minutes; OUT is where results go
	$(PYTHON) scripts/gpu.py --out $(or $(OUT),build/gpu)

docs: $(READY) ## the docs site, build/site, readable without a network
	$(BIN)/pip install $(PIP) --no-build-isolation -e '.[docs]'
	$(BIN)/python scripts/gather_docs.py
	cd build && $(abspath $(BIN))/zensical build -f mkdocs.yml

lessons: $(READY) ## every lesson as a page in each language, in build/lessons, which make docs then takes in; half an hour
	$(BIN)/sfumato learn --export all --language all --out build/lessons

axe: ## axe-core (MPL 2.0, by npm) into build/axe, for tests/learn/test_accessible.py
	mkdir -p build/axe && cd build/axe && npm pack --silent axe-core@4.14.1
	cd build/axe && tar xzf axe-core-4.14.1.tgz --strip-components=1 package/axe.min.js package/LICENSE

clean: ## remove the environment and everything generated
	rm -rf $(VENV) $(PEERS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
