"""The grid: one rule per notebook, one job per run. papermill executes the notebook with the run's parameters.

    snakemake --config study=studies/demo.yaml --cores 2

Jobs work in runs/<study>, so that no path of theirs holds a name that Snakemake could take for syntax; names reach the
notebooks as quoted parameters. What was cut off is repeated, what is done is kept. run.json is no output here: Snakemake
would delete that of a job killed between the end of the run and its own bookkeeping, and the notebook finds such a run
finished (study.execute).
"""

import os
import shlex
import sys

sys.path.insert(0, str(workflow.basedir))
from nbutils import ROOT
from nbutils.files import DataError
from nbutils.study.corpora import corpus_files, digest, private_names, annotator_files
from nbutils.study.file import load_study
from nbutils.study.grid import file_for_notebooks
from nbutils.study.notebooks import NOTEBOOKS, WITHOUT_RUNS, analyses
from nbutils.study.runs import path_name, run_folder
from nbutils.study.systems import made_elsewhere, tiny_folder, tiny_kinds
from nbutils.taggers import KINDS

try:
    STUDY = load_study(config.get("study", "studies/demo.yaml"))
    CORPORA, SECONDS = digest(corpus_files(STUDY)), digest(annotator_files(STUDY))
    ANALYSES = analyses(STUDY)
    ELSEWHERE = {s.name: str(made_elsewhere(STUDY, s) or "") for s in STUDY.systems.values()}
    PRIVATE = private_names(STUDY)
    # What tables and figures take from the study file beside the runs.
    TITLES = [s.title for s in STUDY.systems.values()]
    SHOWN = str((STUDY.title, STUDY.caption, STUDY.compare, STUDY.margin, STUDY.cluster, TITLES))
except DataError as error:
    raise SystemExit(f"\n{error}\n")


workdir: str(ROOT / "runs" / STUDY.name)


os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
TOP = "../.."  # the repository
SYSTEMS = {path_name(name): name for name in STUDY.systems}
TRAIN = {path_name(name): name for name in STUDY.train}
FOLDERS = [run_folder("", STUDY.name, s.name, train, seed).relative_to(STUDY.name) for s, train, seed in STUDY.runs()]
RUNS = [f"{folder}/notebook.ipynb" for folder in FOLDERS]
# What a private corpus leaves is for its owner alone. One thread per job: the jobs share the cores, and the same number
# of threads gives the same sums.
ALONE = "umask 077;" if PRIVATE else ""
THREADS = "OMP_NUM_THREADS={threads} TOKENIZERS_PARALLELISM=false"
FILE = file_for_notebooks(STUDY)
PAPERMILL = shlex.join([sys.executable, "-m", "nbutils.study.papermill"])
OPTIONS = shlex.join(
    ["--cwd", str(ROOT), "--no-progress-bar", "--log-level", "ERROR", "-k", config.get("kernel", "python3"),
     "-r", "study_file", FILE]
)
EXECUTE = "{ALONE} " + THREADS + " {PAPERMILL} {input.notebook:q} {output.notebook:q} {OPTIONS}"
TINY = shlex.join([sys.executable, "-m", "nbutils.study", "tiny", str(STUDY.path.resolve())])


wildcard_constraints:
    seed=r"\d+",
    train="|".join(map(re.escape, TRAIN)),


def one_of(names):
    """A wildcard pattern for these names only (nothing matches when there are none)."""
    return "|".join(re.escape(path_name(name)) for name in names) or "(?!)"


def tiny_models(wildcards):
    system, train = SYSTEMS[wildcards.system], TRAIN[wildcards.train]
    return [f"{TOP}/{tiny_folder(STUDY.name, train, kind)}/config.json" for kind in tiny_kinds(STUDY, system)]


rule study:
    input:
        "notebooks/06_evaluation.ipynb",
        "notebooks/01_data_exploration.ipynb",
        [f"notebooks/{notebook}.ipynb" for notebook in ANALYSES],
        RUNS,  # so that a deleted run is made again, even where the analyses of it are there


