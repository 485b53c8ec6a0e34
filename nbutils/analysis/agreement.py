"""Agreement of two annotators on the same notes, neither of them gold, each way of counting by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from nbutils.analysis.significance import INTERVAL
from nbutils.corpus import UNMARKED, Document, Entity, cut_to, lines, paired
from nbutils.privacy import shown
from nbutils.scoring.evaluation import Evaluation, counts_of
from nbutils.scoring.intervals import f1_interval
from nbutils.scoring.resampling import draw
from nbutils.scoring.spans import NOTHING, Scores, exact_document, partial_document
from nbutils.study.corpora import open_annotators
from nbutils.study.file import Study

Pairs = Sequence[tuple[Document, Document]]


def pairs_of(study: Study) -> dict[str, list[tuple[Document, Document]]]:
    """The twice-annotated documents of every corpus of the study that has a second annotator."""
    names = [name for name, entry in study.corpora.items() if entry.second]
    return {name: paired(*open_annotators(study, name)) for name in names}


def agreement_table(pairs: Pairs, *, cluster: Sequence[str] | None = None) -> pd.DataFrame:
    """Exact, partial and exact-with-certainty agreement, with 95 % intervals of F1 over notes, or over their groups."""
    kinds: dict[str, Callable[[Document, Document], Scores]] = {
        "exact": lambda a, b: exact_document(a.entities, b.entities),
        "partial (any shared character)": lambda a, b: partial_document(a.entities, b.entities, "any"),
        "exact, same certainty": lambda a, b: exact_document(_typed(a), _typed(b)),
    }
    return _table(pairs, {name: [measure(a, b) for a, b in pairs] for name, measure in kinds.items()}, cluster)


def table_by_certainty(pairs: Pairs, *, cluster: Sequence[str] | None = None) -> pd.DataFrame:
    """Agreement on the entities of each certainty: the same span with the same certainty, by both annotators.

    An entity that both marked with different certainties counts against both of these.
    """
    each = {
        certainty: [exact_document(_typed(a, certainty), _typed(b, certainty)) for a, b in pairs]
        for certainty in sorted({_certainty(e) for pair in pairs for d in pair for e in d.entities})
    }
    return _table(pairs, each, cluster)


def _typed(document: Document, only: str | None = None) -> list[Entity]:
    """The entities with the certainty in their type, all or those of one certainty."""
    return [replace(e, label=f"{e.label}, {_certainty(e)}") for e in document.entities if only in (None, _certainty(e))]


def _certainty(entity: Entity) -> str:
    return entity.certainty or UNMARKED


def _table(pairs: Pairs, each: dict[str, list[Scores]], cluster: Sequence[str] | None) -> pd.DataFrame:
    """F1 = twice the matches over both annotators' entities (Hripcsak and Rothschild 2005), Jaccard = matches over all
    that either marked, and what share of each annotator's entities the other has; "—" (nan) without any entity."""
    documents, rows = tuple(first for first, _ in pairs), {}
    for name, scores in each.items():
        total = sum(scores, NOTHING)
        evaluation = Evaluation(documents, counts_of(scores)[None], cluster=cluster)
        matched, first, second = int(total.matched_gold), total.n_gold, total.n_predicted
        rows[name] = (first, second, matched, evaluation.f1 / 100, *(end / 100 for end in f1_interval(evaluation)))
    columns = ["entities of first", "entities of second", "matched", "F1", *INTERVAL]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    first, second, matched = (table[column] for column in columns[:3])
    shares = {"Jaccard": first + second - matched, "share of first's": first, "share of second's": second}
    return table.assign(**{share: matched / of for share, of in shares.items()})


def answer(tables: Mapping[str, pd.DataFrame]) -> str:
    """The question of notebook 02 answered in Markdown, from `agreement_table` of each corpus."""
    said = []
    for name, table in tables.items():
        exact, partial = table.iloc[0], table.iloc[1]
        low, high = exact[INTERVAL[0]], exact[INTERVAL[1]]
        said.append(
            f"- **{name}:** the two annotators agree on exact spans with an F1 of {exact['F1']:.3f} "
            f"[{low:.3f}, {high:.3f}], and with {partial['F1']:.3f} where any shared character counts."
        )
    return "\n".join(said) or "No corpus of this study has a second annotator."


def as_the_paper_prints_it(table: pd.DataFrame) -> pd.DataFrame:
    """Matches/denominator = ratio, as in the paper's "61/87 = 0.70", over each denominator that 87 may have been.

    Needs `agreement_table`. The paper divides exact and partial matches by the same 87, which fits one annotator's
    count; "all that either marked" shrinks as more of it is matched, so it would not have stayed 87.
    """
    either = table["entities of first"] + table["entities of second"] - table["matched"]
    over = {"over the first's": table["entities of first"], "over the second's": table["entities of second"],
            "over all that either marked": either}  # fmt: skip
    return pd.DataFrame({
        name: [f"{m}/{n} = {m / n:.2f}" if n else f"{m}/{n}" for m, n in zip(table["matched"], of, strict=True)]
        for name, of in over.items()
    }, index=table.index)  # fmt: skip


# --- certainty -------------------------------------------------------------------------------------------------------


def matched_certainties(pairs: Pairs) -> pd.DataFrame:
    """One row per entity that both marked with the same span and type: its document and the two certainties."""
    rows = []
    for first, second in pairs:
        by_second = {e.key: e for e in second.entities}
        rows += [
            (first.id, first.surface(e), _certainty(e), _certainty(by_second[e.key]))
            for e in sorted({e.key: e for e in first.entities}.values())
            if e.key in by_second
        ]
    return pd.DataFrame(rows, columns=["document", "entity", "first", "second"])


