"""F1 by code beside F1 by span: a name that is cut wrongly may still have the right code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from nbutils.corpus import Document, Prediction
from nbutils.scoring.evaluation import document_counts, micro_f1
from nbutils.scoring.spans import pair
from nbutils.study.results import Results
from nbutils.taggers.terms import Terms, read_terms


def code_counts(gold: Iterable[Document], predicted: Iterable[Prediction], terms: Terms) -> np.ndarray:
    """(matched, predicted, gold) codes of every gold document, each code once a note; shape (documents, 3).

    Codes are looked up for the names on both sides (`Terms.code`); names without one count on neither.
    """
    known: dict[str, str] = {}

    def codes(document: Document, entities: Iterable) -> set[str]:
        names = [document.surface(e) for e in entities]
        known.update((name, terms.code(name)) for name in names if name not in known)
        return {known[name] for name in names} - {""}

    rows = []
    for document, prediction in pair(gold, predicted):
        right, found = codes(document, document.entities), codes(document, prediction.entities)
        rows.append((len(right & found), len(found), len(right)))
    return np.array(rows, dtype=float).reshape(-1, 3)


def code_table(results: Results, dictionary: str | Path) -> pd.DataFrame:
    """F1 (%) by exact span and by code in every setting, the mean over seeds, and the gold names without a code."""
    terms = read_terms(dictionary)
    rows = []
    for s in results.scored():
        names = [d.surface(e) for d in s.gold for e in d.entities]
        rows.append(
            {"system": s.title, "train": s.run.train, "evaluate": s.evaluate}
            | {"F1 by span (%)": 100 * micro_f1(document_counts(s.gold, s.predicted)[None])}
            | {"F1 by code (%)": 100 * micro_f1(code_counts(s.gold, s.predicted, terms)[None])}
            | {"gold names": len(names), "without a code": sum(not terms.code(name) for name in names)}
        )
    of_setting = pd.DataFrame(rows).groupby(["system", "train", "evaluate"], sort=False)
    return of_setting.agg({column: "mean" if "F1" in column else "first" for column in list(rows[0])[3:]})
