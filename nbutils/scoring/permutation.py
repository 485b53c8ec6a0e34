"""Permutation tests of paired systems, tests of paired spreads, and Holm's correction of a family of tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.stats import pearsonr

from nbutils.scoring.evaluation import f1_of, micro_f1

N_EXACT = 12  # up to so many documents or strata all swaps are tried, above that a sample of them


def permutation_test(
    first: np.ndarray,
    second: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Difference of micro F1 (first − second, mean over seeds) and its two-sided p from a paired permutation test.

    `first` and `second` are counts of the same documents; `groups` is the group of each. If the systems do not differ,
    whose prediction a group carries is chance: all its predictions are swapped between the two, all seeds together,
    with probability ½. p = (1 + number of swaps with a difference at least as large) / (1 + number of swaps); for up to
    12 groups all swaps are tried, and p is their exact share. Without `groups` each document is swapped by itself,
    which asks about these documents alone. A system with fewer seeds has them repeated, which leaves its mean as it is.

    Source: Noreen 1989, Computer-Intensive Methods for Testing Hypotheses (approximate randomisation); Yeh 2000 for
    F1; the 1 + of Phipson and Smyth 2010.
    """
    n_seeds = math.lcm(len(first), len(second))
    first, second = (np.tile(c, (n_seeds // len(c), 1, 1)).astype(float) for c in (first, second))
    codes = np.arange(first.shape[1]) if groups is None else groups
    exchange = np.zeros((int(codes.max()) + 1, 3 * n_seeds))
    np.add.at(exchange, codes, (second - first).transpose(1, 0, 2).reshape(len(codes), -1))
    swaps, exact = _swaps(len(exchange), n_permutations, seed)
    moved = (swaps @ exchange).reshape(len(swaps), n_seeds, 3)
    after = f1_of(first.sum(axis=1) + moved).mean(axis=1) - f1_of(second.sum(axis=1) - moved).mean(axis=1)
    observed = micro_f1(first) - micro_f1(second)
    return observed, _share_as_far(after, observed, exact)


def _swaps(n: int, n_permutations: int, seed: int) -> tuple[np.ndarray, bool]:
    """Which of n units are swapped, a row of 0 and 1 for each try, and whether all tries are there."""
    if n <= N_EXACT:
        return np.array(list(product([0.0, 1.0], repeat=n))), True
    return np.random.default_rng(seed).integers(0, 2, (n_permutations, n)).astype(float), False


def _share_as_far(after: np.ndarray, observed: float, exact: bool) -> float:
    """p: the share of swaps with a difference at least as large; of a sample, what was observed is one of them."""
    as_far = np.count_nonzero(np.abs(after) >= abs(observed) - 1e-12)
    return float(as_far / len(after) if exact else (1 + as_far) / (1 + len(after)))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p of a family of tests: the k-th smallest of m times m − k + 1, never below a smaller one's, at most 1.

    Rejecting where it is at most α keeps the chance of any false rejection in the family at α, whatever the dependence.
    A test without a p (nan) is none of the family.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]
    adjusted = np.full_like(p, np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


@dataclass(frozen=True)
class SpreadTest:
    """The SDs of the stratum scores of two systems, and two-sided p values of the hypothesis that they are equal."""

    sd_first: float
    sd_second: float
    p: float  # Pitman's and Morgan's
    p_swapped: float  # of the deviations swapped between the systems


def spread_test(
    first: Sequence[float], second: Sequence[float], *, n_permutations: int = 10_000, seed: int = 0
) -> SpreadTest:
    """Does one system's score vary more over the same strata (physicians, cases) than another's?

    Pitman's and Morgan's test of paired variances: the sum and the difference of two variables are correlated exactly
    when their variances differ. Beside it the deviations from each system's mean are swapped stratum by stratum; that p
    is the share of swaps with a difference of the SDs at least as large (all swaps up to 12 strata).

    Both compare spreads on the scale that they are given. A score between 0 and 100 % has no space to vary near its
    ends, so a system that finds little is steadier in points for that reason alone: compare logits as well.
    The SD of stratum scores contains some chance of single notes too: read it beside the variance components.

    Source: Pitman 1939 and Morgan 1939, Biometrika 31.
    """
    a, b = (np.asarray(v, dtype=float) - np.mean(v) for v in (first, second))
    swaps, exact = _swaps(len(a), n_permutations, seed)
    sds = [np.where(swaps, other, own).std(axis=1, ddof=1) for own, other in ((a, b), (b, a))]
    sd_first, sd_second = a.std(ddof=1), b.std(ddof=1)
    p_swapped = _share_as_far(sds[0] - sds[1], sd_first - sd_second, exact)
    constant = np.ptp(a + b) == 0 or np.ptp(a - b) == 0
    p = math.nan if constant or len(a) < 3 else float(pearsonr(a + b, a - b).pvalue)
    return SpreadTest(float(sd_first), float(sd_second), p, p_swapped)
