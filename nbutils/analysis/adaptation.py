"""What buys the loss back: F1 by annotated notes of the target, and how many notes half of the loss takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.isotonic import isotonic_regression

from nbutils.analysis import adapting
from nbutils.analysis.adapting import ALONE, BOTH, INSIDE, NAMES, SOURCE
from nbutils.corpus import Corpus, Document
from nbutils.scoring.evaluation import f1_of
from nbutils.scoring.resampling import draw
from nbutils.study.file import Study

CURVES = (BOTH, ALONE, NAMES)  # ways with a number of notes; the others need none
ENDS = ["F1, 95 % from", "F1, 95 % to"]  # over other notes, draws and trainings
GAIN, BOUGHT = "gain (points)", "share of the loss bought back (%)"
Replicates = Mapping[tuple[str, int], np.ndarray]  # F1 in percent by way and notes: the estimate, then the resamples


def results(study: Study, corpora: Mapping[str, Corpus], *, compute: bool = False, runs: str = "runs") -> pd.DataFrame:
    """The counts of every adapted system (`adapting.counts`), with its title as `system`; what is missing is told."""
    if study.adapt is None:
        print(f"{study.path.name} has no `adapt`, so there is no curve to show (docs/your_own_notes.md).")
        return pd.DataFrame(columns=["system"])
    tables = []
    for name in study.adapt.systems:
        table = adapting.counts(study, corpora, name, compute=compute, runs=runs)
        if BOTH not in set(table["way"]):
            todo = f"`python -m tools.adapt {study.name}` does it"
            print(f"{study.systems[name].title}: nothing was computed yet; {todo}.")
        else:
            tables.append(table.assign(system=study.systems[name].title))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["system"])


# --- the curve --------------------------------------------------------------------------------------------------------


def replicates(
    study: Study, corpora: Mapping[str, Corpus], counts: pd.DataFrame, *, n_boot: int = 2000, seed: int = 0
) -> Replicates:
    """F1 of one system by way and number of notes: micro F1 over all repeats together, and `n_boot` resamples of it.

    A resample draws notes of the target (groups of notes, as `resampling.draw`; the same in every way and repeat),
    notes of the source's test part, and repeats, which bring another pool, test part, order and training seed each.
    """
    rng = np.random.default_rng(seed)
    repeats = sorted(set(counts.loc[counts["way"] == SOURCE, "repeat"]))
    seeds = [counts.loc[(counts["way"] == SOURCE) & (counts["repeat"] == r), "seed"].iloc[0] for r in repeats]
    drawn = rng.integers(0, len(repeats), (n_boot, len(repeats)))
    of_repeats = np.vstack([np.ones(len(repeats), int), *(np.bincount(d, minlength=len(repeats)) for d in drawn)])
    source = corpora[study.train[0]].documents
    tested = sorted(set(counts.loc[counts["way"] == INSIDE, "place"]))
    inside = _weights(tuple(source[k] for k in tested), study, n_boot, seed)
    target = _weights(corpora[study.adapt.target].documents, study, n_boot, seed)
    found = {}
    for (way, notes), some in counts.groupby(["way", "notes"], sort=False):
        weights, places = (inside, {p: k for k, p in enumerate(tested)}) if way == INSIDE else (target, None)
        total = np.zeros((n_boot + 1, 3))
        for k, (repeat, of_seed) in enumerate(zip(repeats, seeds, strict=True)):
            rows = some[some["seed"] == of_seed] if way == INSIDE else some[some["repeat"] == repeat]
            columns = rows["place"] if places is None else rows["place"].map(places)
            numbers = rows[["matched", "n_predicted", "n_gold"]].to_numpy(float)
            total += of_repeats[:, [k]] * (weights[:, columns.to_numpy(int)] @ numbers)
        f1 = 100 * f1_of(total)
        found[str(way), int(notes)] = np.where(total[:, 1:].sum(axis=1) > 0, f1, np.nan)
    return found


def _weights(documents: tuple[Document, ...], study: Study, n_boot: int, seed: int) -> np.ndarray:
    drawn = draw(documents, cluster=study.cluster, n_boot=n_boot, seed=seed)
    return np.vstack([np.ones(len(documents), int), drawn])


def curve_table(study: Study, corpora: Mapping[str, Corpus], counts: pd.DataFrame, **options: int) -> pd.DataFrame:
    """One row per system, way and number of notes: F1 (%), what it gains on the source alone, and how much of the loss.

    The loss is in-domain F1 on the source's test part less F1 of the same trainings on the target's; a share of it has
    no meaning where nothing was lost. A gain is on the same notes, so its interval is narrower than those of two F1s.
    """
    rows = []
    for system, some in counts.groupby("system", sort=False):
        of_ways = replicates(study, corpora, some, **options)
        lost = of_ways[INSIDE, 0] - of_ways[SOURCE, 0]
        for (way, notes), f1 in of_ways.items():
            gain = f1 - of_ways[SOURCE, 0]
            low, high = _ends(gain)
            bought = {GAIN: gain[0], "gain, 95 %": f"[{low:+.1f}, {high:+.1f}]",
                      BOUGHT: 100 * gain[0] / lost[0] if lost[0] > 0 else math.nan}  # fmt: skip
            none = {GAIN: math.nan, "gain, 95 %": "—", BOUGHT: math.nan}
            rows.append({"system": system, "way": way, "notes": notes, "F1 (%)": f1[0]}
                        | dict(zip(ENDS, _ends(f1), strict=True))
                        | (none if way in (INSIDE, SOURCE) else bought))  # fmt: skip
    keys = ["system", "way", "notes"]
    return pd.DataFrame(rows, columns=None if rows else keys).set_index(keys)


def _ends(values: np.ndarray) -> list[float]:
    return np.nanquantile(values[1:], [0.025, 0.975], method="inverted_cdf").tolist()


# --- until half of the loss is bought back ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Half:
    """How many notes buy back half of a system's loss; infinite when the curve does not come so far."""

    system: str
    way: str
    loss: float  # points of F1
    notes: float
    low: float
    high: float
    most: int  # notes that were tried
    reached: float  # share of the resamples that reach the half within `most`

    def sentence(self, minutes_per_note: float) -> str:
        """In words: notes, then hours of annotation."""
        if not self.loss > 0:
            return f"{self.system}: nothing is lost, so there is nothing to buy back."
        if math.isinf(self.notes):
            what = f"not within {self.most} (within them in {100 * self.reached:.0f} % of the resamples)"
            return f"{self.system}: notes until half of the loss is bought back: {what}."
        notes = f"{self.notes:.0f} ({self.range(1, 0)})"
        hours = f"{self.notes * minutes_per_note / 60:.1f} ({self.range(minutes_per_note / 60, 1)})"
        return f"{self.system}: notes until half of the loss is bought back: {notes}; hours of annotation: {hours}."

    def range(self, unit: float, digits: int) -> str:
        """The interval; an end beyond the notes that were tried is said so."""
        ends = [f"more than {self.most * unit:.{digits}f}" if math.isinf(end) else f"{end * unit:.{digits}f}"
                for end in (self.low, self.high)]  # fmt: skip
        return "–".join(dict.fromkeys(ends) if math.isinf(self.low) else ends)


