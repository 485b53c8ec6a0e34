"""The main path of the study in one place: `load` the file, `open_corpora`, `split`, and `execute` a run.

A run fits one system on one corpus, tags the others and writes. The grid of runs is the Snakefile's; what a study
file may say is `study_file`'s.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import asdict, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nbutils import ROOT
from nbutils.agreement import paired
from nbutils.corpus import Corpus, fingerprint, select
from nbutils.formats import DataError, files_of, read_corpus
from nbutils.runs import (
    Run,
    checkpoint_folder,
    finished_run,
    latency,
    model_size,
    read_run,
    remove_checkpoints,
    run_folder,
    timed,
    write_predictions,
    write_run,
)
from nbutils.settings import SETTINGS, TINY
from nbutils.splits import split_by_document
from nbutils.study_file import CorpusEntry, Study, System, load, nearest

__all__ = ["CorpusEntry", "Study", "System", "load"]  # the parts of a study file, for whoever runs it

NOTEBOOKS = {
    "crf": "notebooks/03_crf_baseline.ipynb",
    "bert": "notebooks/03_bert_finetune.ipynb",
    "lora": "notebooks/04_lora_finetune.ipynb",
    "icl": "notebooks/05_icl_baselines.ipynb",
}
STEPWISE = frozenset({"bert", "lora"})  # kinds whose training can be cut off and gone on with


# --- corpora and splits ----------------------------------------------------------------------------------------------


def open_corpora(study: Study) -> dict[str, Corpus]:
    """Every corpus of the study, with only the entity types (and certainties) that the study is about."""
    return {name: open_corpus(study, name) for name in study.corpora}


def open_corpus(study: Study, name: str) -> Corpus:
    path, entry = corpus_path(study, name), study.corpora[name]
    corpus = read_corpus(path, name=name, **entry.reading)
    notices = tuple(notice.replace(f"{ROOT}/", "") for notice in corpus.notices)  # no path of this machine
    corpus = replace(corpus, notices=notices)
    chosen = select(corpus, study.labels, study.certainties, certainty_in_type=study.certainty_in_type)
    if any(d.entities for d in corpus) and not any(d.entities for d in chosen):
        raise DataError(
            f"{study.path}, corpora.{name}: none of its entities has the labels and certainties of the study; "
            "correct these, or leave out certainties"
        )
    return chosen


def open_second(study: Study, name: str) -> Corpus | None:
    """What a second annotator marked in some documents of a corpus, chosen as in `open_corpus`; None without one."""
    return open_corpus(_of_second(study), name) if study.corpora[name].second else None


def corpus_path(study: Study, name: str) -> Path:
    """Where a corpus lies: relative paths count from the repository, `$NAME` comes from the environment."""
    if name not in study.corpora:
        raise DataError(f'{study.path}, corpora: no corpus "{name}"{nearest(name, study.corpora)}')
    path = os.path.expanduser(os.path.expandvars(study.corpora[name].path))
    if "$" in path:
        variable = path[path.index("$") :].split("/")[0]
        raise DataError(f"{study.path}, corpora.{name}: {variable} is not set; set it to the folder of that corpus")
    full = ROOT / path  # an absolute path stays itself
    if not full.exists():
        raise DataError(f"{study.path}, corpora.{name}: there is no {path}; put the corpus there or correct the path")
    return full


def corpus_files(study: Study) -> list[str]:
    """Every file that the study reads text from."""
    files = []
    for name, entry in study.corpora.items():
        files += map(str, files_of(corpus_path(study, name), entry.format, entry.meta))
    return files


def second_files(study: Study) -> list[str]:
    """Every file of a second annotator."""
    return corpus_files(_of_second(study))


def _of_second(study: Study) -> Study:
    """The study with a second annotator's corpora in the place of the first's."""
    seconds = {name: replace(entry, path=entry.second) for name, entry in study.corpora.items() if entry.second}
    return replace(study, corpora=seconds)


def split(study: Study, corpus: Corpus) -> tuple[Corpus, Corpus]:
    """The training and the in-domain test part of a corpus."""
    return split_by_document(corpus, test_fraction=study.test_fraction, split_seed=study.split_seed)


def main_setting(study: Study) -> tuple[str, str]:
    """The setting that single-setting notebooks look at: the first training corpus, and the first other one (CR→PN)."""
    train = study.train[0]
    return train, next((name for name in study.evaluate if name != train), study.evaluate[0])


def analyses(study: Study) -> dict[str, dict[str, str]]:
    """The analysis notebooks that the study's corpora allow, and the parameters that each gets besides the study file.

    Agreement needs a second annotator; stratification a note of every case by every physician; generalisation two kinds
    of notes; the efficiency of runs and their errors are looked at in any study. Generalisation trains taggers of its
    own for minutes, unless results on the very same notes and settings came with the repository.
    """
    runs, (train, evaluate) = {"runs_folder": "runs"}, main_setting(study)
    chosen: dict[str, dict[str, str]] = {}
    if any(entry.second for entry in study.corpora.values()):
        chosen["02_inter_annotator_agreement"] = {}
    if _is_full_grid(open_corpus(study, evaluate)) and evaluate != train:
        chosen["07_stratification"] = runs | {"train": train, "evaluate": evaluate}
    chosen["08_error_analysis"] = runs | {"train": train, "evaluate": evaluate}
    chosen["09_efficiency"] = runs
    if evaluate != train:
        chosen["10_generalisation"] = {"target": evaluate, "source": train}
    return chosen


def _is_full_grid(corpus: Corpus) -> bool:
    """Whether every physician, of two or more, wrote on every case, of two or more."""
    cells = {(d.meta.get("physician"), d.meta.get("case")) for d in corpus}
    levels = [{cell[k] for cell in cells} for k in (0, 1)]
    return all(len(some) > 1 and None not in some for some in levels) and len(cells) == len(levels[0]) * len(levels[1])


def evaluation_corpus(study: Study, corpora: Mapping[str, Corpus], train: str, evaluate: str) -> Corpus:
    """What a system trained on `train` is scored on: the held-out part of the same corpus, or all of another one."""
    return split(study, corpora[train])[1] if train == evaluate else corpora[evaluate]


# --- runs ------------------------------------------------------------------------------------------------------------


def settings(study: Study, system: System, train: str) -> Any:
    """The settings of a system for one training corpus; `tiny/…` becomes the model built from that corpus."""
    values = {"labels": study.types} | {k: tuple(v) if isinstance(v, list) else v for k, v in system.settings.items()}
    if values.get("model", "").startswith("tiny/"):
        values["model"] = str(tiny_folder(study.name, train, values["model"].removeprefix("tiny/")))
    if system.kind == "icl":
        values["private_corpora"] = _private_corpora(study, train, values.get("shots", 0))
    return SETTINGS[system.kind](**values)


def _private_corpora(study: Study, train: str, shots: int) -> tuple[str, ...]:
    """The private corpora whose text a prompt would hold: those to be tagged, and the few-shot notes' one."""
    sent = {*study.evaluate, train} if shots else set(study.evaluate)
    return tuple(name for name in study.corpora if name in sent and study.corpora[name].private)


