"""How large a study must be: against simulation, against statsmodels' and scipy's power, and the paper's own design."""

import numpy as np
import pytest
from scipy import stats

from nbutils.analysis import power
from nbutils.analysis.power import Design, Variances
from nbutils.scoring.evaluation import Evaluation
from tools import power as command
from tools.interval_coverage import bare_notes, crossed_notes, effects, simulated


def test_power_is_that_of_the_noncentral_t_distribution():
    v, d = Variances(physician=0, case=0, note=0, inside=100), Design(10, 10, 26, trainings=2)
    error, freedom = power.standard_error(v, d)
    judge = stats.nct.sf(stats.t.ppf(0.975, freedom), freedom, 5 / error)
    assert (error, freedom) == (pytest.approx(10 / 26**0.5), 25) and power.power(v, d, 5) == pytest.approx(
        judge, abs=0.01
    )


def test_statsmodels_has_the_same_power():
    judge = pytest.importorskip("statsmodels.stats.power").TTestPower()
    v, d = Variances(0, 0, 0, inside=64), Design(10, 10, 40, trainings=2)
    assert power.power(v, d, 4) == pytest.approx(judge.power(4 / 8, 40, 0.05), abs=0.01)


def test_what_is_detected_has_a_power_of_80_percent():
    v, d = Variances(60, 20, 400, 300, 4), Design(10, 10, 30)
    assert power.power(v, d, power.detectable(v, d)) == pytest.approx(0.8)


def test_more_of_anything_helps():
    v = Variances(60, 20, 400, 300, 4, hospital=9)
    small = power.detectable(v, Design(10, 10, 30, 3, 4))
    larger = [Design(20, 10, 30, 3, 4), Design(10, 20, 30, 3, 4), Design(10, 10, 60, 3, 4), Design(10, 10, 30, 9, 4),
              Design(10, 10, 30, 3, 12)]  # fmt: skip
    assert all(power.detectable(v, d) < small for d in larger)


def test_the_variances_of_a_simulated_pilot_are_found_again():
    """The error that they give for the pilot's own design is the spread of the difference over many corpora."""
    differences, errors = [], []
    for k in range(150):
        rng = np.random.default_rng(k)
        out, inside = effects(rng, (0.5, 0.3, 0.3)), rng.normal(0, 0.5, (1, 30))
        evaluated = {}
        for system, mean in (("a", 0.8), ("b", 0.2)):
            logits = mean + out + effects(rng, (0.3, 0.2, 0.2))
            evaluated[system, "CR", "PN"] = Evaluation(crossed_notes(), simulated(rng, logits))
            evaluated[system, "CR", "CR"] = Evaluation(bare_notes(30, "in"), simulated(rng, mean + 0.5 + inside))
        gaps = [evaluated[s, "CR", "PN"].f1 - evaluated[s, "CR", "CR"].f1 for s in "ab"]
        differences.append(gaps[0] - gaps[1])
        errors.append(power.standard_error(*power.of_pilot(evaluated, "a", "b", "CR", "PN"))[0])
    assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.15)


def test_the_papers_design_sees_its_own_difference_in_a_quarter_to_a_half_of_all_studies():
    table = power.the_papers()
    own = table[(table["physicians × cases"] == "10 × 10") & (table["in-domain notes"] == 30)][
        "power for 5.3 points (%)"
    ]
    assert 20 < own.min() < 35 and 40 < own.max() < 55


def test_the_command_prints_the_design_of_the_runs_first(capsys):
    command.main(["--study", "demo", "--physicians", "40", "--hospitals", "8", "--hospital-sd", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert "bert" in lines[0] and lines[2].split()[:2] == ["10", "10"] and lines[3].split()[0] == "40"


def test_the_command_prints_the_papers_design_with_the_assumed_sds_unrounded(capsys):
    command.main(["--paper"])
    first, *_, last = (line.split() for line in capsys.readouterr().out.splitlines()[1:])
    assert [float(x) for x in first[:2] + last[:2]] == [0.05, 0.05, 0.3, 0.3] and first[2:5] == ["10", "×", "10"]
