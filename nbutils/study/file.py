"""What a study file may say, and reading one: which corpora, systems and seeds, checked before anything is started.

Plain data and nothing heavy. What is done with it is in `study`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from nbutils import ROOT
from nbutils.corpus import MEDTXT_TAGS, WITHOUT_CERTAINTY, entity_types
from nbutils.corpus.formats import CERTAINTIES, FORMATS
from nbutils.files import DataError
from nbutils.taggers.settings import CHOICES, SETTINGS, TINY, settings_from

_USE = {"train": "learn from", "evaluate": "score against"}
TINY_OF = {"bert": "tiny/encoder", "lora": "tiny/llm", "icl": "tiny/llm"}


@dataclass(frozen=True)
class CorpusEntry:
    """Where a corpus lies (`$NAME` comes from the environment) and how to read it: docs/your_own_notes.md."""

    path: str
    format: str = "medtxt"
    private: bool = False
    encoding: str | None = None
    meta: str | None = None  # a CSV beside the notes: id, case, physician, …
    names: str | None = None  # what file names say, such as "{physician}_{case}"
    labels_as: Mapping[str, str] | None = None  # type in the file: type in the study
    overlaps: str | None = None
    discontinuous: str | None = None
    offsets: str | None = None
    join: str | None = None
    documents: str | None = None
    second: str | None = None  # a second annotator's entities on some of its documents, in the same format

    @property
    def reading(self) -> dict[str, Any]:
        """What `read_corpus` is told beside path and name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("path", "second")}


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
    certainty_in_type: bool = False  # types such as d-positive instead of d (corpus.select)
    seeds: tuple[int, ...] = (0, 1, 2)
    split_seed: int = 0
    test_fraction: float = 0.2
    cluster: tuple[str, ...] | None = None  # groups of notes that are sampled; None: all that notes name
    compare: tuple[tuple[str, str], ...] = ()  # pairs of systems asked about; others: exploratory
    margin: float = 3.0  # points of F1 below which a difference does not matter (test of equivalence)
    checkpoint_steps: int = 100  # optimiser steps between two checkpoints of a training that is under way
    caption: str = ""
    tiny: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # settings of the tiny models, if not theirs
    path: Path = Path()

    @property
    def types(self) -> tuple[str, ...]:
        """The types of entities that the study is about: what taggers are told, and what scores tell apart."""
        return entity_types(self.labels, self.certainties, certainty_in_type=self.certainty_in_type)

    def runs(self) -> Iterator[tuple[System, str, int]]:
        """Every run of the grid: system, training corpus, seed."""
        for system in self.systems.values():
            for train in self.train:
                for seed in system.seeds:
                    yield system, train, seed


def load_study(path: str | Path) -> Study:
    """Read and check a study file.

    Raises:
        DataError: an unknown key (with the nearest known one), a wrong value, or a name that is not declared.
    """
    path = Path(path)
    path = path if path.exists() else ROOT / path  # notebooks count from the repository, wherever they are opened
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
        if entry.format not in FORMATS:
            raise DataError(f'{path}, corpora.{name}: unknown format "{entry.format}"; use one of {", ".join(FORMATS)}')
        if not all(isinstance(x, str) for pair in (entry.labels_as or {}).items() for x in pair):
            raise DataError(
                f"{path}, corpora.{name}.labels_as: write TYPE-IN-THE-FILE: TYPE-IN-THE-STUDY, both as text"
            )
    seeds = _seeds(keys.pop("seeds", (0, 1, 2)), f"{path}, seeds")
    systems = {
        _name(n, path): _system(n, s, seeds, f"{path}, systems.{n}")
        for n, s in _mapping(keys.pop("systems"), f"{path}, systems").items()
    }
    keys["compare"] = [tuple(pair) if isinstance(pair, list) else pair for pair in keys.get("compare", ())]
    keys = {k: tuple(v) if isinstance(v, list) else v for k, v in keys.items()}
    names = tuple(name for name, entry in corpora.items() if entry.format != "text")  # nothing to learn or score there
    study = Study(name=path.stem, corpora=corpora, systems=systems, seeds=seeds, path=path,
                  **({"train": names, "evaluate": names} | keys))  # fmt: skip
    for kind, chosen in study.tiny.items():
        if kind not in TINY:
            raise DataError(f'{path}, tiny: unknown key "{kind}"{nearest(kind, TINY)}')
        _checked(chosen, TINY[kind], f"{path}, tiny.{kind}")
    for key in ("train", "evaluate"):
        chosen = getattr(study, key)
        if not chosen or len(set(chosen)) < len(chosen):
            raise DataError(f"{path}, {key}: name one corpus at least, and each one once")
        for name in chosen:
            if name not in corpora:
                raise DataError(f'{path}, {key}: no corpus "{name}"{nearest(name, corpora)}')
            if corpora[name].format == "text":
                raise DataError(
                    f"{path}, {key}: {name} is bare text, without entities to {_USE[key]}; take it out of {key}"
                )
    for certainty in study.certainties or ():
        if certainty not in CERTAINTIES:
            raise DataError(f'{path}, certainties: unknown certainty "{certainty}"{nearest(certainty, CERTAINTIES)}')
    _check_labels(study)
    if not 0 < study.test_fraction < 1:
        raise DataError(f"{path}, test_fraction: {study.test_fraction} is no share between 0 and 1")
    for pair in study.compare:
        if not isinstance(pair, tuple) or len(pair) != 2 or len(set(pair)) < 2:
            raise DataError(f"{path}, compare: write pairs of two systems, such as [[bert, lora]]")
        for name in pair:
            if name not in systems:
                raise DataError(f'{path}, compare: no system "{name}"{nearest(name, systems)}')
    if study.cluster is not None and not 0 < len(set(study.cluster)) == len(study.cluster) <= 2:
        raise DataError(f"{path}, cluster: name one or two keys of the notes, such as [patient] or [physician, case]")
    if not study.margin > 0:
        raise DataError(f"{path}, margin: {study.margin} is no number of points above 0")
    if study.checkpoint_steps < 1:
        raise DataError(f"{path}, checkpoint_steps: {study.checkpoint_steps} is too few; one is the least")
    return study


