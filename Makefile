# Everything a newcomer needs. `make` alone prints what there is.
STUDY ?= demo
DEVICE ?= h100
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# The study file "public" reads JMED-LLM's CSV files from here.
export JMED_LLM_DIR ?= $(firstword $(wildcard data/jmed-llm ../shared/data/jmed-llm) data/jmed-llm)
export TOKENIZERS_PARALLELISM = false
export JUPYTER_PLATFORM_DIRS = 1
BIN = .venv/bin
RUN = PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH="$(CURDIR)"

.PHONY: help install study plan models test lab bench check-data check-study clean

help:  ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' Makefile
	@echo "options: STUDY=demo|public|laptop|paper|FILE.yaml  CORES=$(CORES)"

install: .venv/installed  ## create .venv and install the locked versions

.venv/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; install it and run make again."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

STUDY_FILE = $(if $(filter %.yaml,$(STUDY)),$(STUDY),studies/$(STUDY).yaml)

study: install check-study  ## run the study and print its main table (STUDY=demo is offline, on a CPU, in minutes)
	@$(RUN) python -m nbutils.study run $(STUDY_FILE) --cores $(CORES)

check-study: install
	@$(RUN) python -m nbutils.study check $(STUDY_FILE)

plan: install  ## estimate memory and time of a study before you rent a GPU (STUDY=paper DEVICE=h100|a100|l4|rtx4090|this)
	@$(RUN) python -m nbutils.plan $(STUDY_FILE) --device $(DEVICE)

models: install  ## download the models of a study once, whole and as safetensors (STUDY=paper)
	@$(RUN) python -m nbutils.study models $(STUDY_FILE)

test: install  ## all tests that need neither a GPU nor the hub, with coverage
	@$(RUN) python -m pytest

lab: install  ## open the notebooks in JupyterLab
	@$(RUN) jupyter lab --notebook-dir=.

bench: install  ## time our decoding, training and scoring against the usual ways, side by side
	@$(RUN) python -m nbutils.bench

check-data: install  ## check the bundled corpora against their rules
	@$(RUN) python -m nbutils.check_data

clean:  ## remove what can be made again (runs, tiny models, caches), but not .venv
	rm -rf runs models .snakemake .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
