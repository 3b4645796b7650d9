# The two commands to begin with: `make demo` and `make test`. Both set up .venv by themselves, once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEMO ?= demo
DATA ?= $(or $(CURATE_DATA),../shared/data)
CURATE := $(BIN)/curate

.PHONY: demo bench bench-extract bench-filter bench-dedup bench-classify bench-pretrain bench-gpu bench-learns bench-swarm bench-mix bench-mix-loop test test-all check lint types imports format setup clean help

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

demo: $(VENV)/.demo ## sample pages -> extract -> filter -> dedup -> classify -> mix -> pretrain -> report
	@DEMO="$(DEMO)" CURATE="$(CURATE)" sh bench/demo.sh

test: $(VENV)/.dev ## every test but the long ones (under 10 minutes on 2 cores)
	$(BIN)/python tests/compile_kernels.py
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

test-all: $(VENV)/.dev ## every test
	$(BIN)/python -m pytest -m ''

check: lint types imports test ## lint, format, types, import directions, tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	MYPYPATH=typings $(BIN)/mypy -p curate

imports: $(VENV)/.dev
	$(BIN)/lint-imports

format: $(VENV)/.dev ## formats the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(VENV)/.dev ## everything for development

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "curate needs Python 3.11 or newer; set PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		echo "note: for this Python, pip may fetch PyTorch's CUDA build (over 500 MB, and several GB of CUDA libraries with it);" \
		"with Python 3.11 (make PYTHON=python3.11), or with a CPU build of torch 2.13.0 installed into $(VENV) first, it does not"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -q -c constraints.txt -e '.[train]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo

bench: $(VENV)/.dev ## speed of every stage on the sample, beside the bare libraries
	$(BIN)/python bench/pipeline.py

bench-extract: $(VENV)/.dev ## accuracy and time of every extraction engine (DATA=archives EXTRA=packages FOLDS=models of five folds)
	$(BIN)/python bench/extract.py "$(DATA)" $(if $(EXTRA),--extra "$(EXTRA)") $(if $(FOLDS),--folds "$(FOLDS)")

bench-filter: $(VENV)/.dev ## ms a document by signal, decisions, PII, re-threshold (DATA=archives PEER=a Python with datatrove and spaCy)
	$(BIN)/python bench/filter.py "$(DATA)" --docs $(if $(PEER),--peer-python "$(PEER)")

bench-dedup: $(VENV)/.dev ## signature speed, recall, precision, clusters of 100M pages, hostile pages (PEER=a Python with rensa and datasketch)
	$(BIN)/python bench/dedup.py $(if $(PEER),--peer-python "$(PEER)")
	$(BIN)/python bench/dedup_sketches.py
	$(BIN)/python bench/dedup_clusters.py
	$(BIN)/python bench/dedup_adversarial.py

bench-classify: $(VENV)/.dev ## how good the classifiers are and what they cost (DATA=archives VECTORS=file to keep, QUICK=1)
	$(BIN)/python bench/classify.py "$(DATA)" $(if $(VECTORS),--vectors "$(VECTORS)") $(if $(QUICK),--quick)

bench-pretrain: $(VENV)/.dev ## training on the CPU beside a plain PyTorch loop (SIZES="tiny 10M" THREADS="1 2" PROFILE=1)
	$(BIN)/python bench/pretrain.py $(if $(SIZES),--sizes $(SIZES)) $(if $(THREADS),--threads $(THREADS)) $(if $(PROFILE),--profile)

bench-gpu: $(VENV)/.dev ## training speed on one GPU, by size and setting; says so where there is none (PARTS="targets-1024 attention")
	$(BIN)/python bench/pretrain_gpu.py $(if $(PARTS),--parts $(PARTS))

bench-learns: $(VENV)/.dev ## validation by domain while a tiny model learns, AdamW and Muon (DATA=archives STEPS=800: an hour of one core)
	$(BIN)/python bench/pretrain_learns.py "$(DATA)" $(if $(STEPS),--steps $(STEPS))

bench-swarm: $(VENV)/.dev ## runs an hour of a swarm against a process a run (GPU=1: the proxies on a GPU, PROCESSES=2, GRAPHS=1)
	$(BIN)/python bench/swarm.py $(if $(GPU),--gpu) $(if $(PROCESSES),--processes $(PROCESSES)) $(if $(GRAPHS),--graphs)

bench-mix: $(VENV)/.dev ## mixtures: regressions on RegMix's runs, solver, exact budgets, 1B tokens materialised, an ablation's false alarms (DATA=archives)
	$(BIN)/python bench/mix_regression.py "$(DATA)"
	$(BIN)/python bench/mix_solver.py
	$(BIN)/python bench/mix_budget.py
	$(BIN)/python bench/mix_scale.py
	$(BIN)/python bench/ablation_noise.py

bench-mix-loop: $(VENV)/.dev ## swarm, fit, solve, then the solved mix beside the natural one at a larger size (DATA=archives; it trains for an hour or more)
	$(BIN)/python bench/mix_loop.py "$(DATA)"

clean: ## removes the demo and caches, not .venv
	rm -rf $(DEMO) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
