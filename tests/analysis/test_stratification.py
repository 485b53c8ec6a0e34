"""Whose notes are hard: scores by physician and case, the variance between them, and whose spread is smaller."""

import math
from dataclasses import replace
from itertools import product

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import boxplot_stats
from scipy.stats import kstest

from nbutils import figures
from nbutils.analysis import significance, stratification
from nbutils.corpus import Corpus, Document, Entity
from nbutils.files import DataError
from nbutils.scoring import variance
from nbutils.scoring.evaluation import Evaluation
from nbutils.scoring.permutation import holm, spread_test
from nbutils.scoring.variance import variance_components
from nbutils.study.file import Study, System

SYSTEMS = {name: System(name, "crf", (0,), {}, name.upper()) for name in ("old", "new")}
STUDY = Study("s", {}, SYSTEMS, train=("CR", "PN"), evaluate=("CR", "PN"))


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    plt.close("all")


def crossed(n_physicians=4, n_cases=3):
    """A note of one entity for each physician and case."""
    return tuple(
        Document(f"{p}-{c}", "発熱あり", (Entity(0, 2),), {"physician": f"p{p}", "case": f"c{c}", "title": f"病{c}"})
        for p, c in product(range(n_physicians), range(n_cases))
    )


def with_note_f1(cells):
    """An evaluation whose notes (physician × case) have these F1, in percent; every note has 1,000 gold entities."""
    matched = np.asarray(cells, dtype=float).ravel() * 10
    counts = np.stack([matched, np.full(matched.size, 1000.0), np.full(matched.size, 1000.0)], axis=-1)
    return Evaluation(crossed(*np.shape(cells)), counts[None])


def simulated(rng, physician, case, rest, shape=(10, 10)):
    """Values of a crossed design with these SDs over physicians, over cases, and from note to note."""
    return (
        50 + rng.normal(0, physician, (shape[0], 1)) + rng.normal(0, case, (1, shape[1])) + rng.normal(0, rest, shape)
    )


# --- scores by stratum -----------------------------------------------------------------------------------------------


def test_a_physicians_score_is_the_mean_over_the_cases():
    table = stratification.stratum_table({"old": with_note_f1([[10, 20, 30], [40, 50, 60]])}, "physician")
    assert table["mean of notes"].tolist() == [20, 50] and table["notes"].tolist() == [3, 3]


def test_a_cases_score_is_the_mean_over_the_physicians_and_bears_its_title():
    table = stratification.stratum_table({"old": with_note_f1([[10, 20, 30], [40, 50, 60]])}, "case")
    assert table["mean of notes"].tolist() == [25, 35, 45] and table["name"].tolist() == ["病0", "病1", "病2"]


def test_pooling_gives_long_notes_more_weight():
    documents = crossed(2, 2)
    counts = np.array([[[1, 1, 1], [0, 9, 9], [0, 0, 1], [0, 0, 1]]], dtype=float)
    row = stratification.stratum_table({"old": Evaluation(documents, counts)}, "physician").iloc[0]
    assert row["mean of notes"] == 50 and row["pooled"] == pytest.approx(10)


def test_strata_hold_all_entities_of_the_corpus_once():
    chosen = {"old": with_note_f1(np.full((4, 3), 50))}
    sums = [stratification.stratum_table(chosen, by)["entities"].sum() for by in ("physician", "case")]
    assert sums == [12_000, 12_000]


def test_the_f1_of_a_note_is_the_mean_over_seeds():
    counts = np.array([[[1, 1, 1]], [[0, 1, 1]]], dtype=float)
    assert stratification.note_f1(Evaluation(crossed(1, 1), counts)).tolist() == [50]


def test_notes_that_name_nothing_cannot_be_stratified():
    bare = Evaluation((Document("x7", ""), Document("x8", "")), np.ones((1, 2, 3)))
    with pytest.raises(DataError, match="physician, case or hospital"):
        stratification.in_setting(STUDY, {("old", "CR", "PN"): bare}, "CR", "PN")


def test_three_hospitals_are_strata_too():
    documents = tuple(Document(str(k), "", meta={"hospital": "ABC"[k % 3]}) for k in range(9))
    evaluation = Evaluation(documents, np.ones((1, 9, 3)))
    table = stratification.strata_table({"old": evaluation})
    assert table["stratum"].tolist() == ["A", "B", "C"] and set(table["by"]) == {"hospital"}
    assert stratification.component_table(STUDY, {"old": evaluation}).empty


def test_titles_of_private_notes_are_covered():
    note = with_note_f1([[10, 20], [30, 40]])
    private = Evaluation(tuple(replace(d, private=True) for d in note.documents), note.counts)
    names = stratification.stratum_table({"old": private}, "case")["name"]
    assert not names.str.contains("病").any()