def halves(study: Study, corpora: Mapping[str, Corpus], counts: pd.DataFrame, **options: int) -> list[Half]:
    """`Half` of every system in every way that takes notes, the way of the curve first."""
    found = []
    for system, some in counts.groupby("system", sort=False):
        of_ways = replicates(study, corpora, some, **options)
        found += [half(str(system), way, of_ways) for way in CURVES if any(way == w for w, _ in of_ways)]
    return found


def half(system: str, way: str, of_ways: Replicates) -> Half:
    """The notes at which a curve first reaches F1(0) + loss / 2, where F1(0) is that of the system without any.

    Between the numbers of notes that were tried the curve is a straight line; chance dips are taken out first (isotonic
    regression). Whole notes, rounded up. The interval is of the resamples, of which each has its own loss and curve.
    """
    sizes = [0, *sorted(k for w, k in of_ways if w == way)]
    before, after = of_ways[SOURCE, 0], of_ways[INSIDE, 0]
    curves = np.stack([before, *(of_ways[way, k] for k in sizes[1:])], axis=1)
    if way == ALONE:  # begins without the source's notes
        sizes, curves = sizes[1:], curves[:, 1:]
    level = before + (after - before) / 2
    notes = np.array([notes_until(sizes, *of) for of in zip(curves, level, strict=True)])
    ends = (float(np.quantile(notes[1:], q, method="inverted_cdf")) for q in (0.025, 0.975))
    reached = float(np.isfinite(notes[1:]).mean())
    return Half(system, way, float(after[0] - before[0]), notes[0], *ends, sizes[-1], reached)


def notes_until(sizes: list[int], f1: np.ndarray, level: float) -> float:
    """The whole notes at which a curve reaches a level; infinite when it does not, or is not known."""
    if np.isnan([*f1, level]).any():
        return math.inf
    rising = isotonic_regression(f1)
    above = np.flatnonzero(rising >= level)
    if not len(above):
        return math.inf
    k = int(above[0])
    if k == 0:
        return float(sizes[0])
    step = (level - rising[k - 1]) / (rising[k] - rising[k - 1])
    return float(math.ceil(round(sizes[k - 1] + step * (sizes[k] - sizes[k - 1]), 9)))


def half_table(study: Study, found: list[Half]) -> pd.DataFrame:
    """How many notes half of the loss takes, for each system and way, and how many hours of annotation these are."""
    hours = study.adapt.minutes_per_note / 60 if study.adapt else 0
    rows = []
    for h in found:
        beyond = math.isinf(h.notes)
        rows.append({
            "system": h.system, "way": h.way, "loss (points)": h.loss,
            "notes until half is bought back": f"not within {h.most}" if beyond else f"{h.notes:.0f}",
            "notes, 95 %": h.range(1, 0), "hours": "—" if beyond else f"{h.notes * hours:.1f}",
            "hours, 95 %": h.range(hours, 1), "resamples that reach it (%)": 100 * h.reached,
        })  # fmt: skip
    keys = ["system", "way"]
    return pd.DataFrame(rows, columns=None if rows else keys).set_index(keys)
