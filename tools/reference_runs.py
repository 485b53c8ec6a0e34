"""The reference runs: a study's finished runs, small enough for the repository: notebooks open without training.

`make reference` is the one command that changes what the repository brings along: it copies `runs/<study>` to
`data/reference_runs/<study>` (run.json, predictions, the tables of notebooks 10 and 12; no model, no notebook, no log)
and its figures and tables to `figures/<study>`, puts the main table into the READMEs where these show it, and executes
the notebooks after the study that they open on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from nbutils import ROOT
from nbutils.files import DataError, written_whole
from nbutils.study.corpora import corpus_path, private_names
from nbutils.study.file import Study, load_study
from nbutils.study.results import Results, open_results
from nbutils.study.runs import predictions_file, read_run, run_folder

REFERENCE = "data/reference_runs"
WANTED = ("run.json", "predictions/*.jsonl")
TABLES = ("generalisation/*.csv", "adaptation/*.jsonl")
SHOWN = "demo"  # the study that the notebooks open on


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the finished runs, figures and tables of a study those that the repository brings along."""
    parser = argparse.ArgumentParser(prog="python -m tools.reference_runs", description=main.__doc__)
    parser.add_argument("file", nargs="?", default="studies/demo.yaml", help="the study file")
    try:
        publish(load_study(parser.parse_args(arguments).file))
    except (DataError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def publish(study: Study) -> None:
    """Copy runs and figures, fill the READMEs, and execute the notebooks after the study that they show.

    Raises:
        DataError: see `copy_reference`; or a notebook fails.
    """
    from tools import notebook_outputs, readmes  # which import this module

    folder = copy_reference(study, ROOT / "runs", ROOT / REFERENCE)
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{REFERENCE}/{study.name}: {len(list(study.runs()))} runs, {len(files)} files, {size:.1f} MB")
    copy_figures(ROOT / "runs" / study.name / "figures", ROOT / "figures" / study.name)
    print(f"figures/{study.name}: the figures and tables of these runs")
    if study.name == SHOWN:
        notebook_outputs.make(notebook_outputs.notebooks())
    if study.name in readmes.TABLES:
        changed = readmes.fill(study.name, readmes.main_table(study.name))
        print(", ".join(p.name for p in changed) + " filled" if changed else "The table is shown already.")


def refuse_private(study: Study) -> None:
    """Neither ids nor offsets of private notes go into a repository.

    Raises:
        DataError: a corpus of the study is private.
    """
    for name in sorted(private_names(study)):
        raise DataError(f"{study.path}, corpora.{name}: the corpus is private, so its runs stay out of {REFERENCE}")


def copy_reference(study: Study, runs: Path, reference: Path) -> Path:
    """Copy every run of the study file from `runs` to `reference`; what lay there before is replaced as a whole.

    But for the tables of notebooks 10 and 12, of which each says which notes and settings it was made from. What models
    wrote about notes that the repository does not hold repeats these notes, and is left out.

    Raises:
        DataError: a run is not finished, or a corpus is private: neither its ids nor its offsets go into a repository.
    """
    refuse_private(study)
    source, target = runs / study.name, reference / study.name
    beside = target.with_name(f".{study.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        for system, train, seed in study.runs():
            folder = run_folder(runs, study.name, system.name, train, seed)
            read_run(folder)  # a sentence, if it is not finished
            for pattern in WANTED:
                copy_files(folder.glob(pattern), source, beside)
            for name in study.evaluate:
                if not corpus_path(study, name).resolve().is_relative_to(ROOT):
                    drop_answers(predictions_file(beside / folder.relative_to(source), name))
        for folder in (target, source):  # a study takes tables from the reference and then has none of its own
            copy_files((path for tables in TABLES for path in folder.glob(tables)), folder, beside)
        shutil.rmtree(target, ignore_errors=True)
        beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def own_or_bundled(study: Study, folder: str = "runs") -> Results:
    """The finished runs of a study in a folder of the repository, else those that came with it.

    Raises:
        DataError: there are neither.
    """
    try:
        return open_results(study, folder)
    except DataError:
        return open_results(study)


def drop_answers(path: Path) -> None:
    """Take what a model wrote out of a file of predictions; entities, hashes and counts stay."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with written_whole(path) as file:
        for row in rows:
            row.pop("raw", None)
            file.write(json.dumps(row, separators=(",", ":")) + "\n")


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
