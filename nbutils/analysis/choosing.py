"""Does it pay to choose which notes to annotate? A CRF's source notes plus k of the target's, chosen or drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from nbutils.analysis import generalisation
from nbutils.analysis.generalisation import COUNTS, Kept, evaluation_of, kept_or_computed
from nbutils.corpus import Corpus, Prediction
from nbutils.corpus.splits import Fold, leave_out
from nbutils.privacy import NAMES, shown_id
from nbutils.scoring.intervals import contrast
from nbutils.scoring.spans import exact_document
from nbutils.study.file import Study
from nbutils.tagging.choose import choose

WAYS = {"random": "drawn at random", "expected": "chosen: least expected F1, spread, no near-copies"}
SOURCE = "source alone"


def of_study(
    study: Study, corpora: Mapping[str, Corpus], target: str, source: str, folder: str | Path, *, compute: bool = False
) -> pd.DataFrame:
    """`choosing_table` for two corpora of a study: read where they were kept, or computed (minutes)."""
    kept = generalisation.kept_in(folder, study.name, f"choosing-{target}.csv")
    counts = choosing_counts(corpora[target], corpora[source], labels=study.types, kept=kept, compute=compute)
    return choosing_table(counts)


def choosing_counts(
    target: Corpus,
    source: Corpus,
    *,
    labels: Sequence[str] = ("d",),
    notes: Sequence[int] = (10, 20),
    repeats: int = 6,
    source_entities: int = 800,
    iterations: int = 30,
    kept: Kept = None,
    compute: bool = True,
    progress: bool = True,
) -> pd.DataFrame:
    """One row per way, number of notes, repeat and test note: exact matches of a CRF on the source and those notes.

    In each repeat the target is divided into a pool and a test part that share no case (patient, author … , whichever
    key every note names first). The CRF of the source tags the pool; `notes` are chosen from it by what it found, or
    drawn. `source_entities` cut the source to save time. `kept` as in `generalisation.regime_counts`; with
    `compute=False` what was not kept is not trained, and the table is empty.

    Raises:
        ValueError: the notes of the target name no key that divides them.
    """
    asked = ["choosing", list(labels), list(notes), repeats, source_entities, iterations]

    def rows() -> pd.DataFrame:
        fits = {"CRF": generalisation.fit_functions(labels, iterations)["CRF"]}
        part = generalisation.first_notes(source, source_entities)
        tagger = fits["CRF"](part.documents)
        tables = []
        for repeat in tqdm(range(repeats), disable=not progress, desc="choosing", unit="repeat"):
            pool, test = pool_and_test(target, repeat)
            tagged = [replace(d, entities=p.entities) for d, p in zip(pool, tagger.predict(pool), strict=True)]
            folds = {f"{SOURCE}|0": [Fold({}, part, test)]}
            for way in WAYS:
                order = [c.note.id for c in choose(tagged, max(notes), way, repeat)]
                for k in notes:
                    chosen = tuple(d for d in pool if d.id in order[:k])
                    both = replace(part, documents=(*part.documents, *chosen))
                    folds[f"{way}|{k}"] = [Fold({}, both, test)]
            tables.append(generalisation.fold_counts(folds, fits, progress=False).assign(repeat=repeat))
        all_rows = pd.concat(tables, ignore_index=True)
        all_rows[["regime", "notes"]] = all_rows["regime"].str.split("|", expand=True)
        return all_rows.drop(columns=["tagger", *COUNTS[3:]]).astype({"notes": int})

    return kept_or_computed(kept, generalisation.made_from([target, source], asked), rows, compute=compute)


def pool_and_test(target: Corpus, repeat: int) -> tuple[Corpus, Corpus]:
    """Two halves of the notes that share no value of a key; another division for each repeat."""
    keys = [k for k in reversed(NAMES) if all(d.meta.get(k) for d in target) and len({d.meta[k] for d in target}) > 1]
    if not keys:
        raise ValueError(f'the notes of "{target.name}" name no case, patient or author to divide them by')
    fold = next(iter(leave_out(target, keys[0], n_groups=2, seed=repeat)))
    return fold.train, fold.test


def choosing_table(counts: pd.DataFrame) -> pd.DataFrame:
    """F1 (%) of both ways by the number of notes, and what choosing adds, in points with its 95 % interval.

    The interval is over other notes and other draws: repeats stand where trainings stand elsewhere.
    """
    if counts.empty:
        return pd.DataFrame()
    alone = evaluation_of(counts[counts["regime"] == SOURCE])
    rows = []
    for k, some in counts[counts["notes"] > 0].groupby("notes"):
        drawn, chosen = (evaluation_of(some[some["regime"] == way]) for way in ("random", "expected"))
        gain = contrast([(1, chosen), (-1, drawn)])
        low, high = gain.interval(trainings=len(drawn.counts) > 1)
        rows.append(
            {"notes": k, f"{SOURCE}: F1 (%)": alone.f1, "drawn: F1 (%)": drawn.f1, "chosen: F1 (%)": chosen.f1}
            | {"choosing adds (points)": gain.value, "from": low, "to": high}
        )
    return pd.DataFrame(rows).set_index("notes")


def verdict(table: pd.DataFrame) -> str:
    """What the table says, in a sentence."""
    if table.empty:
        return "Chosen and drawn notes were not compared."
    said = []
    for k, row in table.iterrows():
        gain, low, high = (row[key] for key in ("choosing adds (points)", "from", "to"))
        pays = "choosing paid" if low > 0 else "drawing paid" if high < 0 else "choosing made no clear difference"
        said.append(f"with {k} notes {pays} ({gain:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f})")
    return f"For a CRF, {'; '.join(said)}."


def ranking(corpus: Corpus, predictions: Sequence[Prediction], k: int) -> pd.DataFrame:
    """The `k` notes of a corpus that `make next` would choose, and their true F1 (%) beside the expected one."""
    found = {p.document_id: p.entities for p in predictions}
    f1 = {d.id: 100 * exact_document(d.entities, found[d.id]).f1 for d in corpus}
    rows = [
        {"note": shown_id(c.note), "names found": len(c.note.entities), "expected F1 (%)": 100 * c.expected_f1}
        | {"true F1 (%)": f1[c.note.id], "why": c.why}
        for c in choose([replace(d, entities=found[d.id]) for d in corpus], k)
    ]
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="rank"))
