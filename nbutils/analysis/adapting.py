"""Systems of a study adapted to another corpus, with k of its notes, its names or its text alone: counts by note.

Each repeat divides the target into a pool to learn from and a test part that share no case, patient or hospital.
Curves and intervals are made from these counts in `adaptation`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib import import_module
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nbutils import ROOT
from nbutils.analysis.generalisation import REFERENCE, made_from
from nbutils.corpus import Corpus, Document, Entity, Prediction, entities_within, fingerprint, lines
from nbutils.files import DataError, written_whole
from nbutils.scoring.evaluation import document_counts, groups
from nbutils.study.corpora import private_names, split
from nbutils.study.file import Study
from nbutils.study.runs import path_name, read_run, run_folder, says
from nbutils.study.systems import prepare, settings, tiny_kinds
from nbutils.taggers import KINDS, Tagger, load
from nbutils.taggers.dictionary import fit_dictionary
from nbutils.taggers.settings import TINY

INSIDE, SOURCE = "in-domain", "source alone"  # the system as it was trained, on the source's and the target's test part
BOTH, ALONE, NAMES = "source and target notes", "target notes alone", "names of target notes added"
SELF, PRETRAINED = "no labels: self-training", "no labels: pretraining"
SURE = 0.9  # probability from which a system's own entity is believed in self-training
APART = ("case", "patient", "hospital")  # shared with the pool, they would be remembered; who writes stays the same
DIVISIONS = 1600  # tried at most


class Cell(NamedTuple):
    """One fit and its test: by which way, with how many annotated notes of the target, which draw, which training."""

    way: str
    notes: int
    repeat: int
    seed: int


# --- pool and test part -----------------------------------------------------------------------------------------------


def pool_and_test(
    corpus: Corpus, n_pool: int, *, apart: Sequence[str] = APART, seed: int | Sequence[int] = 0
) -> tuple[Corpus, Corpus]:
    """A pool of at least `n_pool` notes, in random order, and a test part that shares no group with it.

    Every group of notes of a key in `apart` is dealt at random to the one or the other; notes of which one key is dealt
    here and another there are in neither. Of the divisions with a large enough pool, that with the largest smaller part
    is taken: half and half where notes have one key, less where keys cross. Without such a key each note stands alone.

    Raises:
        DataError: no division has so many notes in its pool.
    """
    rng = np.random.default_rng(seed)
    codes = list(groups(corpus.documents, apart, most=None).values()) or [np.arange(len(corpus))]
    ranks = [rng.permutation(int(of_key.max()) + 1)[of_key] for of_key in codes]
    steps = int(DIVISIONS ** (1 / len(ranks)) + 1e-9)
    cuts = [np.unique(np.linspace(1, rank.max(), min(rank.max(), steps)).astype(int)) for rank in ranks if rank.max()]
    best, largest, chosen = 0, 0, None
    for cut in product(*cuts) if len(cuts) == len(ranks) else ():
        inside = np.array([rank < at for rank, at in zip(ranks, cut, strict=True)])
        pool, test = np.flatnonzero(inside.all(axis=0)), np.flatnonzero(~inside.any(axis=0))
        largest = max(largest, len(pool) if len(test) else 0)
        if len(pool) >= n_pool and min(len(pool), len(test)) > best:
            best, chosen = min(len(pool), len(test)), (pool, test)
    if chosen is None:
        raise DataError(
            f'adapt.notes: of the {len(corpus)} notes of "{corpus.name}" no {n_pool} can be learned from while others, '
            f"which share nothing with them, are left for the test; ask for at most {largest}"
        )
    pool, test = rng.permutation(chosen[0]), chosen[1]
    return tuple(replace(corpus, documents=tuple(corpus.documents[k] for k in part)) for part in (pool, test))


# --- one system -------------------------------------------------------------------------------------------------------


@dataclass
class Setup:
    """A system of a study, its source and its target, and the taggers that are needed more than once."""

    study: Study
    system: str
    corpora: Mapping[str, Corpus]
    runs: str | Path = "runs"
    scratch: Path = Path()  # for models that are trained here
    _models: dict[int, Path] = field(default_factory=dict)
    _tagged: dict[int, dict[str, Prediction]] = field(default_factory=dict)

    @property
    def source(self) -> str:
        return self.study.train[0]

    @property
    def target(self) -> Corpus:
        return self.corpora[self.study.adapt.target]

    @property
    def kind(self) -> str:
        return self.study.systems[self.system].kind

    @cached_property
    def parts(self) -> tuple[Corpus, Corpus]:
        """Training and test part of the source."""
        return split(self.study, self.corpora[self.source])

    @cached_property
    def values(self) -> Any:
        return settings(self.study, self.study.systems[self.system], self.source)

    @cached_property
    def divisions(self) -> list[tuple[Corpus, Corpus]]:
        """Pool and test part of the target for each repeat."""
        study, n_pool = self.study, max(self.study.adapt.notes)
        seeds = ([study.split_seed, repeat] for repeat in range(study.adapt.repeats))
        return [pool_and_test(self.target, n_pool, seed=seed) for seed in seeds]

    def cells(self) -> list[Cell]:
        """Every cell, the most wanted first: the ends of the loss, the curve, then what it is compared with."""
        seeds = self.study.systems[self.system].seeds
        draws = [(repeat, seeds[repeat % len(seeds)]) for repeat in range(self.study.adapt.repeats)]
        sizes = [k for k in sorted(self.study.adapt.notes) if k]
        cells = [Cell(INSIDE, 0, 0, seed) for seed in dict.fromkeys(seed for _, seed in draws)]
        cells += [Cell(SOURCE, 0, *draw) for draw in draws]
        cells += [Cell(way, k, *draw) for way in (BOTH, NAMES) for draw in draws for k in sizes]
        cells += [Cell(SELF, 0, *draw) for draw in draws]
        cells += [Cell(ALONE, k, *draw) for draw in draws for k in sizes]
        tiny_encoder = tiny_kinds(self.study, self.system) == ["encoder"]
        return cells + [Cell(PRETRAINED, 0, *draw) for draw in draws if tiny_encoder]

    def counts(self, cell: Cell) -> list[list[int]]:
        """For each test note: its place in the corpus, then matched, predicted and gold entities."""
        corpus = self.corpora[self.source] if cell.way == INSIDE else self.target
        test = self.parts[1] if cell.way == INSIDE else self.divisions[cell.repeat][1]
        place = {d.id: k for k, d in enumerate(corpus)}
        numbers = document_counts(test, self.predictions(cell, test)).astype(int).tolist()
        return [[place[d.id], *row] for d, row in zip(test, numbers, strict=True)]

    def predictions(self, cell: Cell, test: Corpus) -> list[Prediction]:
        if cell.way == INSIDE:
            return self._trained(cell.seed).predict(test)
        pool = self.divisions[cell.repeat][0].documents
        own = self._on_target(cell.seed)
        if cell.way == SOURCE:
            return [own[d.id] for d in test]
        if cell.way == NAMES:
            known = fit_dictionary(pool[: cell.notes]).predict(test)
            return [united(own[p.document_id], p) for p in known]
        if cell.way == ALONE:
            tagger = self._fit(pool[: cell.notes], cell.seed, self._alone(cell.notes))
        elif cell.way == PRETRAINED:
            tagger = self._pretrained(pool, cell.seed)
        else:
            notes = pool[: cell.notes] if cell.way == BOTH else sure_lines(pool, [own[d.id] for d in pool])
            tagger = self._both(notes, cell, len(pool) if cell.way == SELF else cell.notes) if notes else None
        return tagger.predict(test) if tagger else [own[d.id] for d in test]

    # how each way is trained

    def _fit(self, documents: Iterable[Document], seed: int, values: Any, **options: Any) -> Tagger:
        module = import_module(KINDS[self.kind].module)
        return module.fit(documents, values, seed=seed, progress=False, **options)

    def _both(self, notes: Sequence[Document], cell: Cell, n_replayed: int) -> Tagger:
        """A CRF is fitted to all notes of the source and these; a neural tagger goes on, with source notes replayed."""
        source = self.parts[0].documents
        if not KINDS[self.kind].resumable:
            return self._fit([*source, *notes], cell.seed, self.values)
        adapt, order = self.study.adapt, np.random.default_rng([cell.repeat, cell.seed]).permutation(len(source))
        replayed = [source[k] for k in order[:n_replayed]]
        rate = adapt.learning_rate or self.values.learning_rate / 2
        values = replace(self.values, learning_rate=rate, epochs=adapt.epochs)
        return self._fit([*notes, *replayed], cell.seed, values, start=self._model(cell.seed))

    def _alone(self, n_notes: int) -> Any:
        """The system's settings; with fewer notes a neural tagger sees them so much more often, for as many steps."""
        if not KINDS[self.kind].resumable:
            return self.values
        return replace(self.values, epochs=self.values.epochs * max(self.study.adapt.notes) / n_notes)

    def _pretrained(self, pool: Sequence[Document], seed: int) -> Tagger:
        """A tiny encoder made from the bare lines of the source and of the pool, then fitted to the source."""
        source, folder = self.parts[0].documents, self.scratch / "encoder"
        chosen = TINY["encoder"](**self.study.tiny.get("encoder", {}))
        tiny = import_module("nbutils.taggers.tiny")
        tiny.build_encoder([*source, *pool], folder, chosen, progress=False)
        return self._fit(source, seed, replace(self.values, model=str(folder)))

    # the system as it was trained on the source

    def _on_target(self, seed: int) -> dict[str, Prediction]:
        if seed not in self._tagged:
            self._tagged[seed] = {p.document_id: p for p in self._trained(seed).predict(self.target)}
        return self._tagged[seed]

    def _trained(self, seed: int) -> Tagger:
        return load(self.kind, self._model(seed))

    def _model(self, seed: int) -> Path:
        """The folder of the trained model: that of the study's run where it is there, else of a training here."""
        if seed not in self._models:
            folder = ROOT / run_folder(self.runs, self.study.name, self.system, self.source, seed)
            if not self._is_ours(folder, seed):
                print(f"There is no run {self.system}, {self.source}, seed {seed} to go on from; it is trained here.")
                folder = self.scratch / f"seed-{seed}"
                self._fit(self.parts[0].documents, seed, self.values).save(folder / "model")
            self._models[seed] = folder / "model"
        return self._models[seed]

    def _is_ours(self, folder: Path, seed: int) -> bool:
        """Whether a finished run is there, with its model, from the source and the settings that it knew."""
        with suppress(DataError):
            run = read_run(folder)
            same = (run.record.get("corpora") or {}).get(self.source) == fingerprint(self.corpora[self.source])
            same &= says(run, {"kind": self.kind, "settings": asdict(self.values), "seed": seed})
            return same and (folder / "model" / "settings.json").exists()
        return False


