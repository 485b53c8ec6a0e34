"""Exact and sampled permutation tests, and Holm's correction of a family of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from nbutils.scoring.resampling import f1_of, micro_f1

N_EXACT = 12  # up to so many documents or strata all swaps are tried, above that a sample of them


def permutation_test(
    first: np.ndarray, second: np.ndarray, *, n_permutations: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Difference of micro F1 (first − second, mean over seeds) and its two-sided p from a paired permutation test.

    If the systems do not differ, whose prediction a document carries is chance: each document's predictions are
    swapped between the two, all seeds together, with probability ½. p = (1 + number of swaps with a difference at least
    as large) / (1 + number of swaps); for up to 12 documents all swaps are tried, and p is their exact share. A system
    with fewer seeds has them repeated, which leaves its mean as it is.

    Source: Noreen 1989, Computer-Intensive Methods for Testing Hypotheses (approximate randomisation); Yeh 2000 for
    F1; the 1 + of Phipson and Smyth 2010.
    """
    n_seeds = math.lcm(len(first), len(second))
    first, second = (np.tile(c, (n_seeds // len(c), 1, 1)).astype(float) for c in (first, second))
    exchange = (second - first).transpose(1, 0, 2).reshape(first.shape[1], -1)
    exact = first.shape[1] <= N_EXACT
    if exact:
        swaps = np.array(list(product([0.0, 1.0], repeat=first.shape[1])))
    else:
        swaps = np.random.default_rng(seed).integers(0, 2, (n_permutations, first.shape[1])).astype(float)
    moved = (swaps @ exchange).reshape(len(swaps), n_seeds, 3)
    after = f1_of(first.sum(axis=1) + moved).mean(axis=1) - f1_of(second.sum(axis=1) - moved).mean(axis=1)
    observed = micro_f1(first) - micro_f1(second)
    as_far = np.count_nonzero(np.abs(after) >= abs(observed) - 1e-12)
    p = as_far / len(swaps) if exact else (1 + as_far) / (1 + len(swaps))
    return observed, float(p)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p of a family of tests: the k-th smallest of m times m − k + 1, never below a smaller one's, at most 1.

    Rejecting where it is at most α keeps the chance of any false rejection in the family at α, whatever the dependence.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


@dataclass(frozen=True)
class SpreadTest:
    """The SD of stratum means of two systems, and the two-sided p of the hypothesis that they are equal."""

    sd_first: float
    sd_second: float
    p: float


def spread_test(
    first: Sequence[float], second: Sequence[float], *, n_permutations: int = 10_000, seed: int = 0
) -> SpreadTest:
    """Paired permutation test on the SD of stratum means: does one system's score vary more over the same strata?

    Each system's mean is taken off first, so that a better system is not mistaken for a steadier one. If the spreads do
    not differ, whose deviation belongs to which system is chance: they are swapped stratum by stratum. p is the share
    of swaps with a difference of the SDs at least as large; up to 12 strata all swaps are tried, and p is exact but for
    the centring.

    Over ten strata it mostly notices a spread three times as large, and misses one twice as large as often as not.

    The SD of stratum means holds some chance of single notes too (σ² of the rest / notes a stratum), so a system may
    vary more over physicians because its notes vary more: read it beside the variance components.
    """
    deviations = np.stack([np.asarray(v, dtype=float) - np.mean(v) for v in (first, second)])
    n_strata = deviations.shape[1]
    if n_strata <= N_EXACT:
        swaps = np.array(list(product([False, True], repeat=n_strata)))
    else:
        swaps = np.random.default_rng(seed).random((n_permutations, n_strata)) < 0.5
        swaps[0] = False  # what was observed is one of the possible swaps
    sds = [np.where(swaps, deviations[1 - k], deviations[k]).std(axis=1, ddof=1) for k in (0, 1)]
    difference = np.abs(sds[0] - sds[1])
    return SpreadTest(float(sds[0][0]), float(sds[1][0]), float((difference >= difference[0] - 1e-12).mean()))
