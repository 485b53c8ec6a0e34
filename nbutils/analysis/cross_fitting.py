"""Like for like: every note of a target scored by systems trained near and far, at one size, without shared cases.

An in-domain score on the held-out fifth of a small corpus is uncertain and met with another test set out-of-domain.
Cross-fitting trains five times, so that every note has an in-domain score, and pairs it with the out-of-domain one.
Any system of a study can be fitted; heavy ones are run once by `python -m tools.cross_fit` and read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from nbutils.analysis import generalisation
from nbutils.analysis.generalisation import Fit, Kept, evaluation_of, kept_or_computed
from nbutils.analysis.significance import INTERVAL
from nbutils.corpus import Corpus, Document
from nbutils.corpus.splits import Fold, leave_out, random_folds
from nbutils.scoring.intervals import contrast
from nbutils.study.file import Study
from nbutils.study.systems import make_tiny, settings, tiny_kinds
from nbutils.taggers import KINDS, Tagger

# Each comparison: the nearer and the farther training.
NEAR, FAR = "in-domain, all other notes", "out-of-domain, all notes"
NEAR_CUT, APART, FAR_CUT = "in-domain, same size", "in-domain, same size, nothing shared", "out-of-domain, same size"
STEPS = {"same notes": (NEAR, FAR), "same notes, same size": (NEAR_CUT, FAR_CUT),
         "same notes, same size, nothing shared": (APART, FAR_CUT)}  # fmt: skip


def folds(
    target: Corpus, source: Corpus, *, n_folds: int = 5, n_groups: int = 3, seed: int = 0
) -> dict[str, list[Fold]]:
    """Five ways to train for the notes of `target`, each of which tests every note once.

    The first two take all notes that there are; the others are cut to the same number of entities. `nothing shared`
    leaves out the notes of the same case and physician (of every key by which the target is grouped).
    """
    near = list(random_folds(target, n_folds, seed=seed))
    far = [Fold({}, source, target)]
    cut = {NEAR_CUT: near, FAR_CUT: far}
    if keys := generalisation.group_counts(target, n_groups):
        cut[APART] = list(leave_out(target, *keys, n_groups=min(keys.values()), seed=seed))
    return {NEAR: near, FAR: far} | generalisation.same_size(cut, seed=seed)


# Settings that came later, at their defaults: what was computed before them is still what is asked for.
NEWER = (("dictionary", None), ("hints", 20))


def fit_system(
    study: Study, name: str, documents: Sequence[Document], *, seed: int = 0, folder: str | Path | None = None
) -> Tagger:
    """Train a system of the study on these documents; its tiny model is built from them, too, and from no other note.

    In `folder` the tiny model is kept, and used again when it is there already.
    """
    system = study.systems[name]
    values = settings(study, system, study.train[0])
    with TemporaryDirectory() as temporary:
        for kind in tiny_kinds(study, name):
            place = Path(folder or temporary) / kind
            if not place.exists():
                make_tiny(study, documents, kind, place, progress=False)
            values = replace(values, model=str(place))
        return import_module(KINDS[system.kind].module).fit(documents, values, seed=seed, progress=False)


def counts(
    study: Study, corpora: Mapping[str, Corpus], target: str, source: str, system: str, *,
    kept: Kept = None, compute: bool = True, seed: int = 0, progress: bool = True, fit: Fit | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Counts by regime and note of one system (`generalisation.fold_counts`), read if they were kept, else computed.

    With `compute=False` what was not kept is not trained, and the table is empty. `fit` replaces the study's own.
    """
    title = study.systems[system].title
    values = asdict(settings(study, study.systems[system], target))
    values = {key: str(value) for key, value in values.items() if key != "model" and (key, value) not in NEWER}
    tiny = next((study.tiny.get(kind, {}) for kind in tiny_kinds(study, system)), {})
    made_from = generalisation.made_from([corpora[target], corpora[source]], ["like for like", values, tiny, seed])

    def rows() -> pd.DataFrame:
        fits = {title: fit or (lambda documents: fit_system(study, system, documents, seed=seed))}
        of_target = folds(corpora[target], corpora[source], seed=seed)
        return generalisation.fold_counts(of_target, fits, progress=progress)

    return kept_or_computed(kept, made_from, rows, compute=compute)


def of_systems(
    study: Study, corpora: Mapping[str, Corpus], target: str, source: str,
    folder: str | Path, compute: Iterable[str] = (),
) -> pd.DataFrame:  # fmt: skip
    """The counts of every system whose results lie in the folder of runs; those in `compute` are trained if need be."""
    tables = []
    for name in study.systems:
        kept = generalisation.kept_in(folder, study.name, f"like-for-like-{target}-{name}.csv")
        tables.append(counts(study, corpora, target, source, name, kept=kept, compute=name in compute))
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["tagger", "regime"])


def table(like: pd.DataFrame) -> pd.DataFrame:
    """The gap of each system (out-of-domain − in-domain F1 on the same notes) in each comparison, with its interval."""
    rows = []
    for tagger, some in like.groupby("tagger", sort=False):
        under = {name: evaluation_of(part) for name, part in some.groupby("regime", sort=False)}
        sizes = some.groupby("regime")["train_entities"].mean()
        for step, (near, far) in STEPS.items():
            if near in under and far in under:
                gap = contrast([(1, under[far]), (-1, under[near])])
                rows.append(
                    {"compared on": step, "system": tagger, "notes": len(under[near].documents)}
                    | {"trained on (entities)": f"{sizes[near]:,.0f} and {sizes[far]:,.0f}"}
                    | {"in-domain F1 (%)": under[near].f1, "out-of-domain F1 (%)": under[far].f1}
                    | {"gap (points)": gap.value} | dict(zip(INTERVAL, gap.interval(), strict=True))
                )  # fmt: skip
    rows.sort(key=lambda row: list(STEPS).index(row["compared on"]))
    return pd.DataFrame(rows).set_index(["compared on", "system"]) if rows else pd.DataFrame()


def difference_table(study: Study, like: pd.DataFrame) -> pd.DataFrame:
    """Who loses less on the same notes: gap of the first − gap of the second, for the study's pairs that are there."""
    titles = list(like["tagger"].unique())
    asked = [tuple(study.systems[name].title for name in pair) for pair in study.compare]
    pairs = [pair for pair in asked if set(pair) <= set(titles)] or list(combinations(titles, 2))
    rows = []
    under = {key: evaluation_of(part) for key, part in like.groupby(["tagger", "regime"], sort=False)}
    for first, second in pairs:
        for step, (near, far) in STEPS.items():
            keys = [(first, far), (first, near), (second, far), (second, near)]
            if all(key in under for key in keys):
                e = contrast(list(zip((1, -1, -1, 1), (under[key] for key in keys), strict=True)))
                rows.append(
                    {"compared on": step, "first": first, "second": second, "difference of gaps (points)": e.value}
                    | dict(zip(INTERVAL, e.interval(), strict=True)) | {"p": e.p()}
                )  # fmt: skip
    return pd.DataFrame(rows).set_index(["compared on", "first", "second"]) if rows else pd.DataFrame()
