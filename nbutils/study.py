"""The study file: which corpora, which systems, which seeds; checked before anything is started.

The main path of the study in one place: `load` the file, `open_corpora`, `split`, and for each system `execute` one
run (fit, predict, write). The grid of runs is the Snakefile's.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import chdir
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from nbutils import ROOT
from nbutils.corpus import Corpus, fingerprint, select
from nbutils.formats import CERTAINTIES, READERS, DataError, read_corpus
from nbutils.runs import Run, finished_run, read_run, run_folder, timed, write_predictions, write_run
from nbutils.settings import SETTINGS, TINY
from nbutils.splits import split_by_document

NOTEBOOKS = {
    "crf": "notebooks/03_crf_baseline.ipynb",
    "bert": "notebooks/03_bert_finetune.ipynb",
    "lora": "notebooks/04_lora_finetune.ipynb",
}
TINY_OF = {"bert": "tiny/encoder", "lora": "tiny/llm"}


@dataclass(frozen=True)
class CorpusEntry:
    """Where a corpus lies; `$NAME` in the path is taken from the environment."""

    path: str
    format: str = "medtxt"
    private: bool = False
    encoding: str | None = None


@dataclass(frozen=True)
class System:
    """One row of the result table: a kind of tagger and its settings."""

    name: str
    kind: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    title: str

    @property
    def model(self) -> str | None:
        return self.settings.get("model")


@dataclass(frozen=True)
class Study:
    """A study file, checked."""

    name: str
    corpora: Mapping[str, CorpusEntry]
    systems: Mapping[str, System]
    title: str = ""
    train: tuple[str, ...] = ()
    evaluate: tuple[str, ...] = ()
    labels: tuple[str, ...] = ("d",)
    certainties: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    split_seed: int = 0
    test_fraction: float = 0.2
    figures: str = ""
    caption: str = ""
    tiny: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # settings of the tiny models, if not theirs
    path: Path = Path()

    def runs(self) -> Iterator[tuple[System, str, int]]:
        """Every run of the grid: system, training corpus, seed."""
        for system in self.systems.values():
            for train in self.train:
                for seed in system.seeds:
                    yield system, train, seed


def load(path: str | Path) -> Study:
    """Read and check a study file.

    Raises:
        DataError: an unknown key (with the nearest known one), a wrong value, or a name that is not declared.
    """
    path = Path(path)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (ROOT / "studies").glob("*.yaml")))
        raise DataError(f"{path}: no such study file; the studies here are {known}")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = getattr(error, "problem_mark", None)
        where = f", line {place.line + 1}, column {place.column + 1}" if place else ""
        raise DataError(f"{path}{where}: not YAML; mend the file") from None
    keys = _checked(raw, Study, f"{path}", skip={"path", "name"})
    corpora = {
        _name(n, path): CorpusEntry(**_checked(c, CorpusEntry, f"{path}, corpora.{n}"))
        for n, c in _mapping(keys.pop("corpora"), f"{path}, corpora").items()
    }
    for name, entry in corpora.items():
        if entry.format not in READERS:
            raise DataError(f'{path}, corpora.{name}: unknown format "{entry.format}"; use one of {", ".join(READERS)}')
    seeds = _seeds(keys.pop("seeds", (0, 1, 2)), f"{path}, seeds")
    systems = {
        _name(n, path): _system(n, s, seeds, f"{path}, systems.{n}")
        for n, s in _mapping(keys.pop("systems"), f"{path}, systems").items()
    }
    keys = {k: tuple(v) if isinstance(v, list) else v for k, v in keys.items()}
    names = tuple(corpora)
    study = Study(name=path.stem, corpora=corpora, systems=systems, seeds=seeds, path=path,
                  **({"train": names, "evaluate": names} | keys))  # fmt: skip
    for kind, chosen in study.tiny.items():
        if kind not in TINY:
            raise DataError(f'{path}, tiny: unknown key "{kind}"{_nearest(kind, TINY)}')
        _checked(chosen, TINY[kind], f"{path}, tiny.{kind}")
    for key in ("train", "evaluate"):
        chosen = getattr(study, key)
        if not chosen or len(set(chosen)) < len(chosen):
            raise DataError(f"{path}, {key}: name one corpus at least, and each one once")
        for name in chosen:
            if name not in corpora:
                raise DataError(f'{path}, {key}: no corpus "{name}"{_nearest(name, corpora)}')
    for certainty in study.certainties or ():
        if certainty not in CERTAINTIES:
            raise DataError(f'{path}, certainties: unknown certainty "{certainty}"{_nearest(certainty, CERTAINTIES)}')
    if not 0 < study.test_fraction < 1:
        raise DataError(f"{path}, test_fraction: {study.test_fraction} is no share between 0 and 1")
    return replace(study, figures=study.figures or f"figures/{study.name}")


def _system(name: str, raw: Any, seeds: tuple[int, ...], where: str) -> System:
    raw = {} if raw is None or raw == {} else dict(_mapping(raw, where))  # a name alone is enough: `crf:`
    kind, title = raw.pop("kind", name), raw.pop("title", name)
    if not isinstance(kind, str) or kind not in SETTINGS:
        raise DataError(f'{where}: unknown kind "{kind}"{_nearest(kind, SETTINGS)}')
    if not isinstance(title, str):
        raise DataError(f"{where}.title: {title!r} is not of the type str")
    own_seeds = _seeds(raw.pop("seeds", seeds), f"{where}.seeds")
    _checked(raw, SETTINGS[kind], where, skip={"labels"}, besides={"kind", "title", "seeds"})
    model = str(raw.get("model", ""))
    if model.startswith("tiny/") and model != TINY_OF.get(kind):
        raise DataError(
            f'{where}.model: there is no "{model}" for {kind}; use "{TINY_OF.get(kind)}" or a model of the hub'
        )
    return System(name, kind, own_seeds, raw, title)


def _seeds(raw: Any, where: str) -> tuple[int, ...]:
    whole = isinstance(raw, (list, tuple)) and all(type(s) is int and s >= 0 for s in raw)
    if not whole or not raw or len(set(raw)) < len(raw):
        raise DataError(f"{where}: a list of different whole numbers is needed, such as [0, 1, 2]")
    return tuple(raw)


def _mapping(raw: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping) or not raw:
        raise DataError(f"{where}: a mapping (key: value) is needed")
    return raw


def _checked(
    raw: Any, kind: type, where: str, skip: Set[str] = frozenset(), besides: Set[str] = frozenset()
) -> dict[str, Any]:
    """The mapping, if it has only fields of this dataclass, of the right types, and all that it must have.

    `besides` are keys that may stand here too and were taken out already; they are only for the advice.
    """
    raw = _mapping(raw, where) if raw or kind in (Study, CorpusEntry) else {}
    known = {f.name: f for f in fields(kind) if f.name not in skip}
    for key, value in raw.items():
        if key not in known:
            raise DataError(f'{where}: unknown key "{key}"{_nearest(key, known.keys() | besides)}')
        if not _fits(value, str(known[key].type)):
            advice = "; YAML wants a point in it, such as 2.0e-5" if _is_number(value) else ""
            raise DataError(f"{where}.{key}: {value!r} is not of the type {known[key].type}{advice}")
    for name, f in known.items():
        if f.default is MISSING and f.default_factory is MISSING and name not in raw:
            raise DataError(f'{where}: the key "{name}" is missing')
    return dict(raw)


def _fits(value: Any, annotation: str) -> bool:
    """Whether a YAML value is what the field's annotation says; the few types that settings use."""
    for name in annotation.split(" | "):
        if name == "None" and value is None:
            return True
        if (name == "bool" and isinstance(value, bool)) or (name == "str" and isinstance(value, str)):
            return True
        if (name == "int" and type(value) is int) or (name == "float" and type(value) in (int, float)):
            return True
        if name == "tuple[str, ...]" and isinstance(value, list) and all(isinstance(v, str) for v in value):
            return True
        if name == "tuple[int, ...]" and isinstance(value, list):  # seeds, checked on their own
            return True
        if name.startswith("Mapping") and isinstance(value, dict):
            return True
    return False


