"""Do the intervals hold the truth as often as they say? `python -m tools.interval_coverage` simulates corpora and counts.

Knows corpora whose true F1 can be computed: notes with Poisson many entities, each found with the note's own
probability. Knows no real note, and no system.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import norm
from tqdm.auto import tqdm

from nbutils.corpus import Document
from nbutils.scoring.evaluation import Evaluation
from nbutils.scoring.intervals import f1_interval

N_BOOT = 400  # replicates an interval; the notebooks take more
SPURIOUS = 0.4  # predicted entities that are none, as a share of the gold ones
NOTE_SD = 0.7  # of the logit from note to note

Terms = list[tuple[float, Evaluation]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print how often the intervals of each scenario hold the truth, in so many simulated corpora."""
    parser = argparse.ArgumentParser(prog="python -m tools.interval_coverage", description=main.__doc__)
    parser.add_argument("--corpora", type=int, default=2000, help="simulated corpora a scenario")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args(arguments)
    table = coverage_table(chosen.corpora, seed=chosen.seed)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.1f}"))


def coverage_table(n_corpora: int, *, seed: int = 0, progress: bool = True) -> pd.DataFrame:
    """Coverage in percent of every scenario, with its standard error, and the mean width of the interval in points."""
    rows = []
    for name, (truth, draw) in tqdm(SCENARIOS.items(), disable=not progress, desc="simulating", unit="scenario"):
        hits, width = covered(truth, draw, n_corpora, seed=seed)
        error = 100 * math.sqrt(hits * (1 - hits) / n_corpora)
        rows.append({"interval of": name, "truth (points)": truth, "coverage (%)": 100 * hits,
                     "standard error (%)": error, "mean width (points)": width})  # fmt: skip
    return pd.DataFrame(rows)


def covered(
    truth: float, draw: Callable[[np.random.Generator], Terms], n_corpora: int, *, seed: int = 0
) -> tuple[float, float]:
    """Share of simulated corpora whose interval holds the truth, and the mean width of the intervals."""
    hits, width = 0, 0.0
    for k in range(n_corpora):
        rng = np.random.default_rng([seed, k])
        terms = draw(rng)
        _, low, high = f1_interval(terms, n_boot=N_BOOT, seed=int(rng.integers(2**31)))
        hits, width = hits + (low <= truth <= high), width + high - low
    return hits / n_corpora, width / n_corpora


# --- simulated corpora -----------------------------------------------------------------------------------------------


def simulated(rng: np.random.Generator, logits: np.ndarray) -> np.ndarray:
    """Counts (matched, predicted, gold) of notes with these logits of being found; shape + (3,)."""
    gold = 1 + rng.poisson(19, logits.shape)
    matched = rng.binomial(gold, 1 / (1 + np.exp(-logits)))
    return np.stack([matched, matched + rng.poisson(SPURIOUS * gold), gold], axis=-1).astype(float)


def population_f1(mean: float, sd: float) -> float:
    """F1 (percent) over endlessly many notes of `simulated`, whose logits are normal."""
    z = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    recall = np.mean(1 / (1 + np.exp(-(mean + sd * z))))
    return 100 * 2 * recall / (recall + SPURIOUS + 1)


def bare_notes(n: int, prefix: str = "n") -> tuple[Document, ...]:
    """Notes that name neither a case nor a physician."""
    return tuple(Document(f"{prefix}{k}", "") for k in range(n))


def crossed_notes(n_physicians: int = 10, n_cases: int = 10) -> tuple[Document, ...]:
    """One note of every case by every physician."""
    cells = product(range(n_physicians), range(n_cases))
    return tuple(Document(f"{p}-{c}", "", meta={"physician": f"p{p}", "case": f"c{c}"}) for p, c in cells)


def by_document(rng: np.random.Generator, n: int, mean: float, prefix: str = "n") -> Evaluation:
    """Notes that resemble each other no more than any two."""
    return Evaluation(bare_notes(n, prefix), simulated(rng, rng.normal(mean, NOTE_SD, (1, n))))


def effects(rng: np.random.Generator, sds: Sequence[float]) -> np.ndarray:
    """Logits of 10 × 10 notes around 0, with an SD over physicians, over cases and between notes; shape (1, 100)."""
    shapes = [(10, 1), (1, 10), (10, 10)]
    return sum(rng.normal(0, sd, shape) for sd, shape in zip(sds, shapes, strict=True)).reshape(1, 100)


def crossed(rng: np.random.Generator, sds: Sequence[float], mean: float) -> Evaluation:
    return Evaluation(crossed_notes(), simulated(rng, mean + effects(rng, sds)))