def confusion(matched: pd.DataFrame) -> pd.DataFrame:
    """Matched entities by the first's certainty (rows) and the second's (columns). Needs `matched_certainties`."""
    names = sorted({*matched["first"], *matched["second"]})
    return pd.crosstab(matched["first"], matched["second"]).reindex(index=names, columns=names, fill_value=0)


def certainty_table(
    pairs: Pairs, *, cluster: Sequence[str] | None = None, n_boot: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """Do they agree on the certainty of what both marked? The share of equal ones and Cohen's kappa, with intervals.

    Kappa = (share − chance) / (1 − chance), chance being the share of equal certainties if each annotator gave his own
    at random in his own proportions; with one certainty only it is not defined (nan). Its interval is made of bootstrap
    percentiles over notes or their groups, and nan where every replicate is 1: nothing varies then.

    Source: Cohen 1960, A coefficient of agreement for nominal scales; computed by scikit-learn.
    """
    matched = matched_certainties(pairs)
    values = matched[["first", "second"]].to_numpy()
    documents, certainties = tuple(first for first, _ in pairs), sorted(set(values.ravel()))
    place, code = ({name: k for k, name in enumerate(names)} for names in ((d.id for d in documents), certainties))
    counts = np.zeros((len(documents), len(certainties), len(certainties)))
    where = [matched["document"].map(place), matched["first"].map(code), matched["second"].map(code)]
    np.add.at(counts, tuple(w.to_numpy(int) for w in where), 1)
    equal = counts.trace(axis1=1, axis2=2)
    both = np.stack([equal, *[counts.sum(axis=(1, 2))] * 2], axis=-1)[None]  # as counts whose F1 is the share
    evaluation = Evaluation(documents, both, cluster=cluster)
    weights = draw(documents, cluster=cluster, n_boot=n_boot, seed=seed).astype(float)
    drawn = _kappa(np.tensordot(weights, counts, axes=1))
    varies = np.nanmin(drawn, initial=2) < np.nanmax(drawn, initial=-2) if len(values) else False
    ends = np.nanquantile(drawn, [0.025, 0.975]) if varies else (np.nan, np.nan)
    rows = {
        "share of equal certainties": (evaluation.f1 / 100, *(end / 100 for end in f1_interval(evaluation))),
        "Cohen's kappa": (kappa(values), *ends),
    }
    table = pd.DataFrame(rows, index=["value", *INTERVAL]).T
    table.insert(0, "matched entities", len(values))
    return table


def kappa(certainties: np.ndarray) -> float:
    """Cohen's kappa of two columns of certainties; nan when both have one certainty only, and the same."""
    if len(set(certainties.ravel())) < 2:
        return float("nan")
    from sklearn.metrics import cohen_kappa_score  # here, since it takes a second to load and every run would wait

    return float(cohen_kappa_score(certainties[:, 0], certainties[:, 1]))


def _kappa(counts: np.ndarray) -> np.ndarray:
    """As `kappa`, of tables of counts [..., first's, second's]: all bootstrap samples at once."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = counts / counts.sum(axis=(-2, -1), keepdims=True)
        chance = (shares.sum(axis=-1) * shares.sum(axis=-2)).sum(axis=-1)
        return np.where(chance < 1, (shares.trace(axis1=-2, axis2=-1) - chance) / (1 - chance), np.nan)


# --- where they disagree ---------------------------------------------------------------------------------------------


def disagreements(pairs: Pairs) -> pd.DataFrame:
    """Every entity that only one annotator marked exactly so, or with another certainty, in its line.

    `the other has` is what the other marked at that place, with its certainty; empty when there is nothing. `what` says
    how they differ: `certainty`, `boundary` (some common character) or `only one`.
    """
    rows = []
    for first, second in ((shown(first), shown(second)) for first, second in pairs):
        for who, own, other in (("first", first, second), ("second", second, first)):
            others = {e.key: _certainty(e) for e in other.entities}
            for e in sorted(own.entities):
                if others.get(e.key) == _certainty(e):
                    continue
                there = [o for o in sorted(other.entities) if o.start < e.end and e.start < o.end]
                what = "certainty" if e.key in others else "boundary" if there else "only one"
                has = " | ".join(f"{other.surface(o)} ({_certainty(o)})" for o in there)
                line = " ".join(own.text[a:b] for a, b in lines(own.text) if a < e.end and e.start < b)
                rows.append((own.id, what, who, own.surface(e), _certainty(e), has, line))
    return pd.DataFrame(rows, columns=["document", "what", "marked by", "entity", "certainty", "the other has", "line"])


def lines_that_differ(pairs: Pairs) -> list[tuple[str, str, list[Entity], list[Entity]]]:
    """(document id, line, the first's entities, the second's) of every line on which the two differ.

    In a span, a type or a certainty. Entities are cut to the line and count from its start; see `views.html`.
    """
    differing = []
    for first, second in ((shown(first), shown(second)) for first, second in pairs):
        for start, end in lines(first.text):
            marked = [cut_to(d.entities, start, end) for d in (first, second)]
            if {(*e.key, e.certainty) for e in marked[0]} != {(*e.key, e.certainty) for e in marked[1]}:
                differing.append((first.id, first.text[start:end], *marked))
    return differing
