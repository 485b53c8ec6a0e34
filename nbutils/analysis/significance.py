"""How certain F1, the gap Δ and differences between systems are: tables of intervals and tests.

Each table has two intervals: these models on other notes (`INTERVAL`), and other trainings on other notes (`WIDER`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, permutations, product

import numpy as np
import pandas as pd

from nbutils.files import DataError
from nbutils.scoring.evaluation import Evaluation, document_counts
from nbutils.scoring.intervals import SCALES, contrast, f1_interval
from nbutils.scoring.permutation import holm, permutation_test
from nbutils.study.file import Study, nearest
from nbutils.study.results import Results
from nbutils.taggers import KINDS

INTERVAL = ["95 % from", "95 % to"]
WIDER = ["other trainings: 95 % from", "other trainings: 95 % to"]
FLOOR = 5.0  # F1 in percent; a system that scores less in-domain finds nothing, and has nothing to lose
# What a gap is called on each scale, and what a difference of two gaps is.
GAPS = {"points": "Δ (points)", "share kept": "share kept (%)", "odds": "odds ratio"}
BETWEEN = {"points": "difference of Δ (points)", "share kept": "ratio of shares kept", "odds": "ratio of odds ratios"}
Key = tuple[str, str, str]  # system, training corpus, evaluation corpus
Evaluated = Mapping[Key, Evaluation]


def evaluations(results: Results) -> dict[Key, Evaluation]:
    """Counts by seed and document for every system, training and evaluation corpus, in the study's order.

    Raises:
        DataError: the study's `cluster` names something that no note of an evaluation corpus has.
    """
    study, counts = results.study, {}
    named = {key for name in study.evaluate for d in results.corpora[name] for key in d.meta}
    for key in study.cluster or ():
        if key not in named:
            advice = nearest(key, named) if named else "; no note says anything about itself"
            raise DataError(f'{study.path}, cluster: no note names a "{key}"{advice}')
    for s in results.scored():
        key = (s.run.system, s.run.train, s.evaluate)
        counts.setdefault(key, []).append(document_counts(s.gold, s.predicted))
    evaluated = {}
    for (system, train, name), of_seeds in counts.items():
        gold, deterministic = tuple(results.gold(train, name)), KINDS[study.systems[system].kind].deterministic
        training = f"{system} trained on {train}"
        evaluated[system, train, name] = Evaluation(gold, np.array(of_seeds), training, study.cluster, deterministic)
    return evaluated


def at_floor(evaluated: Evaluated) -> set[str]:
    """The systems that find nothing: less than `FLOOR` in-domain whatever they were trained on (on any notes, if a
    study has no in-domain score). They stay in the main table and are left out of tests, titles and counts."""
    inside: dict[str, list[float]] = {}
    for system, train, name in evaluated:
        where = (system, train, train)
        inside.setdefault(system, []).append(evaluated[where if where in evaluated else (system, train, name)].f1)
    return {system for system, scores in inside.items() if max(scores) < FLOOR}


def above_floor(evaluated: Evaluated) -> dict[Key, Evaluation]:
    """What is tested and counted: all but the systems that find nothing."""
    nothing = at_floor(evaluated)
    return {key: e for key, e in evaluated.items() if key[0] not in nothing}


def not_counted(study: Study, evaluated: Evaluated) -> str:
    """A sentence that names the systems at the floor; empty without any."""
    nothing = at_floor(evaluated)
    names = [study.systems[name].title for name in study.systems if name in nothing]
    return f"Not counted or tested, as F1 is below {FLOOR:.0f} in-domain: {', '.join(names)}." if names else ""


# --- tables ----------------------------------------------------------------------------------------------------------


def f1_table(study: Study, evaluated: Evaluated) -> pd.DataFrame:
    """F1 of each system and setting in percent with both intervals, and what was taken as sampled.

    A deterministic training would give the same model again, so its two intervals are one.
    """
    rows = [
        {"system": study.systems[system].title, "train": train, "evaluate": name, "sampled": sampled(e)}
        | {"trainings": f"{len(e.counts)}{', deterministic' * e.deterministic}", "F1 (%)": e.f1}
        | _ends(f1_interval(e), f1_interval(e, trainings=True))
        for (system, train, name), e in evaluated.items()
    ]  # fmt: skip
    return _table(rows, ["system", "train", "evaluate"])


def sampled(evaluation: Evaluation) -> str:
    """What the notes are a sample of: "10 physicians × 10 cases", or "30 documents"."""
    parts = [f"{int(codes.max()) + 1} {key}s" for key, codes in evaluation.groups.items()]
    return " × ".join(parts) or f"{len(evaluation.documents)} documents"


def gap_table(study: Study, evaluated: Evaluated, scale: str = "points") -> pd.DataFrame:
    """The gap from in-domain to out-of-domain on a scale of `GAPS`, with both intervals; systems at the floor left out.

    Δ = OOD − ID in points has the sign of Table 3; the share kept is OOD / ID; the odds ratio compares F1 / (1 − F1).
    """
    rows = []
    for system, train, name in _out_of_domain(above_floor(evaluated)):
        inside, outside = evaluated[system, train, train], evaluated[system, train, name]
        gap = contrast([(1, outside), (-1, inside)], scale)
        by = 100 if scale == "share kept" else 1
        ends = [tuple(by * end for end in gap.interval(trainings=wider)) for wider in (False, True)]
        rows.append(
            {"system": study.systems[system].title, "train": train, "evaluate": name, "ID F1 (%)": inside.f1}
            | {"OOD F1 (%)": outside.f1, GAPS[scale]: by * gap.value} | _ends(*ends)
        )  # fmt: skip
    return _table(rows, ["system", "train", "evaluate"])


def pairs(study: Study, evaluated: Evaluated) -> list[tuple[str, str]]:
    """The pairs of systems that are tested: those that the study names in `compare`, or all above the floor."""
    return list(study.compare) or list(combinations(_counted_systems(study, evaluated), 2))


def gap_difference_table(study: Study, evaluated: Evaluated) -> pd.DataFrame:
    """Does one system lose less than another? Their gaps compared on the same documents, on all three scales.

    Above 0 points, or a ratio above 1: the first loses less. p and Holm's p (over the rows of a scale) are those of the
    t interval, so p < 0.05 exactly where it excludes 0 (or 1); `within` is the p of equivalence within ± the margin.
    """
    rows = []
    chosen = above_floor(evaluated)
    for scale in SCALES:
        for first, second in pairs(study, evaluated):
            for train, name in permutations(study.evaluate, 2):
                terms = _two_gaps(chosen, first, second, train, name)
                if terms:
                    e = contrast(terms, scale)
                    rows.append(
                        {"scale": BETWEEN[scale], **_of_pair(study, first, second), "train": train, "evaluate": name}
                        | {"value": e.value} | _ends(e.interval(), e.interval(trainings=True))
                        | {"p": e.p(), "p, other trainings": e.p(trainings=True)}
                        | ({_within(study): e.p_within(study.margin)} if scale == "points" else {})
                    )  # fmt: skip
    table = _table(rows, ["scale", "first", "second", "train", "evaluate"])
    return _with_holm(table, "scale")


def comparison_table(
    study: Study, evaluated: Evaluated, *, n_permutations: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """Is one system better? Differences of F1 in every setting, both intervals, and paired permutation tests.

    `asked` are the pairs of the study's `compare`: Holm's p is over them. Other pairs are exploratory and have none,
    unless the study names no pair. `p` swaps whole groups of notes (`group_p`), `p by
    note` single notes, `p, other trainings` is that of the wider interval.
    """
    rows = []
    chosen = above_floor(evaluated)
    for first, second in combinations(_counted_systems(study, chosen), 2):
        if (second, first) in study.compare:
            first, second = second, first
        for train, name in product(study.train, study.evaluate):
            if (first, train, name) in chosen and (second, train, name) in chosen:
                a, b = chosen[first, train, name], chosen[second, train, name]
                e = contrast([(1, a), (-1, b)])
                rows.append(
                    {"family": "asked" if not study.compare or (first, second) in study.compare else "exploratory"}
                    | _of_pair(study, first, second) | {"train": train, "evaluate": name}
                    | {"difference of F1 (points)": e.value} | _ends(e.interval(), e.interval(trainings=True))
                    | {"p": group_p(a, b, n_permutations=n_permutations, seed=seed)}
                    | {"p by note": permutation_test(a.counts, b.counts, n_permutations=n_permutations, seed=seed)[1]}
                    | {"p, other trainings": e.p(trainings=True), _within(study): e.p_within(study.margin)}
                )  # fmt: skip
    table = _table(sorted(rows, key=lambda row: row["family"]), ["family", "first", "second", "train", "evaluate"])
    return _with_holm(table, "family", only="asked")


def group_p(a: Evaluation, b: Evaluation, *, n_permutations: int = 10_000, seed: int = 0) -> float:
    """p of `permutation_test` with groups of notes swapped as a whole; with two groupings the larger p of the two.

    Where each system has physicians *and* cases of its own that it finds hard, a swap by one grouping alone rejects
    twice too often; the larger p errs to the careful side where systems differ nowhere (`tools.interval_coverage`).
    """
    return max(
        permutation_test(a.counts, b.counts, groups=codes, n_permutations=n_permutations, seed=seed)[1]
        for codes in (a.groups.values() or [None])
    )


def target_matched_table(results: Results, evaluated: Evaluated) -> pd.DataFrame:
    """What training on the other corpus costs on the *same* target notes, with both intervals.

    Gap = F1 trained elsewhere − F1 trained on the target, both on the in-domain test part of the target: the only notes
    of it that neither has trained on. Δ compares two different test sets, of which one may simply be the harder.
    """
    rows, chosen = [], above_floor(evaluated)
    for system, train, target in _out_of_domain(chosen):
        if (system, target, target) not in chosen:
            continue
        home = chosen[system, target, target]
        away = chosen[system, train, target].on(home.documents)
        gap = contrast([(1, away), (-1, home)])
        rows.append(
            {"system": results.study.systems[system].title, "target": target, "trained elsewhere": train}
            | {"documents": len(home.documents), "trained on target: F1 (%)": home.f1}
            | {"trained elsewhere: F1 (%)": away.f1, "gap (points)": gap.value}
            | _ends(gap.interval(), gap.interval(trainings=True))
        )
    return _table(rows, ["system", "target", "trained elsewhere"])


def _two_gaps(evaluated: Evaluated, first: str, second: str, train: str, name: str) -> list[tuple[float, Evaluation]]:
    keys = [(first, train, name), (first, train, train), (second, train, name), (second, train, train)]
    there = all(key in evaluated for key in keys)
    return list(zip((1, -1, -1, 1), (evaluated[key] for key in keys), strict=True)) if there else []


def _ends(interval: Sequence[float], wider: Sequence[float]) -> dict[str, float]:
    return dict(zip([*INTERVAL, *WIDER], [*interval, *wider], strict=True))


def _within(study: Study) -> str:
    return f"p within ±{study.margin:g}"


def _of_pair(study: Study, first: str, second: str) -> dict[str, str]:
    return {"first": study.systems[first].title, "second": study.systems[second].title}


def _with_holm(table: pd.DataFrame, level: str, only: str | None = None) -> pd.DataFrame:
    """The table with Holm's p over the rows of each value of an index level, or over those of one value only.

    It corrects the p over other trainings, or the plain one of systems that were trained once.
    """
    if not len(table):
        return table
    by = table.index.get_level_values(level)
    wider = table["p, other trainings"].fillna(table["p"])
    adjusted = wider.groupby(by, sort=False).transform(lambda p: holm(p))
    return table.assign(**{"p (Holm)": adjusted.where(by == only) if only else adjusted})


def _table(rows: list[dict], index: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows).set_index(index) if rows else pd.DataFrame()


def _counted_systems(study: Study, evaluated: Evaluated) -> list[str]:
    """The systems above the floor, in the study's order."""
    names = {system for system, _, _ in above_floor(evaluated)}
    return [name for name in study.systems if name in names]


def _out_of_domain(evaluated: Evaluated) -> list[Key]:
    return [(s, t, e) for s, t, e in evaluated if e != t and (s, t, t) in evaluated]