def united(own: Prediction, known: Prediction) -> Prediction:
    """A system's entities and those that a dictionary knows; of two that overlap the longer one, or the system's."""
    kept: list[Entity] = []
    for entity in sorted([*own.entities, *known.entities], key=lambda e: e.start - e.end):
        if all(entity.end <= other.start or other.end <= entity.start for other in kept):
            kept.append(entity)
    return Prediction(own.document_id, tuple(sorted(kept)))


def sure_lines(notes: Sequence[Document], predictions: Sequence[Prediction]) -> list[Document]:
    """The lines in which a system marks something and is sure (`SURE`) of all that it marks, as notes to learn from."""
    found = []
    for note, prediction in zip(notes, predictions, strict=True):
        tagged = replace(note, entities=prediction.entities)
        for start, end in lines(note.text):
            entities = entities_within(tagged, start, end)
            if entities and all((e.score or 0) >= SURE for e in entities):
                text = note.text[start:end]
                found.append(replace(note, id=f"{note.id}:{start}", text=text, entities=tuple(entities)))
    return found


# --- results that are kept --------------------------------------------------------------------------------------------


def kept_in(study: Study, system: str) -> list[Path]:
    """Where the counts of a system may lie: beside the reference runs, and in `runs/`, to be written to."""
    name = f"{path_name(system)}-{path_name(study.train[0])}-{path_name(study.adapt.target)}.jsonl"
    return [ROOT / place / study.name / "adaptation" / name for place in (REFERENCE, "runs")]


