"""The reference runs: a study's finished runs, small enough for the repository, so that 06 to 10 open without training.

Copies `runs/<study>` to `data/reference_runs/<study>`: run.json, the predictions and the tables of notebook 10; no
model, no notebook, no log. The figures and tables of the same runs go to `figures/<study>`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from nbutils import ROOT
from nbutils.files import DataError
from nbutils.study.file import Study, load_study
from nbutils.study.runs import read_run, run_folder

REFERENCE = "data/reference_runs"
WANTED = ("run.json", "predictions/*.jsonl")
TABLES = "generalisation/*.csv"


def main(arguments: Sequence[str] | None = None) -> int:
    """Copy the finished runs of a study to data/reference_runs, in the place of those that are there."""
    parser = argparse.ArgumentParser(prog="python -m tools.reference_runs", description=main.__doc__)
    parser.add_argument("file", nargs="?", default="studies/demo.yaml", help="the study file")
    try:
        plan = load_study(parser.parse_args(arguments).file)
        folder = copy_reference(plan, ROOT / "runs", ROOT / REFERENCE)
        copy_figures(ROOT / "runs" / plan.name / "figures", ROOT / "figures" / plan.name)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{REFERENCE}/{plan.name}: {len(list(plan.runs()))} runs, {len(files)} files, {size:.1f} MB")
    return 0


def copy_reference(plan: Study, runs: Path, reference: Path) -> Path:
    """Copy every run of the study file from `runs` to `reference`; what lay there before is replaced as a whole.

    But for the tables of notebook 10, of which each says which notes and settings it was made from.

    Raises:
        DataError: a run is not finished, or a corpus is private: neither its ids nor its offsets go into a repository.
    """
    for name, entry in plan.corpora.items():
        if entry.private:
            raise DataError(f"{plan.path}, corpora.{name}: the corpus is private, so its runs stay out of {REFERENCE}")
    source, target = runs / plan.name, reference / plan.name
    beside = target.with_name(f".{plan.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        for system, train, seed in plan.runs():
            folder = run_folder(runs, plan.name, system.name, train, seed)
            read_run(folder)  # a sentence, if it is not finished
            for pattern in WANTED:
                copy_files(folder.glob(pattern), source, beside)
        for folder in (target, source):  # a study takes tables from the reference and then has none of its own
            copy_files(folder.glob(TABLES), folder, beside)
        shutil.rmtree(target, ignore_errors=True)
        beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def copy_figures(source: Path, target: Path) -> None:
    """Put the figures and tables of a study in the place of those that lie in `target`."""
    if not (source / "main_result.md").exists():
        raise DataError(f"{source.relative_to(ROOT)}: the study's table is not there yet; run `make study` first")
    shutil.rmtree(target, ignore_errors=True)
    copy_files((path for path in source.iterdir() if not path.name.startswith(".")), source, target)


def copy_files(paths: Iterable[Path], source: Path, target: Path) -> None:
    """Copy files to the same places below `target` as they have below `source`."""
    for path in paths:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


if __name__ == "__main__":
    sys.exit(main())
