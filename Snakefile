"""The grid: one rule a notebook, one job a run. papermill executes the notebook with the run's parameters.

    snakemake --config study=studies/demo.yaml --cores 2

What was cut off is repeated, what is done is kept. run.json is no output here: snakemake would delete that of a job
killed between the end of the run and its own bookkeeping, and the notebook finds such a run finished (study.execute).
"""

import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)
from nbutils.files import DataError
from nbutils.study.corpora import corpus_files, second_files
from nbutils.study.file import load_study
from nbutils.study.notebooks import NOTEBOOKS, analyses
from nbutils.study.systems import tiny_kinds
from nbutils.taggers import KINDS

try:
    STUDY = load_study(config.get("study", "studies/demo.yaml"))
    PATHS = corpus_files(STUDY)
    ANALYSES = analyses(STUDY)
except DataError as error:
    raise SystemExit(f"\n{error}\n")

NAME = STUDY.name
GRID = [(s.name, train, seed) for s, train, seed in STUDY.runs()]
OF_KIND = {kind: [s.name for s in STUDY.systems.values() if s.kind == kind] for kind in KINDS}
# One thread a job: the jobs share the cores, and the same number of threads gives the same sums.
PAPERMILL = "OMP_NUM_THREADS={threads} TOKENIZERS_PARALLELISM=false {sys.executable} -m nbutils.study.papermill --no-progress-bar --log-level ERROR -k python3"
LOG = f"runs/{NAME}/logs"


wildcard_constraints:
    seed=r"\d+",


def one_of(names):
    """A wildcard pattern for these names only (nothing matches when there are none)."""
    return "|".join(names) or "(?!)"


def tiny_models(wildcards):
    kinds = tiny_kinds(STUDY, wildcards.system)
    return [f"models/{NAME}/{wildcards.train}/{kind}/config.json" for kind in kinds]


rule study:
    input:
        # Not the table itself: that one is in the repository, and would count as done in a fresh clone.
        f"runs/{NAME}/notebooks/06_evaluation.ipynb",
        f"runs/{NAME}/notebooks/01_data_exploration.ipynb",
        [f"runs/{NAME}/notebooks/{notebook}.ipynb" for notebook in ANALYSES],


rule tiny_model:
    """The offline models: built once for each training corpus, shared by all its runs."""
    input:
        PATHS,
    output:
        f"models/{NAME}/{{train}}/{{kind}}/config.json",
    wildcard_constraints:
        kind="encoder|llm",
    log:
        f"{LOG}/tiny-{{train}}-{{kind}}.log",
    priority: 3
    params:
        tiny=lambda w: str(dict(STUDY.tiny.get(w.kind, {}))),
        types=lambda w: str(STUDY.types) if w.kind == "llm" else "",  # their tags are tokens of its tokenizer
    shell:
        "OMP_NUM_THREADS={threads} {sys.executable} -m nbutils.study tiny {STUDY.path} {wildcards.train} {wildcards.kind} > {log} 2>&1"


rule explore:
    input:
        PATHS,
        notebook="notebooks/01_data_exploration.ipynb",
    output:
        f"runs/{NAME}/notebooks/01_data_exploration.ipynb",
    log:
        f"{LOG}/01_data_exploration.log",
    shell:
        PAPERMILL + " {input.notebook} {output} -p study_file {STUDY.path} > {log} 2>&1"


RUN = f"runs/{NAME}/{{system}}/{{train}}/seed-{{seed}}"

for kind, notebook_of_kind in NOTEBOOKS.items():

    rule:
        """One run: fit on one corpus with one seed, tag every evaluation corpus."""
        name:
            kind
        input:
            PATHS,
            tiny_models,
            notebook=notebook_of_kind,
        output:
            notebook=RUN + "/notebook.ipynb",
        log:
            f"{LOG}/{{system}}-{{train}}-{{seed}}.log",
        wildcard_constraints:
            system=one_of(OF_KIND[kind]),
        priority: KINDS[kind].priority
        params:
            system=lambda w: str(STUDY.systems[w.system].settings),
            split=f"{STUDY.types} {STUDY.certainties} {STUDY.split_seed} {STUDY.test_fraction} {STUDY.evaluate}",
        resources:
            gpu=int(KINDS[kind].gpu),
        shell:
            PAPERMILL + " {input.notebook} {output.notebook} -p study_file {STUDY.path} -p system {wildcards.system}"
            " -p train {wildcards.train} -p seed {wildcards.seed} > {log} 2>&1"


rule evaluate:
    input:
        [f"runs/{NAME}/{system}/{train}/seed-{seed}/notebook.ipynb" for system, train, seed in GRID],
        notebook="notebooks/06_evaluation.ipynb",
    output:
        table=f"runs/{NAME}/figures/main_result.md",
        rows=f"runs/{NAME}/figures/main_result.csv",
        png=f"runs/{NAME}/figures/main_result.png",
        svg=f"runs/{NAME}/figures/main_result.svg",
        notebook=f"runs/{NAME}/notebooks/06_evaluation.ipynb",
    log:
        f"{LOG}/06_evaluation.log",
    priority: 2
    shell:
        PAPERMILL + " {input.notebook} {output.notebook} -p study_file {STUDY.path} -p runs_folder runs > {log} 2>&1"


# Agreement and generalisation need no runs; the others wait for all of them.
WITHOUT_RUNS = ("02_inter_annotator_agreement", "10_generalisation")

for analysis, parameters in ANALYSES.items():

    rule:
        """One analysis of the finished study: the notebook as a reader would run it, on the new runs."""
        name:
            analysis[3:]
        input:
            PATHS,
            [] if analysis in WITHOUT_RUNS else [f"runs/{NAME}/{s}/{t}/seed-{n}/notebook.ipynb" for s, t, n in GRID],
            second_files(STUDY) if analysis == "02_inter_annotator_agreement" else [],
            notebook=f"notebooks/{analysis}.ipynb",
        output:
            f"runs/{NAME}/notebooks/{analysis}.ipynb",
        log:
            f"{LOG}/{analysis}.log",
        priority: int(analysis == "07_stratification")  # the longest of them
        params:
            chosen=" ".join(f"-p {name} {value}" for name, value in parameters.items()),
        shell:
            PAPERMILL + " {input.notebook} {output} -p study_file {STUDY.path} {params.chosen} > {log} 2>&1"