rule tiny_model:
    """The offline models: built once for each training corpus, shared by all its runs."""
    output:
        f"{TOP}/models/{path_name(STUDY.name)}/{{train}}/{{kind}}/config.json",
    wildcard_constraints:
        kind="encoder|llm",
    log:
        "logs/tiny-{train}-{kind}.log",
    priority: 3
    params:
        corpora=lambda w: CORPORA,
        tiny=lambda w: str(dict(STUDY.tiny.get(w.kind, {}))),
        types=lambda w: str(STUDY.types) if w.kind == "llm" else "",  # their tags are tokens of its tokenizer
        train=lambda w: TRAIN[w.train],
    shell:
        "{ALONE} " + THREADS + " {TINY} {params.train:q} {wildcards.kind} > {log:q} 2>&1"


rule explore:
    input:
        notebook=f"{TOP}/notebooks/01_data_exploration.ipynb",
    output:
        notebook="notebooks/01_data_exploration.ipynb",
    log:
        "logs/01_data_exploration.log",
    params:
        corpora=lambda w: CORPORA,
    shell:
        EXECUTE + " > {log:q} 2>&1"


for kind, notebook_of_kind in NOTEBOOKS.items():

    rule:
        """One run: fit on one corpus with one seed, tag every evaluation corpus."""
        name:
            kind
        input:
            tiny_models,
            notebook=f"{TOP}/{notebook_of_kind}",
        output:
            notebook="{system}/{train}/seed-{seed}/notebook.ipynb",
        log:
            "logs/{system}-{train}-{seed}.log",
        wildcard_constraints:
            system=one_of(s.name for s in STUDY.systems.values() if s.kind == kind),
        priority: KINDS[kind].priority
        params:
            corpora=lambda w: CORPORA,
            settings=lambda w: str(STUDY.systems[SYSTEMS[w.system]].settings) + ELSEWHERE[SYSTEMS[w.system]],
            split=lambda w: f"{STUDY.types} {STUDY.certainties} {STUDY.split_seed} {STUDY.test_fraction} {STUDY.evaluate}",
            system=lambda w: SYSTEMS[w.system],
            train=lambda w: TRAIN[w.train],
        resources:
            gpu=int(KINDS[kind].gpu),
        shell:
            EXECUTE + " -r system {params.system:q} -r train {params.train:q} -p seed {wildcards.seed} > {log:q} 2>&1"


rule evaluate:
    input:
        RUNS,
        notebook=f"{TOP}/notebooks/06_evaluation.ipynb",
    output:
        table="figures/main_result.md",
        rows="figures/main_result.csv",
        png="figures/main_result.png",
        svg="figures/main_result.svg",
        notebook="notebooks/06_evaluation.ipynb",
    log:
        "logs/06_evaluation.log",
    priority: 2
    params:
        corpora=lambda w: CORPORA,
        shown=lambda w: SHOWN,
    shell:
        EXECUTE + " -r runs_folder runs > {log:q} 2>&1"


for analysis, parameters in ANALYSES.items():

    rule:
        """One analysis of the finished study: the notebook as a reader would run it, on the new runs."""
        name:
            analysis[3:]
        input:
            [] if analysis in WITHOUT_RUNS else RUNS,
            notebook=f"{TOP}/notebooks/{analysis}.ipynb",
        output:
            notebook=f"notebooks/{analysis}.ipynb",
        log:
            f"logs/{analysis}.log",
        priority: int(analysis == "07_stratification")  # the longest of them
        params:
            corpora=lambda w: CORPORA + SECONDS,
            shown=lambda w: SHOWN,
            chosen=lambda w, chosen=parameters: [word for pair in chosen.items() for word in ("-r", *pair)],
            adapt=lambda w, analysis=analysis: str(STUDY.adapt) if analysis == "12_adaptation" else "",
        shell:
            EXECUTE + " {params.chosen:q} > {log:q} 2>&1"