def counts(
    study: Study,
    corpora: Mapping[str, Corpus],
    system: str,
    *,
    runs: str | Path = "runs",
    kept: Sequence[Path] | None = None,
    compute: bool = True,
    progress: bool = True,
) -> pd.DataFrame:
    """One row per cell and test note of a system: way, notes, repeat, seed, place of the note, and its counts.

    Cells that were kept for the same notes and settings are read; others are computed and written one by one, so that a
    killed process goes on where it was. With `compute=False` the rows are those of the ways that are complete; none
    without both ends of the loss.
    """
    paths, mark = kept or kept_in(study, system), _fingerprint(study, corpora, system)
    done = {cell: rows for path in paths for cell, rows in _read(path, mark).items()}
    private = bool(private_names(study))
    with TemporaryDirectory() as scratch:
        setup = Setup(study, system, corpora, runs, Path(scratch))
        cells = setup.cells()
        missing = [cell for cell in cells if cell not in done]
        if missing and compute:
            prepare(study, system, setup.source, progress=False)
        to_do = missing if compute else []
        for cell in tqdm(to_do, disable=not (progress and to_do), desc=f"adapting {system}", unit="fit"):
            done[cell] = setup.counts(cell)
            _write(paths[-1], mark, {c: done[c] for c in cells if c in done}, private)
    columns = [*Cell._fields, "place", "matched", "n_predicted", "n_gold"]
    partial = {cell.way for cell in cells if cell not in done}
    complete = [cell for cell in cells if cell.way not in partial and not partial & {INSIDE, SOURCE}]
    return pd.DataFrame([(*cell, *row) for cell in complete for row in done[cell]], columns=columns)