def test_dollar_signs_of_a_corpus_start_no_formula():
    note = with_note_f1(50 + np.arange(16.0).reshape(4, 4))
    documents = tuple(
        replace(d, meta={**d.meta, "physician": f"$\\frac{{x{d.meta['physician']}$", "title": "$\\bad$"})
        for d in note.documents
    )
    chosen = {"old": Evaluation(documents, note.counts)}
    figure = figures.stratification.heat_map(STUDY, chosen)
    figure.draw_without_rendering()
    figures.stratification.boxes(STUDY, stratification.strata_table(chosen)).draw_without_rendering()


def test_a_setting_that_was_not_run_is_named():
    with pytest.raises(DataError, match="trained on CR and scored on PN"):
        stratification.in_setting(STUDY, {}, "CR", "PN")


@given(st.lists(st.floats(0, 100), min_size=2, max_size=12))
@settings(max_examples=100, deadline=None)
def test_outliers_are_those_that_a_box_plot_draws_as_dots(values):
    drawn = boxplot_stats(values, whis=1.5)[0]["fliers"]
    named = pd.Series(values)[stratification.outliers(pd.Series(values))]
    assert sorted(named) == pytest.approx(sorted(drawn))


def test_the_box_table_names_the_physician_who_falls_out():
    cells = np.full((8, 2), 50.0) + np.arange(8)[:, None]
    cells[3] = 5
    strata = stratification.stratum_table({"old": with_note_f1(cells)}, "physician")
    row = stratification.box_table(strata).loc[("old", "physician")]
    assert row["outliers"] == "p3 (5.0)" and row["whisker from"] == 50


def test_the_grid_has_physicians_as_rows_and_leaves_missing_notes_empty():
    whole = with_note_f1([[10, 20], [30, 40]])
    cells = stratification.grid(whole.on([d for d in whole.documents if d.id != "1-0"]))
    assert cells.loc["p0", "c1"] == 20 and math.isnan(cells.loc["p1", "c0"])


# --- variance components ---------------------------------------------------------------------------------------------


def test_mean_squares_against_sums_over_every_cell():
    cells = np.random.default_rng(0).normal(50, 10, (4, 3))
    physicians = [sum(row) / 3 for row in cells.tolist()]
    cases = [sum(column) / 4 for column in cells.T.tolist()]
    mean = sum(physicians) / 4
    expected = [
        sum((physicians[p] - mean) ** 2 for p in range(4) for _ in range(3)) / 3,
        sum((cases[c] - mean) ** 2 for _ in range(4) for c in range(3)) / 2,
        sum((cells[p, c] - physicians[p] - cases[c] + mean) ** 2 for p in range(4) for c in range(3)) / 6,
    ]
    assert variance.mean_squares(cells)[0] == pytest.approx(expected)


def test_variances_worked_out_by_hand():
    # physicians 10 and 30, cases 15 and 25, rest ±1: mean squares 400, 100, 4
    cells = [[4 + 1 + 0, 14 - 1 + 2], [26 - 1 - 0, 34 + 1 + 0]]
    rows, columns, rest = 400, 100, 0
    assert variance_components(cells) == pytest.approx([(rows - rest) / 2, (columns - rest) / 2, rest])


def test_variances_of_a_simulated_crossed_design_are_found_again():
    rng = np.random.default_rng(0)
    found = np.mean([variance_components(simulated(rng, 12, 8, 5)) for _ in range(1500)], axis=0)
    assert found == pytest.approx([144, 64, 25], rel=0.06)


def test_spread_over_physicians_alone_is_put_down_to_them_alone():
    cells = np.repeat([[10.0], [40.0], [70.0]], 5, axis=1)
    assert variance_components(cells) == pytest.approx([900, 0, 0])


def test_a_negative_estimate_is_set_to_zero():
    cells = [[0, 10], [10, 0]]  # every physician and every case has the same mean: all of it is the rest
    assert variance_components(cells).tolist() == [0, 0, 100]


def test_physician_and_case_change_places_with_rows_and_columns():
    cells = simulated(np.random.default_rng(0), 10, 5, 3, (6, 8))
    assert variance_components(cells)[[1, 0, 2]] == pytest.approx(variance_components(cells.T))


def test_a_grid_with_an_empty_cell_is_refused():
    with pytest.raises(ValueError, match="every physician has a note of every case"):
        variance_components([[1, 2], [3, math.nan]])


