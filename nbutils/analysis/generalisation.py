"""What an in-domain score owes to memory: grouped splits, a tagger that only remembers, learning curves of equal size.

Every regime trains on about as many entities and tests every note of the target exactly once, so that only the
training notes differ. Systems of a study on the same folds: `cross_fitting`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nbutils import ROOT
from nbutils.analysis.significance import INTERVAL
from nbutils.corpus import Corpus, Document, Prediction, text_hash
from nbutils.corpus.splits import Fold, leave_out, overlap_report, random_folds
from nbutils.files import written_whole
from nbutils.scoring.evaluation import GROUPS, Evaluation, groups
from nbutils.scoring.intervals import contrast, f1_interval
from nbutils.scoring.spans import exact_document, exact_scores
from nbutils.taggers import Tagger, crf
from nbutils.taggers.dictionary import fit_dictionary
from nbutils.taggers.settings import CrfSettings

REFERENCE = "data/reference_runs"  # what came with the repository
ID, OOD, NEITHER = "in-domain", "out-of-domain", "without both"
BEYOND, WHOLE = "the other document type and its topics, beyond that", "whole gap"
TEXT_COLUMNS = ["regime", "tagger", "document", *GROUPS, "train", "evaluate"]
Fit = Callable[[Sequence[Document]], Tagger]
Kept = str | Path | Sequence[Path] | None  # files that hold results of before
COUNTS = ["matched", "n_predicted", "n_gold", "matched_seen", "n_gold_seen", "train_notes", "train_entities"]


# --- the floor of memory ---------------------------------------------------------------------------------------------


def fit_functions(labels: Sequence[str], iterations: int) -> dict[str, Fit]:
    """The taggers that are compared, by title: how each is trained. Fewer L-BFGS iterations than the study's save time
    at the price of some points of F1; the same number for every regime."""
    settings = CrfSettings(labels=tuple(labels), iterations=iterations)
    return {"CRF": lambda documents: crf.fit(documents, settings, progress=False), "dictionary": fit_dictionary}


# --- regimes ---------------------------------------------------------------------------------------------------------


def regimes(target: Corpus, source: Corpus, *, n_groups: int = 4, seed: int = 0) -> dict[str, list[Fold]]:
    """The ways to choose training notes for the notes of `target`, from the nearest to the farthest.

    In-domain folds mix everything; then notes of the same case, of the same physician (hospital, patient …), and of
    both are left out (by the keys that every note of the target names, each in `n_groups` groups of values, or one by
    one where there are fewer); out-of-domain folds train on `source`. All training parts are cut at random to the
    entities of the smallest one (to the first whole note that reaches them).
    """
    dealt = group_counts(target, n_groups)
    folds = {ID: list(random_folds(target, n_groups, seed=seed))}
    folds |= {f"without the {key}": list(leave_out(target, key, n_groups=n, seed=seed)) for key, n in dealt.items()}
    if len(dealt) > 1 and len(set(dealt.values())) == 1:
        folds[NEITHER] = list(leave_out(target, *dealt, n_groups=n_groups, seed=seed))
    folds[OOD] = [replace(fold, train=source) for fold in folds[ID]]
    return same_size(folds, seed=seed)


def group_counts(corpus: Corpus, n_groups: int) -> dict[str, int]:
    """The keys that every note of a corpus names (`evaluation.groups`), and into how many groups each is dealt."""
    named = {key for key in GROUPS if all(d.meta.get(key) for d in corpus)}
    found = groups(corpus.documents, sorted(named, key=GROUPS.index))
    return {key: min(n_groups, int(codes.max()) + 1) for key, codes in sorted(found.items())}


def same_size(folds: Mapping[str, Sequence[Fold]], *, seed: int = 0) -> dict[str, list[Fold]]:
    """The folds with every training part cut to about the entities of the smallest."""
    n_entities = min(count_entities(fold.train) for some in folds.values() for fold in some)

    def cut(fold: Fold, k: int) -> Fold:
        return replace(fold, train=first_notes(fold.train, n_entities, seed=1000 * seed + k))

    return {name: [cut(fold, k) for k, fold in enumerate(some)] for name, some in folds.items()}


def overlap_table(folds: Mapping[str, Sequence[Fold]]) -> pd.DataFrame:
    """What the training part of each regime tells about its test part (`splits.overlap_report`), mean over folds."""
    rows = {name: pd.DataFrame([overlap_report(f.train, f.test) for f in some]).mean() for name, some in folds.items()}
    return pd.DataFrame(rows).T.rename_axis("regime")


def first_notes(corpus: Corpus, n_entities: int, *, seed: int = 0) -> Corpus:
    """Whole notes in a random order (the same for every size) until they hold `n_entities`; all if they never do."""
    chosen: list[Document] = []
    for k in np.random.default_rng(seed).permutation(len(corpus)):
        if sum(len(d.entities) for d in chosen) >= n_entities:
            break
        chosen.append(corpus.documents[k])
    return replace(corpus, documents=tuple(chosen))


def count_entities(corpus: Corpus) -> int:
    return sum(len(d.entities) for d in corpus)


def regime_counts(
    target: Corpus,
    source: Corpus,
    *,
    labels: Sequence[str] = ("d",),
    n_groups: int = 4,
    iterations: int = 40,
    seed: int = 0,
    kept: Kept = None,
    progress: bool = True,
) -> pd.DataFrame:
    """One row per regime, tagger and note of the target: exact matches, and how many of them the training part names.

    With `kept` the rows are read from the first of these files that was made from the same notes and settings; if there
    is none, they are computed and written to the last one.
    """

    def compute() -> pd.DataFrame:
        folds = regimes(target, source, n_groups=n_groups, seed=seed)
        return fold_counts(folds, fit_functions(labels, iterations), progress=progress)

    asked = ["regimes", list(labels), n_groups, iterations, seed]
    return kept_or_computed(kept, made_from([target, source], asked), compute)


def fold_counts(folds: Mapping[str, Sequence[Fold]], fits: Mapping[str, Fit], *, progress: bool = True) -> pd.DataFrame:
    """One row per regime, tagger and test note, each tagger trained on the training part of every fold."""
    rows = [
        {"regime": name, "tagger": tagger} | row
        for name, fold in tqdm([(name, f) for name, some in folds.items() for f in some], disable=not progress,
                               desc="training", unit="fold")
        for tagger, fit in fits.items()
        for row in _note_counts(fold, fit(fold.train.documents).predict(fold.test))
    ]  # fmt: skip
    keys = [key for key in GROUPS if any(key in row for row in rows)]
    return pd.DataFrame(rows, columns=["regime", "tagger", "document", *keys, *COUNTS])


def _note_counts(fold: Fold, predictions: Iterable[Prediction]) -> Iterator[dict[str, object]]:
    known = {d.surface(e) for d in fold.train for e in d.entities}
    marked = {p.document_id: p.entities for p in predictions}
    for document in fold.test:
        seen = tuple(e for e in document.entities if document.surface(e) in known)
        scores = exact_document(document.entities, marked[document.id])
        of_seen = exact_document(seen, marked[document.id])
        numbers = (scores.matched_gold, scores.n_predicted, scores.n_gold, of_seen.matched_gold, of_seen.n_gold,
                   len(fold.train), count_entities(fold.train))  # fmt: skip
        facts = {key: document.meta[key] for key in GROUPS if document.meta.get(key)}
        yield {"document": document.id} | facts | dict(zip(COUNTS, numbers, strict=True))


# --- scores and the gap ----------------------------------------------------------------------------------------------


def regime_table(counts: pd.DataFrame) -> pd.DataFrame:
    """Micro F1 of each tagger and regime in percent with its 95 % interval, and how much of it is memory.

    `seen` is the share of gold mentions whose string is an entity of the training part; the recalls are of those
    and of the rest. Intervals are over other notes (`intervals.f1_interval`) and keep the taggers as they are.
    """
    rows = []
    for (tagger, regime), some in counts.groupby(["tagger", "regime"], sort=False):
        evaluation = evaluation_of(some)
        total = some[COUNTS[:5]].sum()
        unseen = total["n_gold"] - total["n_gold_seen"]
        rows.append(
            {"tagger": tagger, "regime": regime, "training notes": some["train_notes"].mean()}
            | {"training entities": some["train_entities"].mean(), "F1 (%)": evaluation.f1}
            | dict(zip(INTERVAL, f1_interval(evaluation), strict=True))
            | {"seen (%)": 100 * total["n_gold_seen"] / max(total["n_gold"], 1)}
            | {"recall, seen (%)": 100 * total["matched_seen"] / max(total["n_gold_seen"], 1)}
            | {"recall, unseen (%)": 100 * (total["matched"] - total["matched_seen"]) / max(unseen, 1)}
        )
    return pd.DataFrame(rows).set_index(["tagger", "regime"])


def gap_table(counts: pd.DataFrame) -> pd.DataFrame:
    """What each step away from the in-domain notes takes from F1, in points with a 95 % interval.

    The first rows leave something out of the in-domain training notes; the next is what the other document type takes
    beyond that, its other topics included; the last is the whole gap. Each step is paired, the same notes under both.
    """
    names = list(dict.fromkeys(counts["regime"]))
    farthest_inside = names[-2]  # without both, or whatever the notes' meta allows
    steps = {name: (ID, name) for name in names[1:-1]} | {BEYOND: (farthest_inside, OOD), WHOLE: (ID, OOD)}
    rows = []
    for tagger, some in counts.groupby("tagger", sort=False):
        under = {name: evaluation_of(part) for name, part in some.groupby("regime", sort=False)}
        for step, (near, far) in steps.items():
            change = contrast([(1, under[far]), (-1, under[near])])
            rows.append(
                {"tagger": tagger, "step": step, "change of F1 (points)": change.value}
                | dict(zip(INTERVAL, change.interval(), strict=True))
            )
    return pd.DataFrame(rows).set_index(["tagger", "step"])


def answer(gaps: pd.DataFrame) -> str:
    """The question of notebook 10 answered in Markdown, from `gap_table`: what is lost on notes of the same kind."""

    def points(row: pd.Series) -> str:
        return f"{row.iloc[0]:+.1f} [{row[INTERVAL[0]]:+.1f}, {row[INTERVAL[1]]:+.1f}]"

    said = []
    for tagger, steps in gaps.groupby("tagger", sort=False):
        of = steps.droplevel("tagger")
        within = of.drop(index=[BEYOND, WHOLE])
        said.append(f"- **{tagger}:** F1 changes by {points(of.loc[WHOLE])} points from in-domain to out-of-domain")
        for step in within.index[-1:]:
            said[-1] += f"; training {step}, and on the same kind of notes, takes {points(within.loc[step])} of it"
        said[-1] += "."
    return "\n".join(said)


def evaluation_of(notes: pd.DataFrame) -> Evaluation:
    """The counts of one tagger under one regime, in the form that `intervals` compares.

    Repeats, if there are any, stand where trainings stand elsewhere; a note counts for nothing in one without it.
    """
    of_repeats = notes if "repeat" in notes else notes.assign(repeat=0)
    counts = [of_repeats.pivot(index="repeat", columns="document", values=c).fillna(0) for c in COUNTS[:3]]
    rows = notes.drop_duplicates("document").sort_values("document")
    keys = [key for key in GROUPS if key in notes]
    documents = tuple(
        Document(row["document"], "", meta={key: row[key] for key in keys if row[key] and row[key] == row[key]})
        for row in rows.to_dict("records")
    )
    return Evaluation(documents, np.stack(counts, axis=-1).astype(float))


# --- learning curves -------------------------------------------------------------------------------------------------


def learning_curves(
    train: Mapping[str, Corpus],
    test: Mapping[str, Corpus],
    *,
    labels: Sequence[str] = ("d",),
    sizes: Sequence[int] = (100, 200, 400, 800, 1600),
    draws: int = 2,
    iterations: int = 40,
    kept: Kept = None,
    progress: bool = True,
) -> pd.DataFrame:
    """F1 (%) of each tagger on every test part by the number of training entities, `draws` random orders of the notes.

    Sizes are entities, not notes, so that two corpora of different density can be compared; a size that a training part
    does not reach is left out. Where none reaches any, the entities of the smallest part are the only size. `kept` as
    in `regime_counts`.
    """
    counts = [count_entities(corpus) for corpus in train.values()]
    sizes = [size for size in sizes if size <= max(counts)] or [min(counts)]

    def compute() -> pd.DataFrame:
        parts = [
            (name, size, draw, first_notes(corpus, size, seed=draw))
            for name, corpus in train.items()
            for size in sizes
            for draw in range(draws)
            if count_entities(corpus) >= size
        ]
        rows = []
        for name, size, draw, part in tqdm(parts, disable=not progress, desc="learning curves", unit="fit"):
            for tagger, fit in fit_functions(labels, iterations).items():
                fitted = fit(part.documents)
                for evaluate, corpus in test.items():
                    f1 = 100 * exact_scores(corpus, fitted.predict(corpus)).f1
                    rows.append((tagger, name, evaluate, size, draw, len(part), count_entities(part), f1))
        columns = ["tagger", "train", "evaluate", "size", "draw", "train_notes", "train_entities", "f1"]
        return pd.DataFrame(rows, columns=columns)

    asked = ["curves", list(train), list(test), list(labels), list(sizes), draws, iterations]
    return kept_or_computed(kept, made_from([*train.values(), *test.values()], asked), compute)


def curve_table(curves: pd.DataFrame) -> pd.DataFrame:
    """Mean F1 (%) over the draws: one row per tagger, training and test corpus, one column per number of entities."""
    table = curves.pivot_table(index=["tagger", "train", "evaluate"], columns="size", values="f1", sort=False)
    table.columns.name = "training entities (at least)"
    return table


# --- results that need not be computed twice --------------------------------------------------------------------------


def made_from(corpora: Iterable[Corpus], asked: object) -> str:
    """Changes with any text, any entity and any setting."""
    notes = [[text_hash(d.text), sorted(d.meta.items()), sorted(e.key for e in d.entities)] for c in corpora for d in c]
    return hashlib.sha256(json.dumps([asked, notes]).encode()).hexdigest()[:16]


def kept_in(folder: str | Path, study: str, name: str) -> list[Path]:
    """Where results of a study may lie: in the reference, in a folder of runs, and in `runs/`, to be written to."""
    places = dict.fromkeys((REFERENCE, str(folder), "runs"))
    return [ROOT / place / study / "generalisation" / name for place in places]


def kept_or_computed(
    kept: Kept, fingerprint: str, compute_rows: Callable[[], pd.DataFrame], *, compute: bool = True
) -> pd.DataFrame:
    """The rows in the first file that carries this fingerprint; else computed (or none), and written to the last."""
    paths = [] if kept is None else [Path(kept)] if isinstance(kept, str | Path) else list(kept)
    for path in paths:
        if path.exists():
            rows = pd.read_csv(path, dtype=dict.fromkeys([*TEXT_COLUMNS, "made_from"], str), keep_default_na=False)
            if "made_from" in rows and set(rows["made_from"]) == {fingerprint}:
                return rows.drop(columns="made_from")
    if not compute:
        return pd.DataFrame()
    rows = compute_rows().round(4)  # the same as when it is read again
    if paths:
        with written_whole(paths[-1]) as file:
            rows.assign(made_from=fingerprint).to_csv(file, index=False)
    return rows
