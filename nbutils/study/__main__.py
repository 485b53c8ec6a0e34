"""`python -m nbutils.study`: check a study file, run its grid, or one piece of it.

python -m nbutils.study check|run|execute|tiny|notes STUDY.yaml …
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from nbutils import ROOT, privacy
from nbutils.corpus import Corpus, paired
from nbutils.corpus.formats import write_corpus
from nbutils.files import DataError
from nbutils.study.corpora import bare_notes, open_annotators, open_corpora, split
from nbutils.study.execute import execute
from nbutils.study.file import Study, load_study, nearest
from nbutils.study.grid import run_grid
from nbutils.study.runs import path_name
from nbutils.study.systems import build_tiny, check_endpoints, check_external, check_models, endpoint_notes
from nbutils.taggers.settings import TINY


def _execute_one(study: Study, system: str, train: str, seed: int) -> None:
    """One run without a notebook: what `accelerate launch` starts, and a job script of a cluster."""
    for name, known, what in ((system, study.systems, "system"), (train, study.train, "training corpus")):
        if name not in known:
            raise DataError(f'{study.path}: no {what} "{name}"{nearest(name, known)}')
    check_models(study)
    run = execute(study, system, train, seed, runs=ROOT / "runs")
    if run is not None:
        print(f"finished: {run.folder}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a study file, run its grid, or build one tiny model: what the Makefile and the Snakefile call."""
    parser = argparse.ArgumentParser(prog="python -m nbutils.study", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("check", "run", "tiny", "execute", "notes"):
        command = commands.add_parser(name)
        command.add_argument("file", help="the study file")
        if name == "run":
            command.add_argument("--cores", type=int, default=os.cpu_count())
            command.add_argument("--profile", help="where the jobs run, if not here: a Snakemake profile's folder")
            command.add_argument("--kernel", help="the Jupyter kernel that runs the notebooks (default: this Python)")
        if name == "tiny":
            command.add_argument("train", help="the training corpus")
            command.add_argument("kind", choices=list(TINY))
        if name == "execute":
            command.add_argument("system", help="a system of the study")
            command.add_argument("train", help="the training corpus")
            command.add_argument("seed", type=int)
        if name == "notes":
            command.add_argument("folder", nargs="?", help="where to; runs/STUDY/notes when left out")
            command.add_argument("--format", choices=["jsonl", "text"], default="jsonl")
    chosen = parser.parse_args(arguments)
    try:
        study = load_study(chosen.file)
        if chosen.command == "run":
            return run_grid(study, chosen.cores, chosen.profile, chosen.kernel)
        if chosen.command == "tiny":
            build_tiny(study, chosen.train, chosen.kind)
        elif chosen.command == "execute":
            _execute_one(study, chosen.system, chosen.train, chosen.seed)
        elif chosen.command == "notes":
            _write_notes(study, Path(chosen.folder or ROOT / "runs" / study.name / "notes"), chosen.format)
        else:
            _check(study)
    except (ValueError, OSError) as error:  # DataError is a ValueError
        print(error, file=sys.stderr)
        return 1
    return 0


def _check(study: Study) -> None:
    corpora = open_corpora(study)
    for train in study.train:
        split(study, corpora[train])
    check_endpoints(study)
    check_external(study, corpora)
    for note in [*check_models(study), *endpoint_notes(study)]:
        print(f"note: {note}", file=sys.stderr)
    for name in study.corpora:
        for layer in open_annotators(study, name) or ():
            paired(corpora[name], layer)
    for corpus in corpora.values():
        print(_about(corpus))
    print(f"{study.path}: the settings and {len(study.corpora)} corpora are sound; {len(list(study.runs()))} runs")


def _write_notes(study: Study, folder: Path, format: str) -> None:
    """The bare evaluation notes for a tool that runs elsewhere (`kind: external`)."""
    for name in study.evaluate:
        notes = bare_notes(study, name)
        path = folder / (path_name(name) + (".jsonl" if format == "jsonl" else ""))
        write_corpus(notes, path, format)
        kind = "; private, for your eyes only" if notes.private else ""
        print(f"{path}: {len(notes):,} notes without entities{kind}")


def _about(corpus: Corpus, shown: int = 20) -> str:
    """What was read, for a person to compare with what should be there: counts, then what reading left out."""
    counts = {"notes": len(corpus), "entities": sum(len(d.entities) for d in corpus)}
    for key in reversed(privacy.NAMES):
        values = {d.meta[key] for d in corpus if d.meta.get(key)}
        counts |= {f"{key}s": len(values)} if values else {}
    kind = " (private)" if corpus.private else ""
    lines = [
        f"{corpus.name}{kind}: " + ", ".join(f"{n:,} {what}" for what, n in counts.items()),
        *corpus.notices[:shown],
    ]
    hidden = len(corpus.notices) - shown
    return "\n  ".join([*lines, f"… and {hidden:,} more of this kind"] if hidden > 0 else lines)


if __name__ == "__main__":
    sys.exit(main())