# 800 designs: the standard error of a coverage of 95 % is 0.8 %.
@pytest.mark.parametrize("sds", [(12, 8, 5), (4, 10, 8)])
def test_the_intervals_of_the_variances_cover_in_95_of_100_designs(sds):
    rng = np.random.default_rng(1)
    hits = np.zeros(3)
    for k in range(800):
        low, high = np.quantile(
            stratification.component_draws(simulated(rng, *sds), n_boot=500, seed=k), [0.025, 0.975], axis=0
        )
        hits += (low <= np.square(sds)) & (np.square(sds) <= high)
    assert hits / 800 == pytest.approx(np.full(3, 0.95), abs=0.025)


def test_the_component_table_gives_sds_whose_squares_share_out_the_variance():
    chosen = {"old": with_note_f1(np.clip(simulated(np.random.default_rng(0), 12, 8, 5, (6, 5)), 0, 100))}
    table = stratification.component_table(STUDY, chosen, n_boot=500).loc["OLD"]
    squares = table["SD (points)"] ** 2
    assert (100 * squares / squares.sum()).tolist() == pytest.approx(table["share of variance (%)"].tolist())
    assert (table["95 % from"] <= table["SD (points)"]).all() and (table["SD (points)"] <= table["95 % to"]).all()


def test_a_system_that_finds_nothing_has_no_share_to_give():
    table = stratification.component_table(STUDY, {"old": with_note_f1(np.zeros((3, 3)))})
    assert table["SD (points)"].tolist() == [0, 0, 0] and table["share of variance (%)"].isna().all()


# --- whose spread is smaller? ----------------------------------------------------------------------------------------


def test_the_spread_p_is_the_share_of_all_swaps_that_part_the_sds_as_far():
    rng = np.random.default_rng(0)
    first, second = rng.normal(50, 10, 6), rng.normal(60, 5, 6)
    a, b = (first - first.mean()).tolist(), (second - second.mean()).tolist()
    observed = abs(np.std(a, ddof=1) - np.std(b, ddof=1))
    as_far = 0
    for swap in product([False, True], repeat=6):
        pairs = [(y, x) if s else (x, y) for x, y, s in zip(a, b, swap, strict=True)]
        as_far += abs(np.std([x for x, _ in pairs], ddof=1) - np.std([y for _, y in pairs], ddof=1)) >= observed - 1e-12
    assert spread_test(first, second).p_swapped == as_far / 64


def paired_means(rng, n, sd_second=6.0):
    """Stratum means of two systems that share what is hard, the second one better by 15 points."""
    hard = rng.normal(0, 6, n)
    return 50 + hard + rng.normal(0, 6, n), 65 + hard * sd_second / 6 + rng.normal(0, sd_second, n)


@pytest.mark.parametrize(("n", "which"), [(10, "p"), (10, "p_swapped"), (14, "p_swapped"), (4, "p")])
def test_spread_p_values_are_uniform_when_only_the_means_differ(n, which):
    rng = np.random.default_rng(0)
    p = [getattr(spread_test(*paired_means(rng, n), n_permutations=400, seed=k), which) for k in range(600)]
    if which == "p":
        assert kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.02 if which == "p" else 0.03)  # centring: liberal


def share_noticed(sd_second, which):
    rng = np.random.default_rng(0)
    return np.mean([getattr(spread_test(*paired_means(rng, 10, sd_second)), which) <= 0.05 for _ in range(200)])


def test_over_ten_strata_half_the_spread_is_noticed_in_half_of_all_cases_and_more_often_than_by_swapping():
    assert 0.4 < share_noticed(3, "p") < 0.7 and share_noticed(3, "p") > share_noticed(3, "p_swapped")
    assert share_noticed(2, "p") > 0.9


def test_a_weak_system_is_steadier_in_points_and_not_on_the_logit_scale():
    """Two systems with the same spread on the logit scale, one of which finds little."""
    rng = np.random.default_rng(1)
    hard = rng.normal(0, 0.8, (10, 1)) + rng.normal(0, 0.1, (2, 10, 8))
    strong, weak = (100 / (1 + np.exp(-(mean + cells))) for mean, cells in zip((0.2, -2.4), hard, strict=True))
    study = replace(STUDY, compare=(("old", "new"),))
    table = stratification.spread_table(study, {"old": with_note_f1(strong), "new": with_note_f1(weak)})
    p = table.loc["asked"].droplevel(["over", "first", "second"])["p"]
    assert p["F1 (points)"] < 0.001 and p["logit of F1"] > 0.05


def test_the_spread_test_does_not_care_who_is_first():
    first, second = paired_means(np.random.default_rng(0), 10)
    forth, back = spread_test(first, second), spread_test(second, first)
    assert (forth.sd_first, forth.p) == (back.sd_second, back.p)