def _is_number(value: Any) -> bool:
    """Whether this is text that means a number: YAML 1.1 reads 2e-5 as text."""
    return isinstance(value, str) and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", value) is not None


def _nearest(name: Any, known: Any) -> str:
    close = difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=0.5)
    return f'; did you mean "{close[0]}"?' if close else f"; known are {', '.join(sorted(known))}"


def _name(name: Any, path: Path) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
        raise DataError(f"{path}: the name {name!r} goes into file names; use letters, digits, - and _ only")
    return name


# --- corpora and splits ----------------------------------------------------------------------------------------------


def open_corpora(study: Study) -> dict[str, Corpus]:
    """Every corpus of the study, with only the entity types (and certainties) that the study is about."""
    return {name: open_corpus(study, name) for name in study.corpora}


def open_corpus(study: Study, name: str) -> Corpus:
    path, entry = corpus_path(study, name), study.corpora[name]
    corpus = read_corpus(path, entry.format, name, private=entry.private, encoding=entry.encoding)
    chosen = select(corpus, study.labels, study.certainties)
    if any(d.entities for d in corpus) and not any(d.entities for d in chosen):
        raise DataError(
            f"{study.path}, corpora.{name}: none of its entities has the labels and certainties of the study; "
            "correct these, or leave out certainties"
        )
    return chosen


