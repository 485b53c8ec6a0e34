"""What a study file may say, and reading one: which corpora, systems and seeds, checked before anything is started."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from nbutils import ROOT
from nbutils.corpus import CERTAINTIES, MEDTXT_TAGS, WITHOUT_CERTAINTY, entity_types
from nbutils.corpus.formats import FORMATS
from nbutils.files import DataError
from nbutils.study.source import Source
from nbutils.taggers import KINDS
from nbutils.taggers.settings import FILLED_IN, STRICT, TINY, Count, Number, Positive, Texts, nearest

__all__ = ["CorpusEntry", "Study", "System", "load_study", "nearest"]

MAX_NAME = 100  # bytes of UTF-8; names are joined in those of files, which may have 255
TAKEN = frozenset(("figures", "logs", "notebooks"))  # folders beside those of the systems
_USE = {"train": "learn from", "evaluate": "score against"}
_FORBIDDEN = re.compile(r"[/\\]")

Listed = TypeVar("Listed", bound=tuple[Any, ...])


def _some_each_once(values: Listed) -> Listed:
    if not values or len(set(values)) < len(values):
        raise ValueError("name at least one, and each one once")
    return values


EACH_ONCE = AfterValidator(_some_each_once), Field(strict=False, json_schema_extra={"minItems": 1, "uniqueItems": True})
Names = Annotated[Texts, *EACH_ONCE]
Certainties = Annotated[tuple[Literal[CERTAINTIES], ...], *EACH_ONCE]
Pair = Annotated[tuple[str, str], Field(strict=False)]  # a list of the file becomes a tuple
Pairs = Annotated[tuple[Pair, ...], Field(strict=False)]
Keys = Annotated[tuple[str, ...], *EACH_ONCE, Field(min_length=1, max_length=2)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[tuple[Seed, ...], *EACH_ONCE]


@dataclass(frozen=True, config=STRICT)
class CorpusEntry:
    """Where a corpus lies (`$NAME` comes from the environment) and how to read it: docs/your_own_notes.md."""

    path: str
    format: Literal[tuple(FORMATS)] = "medtxt"
    private: bool = False
    unannotated: bool = False  # it may be without entities; then it is for tagging, never for training and scoring
    encoding: str | None = None
    meta: str | None = None  # a CSV beside the notes: id, case, physician, …
    names: str | None = None  # what file names say, such as "{physician}_{case}"
    labels_as: Mapping[str, str] | None = None  # type in the file: type in the study
    overlaps: str | None = None
    discontinuous: str | None = None
    offsets: str | None = None
    join: str | None = None
    documents: str | None = None
    first: str | None = None  # two annotators' entities on some of its documents, in the same format;
    second: str | None = None  # without `first` the corpus itself is the first annotator's

    @property
    def reading(self) -> dict[str, Any]:
        """What `read_corpus` is told beside path and name."""
        besides = ("path", "first", "second")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in besides}

    @property
    def has_gold(self) -> bool:
        """Whether there are entities to learn from and to score against."""
        return self.format != "text" and not self.unannotated


@dataclass(frozen=True, config=STRICT)
class System:
    """One row of the result table: a kind of tagger and its settings."""

    name: str
    kind: str
    seeds: Seeds
    settings: Mapping[str, Any]
    title: str

    @property
    def model(self) -> str | None:
        return self.settings.get("model")


@dataclass(frozen=True, config=STRICT)
class Adapt:
    """How much of the loss on another corpus its own annotated notes buy back: docs/statistics.md, notebook 12."""

    target: str  # the corpus; a pool to learn from and a test part are drawn from it
    systems: Names  # that are adapted, from their training on the study's first training corpus
    notes: Annotated[tuple[Number, ...], *EACH_ONCE] = (0, 5, 10, 20, 40)  # annotated notes of the pool
    repeats: Count = 5  # draws of pool, test part and order of notes, each with the next of the system's seeds
    minutes_per_note: Positive = 10.0  # of annotation, to say notes in hours
    epochs: Positive = 3.0  # of going on from a trained encoder or adapter
    learning_rate: Positive | None = None  # of going on; null: half of the system's


@dataclass(frozen=True, config=STRICT)
class Study:
    """A study file, checked."""

    name: str
    corpora: Mapping[str, CorpusEntry]
    systems: Mapping[str, System]
    title: str = ""
    train: Names = ()
    evaluate: Names = ()
    labels: Names = ("d",)
    certainties: Certainties | None = None
    certainty_in_type: bool = False  # types such as d-positive instead of d (corpus.select)
    seeds: Seeds = (0, 1, 2)
    split_seed: Seed = 0
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    cluster: Keys | None = None  # groups notes that are alike: [patient]; None: every key that all notes carry
    compare: Pairs = ()  # pairs of systems asked about; others: exploratory
    margin: Annotated[float, Field(gt=0)] = 3.0  # points of F1 below which a difference does not matter
    checkpoint_steps: Count = 100  # optimiser steps between two checkpoints of a training that is under way
    caption: str = ""
    tiny: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # settings of the tiny models, if not theirs
    adapt: Adapt | None = None  # what notes of another corpus buy back
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

    def pairings(self) -> list[tuple[str, str]]:
        """Training and evaluation corpus of every setting, in-domain first, as tables and figures show them."""
        return [(train, name) for train in self.train for name in sorted(self.evaluate, key=lambda n: n != train)]


def load_study(path: str | Path) -> Study:
    """Read and check a study file.

    Raises:
        DataError: one line for each problem: an unknown key (with the nearest known one), a key that stands twice, a
            wrong value, a name that is not declared or cannot be one.
    """
    path = Path(path)
    path = path if path.exists() else ROOT / path  # notebooks count from the repository, wherever they are opened
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (ROOT / "studies").glob("*.yaml")))
        what = "this is no ordinary file" if path.exists() else "no such study file"
        raise DataError(f"{path}: {what}; the studies here are {known}")
    source = Source(path)
    study = _study(source, source.mapping(source.values, (), least=1))
    source.refuse_problems()
    assert study is not None
    return study


def _study(source: Source, raw: dict[str, Any]) -> Study | None:
    entries, rows = (source.mapping(raw.pop(key, None), (key,), least=1) for key in ("corpora", "systems"))
    for key, names in (("corpora", entries), ("systems", rows)):
        _check_names(source, key, names)
    corpora = {name: source.made(CorpusEntry, entry, ("corpora", name)) for name, entry in entries.items()}
    with_gold = [name for name, entry in corpora.items() if entry is None or entry.has_gold]
    raw = {"train": with_gold, "evaluate": with_gold, "labels": ["d"]} | raw
    raw["tiny"] = source.mapping(raw.get("tiny"), ("tiny",))
    for kind in raw["tiny"]:
        raw["tiny"][kind] = source.mapping(raw["tiny"][kind], ("tiny", kind))
        if kind in TINY:
            source.made(TINY[kind], raw["tiny"][kind], ("tiny", kind))
        else:
            source.problem(("tiny", kind), f'unknown key "{kind}"{nearest(kind, TINY)}')
    if isinstance(raw.get("caption"), str):
        raw["caption"] = " ".join(raw["caption"].split())  # one line below a table or a figure
    raw.pop("figures", None)  # of older study files; figures lie beside the runs now
    given = {"name": source.path.stem, "path": source.path, "systems": {}}
    sound = {name: entry for name, entry in corpora.items() if entry}
    adapt = source.made(Adapt, raw.pop("adapt"), ("adapt",)) if raw.get("adapt") is not None else None
    given |= {"corpora": sound, "adapt": adapt}
    study = source.made(Study, raw, (), hidden=("name", "path"), given=given)
    for key in ("train", "evaluate"):
        for k, name in _texts(raw[key]):
            if source.known((key, k), "corpus", name, corpora) and name not in with_gold:
                what = "unannotated" if corpora[name].unannotated else "bare text"
                source.problem((key, k), f"{name} is {what}, without entities to {_USE[key]}; take it out of {key}")
    _check_labels(source, raw, sound.values())
    seeds = study.seeds if study else (0,)
    systems = {name: _system(source, name, system, seeds) for name, system in rows.items()}
    for k, pair in enumerate(study.compare if study else ()):
        for name in pair:
            source.known(("compare", k), "system", name, systems)
        if pair[0] == pair[1]:
            source.problem(("compare", k), "write two different systems, such as [bert, lora]")
    if study and adapt:
        _check_adapt(source, study, systems, with_gold)
    return study and replace(study, systems={name: system for name, system in systems.items() if system})


def _check_adapt(
    source: Source, study: Study, systems: Mapping[str, System | None], with_gold: Collection[str]
) -> None:
    adapt = study.adapt
    place = ("adapt", "target")
    if source.known(place, "annotated corpus", adapt.target, with_gold) and adapt.target == study.train[0]:
        source.problem(place, f"{adapt.target} is what the systems are trained on; name another corpus")
    if max(adapt.notes) == 0:
        source.problem(("adapt", "notes"), "0 is the system as it was trained; ask for some notes, too, such as 5")
    for k, name in enumerate(adapt.systems):
        place = ("adapt", "systems", k)
        if source.known(place, "system", name, systems) and systems[name] and systems[name].kind == "icl":
            source.problem(place, f"{name} is prompted, not trained; take it out")


def _texts(values: Any) -> list[tuple[int, str]]:
    """The texts in what should be a list of texts, with their positions."""
    return [(k, value) for k, value in enumerate(values) if isinstance(value, str)] if isinstance(values, list) else []


def _system(source: Source, name: str, raw: Any, seeds: tuple[int, ...]) -> System | None:
    place = ("systems", name)
    raw = source.mapping(raw, place)  # a name alone is enough: `crf:`
    own = {"kind": name, "title": name, "seeds": seeds}
    own |= {key: raw.pop(key) for key in own if key in raw}
    kind = own["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        source.problem(place, f'unknown kind "{kind}"{nearest(kind, KINDS)}')
        return None
    source.made(KINDS[kind].settings, raw, place, besides=own, hidden=FILLED_IN)
    model, tiny = str(raw.get("model", "")), KINDS[kind].tiny
    if model.startswith("tiny/") and model != f"tiny/{tiny}":
        instead = f'"tiny/{tiny}" or ' if tiny else ""
        source.problem((*place, "model"), f'there is no "{model}" for {kind}; use {instead}a model of the hub')
    return source.made(System, own, place, given={"name": name, "settings": raw})


def _check_names(source: Source, what: str, names: Iterable[str]) -> None:
    """Names become those of folders and files, on file systems of every kind."""
    alike: dict[str, str] = {}
    for name in names:
        place = (what, name)
        if not name or name != name.strip():
            source.problem(place, "a name must not be empty, nor begin or end with a blank")
        if _FORBIDDEN.search(name) or any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
            source.problem(place, "becomes a file name; leave out /, \\ and control characters")
        if name.startswith((".", "-")):
            source.problem(place, f'becomes a file name; do not begin it with "{name[0]}"')
        if len(name.encode("utf-8", "replace")) > MAX_NAME:
            source.problem(place, f"becomes a file name and is too long; use at most {MAX_NAME} bytes of UTF-8")
        if what == "systems" and name.casefold() in TAKEN:
            source.problem(place, f'"{name}" is the name of another folder of a study\'s runs; choose another')
        other = alike.setdefault(unicodedata.normalize("NFKC", name).casefold(), name)
        if other != name:
            source.problem(place, f'is the same as "{other}" on some file systems; rename one of them')


def _check_labels(source: Source, raw: dict[str, Any], entries: Collection[CorpusEntry]) -> None:
    medtxt = bool(entries) and all(entry.format in ("medtxt", "jmed") for entry in entries)
    labels = _texts(raw["labels"])
    for k, label in labels:
        if medtxt and label not in MEDTXT_TAGS:
            source.problem(("labels", k), f'"{label}" is no MedTxt tag{nearest(label, MEDTXT_TAGS)}')
        elif not re.fullmatch(r"[\w-]+", label):
            source.problem(("labels", k), f"{label!r} becomes a tag; use letters, digits, - and _ only")
    if raw.get("certainty_in_type") is True and WITHOUT_CERTAINTY.issuperset(label for _, label in labels):
        source.problem(("certainty_in_type",), "none of the labels has a certainty; add d or leave it out")
