"""Inter-annotator agreement: two people's entities on the same notes, exact and partial, each way of counting by name.

Knows two annotations of the same documents. Neither is gold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nbutils.corpus import Corpus, Document, Entity
from nbutils.privacy import shown


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
        """Matches over all entities that either marked; the likeliest reading of the paper's 61/87."""
        union = self.n_first + self.n_second - self.matched
        return self.matched / union if union else 1.0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.n_first + other.n_first, self.n_second + other.n_second, self.matched + other.matched)


def paired(first: Corpus, second: Corpus) -> list[tuple[Document, Document]]:
    """The documents that both annotated.

    Raises:
        ValueError: the second annotated a document that the first has not, or another text.
    """
    by_id = {d.id: d for d in first}
    pairs = []
    for document in second:
        if document.id not in by_id:
            raise ValueError(f'document "{document.id}" of "{second.name}" is not in "{first.name}"')
        if by_id[document.id].text != document.text:
            raise ValueError(f'document "{document.id}": the two annotators did not have the same text')
        pairs.append((by_id[document.id], document))
    return pairs


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
    rows = {}
    kinds = {
        "exact": exact,
        "partial (any shared character)": partial,
        "exact, same certainty": lambda a, b: exact(a, b, certainty=True),
    }
    for name, measure in kinds.items():
        each = [measure(a.entities, b.entities) for a, b in pairs]
        total = sum(each, Agreement(0, 0, 0))
        low, high = bootstrap_f1(each, n_boot=n_boot, seed=seed)
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


def bootstrap_f1(each: Sequence[Agreement], *, n_boot: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Percentile interval (2.5 %, 97.5 %) of F1 when whole documents are drawn with replacement."""
    counts = np.array([(a.matched, a.n_first + a.n_second) for a in each], float)
    draws = np.random.default_rng(seed).integers(0, len(counts), (n_boot, len(counts)))
    matched, total = counts[draws].sum(1).T
    f1 = np.where(total > 0, 2 * matched / np.maximum(total, 1), 1.0)
    low, high = np.quantile(f1, [0.025, 0.975])
    return float(low), float(high)


def disagreements(pairs: Iterable[tuple[Document, Document]]) -> pd.DataFrame:
    """Every entity that only one annotator marked exactly, in its line, with what the other marked there."""
    rows = []
    for first, second in ((shown(first), shown(second)) for first, second in pairs):
        for who, mine, other in (("first", first, second), ("second", second, first)):
            theirs = {e.key for e in other.entities}
            for e in mine.entities:
                if e.key in theirs:
                    continue
                at_same_place = [other.surface(o) for o in other.entities if o.start < e.end and e.start < o.end]
                line_start = mine.text.rfind("\n", 0, e.start) + 1
                line_end = mine.text.find("\n", e.end)
                rows.append(
                    {
                        "document": mine.id,
                        "marked by": who,
                        "entity": mine.surface(e),
                        "certainty": e.certainty,
                        "the other has": " | ".join(at_same_place),
                        "line": mine.text[line_start : line_end if line_end >= 0 else None],
                    }
                )
    return pd.DataFrame(rows, columns=["document", "marked by", "entity", "certainty", "the other has", "line"])
