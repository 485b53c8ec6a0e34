"""The whole grid of a study through Snakemake, and what is told at its end."""

from __future__ import annotations

import csv
import os
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from nbutils import ROOT
from nbutils.files import DataError, locked, sweep, write_whole
from nbutils.scoring.spans import exact_scores
from nbutils.study.console import Job, for_terminal, watched
from nbutils.study.corpora import open_corpora
from nbutils.study.file import Study
from nbutils.study.processes import snakemake
from nbutils.study.results import Results
from nbutils.study.runs import figure_folder, read_run, read_runs, run_folder
from nbutils.study.systems import tiny_folder

NOTEBOOK_SECONDS = 5  # that papermill and a kernel need for a run besides its own work


def run_grid(study: Study, cores: int, profile: str | None = None, kernel: str | None = None) -> int:
    """Run what is missing of the study through Snakemake, then print the main table; returns the exit status.

    Killed at any point and called again, it repeats only the jobs that had not finished. With a `profile` (a folder
    with Snakemake options, such as profiles/slurm) the jobs run where that one says, and `cores` is not used. With a
    `kernel` the notebooks run on that Jupyter kernel instead of this Python's.

    Raises:
        DataError: another process is running the same study, its name cannot be that of a folder, or there is no such
            kernel.
    """
    if study.name.strip(". ") == "" or "\n" in str(study.path.resolve()):
        raise DataError(f"{study.path}: rename the study file; its name becomes that of a folder in runs/")
    if kernel:
        check_kernel(kernel)
    where = ["--profile", str(Path(profile).resolve())] if profile else ["--cores", str(cores)]
    folder = ROOT / "runs" / study.name
    taken = f"{folder.relative_to(ROOT)}: this study is running already, in another process; wait for its end"
    with locked(folder / ".lock", taken) as held:  # which Snakemake keeps as well
        for left in (folder, ROOT / tiny_folder(study.name, "-", "-").parent.parent):
            sweep(left)
        runs = [run_folder(ROOT / "runs", study.name, s.name, train, seed) for s, train, seed in study.runs()]
        unfinished = [run for run in runs if not (run / "run.json").exists()]
        for run in unfinished:
            (run / "notebook.ipynb").unlink(missing_ok=True)  # to Snakemake it would say that the run is there
        values = {"study": str(study.path.resolve())} | ({"kernel": kernel} if kernel else {})
        command = snakemake(ROOT / "Snakefile", folder, folder / ".grid.json", values, *where)
        n_before = len(runs) - len(unfinished)
        print(f"{study.title or study.name}: {n_before} of {len(runs)} runs are finished.", flush=True)
        log = folder / "logs" / "grid.log"
        status = watched(command, folder, log, _name, _scores(study), _typical(study), keep=[held.fileno()])
    if status == 0:
        _tell(study, nothing_to_do=not unfinished)
    else:
        what = "was stopped" if status >= 128 else "is not finished"
        print(f"The study {what}. Run the same command again to go on.", file=sys.stderr)
    return status


def check_kernel(name: str) -> None:
    """A kernel of this name is installed here; behind a gateway (JUPYTER_GATEWAY_URL) only its jobs can tell.

    Raises:
        DataError: there is none; the sentence lists those that there are.
    """
    from jupyter_client.kernelspec import KernelSpecManager

    known = sorted(KernelSpecManager().find_kernel_specs())
    if not os.environ.get("JUPYTER_GATEWAY_URL") and name not in known:
        raise DataError(f'there is no Jupyter kernel "{name}" here, only {", ".join(known)}; install it first '
                        "(docs/cluster.md), or leave KERNEL out")  # fmt: skip


def _tell(study: Study, *, nothing_to_do: bool) -> None:
    if nothing_to_do:
        print("Nothing was left to train.")
    folder = figure_folder(study.name)
    table = (folder / "main_result.md").read_text(encoding="utf-8")
    if sys.stdout.isatty():
        table = for_terminal(table, shutil.get_terminal_size().columns) + "\n"
    print(f"\n{table}")
    print(f"The figure is {(folder / 'main_result.png').relative_to(ROOT)}")
    if sentence := distance(folder / "main_result.csv", ROOT / "figures" / study.name / "main_result.csv"):
        print(sentence)


