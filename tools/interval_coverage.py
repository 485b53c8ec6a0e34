"""Do intervals contain the truth as often as they say, and do tests reject as seldom? Simulated corpora, counted.

`python -m tools.interval_coverage` prints two tables; docs/statistics.md has them. The truth of a simulated corpus is
known: notes with Poisson many entities, each found with a probability of its note, author, case and training.
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

from nbutils.analysis.significance import group_p
from nbutils.corpus import Document
from nbutils.scoring.evaluation import Evaluation
from nbutils.scoring.intervals import contrast, f1_interval
from nbutils.scoring.permutation import permutation_test, spread_test

SPURIOUS = 0.4  # predicted entities that are none, as a share of the gold ones
NOTE_SD = 0.7  # of the logit from note to note

Terms = list[tuple[float, Evaluation]]
Draw = Callable[[np.random.Generator], Terms]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print how often the intervals of each scenario contain the truth, and how often tests reject without cause."""
    parser = argparse.ArgumentParser(prog="python -m tools.interval_coverage", description=main.__doc__)
    parser.add_argument("--corpora", type=int, default=2000, help="simulated corpora per scenario")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args(arguments)
    for table in (coverage_table, level_table):
        print(
            table(chosen.corpora, seed=chosen.seed).to_string(index=False, float_format=lambda x: f"{x:.1f}"),
            end="\n\n",
        )


def coverage_table(n_corpora: int, *, seed: int = 0, progress: bool = True) -> pd.DataFrame:
    """Coverage in percent of every scenario, with its standard error, and the mean width of the interval in points."""
    rows = []
    scenarios = [(name, *scenario, False) for name, scenario in SCENARIOS.items()]
    scenarios += [(name, *scenario, wider) for name, scenario in TRAININGS.items() for wider in (False, True)]
    for name, truth, draw, wider in tqdm(scenarios, disable=not progress, desc="intervals", unit="scenario"):
        hits, width = covered(truth, draw, n_corpora, seed=seed, trainings=wider)
        error = 100 * math.sqrt(hits * (1 - hits) / n_corpora)
        kind = "other trainings" if wider else "these models"
        rows.append({"interval of": name, "kind": kind, "truth (points)": truth, "coverage (%)": 100 * hits,
                     "standard error (%)": error, "mean width (points)": width})  # fmt: skip
    return pd.DataFrame(rows)


def covered(truth: float, draw: Draw, n_corpora: int, *, seed: int = 0, trainings: bool = False) -> tuple[float, float]:
    """Share of simulated corpora whose interval contains the truth, and the mean width of the intervals."""
    hits, width = 0, 0.0
    for k in range(n_corpora):
        terms = draw(np.random.default_rng([seed, k]))
        if len(terms) == 1:
            low, high = f1_interval(terms[0][1], trainings=trainings)
        else:
            low, high = contrast(terms).interval(trainings=trainings)
        hits, width = hits + (low <= truth <= high), width + high - low
    return hits / n_corpora, width / n_corpora


def level_table(n_corpora: int, *, seed: int = 0, progress: bool = True) -> pd.DataFrame:
    """How often each test has p ≤ 0.05 where its null hypothesis holds, in percent."""
    rows = []
    for name, draw_p in tqdm(NULLS.items(), disable=not progress, desc="tests", unit="test"):
        share = level(draw_p, n_corpora, seed=seed)
        error = 100 * math.sqrt(share * (1 - share) / n_corpora)
        rows.append({"test, where its null holds": name, "p ≤ 0.05 (%)": 100 * share, "standard error (%)": error})
    return pd.DataFrame(rows)


def level(draw_p: Callable[[np.random.Generator], float], n_corpora: int, *, seed: int = 0) -> float:
    return float(np.mean([draw_p(np.random.default_rng([seed, k])) <= 0.05 for k in range(n_corpora)]))


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


def _f1(n: int) -> tuple[float, Draw]:
    return population_f1(0.7, NOTE_SD), lambda rng: [(1, by_document(rng, n, 0.7))]


def _two_way(sds: Sequence[float], *, part: bool = False) -> tuple[float, Draw]:
    def draw(rng: np.random.Generator) -> Terms:
        evaluation = crossed(rng, sds, 0.7)
        return [(1, fifth(rng, evaluation) if part else evaluation)]

    return population_f1(0.7, math.hypot(*sds)), draw


