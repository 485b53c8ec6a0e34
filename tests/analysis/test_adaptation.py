"""The curve from its counts, recomputed apart; notes until half of the loss on curves whose answer is known."""

import json
import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nbutils import ROOT, load_study, open_corpora
from nbutils.analysis import adaptation
from nbutils.analysis.adaptation import BOUGHT, ENDS, GAIN, half, notes_until
from nbutils.analysis.adapting import ALONE, BOTH, INSIDE, NAMES, SOURCE, Cell, kept_in
from nbutils.corpus import Corpus, Document


@pytest.mark.parametrize(
    ("f1", "level", "notes"),
    [
        ([30, 40, 50, 60, 70], 45, 8),  # half-way from 5 to 10 notes: 7.5, and notes are whole
        ([30, 40, 50, 60, 70], 50, 10),
        ([30, 40, 50, 60, 70], 71, math.inf),
        ([50, 40, 50, 60, 70], 50, 10),  # a dip is chance: 45, 45, 50
        ([30, 40, 50, 60, 70], 30, 0),
        ([30, math.nan, 50, 60, 70], 45, math.inf),
    ],
)
def test_notes_until_a_level_on_known_curves(f1, level, notes):
    assert notes_until([0, 5, 10, 20, 40], np.array(f1, float), level) == notes


def known(curve, before=30.0, inside=70.0, n=100):
    """Resamples in which the whole curve lies higher or lower by as much."""
    shift = np.concatenate([[0], np.linspace(-5, 5, n)])
    return {(INSIDE, 0): inside + 0 * shift, (SOURCE, 0): before + 0 * shift} | {
        (BOTH, k): f1 + shift for k, f1 in curve.items()
    }


def test_half_of_a_loss_of_40_points_is_20_points_above_no_notes():
    found = half("X", BOTH, known({10: 40.0, 20: 60.0}))
    assert (found.loss, found.notes, found.most, found.reached) == (40, 15, 20, 1)
    assert found.low == 13 and found.high == 18  # the curve ±5 points, 2 points a note
    assert found.sentence(20).endswith("bought back: 15 (13–18); hours of annotation: 5.0 (4.3–6.0).")


def test_an_end_beyond_what_was_tried_is_said_and_so_is_a_half_never_reached():
    found = half("X", BOTH, known({10: 40.0, 20: 52.0}))
    assert found.notes == 19 and math.isinf(found.high) and 0.5 < found.reached < 0.8
    assert "(15–more than 20)" in found.sentence(6) and "(1.5–more than 2.0)" in found.sentence(6)
    never = half("X", BOTH, known({10: 40.0, 20: 46.0}))
    assert math.isinf(never.notes) and "not within 20 (within them in" in never.sentence(10)
    nothing = half("X", BOTH, known({10: 40.0, 20: 46.0}, inside=30.0))
    assert "nothing is lost" in nothing.sentence(10)


def made_up():
    """Two notes by each of three patients, two repeats with other test parts, F1 that anybody can work out."""
    study = load_study("studies/demo.yaml")
    study = replace(study, adapt=replace(study.adapt, notes=(0, 2), repeats=2, systems=("crf",)))
    target = Corpus("PN", tuple(Document(f"n{k}", "x", meta={"patient": f"p{k // 2}"}) for k in range(6)))
    source = Corpus("CR", tuple(Document(f"c{k}", "x") for k in range(4)))
    counted = {
        Cell(INSIDE, 0, 0, 0): [[2, 8, 10, 10], [3, 9, 10, 10]],
        Cell(SOURCE, 0, 0, 0): [[0, 1, 4, 6], [1, 1, 4, 6]],
        Cell(SOURCE, 0, 1, 0): [[4, 2, 4, 6], [5, 0, 4, 6]],
        Cell(BOTH, 2, 0, 0): [[0, 4, 5, 6], [1, 3, 5, 6]],
        Cell(BOTH, 2, 1, 0): [[4, 4, 5, 6], [5, 5, 5, 6]],
    }
    rows = [(*cell, *row) for cell, counts in counted.items() for row in counts]
    columns = [*Cell._fields, "place", "matched", "n_predicted", "n_gold"]
    return study, {"CR": source, "PN": target}, pd.DataFrame(rows, columns=columns).assign(system="X")


def test_f1_is_over_all_repeats_together_and_a_share_is_of_the_loss():
    table = adaptation.curve_table(*made_up(), n_boot=200)["F1 (%)"]["X"]
    assert table[INSIDE, 0] == pytest.approx(100 * 34 / 40)
    assert table[SOURCE, 0] == pytest.approx(100 * 8 / 40) and table[BOTH, 2] == pytest.approx(100 * 32 / 44)
    row = adaptation.curve_table(*made_up(), n_boot=200).loc[("X", BOTH, 2)]
    assert row[BOUGHT] == pytest.approx(100 * (32 / 44 - 0.2) / (0.85 - 0.2))
    assert row[ENDS[0]] < row["F1 (%)"] < row[ENDS[1]] and row[GAIN] == pytest.approx(100 * (32 / 44 - 0.2))
    (found,) = adaptation.halves(*made_up(), n_boot=200)
    assert found.notes == 2 and found.loss == pytest.approx(65)


# --- the counts that the repository brings along ----------------------------------------------------------------------


def reference(system):
    study = load_study("studies/demo.yaml")
    path = kept_in(study, system)[0]
    if not path.exists():
        pytest.skip("no reference counts")
    return study, path


@pytest.mark.parametrize("system", ["crf", "bert"])
def test_the_curve_of_the_reference_counts_recomputed_apart(system):
    """Reads the lines itself, and the cases of the notes from the XML files."""
    import re

    study, path = reference(system)
    corpora = open_corpora(study)
    counts = adaptation.results(replace(study, adapt=replace(study.adapt, systems=(system,))), corpora)
    table = adaptation.curve_table(study, corpora, counts, n_boot=2)["F1 (%)"][study.systems[system].title]
    xml = "".join(p.read_text(encoding="utf-8") for p in sorted((ROOT / "data" / "pn").glob("*.xml")))
    heads = re.findall(r'<article id="([^"]+)" title="[^"]*" case="([^"]+)" physician="([^"]+)">', xml)
    sums, tested = defaultdict(lambda: [0, 0, 0]), defaultdict(set)
    for line in path.read_text().splitlines()[1:]:
        (way, notes, repeat, _), rows = json.loads(line).values()
        for place, *numbers in rows:
            sums[way, notes] = [a + b for a, b in zip(sums[way, notes], numbers, strict=True)]
            tested[way, repeat].add(place)
    assert {key for key in sums if key in table.index} == set(table.index)
    for key in table.index:
        matched, predicted, gold = sums[key]
        assert table[key] == pytest.approx(100 * 2 * matched / (predicted + gold))
    for repeat in range(study.adapt.repeats):
        places = tested[SOURCE, repeat]
        assert all(tested[way, repeat] == places for way in (BOTH, NAMES, ALONE) if (way, repeat) in tested)
        cases = {heads[p][1] for p in places}
        left = [head for head in heads if head[1] not in cases]
        assert len(left) >= max(study.adapt.notes) and len(places) >= 40 and len(cases) < 10
