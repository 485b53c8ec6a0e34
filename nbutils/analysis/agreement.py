"""Inter-annotator agreement: two annotators' entities on the same notes, each way of counting by name.

Knows two annotations of the same documents. Neither is gold. Does not know who the annotators are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from nbutils.corpus import Document, Entity, lines, paired
from nbutils.privacy import shown
from nbutils.study.corpora import open_annotators
from nbutils.study.file import Study

UNMARKED = "unmarked"  # an entity without a certainty


@dataclass(frozen=True)
class Agreement:
    """Counts of two annotators' entities and of those that agree, over some documents."""

    n_first: int
    n_second: int
    matched: int

    @property
    def recall_of_first(self) -> float:
        """Share of the first annotator's entities that the second marked too; nan without any."""
        return self.matched / self.n_first if self.n_first else float("nan")

    @property
    def recall_of_second(self) -> float:
        return self.matched / self.n_second if self.n_second else float("nan")

    @property
    def f1(self) -> float:
        """Twice the matches over both annotators' entities; neither is gold (Hripcsak and Rothschild 2005)."""
        total = self.n_first + self.n_second
        return 2 * self.matched / total if total else 1.0

    @property
    def jaccard(self) -> float:
        """Matches over all entities that either marked, a matched pair counted once."""
        union = self.n_first + self.n_second - self.matched
        return self.matched / union if union else 1.0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.n_first + other.n_first, self.n_second + other.n_second, self.matched + other.matched)


def pairs_of(study: Study) -> dict[str, list[tuple[Document, Document]]]:
    """The twice-annotated documents of every corpus of the study that has a second annotator."""
    names = [name for name, entry in study.corpora.items() if entry.second]
    return {name: paired(*open_annotators(study, name)) for name in names}


def exact(first: Sequence[Entity], second: Sequence[Entity], *, certainty: bool = False) -> Agreement:
    """Entities with the same start, end and type (and, if asked, certainty) match."""

    def keys(entities: Sequence[Entity]) -> set[tuple]:
        return {(*e.key, e.certainty) if certainty else e.key for e in entities}

    return Agreement(len(keys(first)), len(keys(second)), len(keys(first) & keys(second)))


def partial(first: Sequence[Entity], second: Sequence[Entity]) -> Agreement:
    """Entities of one type that share a character match, one to one, as many as can be.

    Spans of one annotator do not overlap, so taking them from left to right gives a largest matching.
    """
    matched = 0
    for label in {e.label for e in (*first, *second)}:
        ours = sorted(e for e in first if e.label == label)
        theirs = sorted(e for e in second if e.label == label)
        i = j = 0
        while i < len(ours) and j < len(theirs):
            if ours[i].start < theirs[j].end and theirs[j].start < ours[i].end:
                matched, i, j = matched + 1, i + 1, j + 1
            elif ours[i].end <= theirs[j].start:
                i += 1
            else:
                j += 1
    return Agreement(len(set(first)), len(set(second)), matched)