def _gap(n_inside: int, n_outside: int) -> tuple[float, Draw]:
    truth = population_f1(0.2, NOTE_SD) - population_f1(1.2, NOTE_SD)
    return truth, lambda rng: [
        (1, by_document(rng, n_outside, 0.2, "out")),
        (-1, by_document(rng, n_inside, 1.2, "in")),
    ]


def _gap_to_crossed(sds: Sequence[float]) -> tuple[float, Draw]:
    truth = population_f1(0.2, math.hypot(*sds)) - population_f1(1.2, NOTE_SD)
    return truth, lambda rng: [(1, crossed(rng, sds, 0.2)), (-1, by_document(rng, 30, 1.2, "in"))]


def _gap_from_crossed(sds: Sequence[float]) -> tuple[float, Draw]:
    truth = population_f1(0.2, NOTE_SD) - population_f1(1.2, math.hypot(*sds))
    return truth, lambda rng: [(1, by_document(rng, 148, 0.2, "out")), (-1, fifth(rng, crossed(rng, sds, 1.2)))]


def _two_gaps(sds: Sequence[float] | None) -> tuple[float, Draw]:
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


def _two_systems(sds: Sequence[float]) -> tuple[float, Draw]:
    """Two systems on the same crossed notes; hard physicians and cases are hard for both, a little more for one."""

    def draw(rng: np.random.Generator) -> Terms:
        ease = effects(rng, sds)
        first = Evaluation(crossed_notes(), simulated(rng, 0.2 + 1.3 * ease))
        return [(1, first), (-1, Evaluation(crossed_notes(), simulated(rng, 0.7 + ease)))]

    sd = math.hypot(*sds)
    return population_f1(0.2, 1.3 * sd) - population_f1(0.7, sd), draw


def grouped_notes(sizes: Sequence[int]) -> tuple[Document, ...]:
    """So many notes by each physician, and no case."""
    return tuple(Document(f"{g}-{k}", "", meta={"physician": f"p{g}"}) for g, n in enumerate(sizes) for k in range(n))


def _by_physician(n_groups: int, least: int, most: int, sds: Sequence[float]) -> tuple[float, Draw]:
    """Physicians with between `least` and `most` notes each; SDs over physicians and between notes."""

    def draw(rng: np.random.Generator) -> Terms:
        sizes = rng.integers(least, most + 1, n_groups)
        logits = 0.7 + np.repeat(rng.normal(0, sds[0], n_groups), sizes) + rng.normal(0, sds[1], sizes.sum())
        return [(1, Evaluation(grouped_notes(sizes), simulated(rng, logits[None])))]

    return population_f1(0.7, math.hypot(*sds)), draw


def _trained(n_trainings: int, sd_points: float) -> tuple[float, Draw]:
    """148 notes and some trainings whose F1 has this SD in points; the truth is the mean over trainings and notes."""
    sd = sd_points * 0.02 / (population_f1(0.71, NOTE_SD) - population_f1(0.69, NOTE_SD))
    truth = float(np.mean([population_f1(0.7 + sd * z, NOTE_SD) for z in norm.ppf((np.arange(20) + 0.5) / 20)]))

    def draw(rng: np.random.Generator) -> Terms:
        logits = 0.7 + rng.normal(0, NOTE_SD, (1, 148)) + rng.normal(0, sd, (n_trainings, 1))
        return [(1, Evaluation(bare_notes(148), simulated(rng, logits), "trained"))]

    return truth, draw


SCENARIOS: dict[str, tuple[float, Draw]] = {
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
} | {
    f"F1, {n} physicians × {least} to {most} notes, {what}": _by_physician(n, least, most, sds)
    for n, least, most in ((3, 5, 5), (3, 5, 30), (5, 20, 20), (5, 5, 30), (10, 10, 10), (30, 5, 30))
    for what, sds in (("they differ", (0.7, 0.3)), ("they hardly differ", (0.2, 0.6)))
}
TRAININGS = {f"F1, {k} trainings, SD {sd}": _trained(k, sd) for k in (3, 5, 10) for sd in (0.5, 1.0, 1.5, 2.5)}


