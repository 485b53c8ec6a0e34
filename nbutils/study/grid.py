"""The whole grid of a study through Snakemake, and what is told at its end."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

from nbutils import ROOT
from nbutils.study.file import Study
from nbutils.study.runs import figure_folder, run_folder


def run_grid(study: Study, cores: int, profile: str | None = None) -> int:
    """Run what is missing of the study through Snakemake, then print the main table; returns the exit status.

    Killed at any point and called again, it repeats only the jobs that had not finished. With a `profile` (a folder
    with Snakemake options, such as profiles/slurm) the jobs run where that one says, and `cores` is not used.
    """
    where = ["--profile", profile] if profile else ["--cores", str(cores)]
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(ROOT),
               "--config", f"study={study.path.resolve()}", *where, "--rerun-incomplete", "--nolock",
               "--keep-going",
               "--show-failed-logs", "--quiet", "rules", "host", "reason"]  # fmt: skip
    n_before = len(_finished(study))
    print(f"{study.title or study.name}: {n_before} of {len(list(study.runs()))} runs are finished.", flush=True)
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        if n_before == len(list(study.runs())):
            print("Nothing was left to train.")
        folder = figure_folder(study.name)
        print(f"\n{(folder / 'main_result.md').read_text(encoding='utf-8')}")
        print(f"The figure is {(folder / 'main_result.png').relative_to(ROOT)}")
        if sentence := distance(folder / "main_result.csv", ROOT / "figures" / study.name / "main_result.csv"):
            print(sentence)
    else:
        print(
            "The study is not finished; the lines above say why. Run the same command again to go on.", file=sys.stderr
        )
    return status


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


def _finished(study: Study) -> list[Path]:
    paths = [run_folder(ROOT / "runs", study.name, s.name, train, seed) / "run.json" for s, train, seed in study.runs()]
    return [path for path in paths if path.exists()]