def agreement_table(pairs: Iterable[tuple[Document, Document]], *, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Exact, partial and exact-with-certainty agreement, with 95 % percentile intervals of F1 over documents."""
    pairs = list(pairs)
    kinds = {
        "exact": exact,
        "partial (any shared character)": partial,
        "exact, same certainty": lambda a, b: exact(a, b, certainty=True),
    }
    each = {name: [measure(a.entities, b.entities) for a, b in pairs] for name, measure in kinds.items()}
    return _table(each, n_boot, seed)


def table_by_certainty(
    pairs: Iterable[tuple[Document, Document]], *, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Agreement on the entities of each certainty: the same span with the same certainty, by both annotators.

    An entity that both marked with different certainties counts against both of these.
    """
    pairs = list(pairs)
    each = {
        certainty: [exact(_of(a, certainty), _of(b, certainty), certainty=True) for a, b in pairs]
        for certainty in sorted({_certainty(e) for pair in pairs for d in pair for e in d.entities})
    }
    return _table(each, n_boot, seed)


def _of(document: Document, certainty: str) -> list[Entity]:
    return [e for e in document.entities if _certainty(e) == certainty]


def _certainty(entity: Entity) -> str:
    return entity.certainty or UNMARKED


def _table(each: dict[str, list[Agreement]], n_boot: int, seed: int) -> pd.DataFrame:
    rows = {}
    for name, documents in each.items():
        total = sum(documents, Agreement(0, 0, 0))
        low, high = bootstrap_f1(documents, n_boot=n_boot, seed=seed)
        rows[name] = {
            "entities of first": total.n_first,
            "entities of second": total.n_second,
            "matched": total.matched,
            "F1": total.f1,
            "F1, 95 % from": low,
            "F1, 95 % to": high,
            "Jaccard": total.jaccard,
            "share of first's": total.recall_of_first,
            "share of second's": total.recall_of_second,
        }
    return pd.DataFrame(rows).T.astype({"entities of first": int, "entities of second": int, "matched": int})


def as_the_paper_prints_it(table: pd.DataFrame) -> pd.DataFrame:
    """Matches/denominator = ratio, as in the paper's "61/87 = 0.70", over each denominator that 87 may have been.

    Needs `agreement_table`. The paper divides exact and partial matches by the same 87, which fits one annotator's
    count; "all that either marked" shrinks as more of it is matched, so it would not have stayed 87.
    """
    either = table["entities of first"] + table["entities of second"] - table["matched"]
    over = {"over the first's": table["entities of first"], "over the second's": table["entities of second"],
            "over all that either marked": either}  # fmt: skip
    return pd.DataFrame(
        {name: [_ratio(m, n) for m, n in zip(table["matched"], of, strict=True)] for name, of in over.items()},
        index=table.index,
    )


def _ratio(matched: int, of: int) -> str:
    return f"{matched}/{of} = {matched / of:.2f}" if of else f"{matched}/{of}"


def bootstrap_f1(each: Sequence[Agreement], *, n_boot: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Percentile interval (2.5 %, 97.5 %) of F1 when whole documents are drawn with replacement."""
    counts = np.array([(a.matched, a.n_first + a.n_second) for a in each], float)
    draws = np.random.default_rng(seed).integers(0, len(counts), (n_boot, len(counts)))
    matched, total = counts[draws].sum(1).T
    f1 = np.where(total > 0, 2 * matched / np.maximum(total, 1), 1.0)
    low, high = np.quantile(f1, [0.025, 0.975])
    return float(low), float(high)


# --- certainty -------------------------------------------------------------------------------------------------------


def matched_certainties(pairs: Iterable[tuple[Document, Document]]) -> pd.DataFrame:
    """One row an entity that both marked with the same span and type: its document and the two certainties."""
    rows = []
    for first, second in pairs:
        theirs = {e.key: e for e in second.entities}
        rows += [
            (first.id, first.surface(e), _certainty(e), _certainty(theirs[e.key]))
            for e in sorted({e.key: e for e in first.entities}.values())
            if e.key in theirs
        ]
    return pd.DataFrame(rows, columns=["document", "entity", "first", "second"])


def confusion(matched: pd.DataFrame) -> pd.DataFrame:
    """Matched entities by the first's certainty (rows) and the second's (columns). Needs `matched_certainties`."""
    names = sorted({*matched["first"], *matched["second"]})
    return pd.crosstab(matched["first"], matched["second"]).reindex(index=names, columns=names, fill_value=0)


def certainty_table(matched: pd.DataFrame, *, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Do they agree on the certainty of what both marked? The share of equal ones and Cohen's kappa, intervals over
    documents. Needs `matched_certainties`.

    Kappa = (share − chance) / (1 − chance), chance being the share of equal certainties if each annotator gave his own
    at random in his own proportions; with one certainty only it is not defined (nan).

    Source: Cohen 1960, A coefficient of agreement for nominal scales; computed by scikit-learn.
    """
    values = matched[["first", "second"]].to_numpy()
    certainties = sorted(set(values.ravel()))
    counts = np.array([
        [[np.sum((rows["first"] == a) & (rows["second"] == b)) for b in certainties] for a in certainties]
        for _, rows in matched.groupby("document", sort=False)
    ])  # fmt: skip
    rng = np.random.default_rng(seed)
    drawn = np.stack([counts[rng.integers(0, len(counts), len(counts))].sum(axis=0) for _ in range(n_boot)])
    measures = {
        "share of equal certainties": (float(_share(counts.sum(axis=0))), _share(drawn)),
        "Cohen's kappa": (kappa(values), _kappa(drawn)),
    }
    rows = {}
    for name, (value, resampled) in measures.items():
        low, high = np.nanquantile(resampled, [0.025, 0.975])
        rows[name] = {"matched entities": len(values), "value": value, "95 % from": low, "95 % to": high}
    return pd.DataFrame(rows).T.astype({"matched entities": int})


def kappa(certainties: np.ndarray) -> float:
    """Cohen's kappa of two columns of certainties; nan when both have one certainty only, and the same."""
    if len(set(certainties.ravel())) < 2:
        return float("nan")
    from sklearn.metrics import cohen_kappa_score  # here, since it takes a second to load and every run would wait

    return float(cohen_kappa_score(certainties[:, 0], certainties[:, 1]))


def _share(counts: np.ndarray) -> np.ndarray:
    """The share of equal certainties in tables of counts, [..., first's, second's]."""
    return counts.trace(axis1=-2, axis2=-1) / counts.sum(axis=(-2, -1))


def _kappa(counts: np.ndarray) -> np.ndarray:
    """As `kappa`, of tables of counts: a thousand bootstrap samples at once."""
    shares = counts / counts.sum(axis=(-2, -1), keepdims=True)
    chance = (shares.sum(axis=-1) * shares.sum(axis=-2)).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.where(chance < 1, (_share(counts) - chance) / (1 - chance), np.nan)


# --- where they disagree ---------------------------------------------------------------------------------------------


def disagreements(pairs: Iterable[tuple[Document, Document]]) -> pd.DataFrame:
    """Every entity that only one annotator marked exactly so, or with another certainty, in its line.

    `the other has` is what the other marked at that place, with its certainty; empty when there is nothing. `what` says
    how they differ: `certainty`, `border` (some common character) or `only one`.
    """
    rows = []
    for first, second in ((shown(first), shown(second)) for first, second in pairs):
        for who, mine, other in (("first", first, second), ("second", second, first)):
            theirs = {e.key: _certainty(e) for e in other.entities}
            for e in sorted(mine.entities):
                if theirs.get(e.key) == _certainty(e):
                    continue
                there = [o for o in sorted(other.entities) if o.start < e.end and e.start < o.end]
                what = "certainty" if e.key in theirs else "border" if there else "only one"
                rows.append(
                    {
                        "document": mine.id,
                        "what": what,
                        "marked by": who,
                        "entity": mine.surface(e),
                        "certainty": _certainty(e),
                        "the other has": " | ".join(f"{other.surface(o)} ({_certainty(o)})" for o in there),
                        "line": " ".join(mine.text[a:b] for a, b in lines(mine.text) if a < e.end and e.start < b),
                    }
                )
    return pd.DataFrame(rows, columns=["document", "what", "marked by", "entity", "certainty", "the other has", "line"])


def lines_that_differ(pairs: Iterable[tuple[Document, Document]]) -> list[tuple[str, str, list[Entity], list[Entity]]]:
    """(document id, line, the first's entities, the second's) of every line on which the two differ.

    In a span, a type or a certainty. Entities are cut to the line and count from its start. For `views.two_annotators`.
    """
    found = []
    for first, second in ((shown(first), shown(second)) for first, second in pairs):
        for start, end in lines(first.text):
            ours, theirs = (_in_line(d, start, end) for d in (first, second))
            if {(*e.key, e.certainty) for e in ours} != {(*e.key, e.certainty) for e in theirs}:
                found.append((first.id, first.text[start:end], ours, theirs))
    return found


def _in_line(document: Document, start: int, end: int) -> list[Entity]:
    touched = [e for e in sorted(document.entities) if e.start < end and start < e.end]
    return [replace(e, start=max(e.start, start) - start, end=min(e.end, end) - start) for e in touched]