# --- tests where there is nothing to find ----------------------------------------------------------------------------


def _two_alike(rng: np.random.Generator, physician: float, case: float) -> list[Evaluation]:
    """Two systems of the same mean on 10 × 10 notes, with SDs of what each finds hard for itself."""
    shared = effects(rng, (0.7, 0.3, 0.3))
    each = [0.4 + shared + effects(rng, (physician, case, 0.0)) for _ in range(2)]
    return [Evaluation(crossed_notes(), simulated(rng, logits)) for logits in each]


def _groups_p(physician: float, case: float) -> Callable[[np.random.Generator], float]:
    return lambda rng: group_p(*_two_alike(rng, physician, case))


def _note_p(rng: np.random.Generator) -> float:
    first, second = _two_alike(rng, 0.3, 0.0)
    return permutation_test(first.counts, second.counts, n_permutations=400)[1]


def _t_p(physician: float, case: float) -> Callable[[np.random.Generator], float]:
    return lambda rng: contrast(list(zip((1, -1), _two_alike(rng, physician, case), strict=True))).p()


def _trained_p(rng: np.random.Generator) -> float:
    """Two systems of equal mean, three trainings each with an SD of 1.5 points or so, 100 notes."""
    ease = rng.normal(0, NOTE_SD, (1, 100))
    pair = [
        Evaluation(bare_notes(100), simulated(rng, 0.4 + ease + rng.normal(0, 0.07, (3, 1))), name) for name in "ab"
    ]
    return contrast([(1, pair[0]), (-1, pair[1])]).p(trainings=True)


def _two_gaps_p(rng: np.random.Generator) -> float:
    """One system is better everywhere, and both lose equally much: in-domain 30 notes, out-of-domain 10 × 10."""
    inside, outside = rng.normal(0, 0.5, (1, 30)), effects(rng, (0.5, 0.3, 0.3))
    terms = []
    for sign, mean in ((1, 1.0), (-1, 0.2)):
        where = [(sign, crossed_notes(), outside), (-sign, bare_notes(30, "in"), inside)]
        terms += [
            (s, Evaluation(d, simulated(rng, mean + ease + rng.normal(0, 0.2, ease.shape)))) for s, d, ease in where
        ]
    return contrast(terms).p()


def _equivalence_p(rng: np.random.Generator) -> float:
    """A true difference of just the margin, which is no equivalence."""
    ease = rng.normal(0, NOTE_SD, (1, 100))
    pair = [Evaluation(bare_notes(100), simulated(rng, mean + ease)) for mean in (0.7, 0.4)]
    return contrast([(1, pair[0]), (-1, pair[1])]).p_within(population_f1(0.7, NOTE_SD) - population_f1(0.4, NOTE_SD))


def _spread_p(swapped: bool) -> Callable[[np.random.Generator], float]:
    """Ten strata that both systems find hard alike, with equal spreads and other means."""

    def p(rng: np.random.Generator) -> float:
        hard = rng.normal(0, 6, 10)
        test = spread_test(50 + hard + rng.normal(0, 6, 10), 65 + hard + rng.normal(0, 6, 10))
        return test.p_swapped if swapped else test.p

    return p


WORLDS = {"systems alike": (0.0, 0.0), "physician × system SD 0.3": (0.3, 0.0), "case × system SD 0.3": (0.0, 0.3),
          "both SD 0.3": (0.3, 0.3)}  # fmt: skip
NULLS: dict[str, Callable[[np.random.Generator], float]] = {
    **{f"difference of F1, t of the interval, {world}": _t_p(*sds) for world, sds in WORLDS.items()},
    **{f"difference of F1, groups swapped, {world}": _groups_p(*sds) for world, sds in WORLDS.items()},
    "(single notes swapped, physician × system SD 0.3)": _note_p,
    "difference of F1 over other trainings": _trained_p,
    "difference of two Δ, one system better everywhere": _two_gaps_p,
    "equivalence, the difference being the margin": _equivalence_p,
    "equal spread, Pitman and Morgan": _spread_p(False),
    "equal spread, deviations swapped": _spread_p(True),
}


if __name__ == "__main__":
    main()