def check_endpoints(study: Study) -> None:
    """Refuse a study that would send text where it may not go, before anything is started.

    Raises:
        DataError: see `guard.allow`.
    """
    from nbutils import guard

    for system in study.systems.values():
        for train in study.train if system.settings.get("endpoint") else ():
            values = settings(study, system, train)
            guard.allow(values.endpoint, values, values.private_corpora)


def tiny_folder(study: str, train: str, kind: str) -> Path:
    """Relative to the repository, so that no path of a machine gets into a record."""
    return Path("models") / study / train / kind


def tiny_kinds(study: Study, system: str) -> list[str]:
    """Which tiny models a system needs built first: `encoder`, `llm` or none."""
    model = study.systems[system].model or ""
    return [model.removeprefix("tiny/")] if model.startswith("tiny/") else []


def build_tiny(study: Study, train: str, kind: str, *, progress: bool = True) -> None:
    """Build the tiny `encoder` or `llm` from the training part of a corpus; all runs on that corpus share it."""
    from nbutils import tiny

    documents = split(study, open_corpus(study, train))[0].documents
    folder = ROOT / tiny_folder(study.name, train, kind)
    chosen = TINY[kind](**study.tiny.get(kind, {}))
    if kind == "encoder":
        tiny.build_encoder(documents, folder, chosen, progress=progress)
    else:
        tiny.build_llm(documents, folder, chosen, labels=study.types, progress=progress)


