"""Sums of F1s with standard errors, 95 % intervals and tests: over other notes, and over other trainings as well.

Variances are computed, not drawn, so no verdict depends on a random number.
`python -m tools.interval_coverage` prints how often the intervals contain the truth and how often the tests reject.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from nbutils.scoring.evaluation import Evaluation, f1_of

# Two crossed groupings only: one whose variance is below so many times that of single notes is taken not to matter, a
# pooling rule after a preliminary test (Bancroft 1964, Biometrics 20(3)), near the 80 % point of F for ten groups. With
# fewer than so many notes a group the ratio says too little for that, and whatever is above one counts.
POOLED_BELOW, NOTES_TO_POOL = 1.35, 5
Terms = Sequence[tuple[float, Evaluation]]  # (sign, evaluation)
Parts = tuple[tuple[float, float], ...]  # (variance, degrees of freedom; 0 for a part without any)

# On which scale F1s (as shares) are compared: the function, its derivative, and the way back from a difference.
SCALES: dict[str, tuple[Callable, Callable, Callable]] = {
    "points": (lambda f: 100 * f, lambda f: 100.0, lambda x: x),
    "share kept": (np.log, lambda f: 1 / f, np.exp),
    "odds": (logit, lambda f: 1 / (f * (1 - f)), np.exp),
}


@dataclass(frozen=True)
class Estimate:
    """A number on the scale of its computation (`theta`), what it varies with, and the way `back` to print it."""

    theta: float
    notes: Parts
    trainings: Parts | None  # None when a system with chance in its training was trained once: others are unknown
    back: Callable[[float], float] = float

    @property
    def value(self) -> float:
        return float(self.back(self.theta))

    def error(self, *, trainings: bool = False) -> tuple[float, float]:
        """Standard error of `theta` and its degrees of freedom, Satterthwaite's (ΣV)² / Σ(V²/df); nan if unknown."""
        if trainings and self.trainings is None:
            return math.nan, math.nan
        parts = (*self.notes, *(self.trainings or ())) if trainings else self.notes
        variance = sum(v for v, _ in parts)
        if not variance > 0:
            return math.nan, math.nan
        return math.sqrt(variance), variance**2 / sum(v**2 / freedom for v, freedom in parts if freedom)

    def interval(self, *, trainings: bool = False) -> tuple[float, float]:
        """The 95 % t interval of `value`: these models on other notes, or other trainings on other notes."""
        error, freedom = self.error(trainings=trainings)
        reach = stats.t.ppf(0.975, freedom) * error
        return float(self.back(self.theta - reach)), float(self.back(self.theta + reach))

    def p(self, *, trainings: bool = False) -> float:
        """Two-sided p of `theta` = 0; below 0.05 exactly where the interval excludes it."""
        error, freedom = self.error(trainings=trainings)
        return float(2 * stats.t.sf(abs(self.theta) / error, freedom))

    def p_within(self, margin: float, *, trainings: bool = False) -> float:
        """p of the two one-sided tests that `theta` lies outside ±margin: small means equivalent.

        Source: Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15(6).
        """
        error, freedom = self.error(trainings=trainings)
        below, above = stats.t.sf([(self.theta + margin) / error, (margin - self.theta) / error], freedom)
        return float(max(below, above))


def contrast(terms: Terms, scale: str = "points") -> Estimate:
    """A signed sum of F1s on a scale: ((1, ood), (-1, id)) is Δ, four terms are a difference of two Δ.

    `points` compares by difference (printed in points), `share kept` by ratio, `odds` by the ratio of F1 / (1 − F1).
    An interval in points ends at the least and the greatest that the sum can be (a Δ: ±100). A ratio with an F1 of 0
    (of odds, 1 as well) is nan.
    """
    function, slope, back = SCALES[scale]
    f1 = [e.f1 / 100 for _, e in terms]
    if scale != "points" and not all(0 < f < (1 if scale == "odds" else 2) for f in f1):
        return Estimate(math.nan, ((math.nan, 1.0),), None)
    if scale == "points":
        least, most = (100 * sum(bound(sign, 0) for sign, _ in terms) for bound in (min, max))
        back = lambda x: min(max(x, least), most)  # noqa: E731
    slopes = [(sign * slope(f), e) for (sign, e), f in zip(terms, f1, strict=True)]
    theta = sum(sign * function(f) for (sign, _), f in zip(terms, f1, strict=True))
    return Estimate(float(theta), _over_notes(slopes), _over_trainings(slopes), back)