def test_the_spread_table_corrects_over_what_was_asked():
    rng = np.random.default_rng(0)
    chosen = {
        "old": with_note_f1(50 + simulated(rng, 5, 1, 1, (6, 6)) / 10),
        "new": with_note_f1(simulated(rng, 2, 2, 2, (6, 6))),
    }
    table = stratification.spread_table(replace(STUDY, compare=(("old", "new"),)), chosen)
    asked = table.loc["asked"]
    assert len(asked) == 2 and asked["p (Holm)"].tolist() == pytest.approx(holm(asked["p"]).tolist())
    assert table.loc["exploratory", "p (Holm)"].isna().all()


# --- figures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def chosen():
    cells = 50 + np.add.outer(np.arange(8.0), np.arange(3.0))
    low = cells.copy()
    low[3] = 5
    return {"old": with_note_f1(cells), "new": with_note_f1(low)}


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def test_the_box_plot_names_its_outlier_and_says_which_spread_is_wider(chosen):
    strata = pd.concat([stratification.stratum_table(chosen, by) for by in ("physician", "case")])
    figure = figures.stratification.boxes(STUDY, strata)
    assert "p3" in texts(figure)
    assert "F1 varies more over physicians than over cases for 2 of 2 systems" in texts(figure)


def test_outliers_at_one_height_share_a_label():
    assert figures.stratification._near(pd.Series({"p1": 1.0, "p2": 90.0, "p3": 2.0})) == [
        (1.0, "p1, p3"),
        (90.0, "p2"),
    ]


def test_the_heat_map_names_the_physician_whose_notes_score_lowest(chosen):
    figure = figures.stratification.heat_map(STUDY, {"new": chosen["new"]})
    assert "p3 writes the hardest notes for 1 of 1 systems" in texts(figure)


def test_the_heat_map_writes_every_note_and_leaves_missing_ones_blank(chosen):
    whole, thin = chosen["old"], chosen["old"].on(chosen["old"].documents[:-1])
    (n_whole, n_thin) = (sum("50" <= t <= "59" for t in texts(figures.stratification.heat_map(STUDY, {"old": e})))
                         for e in (whole, thin))  # fmt: skip
    assert (n_whole, n_thin) == (24, 23)


def test_the_overview_is_drawn_from_the_corpus():
    figure = figures.stratification.overview(Corpus("PN", crossed(4, 3)))
    assert "PN: 4 physicians × 3 cases, one note per cell" in texts(figure)


def test_a_private_grid_numbers_its_cases_whose_covered_titles_look_alike():
    notes = tuple(replace(d, meta={**d.meta, "title": "秘密病"}) for d in crossed(4, 3))
    shown = texts(figures.stratification.overview(Corpus("PN", notes, private=True)))
    assert {"case 1", "case 2", "case 3", "physician 4"} <= set(shown) and "■■■" not in shown


def test_the_overview_of_a_corpus_without_physicians_says_which_note_lacks_one():
    with pytest.raises(DataError, match="CR are not crossed"):
        figures.stratification.overview(Corpus("CR", (Document("x1", ""),)))


def test_the_gap_figure_counts_the_intervals_below_zero():
    evaluated = {}
    for system, f1 in (("old", 40), ("new", 80)):  # in-domain 80: the second loses nothing
        ease = np.random.default_rng(0).normal(0, 2, (5, 5))
        evaluated |= {(system, "CR", "CR"): with_note_f1(80 + ease)}
        elsewhere = with_note_f1(f1 + ease[::-1])
        documents = tuple(replace(d, id=f"PN {d.id}") for d in elsewhere.documents)
        evaluated |= {(system, "CR", "PN"): replace(elsewhere, documents=documents)}
    figure = figures.main_result.gaps(STUDY, significance.gap_table(STUDY, evaluated))
    assert any("lies below 0 for 1 of 2 pairs" in text for text in texts(figure))


def test_a_study_without_a_gap_still_gets_a_figure():
    assert figures.main_result.gaps(STUDY, significance.gap_table(STUDY, {})) is not None


def test_the_figure_of_the_components_compares_physician_and_case(chosen):
    figure = figures.stratification.components(STUDY, stratification.component_table(STUDY, chosen, n_boot=100))
    assert "The physician makes more of the spread than the case for 2 of 2 systems" in texts(figure)


def test_precision_against_recall_has_a_panel_a_setting():
    columns = ["system", "train", "evaluate", "threshold", "precision", "recall", "f1"]
    table = pd.DataFrame([("old", "CR", "PN", 0.0, 50, 60, 55), ("old", "CR", "PN", 0.5, 70, 40, 51)], columns=columns)
    figure = figures.main_result.precision_recall(STUDY, table)
    assert len(figure.axes) == 4 and "Precision rises with the threshold in 1 of 1 curves" in texts(figure)