def _fingerprint(study: Study, corpora: Mapping[str, Corpus], system: str) -> str:
    """Changes with any note and any setting of the study file that cells depend on; not with the number of repeats."""
    chosen, adapt = study.systems[system], study.adapt
    said = str(sorted(chosen.settings.items()))
    tiny = [study.tiny.get(kind, {}) for kind in tiny_kinds(study, system)]
    asked = ["adaptation", chosen.kind, said, tiny, study.types, study.split_seed, study.test_fraction]
    asked += [APART, max(adapt.notes), adapt.epochs, adapt.learning_rate, SURE]
    return made_from([corpora[study.train[0]], corpora[adapt.target]], asked)


def _read(path: Path, mark: str) -> dict[Cell, list[list[int]]]:
    if not path.exists():
        return {}
    head, *rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {Cell(*row["cell"]): row["counts"] for row in rows} if head.get("made_from") == mark else {}


def _write(path: Path, mark: str, cells: Mapping[Cell, list[list[int]]], private: bool) -> None:
    """Places of notes stand for their ids, and no text; of a private corpus the file is for its owner alone even so."""
    with written_whole(path, private=private) as file:
        file.write(json.dumps({"made_from": mark}) + "\n")
        for cell, rows in cells.items():
            file.write(json.dumps({"cell": list(cell), "counts": rows}, separators=(",", ":")) + "\n")