def _check_labels(study: Study) -> None:
    where, labels = f"{study.path}, labels", study.labels
    if not labels or len(set(labels)) < len(labels):
        raise DataError(f"{where}: name one type of entities at least, and each one once")
    if all(entry.format in ("medtxt", "jmed") for entry in study.corpora.values()):
        for label in set(labels) - MEDTXT_TAGS:
            raise DataError(f'{where}: "{label}" is no MedTxt tag{nearest(label, MEDTXT_TAGS)}')
    for label in labels:
        if not re.fullmatch(r"[\w-]+", label):
            raise DataError(f"{where}: {label!r} becomes a tag; use letters, digits, - and _ only")
    if study.certainty_in_type and WITHOUT_CERTAINTY.issuperset(labels):
        raise DataError(f"{study.path}, certainty_in_type: none of the labels has a certainty; add d or leave it out")


def _system(name: str, raw: Any, seeds: tuple[int, ...], where: str) -> System:
    raw = {} if raw is None or raw == {} else dict(_mapping(raw, where))  # a name alone is enough: `crf:`
    kind, title = raw.pop("kind", name), raw.pop("title", name)
    if not isinstance(kind, str) or kind not in SETTINGS:
        raise DataError(f'{where}: unknown kind "{kind}"{nearest(kind, SETTINGS)}')
    if not isinstance(title, str):
        raise DataError(f"{where}.title: {title!r} is not of the type str")
    own_seeds = _seeds(raw.pop("seeds", seeds), f"{where}.seeds")
    _checked(raw, SETTINGS[kind], where, skip={"labels", "private_corpora"}, besides={"kind", "title", "seeds"})
    for key, allowed in CHOICES[kind].items():
        if key in raw and raw[key] not in allowed:
            raise DataError(f'{where}.{key}: there is no "{raw[key]}"; use {" or ".join(allowed)}')
    try:
        settings_from(SETTINGS[kind], raw)
    except ValueError as error:  # values that do not go together
        raise DataError(f"{where}.{error}") from None
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
            raise DataError(f'{where}: unknown key "{key}"{nearest(key, known.keys() | besides)}')
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
        if name in ("tuple[int, ...]", "tuple[tuple[str, str], ...]") and isinstance(value, list):  # checked later
            return True
        if name.startswith("Mapping") and isinstance(value, dict):
            return True
    return False


def _is_number(value: Any) -> bool:
    """Whether this is text that means a number: YAML 1.1 reads 2e-5 as text."""
    return isinstance(value, str) and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", value) is not None


def nearest(name: Any, known: Any) -> str:
    """The advice behind "there is no such name": the known name that is most like it, or else all of them."""
    close = difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=0.5)
    return f'; did you mean "{close[0]}"?' if close else f"; known are {', '.join(sorted(known))}"


def _name(name: Any, path: Path) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
        raise DataError(f"{path}: the name {name!r} goes into file names; use letters, digits, - and _ only")
    return name