def f1_interval(evaluation: Evaluation, *, trainings: bool = False) -> tuple[float, float]:
    """95 % interval of F1 in percent, a t interval of its logit.

    Where all groups of notes score 0 (or all 100) nothing varies. Then one end is the exact bound of Clopper and
    Pearson for so many groups (of the grouping with the fewest): a mean is at least the share of perfect groups.
    """
    f1 = evaluation.f1
    if 0 < f1 < 100:
        logits = replace(contrast([(1, evaluation)], "odds"), back=lambda x: 100 * expit(x))
        return logits.interval(trainings=trainings)
    if math.isnan(f1) or (trainings and len(evaluation.counts) < 2 and not evaluation.deterministic):
        return math.nan, math.nan
    n_groups = min([len(evaluation.documents), *(int(codes.max()) + 1 for codes in evaluation.groups.values())])
    reach = 100 * (1 - 0.025 ** (1 / max(n_groups, 1)))
    return (0.0, reach) if f1 == 0 else (100 - reach, 100.0)


# --- what an estimate varies with ------------------------------------------------------------------------------------


def _over_notes(slopes: Terms) -> Parts:
    """Variance over other notes, in parts: (variance, degrees of freedom); one that is taken off has none of its own.

    Terms on the same documents are added document by document, as in a paired comparison; other documents are
    independent, and their variances add. Notes that stand alone are left out one at a time (the jackknife), in one
    grouping whole groups are, whatever their variance. In two groupings it is V(first) + V(second) − V(cells), where a
    grouping that varies little more than single cells is left out (`POOLED_BELOW`).

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 11 (jackknife); Cameron, Gelbach and
    Miller 2011, Robust Inference With Multiway Clustering, Journal of Business & Economic Statistics 29(2).
    """
    samples: dict[tuple[str, ...], list[tuple[float, Evaluation]]] = {}
    for slope, e in slopes:
        samples.setdefault(e.ids, []).append((slope, e))
    parts: list[tuple[float, float]] = []
    for terms in samples.values():
        groupings = list(terms[0][1].groups.values())
        if len(groupings) < 2:
            parts.append(_jackknife(terms, groupings[0] if groupings else np.arange(len(terms[0][1].documents))))
            continue
        cells = _jackknife(terms, np.unique(np.stack(groupings), axis=1, return_inverse=True)[1].ravel())
        each = [_jackknife(terms, codes) for codes in groupings]
        kept = [group for group in each if group[0] > _least_ratio(cells[1] + 1, group[1] + 1) * cells[0]]
        parts += [*kept, (-cells[0], 0.0)] if len(kept) > 1 else kept or [cells]
    return tuple(parts)


def _jackknife(terms: Terms, codes: np.ndarray) -> tuple[float, float]:
    """(n − 1)/n · Σ(change when a group is left out)², and n − 1."""
    n = int(codes.max()) + 1 if len(codes) else 0
    changes = sum(slope * changes_without(e.counts, codes) for slope, e in terms) if n > 1 else np.array([math.nan])
    return (n - 1) / max(n, 1) * float((changes**2).sum()), max(n - 1.0, 1.0)


def changes_without(counts: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """By how much F1 (as a share, mean over seeds) changes when each group of documents is left out."""
    of_groups = np.zeros((len(counts), int(codes.max()) + 1, 3))
    np.add.at(of_groups, (slice(None), codes), counts)
    total = counts.sum(axis=1, keepdims=True)
    return (f1_of(total - of_groups) - f1_of(total)).mean(axis=0)


def _least_ratio(n_cells: float, n_groups: float) -> float:
    return POOLED_BELOW if n_cells >= NOTES_TO_POOL * n_groups else 1.0


def _over_trainings(slopes: Terms) -> Parts | None:
    """Variance of a mean over k trainings: s²/k with k − 1 degrees of freedom, for each training; None with one run.

    A deterministic training would give the same model again: its variance is 0, with one run, too.

    Terms of one training are added seed by seed; different trainings are independent. That trainings differ on single
    notes by chance is in the variance over notes already. Taking all of that off s² would be unbiased, and with three
    trainings covers 92 %; half of it is taken off, which in simulations keeps intervals and tests near what they say.

    Source: the seeds' part of the Multi-Bootstrap (Sellam et al. 2022, The MultiBERTs), as a variance.
    """
    sums: dict[str, np.ndarray] = {}
    by_note: dict[str, float] = {}
    for slope, e in slopes:
        if e.deterministic:
            continue
        total = e.counts.sum(axis=1, keepdims=True)
        n_seeds, n_notes, _ = e.counts.shape
        if n_seeds < 2:
            return None
        name = e.training or f"\0{len(sums)}"
        sums[name] = sums.get(name, 0.0) + slope * f1_of(total[:, 0])
        changes = slope * (f1_of(total - e.counts) - f1_of(total))
        own = (changes - changes.mean(axis=0)) ** 2
        by_note[name] = by_note.get(name, 0.0) + (n_notes - 1) / n_notes * float(own.sum()) / (n_seeds - 1)
    spread = {name: float(s.var(ddof=1)) for name, s in sums.items()}
    return tuple(
        (max(v - by_note[name] / 2, v / 2) / len(sums[name]), len(sums[name]) - 1.0) for name, v in spread.items()
    )
