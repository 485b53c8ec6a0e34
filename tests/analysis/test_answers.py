"""The sentence at the head of a notebook says what its tables say."""

import pandas as pd

from nbutils import ROOT
from nbutils.analysis import agreement, costs, errors, exploration, generalisation, main_result, paper
from nbutils.analysis.generalisation import BEYOND, WHOLE
from nbutils.corpus import Corpus, Document, Entity
from nbutils.study.file import load_study

DEMO = load_study(ROOT / "studies" / "demo.yaml")
CRF, BERT = DEMO.systems["crf"].title, DEMO.systems["bert"].title


def test_notebook_00_counts_what_the_paper_prints():
    said = paper.answer()
    assert "12 printed Δ, 11 are OOD − ID, 0 are" in said and "1 is neither" in said
    assert "4 of 5 claims hold" in said and "(not: its gap is the smallest of all systems)" in said
    assert "in 2 of 2 cases" in said


def test_notebook_01_says_how_many_mentions_are_unseen_in_each_direction():
    note = Document("1", "発熱と咳嗽", (Entity(0, 2, "d"), Entity(3, 5, "d")))
    corpora = {"A": Corpus("A", [note]), "B": Corpus("B", [Document("2", "発熱", (Entity(0, 2, "d"),))])}
    assert exploration.answer(corpora) == (
        "- 0% of the entity mentions in B are unseen in A.\n- 50% of the entity mentions in A are unseen in B."
    )
    assert exploration.answer({"A": corpora["A"]}).startswith("There is one corpus")


def test_notebook_02_says_the_agreement_on_exact_and_on_touching_spans():
    pair = (
        Document("1", "発熱と咳嗽", (Entity(0, 2, "d"), Entity(3, 5, "d"))),
        Document("1", "発熱と咳嗽", (Entity(0, 2, "d"), Entity(2, 5, "d"))),
    )
    table = agreement.agreement_table([pair, pair])
    assert (
        "**A:**" in (said := agreement.answer({"A": table}))
        and "an F1 of 0.500 [" in said
        and "with 1.000 where" in said
    )
    assert "no corpus" in agreement.answer({}).lower()


def scored(*rows, system="crf", seed=3):
    columns = ["system", "train", "evaluate", "setting", "seed", "f1"]
    return pd.DataFrame([(system, "CR", name, setting, seed, f1) for name, setting, f1 in rows], columns=columns)


def test_a_training_notebook_says_what_its_run_scored_and_lost():
    said = main_result.of_one_run(DEMO, scored(("CR", "ID", 80.04), ("PN", "OOD", 50.0)))
    assert said == f"**{CRF}, CR, seed 3:** F1 80.0 on held-out notes of CR, 50.0 on PN (-30.0)."
    assert main_result.of_one_run(DEMO, scored(("PN", "OOD", 50.0))).endswith(":** F1 50.0 on PN.")


def test_notebook_08_says_what_share_of_false_positives_is_a_boundary():
    counts = pd.DataFrame(0.0, index=[*errors.FALSE_POSITIVE_KINDS, "all"], columns=[CRF, BERT])
    counts.loc[["too long", "other", "all"], CRF] = 30, 10, 40
    (line,) = errors.answer(DEMO, counts, left_out=()).splitlines()  # the other has no false positive
    assert (
        line.startswith(f"- **{CRF}:** 40.0 false")
        and "75% of them" in line
        and "25% are" in line
        and "*too long* (75%)" in line
    )
    assert "No system" in errors.answer(DEMO, counts, left_out={"crf"})


def test_notebook_09_compares_the_time_of_the_others_with_that_of_the_best_and_leaves_out_what_finds_nothing():
    table = pd.DataFrame(
        {"mean F1 (%)": [60.0, 50.0, 70.0, 1.0], "p50 (ms a note)": [40.0, 0.5, 20.0, 5.0]},
        index=["x", "fast", "y", "nothing"],
    )
    assert costs.answer(table).splitlines() == [
        "- **y** has the highest mean F1 (70.0) at 20 ms a note.",
        "- x: -10.0 points at 2.0 times the time.",
        "- fast: -20.0 points at 0.025 times the time.",
    ]
    assert "No system" in costs.answer(table.iloc[3:])


def test_notebook_10_says_what_is_lost_within_the_document_type():
    steps = {"without the case": -5.0, "without both": -8.0, BEYOND: -20.0, WHOLE: -28.0}
    gaps = pd.DataFrame(
        [("CRF", step, change, change - 1, change + 1) for step, change in steps.items()],
        columns=["tagger", "step", "change of F1 (points)", "95 % from", "95 % to"],
    ).set_index(["tagger", "step"])
    said = generalisation.answer(gaps)
    assert (
        "by -28.0 [-29.0, -27.0] points" in said
        and "training without both, and on the same kind of notes, takes -8.0 [-9.0, -7.0] of it." in said
    )
    alone = gaps.drop(index=[("CRF", "without the case"), ("CRF", "without both")])
    assert "of it" not in generalisation.answer(alone)