def fifth(rng: np.random.Generator, evaluation: Evaluation) -> Evaluation:
    """A random fifth of the notes, as an in-domain test part is."""
    chosen = np.sort(rng.permutation(len(evaluation.documents))[: len(evaluation.documents) // 5])
    return evaluation.on([evaluation.documents[k] for k in chosen])


# --- scenarios -------------------------------------------------------------------------------------------------------


def _f1(n: int) -> tuple[float, Callable]:
    return population_f1(0.7, NOTE_SD), lambda rng: [(1, by_document(rng, n, 0.7))]


def _two_way(sds: Sequence[float], *, part: bool = False) -> tuple[float, Callable]:
    def draw(rng: np.random.Generator) -> Terms:
        evaluation = crossed(rng, sds, 0.7)
        return [(1, fifth(rng, evaluation) if part else evaluation)]

    return population_f1(0.7, math.hypot(*sds)), draw


def _gap(n_inside: int, n_outside: int) -> tuple[float, Callable]:
    truth = population_f1(0.2, NOTE_SD) - population_f1(1.2, NOTE_SD)
    return truth, lambda rng: [
        (1, by_document(rng, n_outside, 0.2, "out")),
        (-1, by_document(rng, n_inside, 1.2, "in")),
    ]


def _gap_to_crossed(sds: Sequence[float]) -> tuple[float, Callable]:
    truth = population_f1(0.2, math.hypot(*sds)) - population_f1(1.2, NOTE_SD)
    return truth, lambda rng: [(1, crossed(rng, sds, 0.2)), (-1, by_document(rng, 30, 1.2, "in"))]


def _gap_from_crossed(sds: Sequence[float]) -> tuple[float, Callable]:
    truth = population_f1(0.2, NOTE_SD) - population_f1(1.2, math.hypot(*sds))
    return truth, lambda rng: [(1, by_document(rng, 148, 0.2, "out")), (-1, fifth(rng, crossed(rng, sds, 1.2)))]


def _two_gaps(sds: Sequence[float] | None) -> tuple[float, Callable]:
    """Two systems on the same notes: what makes a note hard, it does for both, and each has its own luck besides."""
    shared, own = 0.5, math.sqrt(NOTE_SD**2 - 0.5**2)

    def pair(rng: np.random.Generator, documents: tuple[Document, ...], ease: np.ndarray, means: Sequence[float]):
        each = (mean + ease + rng.normal(0, own, ease.shape) for mean in means)
        return [Evaluation(documents, simulated(rng, logits)) for logits in each]

    def draw(rng: np.random.Generator) -> Terms:
        inside = pair(rng, bare_notes(30, "in"), rng.normal(0, shared, (1, 30)), (1.2, 1.2))
        if sds is None:
            outside = pair(rng, bare_notes(100, "out"), rng.normal(0, shared, (1, 100)), (0.7, 0.2))
        else:
            outside = pair(rng, crossed_notes(), effects(rng, sds), (0.7, 0.2))
        return [(1, outside[0]), (-1, inside[0]), (-1, outside[1]), (1, inside[1])]

    sd = NOTE_SD if sds is None else math.hypot(*sds, own)
    return population_f1(0.7, sd) - population_f1(0.2, sd), draw


def _two_systems(sds: Sequence[float]) -> tuple[float, Callable]:
    """Two systems on the same crossed notes; hard physicians and cases are hard for both, a little more for one."""

    def draw(rng: np.random.Generator) -> Terms:
        ease = effects(rng, sds)
        first = Evaluation(crossed_notes(), simulated(rng, 0.2 + 1.3 * ease))
        return [(1, first), (-1, Evaluation(crossed_notes(), simulated(rng, 0.7 + ease)))]

    sd = math.hypot(*sds)
    return population_f1(0.2, 1.3 * sd) - population_f1(0.7, sd), draw


SCENARIOS: dict[str, tuple[float, Callable[[np.random.Generator], Terms]]] = {
    "F1, 20 notes": _f1(20),
    "F1, 30 notes": _f1(30),
    "F1, 100 notes": _f1(100),
    "F1, 10 × 10, physicians differ": _two_way((0.7, 0.0, 0.3)),
    "F1, 10 × 10, both differ": _two_way((0.5, 0.5, 0.3)),
    "F1, 10 × 10, both differ, notes more": _two_way((0.3, 0.3, 0.5)),
    "F1, 10 × 10, both alike": _two_way((0.0, 0.0, 0.7)),
    "F1, a fifth of 10 × 10, physicians differ": _two_way((0.7, 0.0, 0.3), part=True),
    "F1, a fifth of 10 × 10, both differ": _two_way((0.3, 0.3, 0.5), part=True),
    "Δ, 30 and 100 notes": _gap(30, 100),
    "Δ, 30 notes and 10 × 10": _gap_to_crossed((0.5, 0.3, 0.3)),
    "Δ, a fifth of 10 × 10 and 148 notes": _gap_from_crossed((0.5, 0.3, 0.3)),
    "difference of two Δ, 30 and 100 notes": _two_gaps(None),
    "difference of two Δ, 30 notes and 10 × 10": _two_gaps((0.5, 0.3, 0.3)),
    "difference of two systems, 10 × 10": _two_systems((0.5, 0.3, 0.3)),
}


if __name__ == "__main__":
    main()
