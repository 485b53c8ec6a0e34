"""How far F1 that was expected without labels is from F1 with them: after a change of corpus, and on grouped folds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import pandas as pd

from nbutils.analysis.cross_fitting import fit_system
from nbutils.analysis.generalisation import REFERENCE, group_counts, kept_in, kept_or_computed, made_from
from nbutils.corpus import Corpus, Document, Prediction
from nbutils.corpus.splits import leave_out
from nbutils.scoring.estimate import expected_scores, labelled
from nbutils.scoring.spans import exact_scores
from nbutils.study.corpora import split
from nbutils.study.file import Study
from nbutils.study.results import Results
from nbutils.study.runs import path_name
from nbutils.taggers import Tagger

KEYS = ["system", "shift"]
EXPECTED, TRUE, SOURCE = "expected F1 (%)", "F1 with labels (%)", "F1 on the source's test part (%)"
ERROR, ASSUMED = "expected − true (points)", "source's F1 − true (points)"
ENDS = ["expected, 95 % from", "expected, 95 % to"]
COLUMNS = [EXPECTED, *ENDS, TRUE, SOURCE]


def of_runs(results: Results, nothing: Collection[str] = ()) -> pd.DataFrame:
    """One row per system and pair of corpora, mean over seeds; systems without probabilities and `nothing` left out."""
    rows = []
    for s in results.scored():
        if s.run.train != s.evaluate and s.run.system not in nothing and s.run.train in results.study.evaluate:
            own = results.gold(s.run.train, s.run.train)
            row = _row(own, s.run.predictions(own), s.gold, s.predicted)
            rows += [{"system": s.title, "shift": f"{s.run.train} → {s.evaluate}"} | row] if row else []
    columns = [*KEYS, *COLUMNS]
    return pd.DataFrame(rows, columns=columns).groupby(KEYS, sort=False).mean()


def of_folds(
    study: Study, corpora: Mapping[str, Corpus], target: str, *, n_groups: int = 2, compute: bool = True
) -> pd.DataFrame:
    """The same within one corpus: a group of cases (physicians …) left out, the rest divided as the study divides it.

    The study's first CRF is trained, since that takes seconds; one row per key, mean over its folds. Rows are kept and
    read again as those of notebook 10; with `compute=False` nothing is trained.
    """
    system = next((name for name, s in study.systems.items() if s.kind == "crf"), None)
    if system is None:
        return pd.DataFrame()
    corpus, settings = corpora[target], study.systems[system].settings
    kept = kept_in(REFERENCE, study.name, f"estimates-{path_name(target)}.csv")

    def rows() -> pd.DataFrame:
        found = []
        for key, n in group_counts(corpus, n_groups).items():
            for fold in leave_out(corpus, key, n_groups=n):
                train, own = split(study, fold.train)
                tagger: Tagger = fit_system(study, system, train.documents)
                row = _row(own, tagger.predict(own), fold.test, tagger.predict(fold.test))
                at = {"system": study.systems[system].title, "shift": f"{target}, other {key}s"}
                found += [at | row] if row else []
        return pd.DataFrame(found, columns=[*KEYS, *COLUMNS])

    asked = ["estimates", str(settings), study.types, n_groups, study.split_seed, study.test_fraction]
    table = kept_or_computed(kept, made_from([corpus], asked), rows, compute=compute)
    return table.groupby(KEYS, sort=False).mean() if len(table) else table


def _row(
    own: Iterable[Document], found: Sequence[Prediction], gold: Iterable[Document], predicted: Sequence[Prediction]
) -> dict[str, float]:
    own, gold = list(own), list(gold)
    scores = [[e.score for e in p.entities if e.score is not None] for p in predicted]
    expected = expected_scores(labelled(own, found), scores, n_boot=100)
    if expected is None:
        return {}
    true = (100 * exact_scores(gold, predicted).f1, 100 * exact_scores(own, found).f1)
    return dict(zip(COLUMNS, (expected.f1, expected.low, expected.high, *true), strict=True))


def table(*parts: pd.DataFrame) -> pd.DataFrame:
    """Estimates with their errors, beside the error of taking F1 on the source's test part for the answer."""
    whole = pd.concat([part for part in parts if len(part)])
    return whole.assign(**{ERROR: whole[EXPECTED] - whole[TRUE], ASSUMED: whole[SOURCE] - whole[TRUE]})


def mean_errors(errors: pd.DataFrame) -> pd.DataFrame:
    """Mean absolute error (points of F1) of both ways for each shift, over systems, and how often the interval held."""
    held = errors[TRUE].between(errors[ENDS[0]], errors[ENDS[1]])
    of_both = errors[[ERROR, ASSUMED]].abs().assign(**{"interval contains the truth (%)": 100.0 * held})
    means = of_both.groupby("shift", sort=False).mean()
    means.loc["all rows"] = of_both.mean()
    return means.rename(columns={ERROR: "estimate: mean absolute error (points)",
                                 ASSUMED: "source's F1: mean absolute error (points)"})  # fmt: skip