def file_for_notebooks(study: Study) -> str:
    """The study file as executed notebooks name it, from the repository: without any folder of this machine.

    A study file from elsewhere is copied to runs/<study>/<study>.yaml, which keeps what was run beside its results.
    """
    path = study.path.resolve()
    if path.is_relative_to(ROOT):
        return str(path.relative_to(ROOT))
    copy = ROOT / "runs" / study.name / path.name
    content = path.read_text(encoding="utf-8")
    if not copy.exists() or copy.read_text(encoding="utf-8") != content:
        write_whole(copy, content)
    return str(copy.relative_to(ROOT))


# --- what is told while it runs --------------------------------------------------------------------------------------


def _name(job: Job) -> str:
    known = job.wildcards
    if "seed" in known:
        return f"{unquote(known['system'])} · {unquote(known['train'])} · seed {known['seed']}"
    return f"tiny {known['kind']} · {unquote(known['train'])}" if "kind" in known else Path(job.log).stem or job.rule


def _scores(study: Study) -> Callable[[Job], str]:
    """F1 of a finished run on every evaluation corpus, in percent, as in the main table."""
    corpora = cache(lambda: open_corpora(study))

    def scores(job: Job) -> str:
        if "seed" not in job.wildcards:
            return ""
        folder = ROOT / "runs" / study.name / job.wildcards["system"] / job.wildcards["train"]
        try:
            scored = Results(study, corpora(), [read_run(folder / f"seed-{job.wildcards['seed']}")]).scored()
            return " · ".join(f"{s.evaluate} {100 * exact_scores(s.gold, s.predicted).f1:.1f}" for s in scored)
        except (ValueError, OSError):  # the analyses will say it
            return ""

    return scores


def _typical(study: Study) -> dict[str, float]:
    """Seconds of a run of each kind: of those that are finished here, else of the bundled ones."""
    with suppress(ValueError, OSError, KeyError):  # a record that is no record is told of when it is used
        runs = read_runs(ROOT / "runs", study.name) or read_runs(ROOT / "data" / "reference_runs", study.name)
        seconds: dict[str, list[float]] = defaultdict(list)
        for run in runs:
            seconds[run.record["kind"]].append(NOTEBOOK_SECONDS + sum(run.record["seconds"].values()))
        return {kind: sum(values) / len(values) for kind, values in seconds.items()}
    return {}


# --- the end ---------------------------------------------------------------------------------------------------------


def distance(table: Path, reference: Path) -> str:
    """How far a main table is from that of the bundled reference runs, in a sentence; empty without a reference.

    Cells are means with their SD in brackets; the mean is compared, and rows and columns that only one table has are
    left aside.
    """
    if not reference.exists():
        return ""
    ours, theirs = _means(table), _means(reference)
    differences = {key: abs(ours[key] - theirs[key]) for key in ours.keys() & theirs.keys()}
    if not differences:
        return "The bundled reference run has no row in common with this table."
    (system, column), largest = max(differences.items(), key=lambda item: (item[1], item[0]))
    if largest < 0.05:
        return "The table agrees with that of the bundled reference run to the digit."
    return (
        f"The largest difference from the bundled reference run is {largest:.1f} points: {system}, {column} "
        f"({ours[system, column]:.1f} here, {theirs[system, column]:.1f} there)."
    )


def _means(path: Path) -> dict[tuple[str, str], float]:
    """The numbers of a main table (main_result.csv) by row and column; a dash is no number."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    means = {}
    for row in rows:
        for column, cell in row.items():
            if column != "system" and (number := re.match(r"[-+]?\d+(?:\.\d+)?", cell or "")):
                means[row["system"], column] = float(number[0])
    return means