def execute(
    study: Study,
    system: str,
    train: str,
    seed: int,
    *,
    runs: str | Path = "runs",
    progress: bool = True,
) -> Run | None:
    """One run of the grid: fit on the training part, tag every evaluation corpus, write predictions, then run.json.

    A run that is finished and was made from the same settings and corpora is kept as it is, with its times. One that
    was cut off in its training goes on from its last checkpoint, to the same predictions. `runs` counts from the
    repository, and so do models, wherever the notebook is opened. None in the further processes that
    `accelerate launch` starts: the first one tags and writes.
    """
    chosen = study.systems[system]
    corpora = open_corpora(study)
    values = settings(study, chosen, train)
    place = run_folder(runs, study.name, system, train, seed)
    folder = ROOT / place  # an absolute one stays itself
    train_part = split(study, corpora[train])[0]
    recipe = {
        "study": study.name, "system": system, "title": chosen.title, "kind": chosen.kind, "train": train, "seed": seed,
        "settings": asdict(values), "split_seed": study.split_seed, "test_fraction": study.test_fraction,
        "train_documents": [d.id for d in train_part],
        "corpora": {name: fingerprint(corpora[name]) for name in sorted({train, *study.evaluate})},
        "tiny": {kind: study.tiny.get(kind, {}) for kind in tiny_kinds(study, system)},
        "model_source": _model_source(chosen),
    }  # fmt: skip
    if (finished := finished_run(folder, recipe)) is not None:
        print(f"This run was finished before; delete {place} to train it again.")
        remove_checkpoints(folder)
        return finished
    room = import_module(f"nbutils.{chosen.kind}")  # only now, since torch takes seconds to load
    options: dict[str, Any] = {}
    about: dict[str, Any] = {}
    if chosen.kind in STEPWISE:
        kept = checkpoint_folder(folder, recipe)
        about["resumed"] = any(kept.glob("checkpoint-*"))  # then the seconds of fit are of its last part only
        options = {"checkpoints": kept, "checkpoint_steps": study.checkpoint_steps}
        _hub_notes([(values.model, values.revision)])
    seconds: dict[str, float] = {}
    with timed(seconds, "fit"), chdir(ROOT):
        tagger = room.fit(train_part.documents, values, seed=seed, progress=progress, **options)
    if int(os.environ.get("RANK", 0)) > 0:
        return None
    if chosen.model and not chosen.settings.get("endpoint"):
        about["model_commit"] = import_module("nbutils.hub").commit(values.model, values.revision)
    n_notes = 0
    for name in study.evaluate:
        target = evaluation_corpus(study, corpora, train, name)
        with timed(seconds, f"predict {name}"):
            found = tagger.predict(target, progress=progress)
        n_notes += len(found)
        write_predictions(found, target, folder / "predictions" / f"{name}.jsonl")
    if (used := getattr(tagger, "used", None)) is not None:
        about["tokens"] = {"notes": n_notes, **asdict(used)}
    tagger.save(folder / "model")
    costs: dict[str, Any] = {"model_size": model_size(tagger, folder / "model")}
    if not chosen.settings.get("endpoint"):  # answers from elsewhere are paid, and come from the cache the second time
        costs["latency"] = {"corpus": name} | latency(tagger, target.documents)
    write_run(folder, recipe | about | {"seconds": seconds} | costs)
    remove_checkpoints(folder)
    return read_run(folder)


def _model_source(system: System) -> dict[str, str] | None:
    """Where the system's model is from when it only stands in for the hub's; another model is another run."""
    model = system.model or ""
    if not model or model.startswith("tiny/") or system.settings.get("endpoint"):
        return None
    return import_module("nbutils.hub").source(model)


def models_of(study: Study) -> list[tuple[str, str | None]]:
    """The models that the study loads into this machine and has not built itself, and their revisions, each once."""
    here = [s for s in study.systems.values() if not s.settings.get("endpoint")]
    chosen = [(s.model, s.settings.get("revision")) for s in here]
    return list(dict.fromkeys((m, r) for m, r in chosen if m and not m.startswith("tiny/")))