def corpus_path(study: Study, name: str) -> Path:
    """Where a corpus lies: relative paths count from the repository, `$NAME` comes from the environment."""
    if name not in study.corpora:
        raise DataError(f'{study.path}, corpora: no corpus "{name}"{_nearest(name, study.corpora)}')
    path = os.path.expandvars(study.corpora[name].path)
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
        path, suffix = corpus_path(study, name), READERS[entry.format][1]
        files += sorted(map(str, path.glob(f"*{suffix}"))) if path.is_dir() else [str(path)]
    return files


def split(study: Study, corpus: Corpus) -> tuple[Corpus, Corpus]:
    """The training and the in-domain test part of a corpus."""
    return split_by_document(corpus, test_fraction=study.test_fraction, split_seed=study.split_seed)


def evaluation_corpus(study: Study, corpora: Mapping[str, Corpus], train: str, evaluate: str) -> Corpus:
    """What a system trained on `train` is scored on: the held-out part of the same corpus, or all of another one."""
    return split(study, corpora[train])[1] if train == evaluate else corpora[evaluate]


# --- runs ------------------------------------------------------------------------------------------------------------


def settings(study: Study, system: System, train: str) -> Any:
    """The settings of a system for one training corpus; `tiny/…` becomes the model built from that corpus."""
    values = {"labels": study.labels} | {k: tuple(v) if isinstance(v, list) else v for k, v in system.settings.items()}
    if values.get("model", "").startswith("tiny/"):
        values["model"] = str(tiny_folder(study.name, train, values["model"].removeprefix("tiny/")))
    return SETTINGS[system.kind](**values)


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
        tiny.build_llm(documents, folder, chosen, labels=study.labels, progress=progress)


def execute(
    study: Study,
    system: str,
    train: str,
    seed: int,
    *,
    runs: str | Path = "runs",
    progress: bool = True,
) -> Run:
    """One run of the grid: fit on the training part, tag every evaluation corpus, write predictions, then run.json.

    A run that is finished and was made from the same settings and corpora is kept as it is, with its times. `runs`
    counts from the repository, and so do models, wherever the notebook is opened.
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
    }  # fmt: skip
    if (finished := finished_run(folder, recipe)) is not None:
        print(f"This run was finished before; delete {place} to train it again.")
        return finished
    room = import_module(f"nbutils.{chosen.kind}")  # only now, since torch takes seconds to load
    seconds: dict[str, float] = {}
    with timed(seconds, "fit"), chdir(ROOT):
        tagger = room.fit(train_part.documents, values, seed=seed, progress=progress)
    for name in study.evaluate:
        target = evaluation_corpus(study, corpora, train, name)
        with timed(seconds, f"predict {name}"):
            found = tagger.predict(target, progress=progress)
        write_predictions(found, target, folder / "predictions" / f"{name}.jsonl")
    tagger.save(folder / "model")
    write_run(folder, recipe | {"seconds": seconds})
    return read_run(folder)


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


def _finished(study: Study) -> list[Path]:
    paths = [run_folder(ROOT / "runs", study.name, s.name, train, seed) / "run.json" for s, train, seed in study.runs()]
    return [path for path in paths if path.exists()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a study file, run its grid, or build one tiny model: what the Makefile and the Snakefile call."""
    parser = argparse.ArgumentParser(prog="python -m nbutils.study", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("check", "run", "tiny"):
        command = commands.add_parser(name)
        command.add_argument("file", help="the study file")
        if name == "run":
            command.add_argument("--cores", type=int, default=os.cpu_count())
            command.add_argument("--profile", help="where the jobs run, if not here: a Snakemake profile's folder")
        if name == "tiny":
            command.add_argument("train", help="the training corpus")
            command.add_argument("kind", choices=list(TINY))
    chosen = parser.parse_args(arguments)
    try:
        study = load(chosen.file)
        if chosen.command == "run":
            return run_grid(study, chosen.cores, chosen.profile)
        if chosen.command == "tiny":
            build_tiny(study, chosen.train, chosen.kind)
            return 0
        corpora = open_corpora(study)
        for train in study.train:
            split(study, corpora[train])
        print(f"{study.path}: the settings and {len(study.corpora)} corpora are sound; {len(list(study.runs()))} runs")
    except (ValueError, OSError) as error:  # DataError is a ValueError
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
