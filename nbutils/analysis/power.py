"""How many notes, physicians, hospitals and trainings it takes to see a difference: from pilots, or from assumptions.

What is planned for is the difference of two gaps Δ (who loses less), or a difference of F1. Its variance is a sum of
parts, each divided by the number of what it varies with; power is that of the t test that the tables use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from nbutils.analysis.significance import Evaluated, above_floor, pairs
from nbutils.scoring.evaluation import Evaluation, f1_of
from nbutils.scoring.intervals import changes_without
from nbutils.scoring.variance import variance_components
from nbutils.study.corpora import main_setting
from nbutils.study.file import Study

EFFECTS = (3.0, 5.0, 10.0)  # points
WANTED = 0.8


@dataclass(frozen=True)
class Variances:
    """Variances of a difference in squared points: of one physician, case, note, hospital, in-domain note, training."""

    physician: float
    case: float
    note: float
    inside: float
    training: float = 0.0
    hospital: float = 0.0


@dataclass(frozen=True)
class Design:
    """How much is collected: notes of `cases` by each of `physicians`, in-domain notes, trainings, hospitals."""

    physicians: int
    cases: int
    inside: int
    trainings: int = 3
    hospitals: int = 0  # 0: all notes from one hospital, about which alone the study then speaks


def of_pilot(evaluated: Evaluated, first: str, second: str, train: str, evaluate: str) -> tuple[Variances, Design]:
    """The variances of Δ of one system − Δ of another, estimated from finished runs, and the design of these runs."""
    outside = [evaluated[s, train, evaluate] for s in (first, second)]
    inside = [evaluated[s, train, train] for s in (first, second)]
    each = _per_note(outside)
    groups = list(outside[0].groups.values())
    physician = case = 0.0
    design = Design(len(each), 1, len(inside[0].documents), min(len(e.counts) for e in outside))
    note = float(each.var(ddof=1))
    if len(groups) == 2:
        cells = np.full([int(codes.max()) + 1 for codes in groups], np.nan)
        cells[groups[0], groups[1]] = each
        if not np.isnan(cells).any() and cells.size == len(each):
            physician, case, note = (float(v) for v in variance_components(cells))
            design = replace(design, physicians=cells.shape[0], cases=cells.shape[1])
    elif groups:
        physician, note = _one_way(each, groups[0])
        n_groups = int(groups[0].max()) + 1
        design = replace(design, physicians=n_groups, cases=max(round(len(each) / n_groups), 1))
    seeds = [
        100 * (f1_of(out.counts.sum(axis=1)) - f1_of(home.counts.sum(axis=1)))
        for out, home in zip(outside, inside, strict=True)
    ]
    training = sum(float(s.var(ddof=1)) for s in seeds if len(s) > 1)
    return Variances(physician, case, note, float(_per_note(inside).var(ddof=1)), training), design


def assumed(
    f1_inside: Sequence[float], f1_outside: Sequence[float], entities_inside: float, entities_outside: float,
    sd_physician: float, sd_case: float,
) -> Variances:  # fmt: skip
    """Variances of a difference of two gaps when only F1s (in percent, of two systems) and sizes are known.

    A system's own luck with a physician or a case is an SD of its logit of recall, and entities are found independently
    of each other and by each system for itself: a pessimistic guess of the chance of single notes.
    """

    def chance(f1: float, entities: float) -> float:
        f = f1 / 100
        return 1e4 * f * (1 - f) / entities * ((2 - f) ** 2 + f) / 4

    slopes = [100 * (f / 100) * (1 - f / 100) * (2 - f / 100) / 2 for f in f1_outside]
    own = sum(slope**2 for slope in slopes)
    note, inside = (
        sum(chance(f, n) for f in f1s) for f1s, n in ((f1_outside, entities_outside), (f1_inside, entities_inside))
    )
    return Variances(own * sd_physician**2, own * sd_case**2, note, inside)


def standard_error(v: Variances, d: Design) -> tuple[float, float]:
    """Standard error (points) of the difference under a design, and Satterthwaite's degrees of freedom."""
    parts = [
        (v.physician / d.physicians, d.physicians - 1), (v.case / d.cases, d.cases - 1),
        (v.note / (d.physicians * d.cases), d.physicians * d.cases - 1), (v.inside / d.inside, d.inside - 1),
        (v.training / d.trainings, 2 * (d.trainings - 1)), (v.hospital / max(d.hospitals, 1), d.hospitals - 1),
    ]  # fmt: skip
    variance = sum(part for part, _ in parts)
    return math.sqrt(variance), variance**2 / sum(part**2 / max(freedom, 1) for part, freedom in parts if part)


def power(v: Variances, d: Design, effect: float) -> float:
    """Chance that the 95 % interval excludes 0, on the side of the truth, when the difference is `effect` points.

    Source: the normal approximation of the noncentral t distribution (Johnson and Welch 1940, Biometrika 31).
    """
    error, least, spread = _t_test(v, d)
    return float(stats.norm.cdf((effect / error - least) / spread))


def detectable(v: Variances, d: Design) -> float:
    """The smallest difference (points) that is seen with a power of 80 %."""
    error, least, spread = _t_test(v, d)
    return float(error * (least + stats.norm.ppf(WANTED) * spread))