def check_models(study: Study) -> list[str]:
    """What to know about the study's models; nothing is downloaded and nothing trained.

    Raises:
        DataError: a model cannot be had, or is not in a form that is safe to load, or a package for it is missing.
    """
    for s in study.systems.values():
        if s.settings.get("load_in_4bit") and find_spec("bitsandbytes") is None:
            raise DataError(
                f'study "{study.name}": {s.name} asks for load_in_4bit, which needs bitsandbytes; install it with '
                "`.venv/bin/pip install '.[quant]'`, or leave load_in_4bit out"
            )
    chosen = models_of(study)
    hub = import_module("nbutils.hub") if chosen else None
    return [note for model, revision in chosen for note in hub.check(model, revision, study.name)]


def _hub_notes(models: Sequence[tuple[str, str | None]]) -> None:
    """Say on use what a model's licence forbids; tiny models and folders of one's own have nothing to say."""
    hub = import_module("nbutils.hub")
    for note in (n for model, revision in models for n in hub.warnings(model, revision)):
        print(note, file=sys.stderr)


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
    table = ROOT / study.figures / "main_result.md"
    if status == 0:
        if n_before == len(list(study.runs())):
            print("Nothing was left to train.")
        print(f"\n{table.read_text(encoding='utf-8')}\nThe figure is {study.figures}/main_result.png")
    else:
        print(
            "The study is not finished; the lines above say why. Run the same command again to go on.", file=sys.stderr
        )
    return status


def _execute_one(study: Study, system: str, train: str, seed: int) -> int:
    """One run without a notebook: what `accelerate launch` starts, and a job script of a cluster."""
    for name, known, what in ((system, study.systems, "system"), (train, study.train, "training corpus")):
        if name not in known:
            raise DataError(f'{study.path}: no {what} "{name}"{nearest(name, known)}')
    check_models(study)
    run = execute(study, system, train, seed, runs=ROOT / "runs")
    if run is not None:
        print(f"finished: {run.folder}")
    return 0


def _finished(study: Study) -> list[Path]:
    paths = [run_folder(ROOT / "runs", study.name, s.name, train, seed) / "run.json" for s, train, seed in study.runs()]
    return [path for path in paths if path.exists()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a study file, run its grid, or build one tiny model: what the Makefile and the Snakefile call."""
    parser = argparse.ArgumentParser(prog="python -m nbutils.study", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("check", "run", "tiny", "execute", "models"):
        command = commands.add_parser(name)
        command.add_argument("file", help="the study file")
        if name == "run":
            command.add_argument("--cores", type=int, default=os.cpu_count())
            command.add_argument("--profile", help="where the jobs run, if not here: a Snakemake profile's folder")
        if name == "tiny":
            command.add_argument("train", help="the training corpus")
            command.add_argument("kind", choices=list(TINY))
        if name == "execute":
            command.add_argument("system", help="a system of the study")
            command.add_argument("train", help="the training corpus")
            command.add_argument("seed", type=int)
    chosen = parser.parse_args(arguments)
    try:
        study = load(chosen.file)
        if chosen.command == "run":
            return run_grid(study, chosen.cores, chosen.profile)
        if chosen.command == "tiny":
            build_tiny(study, chosen.train, chosen.kind)
            return 0
        if chosen.command == "execute":
            return _execute_one(study, chosen.system, chosen.train, chosen.seed)
        if chosen.command == "models":
            for model, revision in models_of(study):
                print(f"{model}: {import_module('nbutils.hub').fetch(model, revision, study.name)}")
            return 0
        corpora = open_corpora(study)
        for train in study.train:
            split(study, corpora[train])
        check_endpoints(study)
        for note in check_models(study):
            print(f"note: {note}", file=sys.stderr)
        for name in study.corpora:
            if (second := open_second(study, name)) is not None:
                paired(corpora[name], second)
        for corpus in corpora.values():
            print(_about(corpus))
        print(f"{study.path}: the settings and {len(study.corpora)} corpora are sound; {len(list(study.runs()))} runs")
    except (ValueError, OSError) as error:  # DataError is a ValueError
        print(error, file=sys.stderr)
        return 1
    return 0


def _about(corpus: Corpus, shown: int = 20) -> str:
    """What was read, for a person to compare with what should be there: counts, then what reading left out."""
    counts = {"notes": len(corpus), "entities": sum(len(d.entities) for d in corpus)}
    for key in ("case", "physician"):
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