def _t_test(v: Variances, d: Design) -> tuple[float, float, float]:
    """Standard error of the difference, and mean and spread (in errors) of where its t begins to be seen."""
    error, freedom = standard_error(v, d)
    critical = stats.t.ppf(0.975, freedom)
    return error, critical * (1 - 1 / (4 * freedom)), math.sqrt(1 + critical**2 / (2 * freedom))


def design_table(v: Variances, designs: Sequence[Design], effects: Sequence[float] = EFFECTS) -> pd.DataFrame:
    """Power (%) of each design for each effect, and what it detects with 80 %."""
    rows = [
        {"physicians": d.physicians, "cases": d.cases, "in-domain notes": d.inside, "trainings": d.trainings}
        | ({"hospitals": d.hospitals} if any(other.hospitals for other in designs) else {})
        | {"SE (points)": standard_error(v, d)[0]}
        | {f"power for {effect:g} points (%)": 100 * power(v, d, effect) for effect in effects}
        | {"detected with 80 % (points)": detectable(v, d)}
        for d in designs
    ]
    return pd.DataFrame(rows)


def larger(d: Design) -> list[Design]:
    """The pilot's design and what one would try next: more in-domain notes, trainings, physicians, cases, all."""
    return [
        d, replace(d, inside=5 * d.inside), replace(d, trainings=10), replace(d, physicians=4 * d.physicians),
        replace(d, physicians=2 * d.physicians, cases=2 * d.cases, inside=5 * d.inside),
        replace(d, physicians=8 * d.physicians, cases=4 * d.cases, inside=5 * d.inside, trainings=10),
    ]  # fmt: skip


def the_papers() -> pd.DataFrame:
    """Worked example: could the paper's design show its 5.3 points (ΔCR −13.9 against −8.6)? SDs are assumed.

    30 in-domain reports of 16 entities, 10 × 10 notes of 9 entities, the printed means of its two fine-tuned systems.
    """
    rows = []
    for sd_physician, sd_case in ((0.05, 0.05), (0.15, 0.15), (0.3, 0.15), (0.3, 0.3)):
        v = assumed((73.7, 78.4), (59.8, 69.8), 16, 9, sd_physician, sd_case)
        for d in (Design(10, 10, 30), Design(10, 10, 148), Design(20, 20, 148), Design(40, 20, 148)):
            rows.append(
                {"own SD over physicians (logit)": sd_physician, "own SD over cases (logit)": sd_case}
                | {"physicians × cases": f"{d.physicians} × {d.cases}", "in-domain notes": d.inside}
                | {"SE (points)": standard_error(v, d)[0], "power for 5.3 points (%)": 100 * power(v, d, 5.3)}
                | {"detected with 80 % (points)": detectable(v, d)}
            )
    return pd.DataFrame(rows)


def plan(study: Study, evaluated: Evaluated) -> pd.DataFrame:
    """`design_table` for each pair that the study asks about, in its main setting; empty where it has no such gap."""
    tables = [
        design_table(v, larger(d)).assign(first=study.systems[a].title, second=study.systems[b].title)
        for a, b, v, d in _pilots(study, evaluated)
    ]
    return pd.concat(tables).set_index(["first", "second"]) if tables else pd.DataFrame()


def limits(study: Study, evaluated: Evaluated) -> str:
    """What the design of the runs cannot see, in Markdown."""
    said = [
        f"- With {d.physicians} × {d.cases} notes, {d.inside} in-domain notes and {d.trainings} trainings a difference "
        f"of Δ between {study.systems[a].title} and {study.systems[b].title} is seen with 80 % power only from "
        f"**{detectable(v, d):.0f} points** on; for 5 points the power is {100 * power(v, d, 5):.0f} %."
        for a, b, v, d in _pilots(study, evaluated)
    ]
    return "\n".join(said) or "No pair of systems has been scored both in-domain and out-of-domain."


def _pilots(study: Study, evaluated: Evaluated) -> Iterator[tuple[str, str, Variances, Design]]:
    counted, (train, name) = above_floor(evaluated), main_setting(study)
    for first, second in pairs(study, evaluated):
        if name != train and all((s, train, n) in counted for s in (first, second) for n in (train, name)):
            yield first, second, *of_pilot(counted, first, second, train, name)


def _per_note(pair: Sequence[Evaluation]) -> np.ndarray:
    """What each note adds to the difference of two F1s (points), as values whose mean varies as the difference does."""
    n = len(pair[0].documents)
    moved = [changes_without(e.counts, np.arange(n)) for e in pair]
    return -100 * (n - 1) * (moved[0] - moved[1])


def _one_way(values: np.ndarray, codes: np.ndarray) -> tuple[float, float]:
    """Variance between and within groups (ANOVA estimator, Searle et al. 1992), the former not below 0."""
    sizes, means = np.bincount(codes), np.bincount(codes, values) / np.bincount(codes)
    n, k = len(values), len(sizes)
    within = float(((values - means[codes]) ** 2).sum()) / max(n - k, 1)
    between = float((sizes * (means - values.mean()) ** 2).sum()) / max(k - 1, 1)
    return max(0.0, (between - within) / ((n - (sizes**2).sum() / n) / max(k - 1, 1))), within
