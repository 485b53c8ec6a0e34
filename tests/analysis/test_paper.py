"""The paper's printed numbers, recomputed; and a map of its contents that does not lie."""

import re

import pytest
from conftest import JMED, needs_jmed

from nbutils import ROOT
from nbutils.analysis import paper


def test_all_printed_differences_but_one_are_ood_less_id():
    audit = paper.audit_table3()
    assert len(audit) == 12
    assert list(audit["printed is"]).count("OOD − ID") == 11


def test_the_one_that_is_neither_is_llama_few_shot_on_progress_notes_and_is_flagged():
    audit = paper.audit_table3()
    (odd,) = audit.index[audit["printed is"] == "neither"]
    assert odd == ("LLaMA-3.1 (Few-shot)", "ΔPN")
    assert (audit.loc[odd, "printed"], audit.loc[odd, "OOD − ID"]) == (-11.0, -1.1)
    assert "-1.1" in audit.loc[odd, "flag"]


def test_only_the_wrong_difference_is_flagged():
    assert (paper.audit_table3()["flag"] != "").sum() == 1


def test_the_sign_of_the_text_is_the_opposite_of_the_table():
    audit = paper.audit_table3()
    assert (audit["ID − OOD"] == -audit["OOD − ID"]).all()


def test_a_rounding_error_is_no_oddity():
    assert paper._which(-8.7, -8.6, 0.1) == "OOD − ID"
    assert paper._which(8.6, -8.6, 0.1) == "ID − OOD"
    assert paper._which(-8.8, -8.6, 0.1) == "neither"


def test_precision_and_recall_of_the_error_analysis_give_the_f1_of_table_3():
    audit = paper.audit_f1()
    assert list(audit["F1 from P and R"].astype(float).round(1)) == [59.8, 69.8]
    assert audit["agree"].all()


def test_a_wrong_precision_would_not_agree(monkeypatch):
    monkeypatch.setitem(paper.ERROR_ANALYSIS, "BERT (Fine-tuned)", (52.8, 70.7))
    assert not paper.audit_f1().loc["BERT (Fine-tuned)", "agree"]


def test_the_agreement_ratios_are_those_of_the_printed_counts():
    audit = paper.audit_agreement()
    assert audit["ratio"].round(2).equals(audit["printed"])


def test_a_system_without_training_scores_differently_on_a_fifth_and_on_all_notes():
    check = paper.zero_shot_check()
    assert check.loc[("LLaMA-3.1 (Zero-shot)", "PN"), "difference"] == pytest.approx(20.4 - 15.5)
    assert set(check.index.get_level_values("system")) == {"LLaMA-3.1 (Zero-shot)", "GPT-4o (Zero-shot)"}


def test_the_target_matched_gap_of_bert_on_progress_notes_is_the_difference_of_one_column():
    assert paper.same_notes_gap().loc[("BERT (Fine-tuned)", "PN"), "difference"] == pytest.approx(59.8 - 79.7)


def test_every_table_figure_and_textbox_of_the_paper_has_a_place():
    items = set(paper.contents().index)
    wanted = {f"Table {n}" for n in range(1, 5)} | {f"Figure {n}" for n in range(1, 4)} | {"Textbox 1"}
    assert wanted <= items


def test_a_notebook_counts_as_here_only_when_its_file_is():
    contents = paper.contents()
    for row in contents.to_dict("records"):
        assert (row["here"] == "yes") == (ROOT / "notebooks" / f"{row['notebook']}.ipynb").exists()


def test_places_are_notebooks_of_this_study():
    assert all(re.fullmatch(r"(0[0-9]|10)_[a-z_]+", name) for name in paper.contents()["notebook"])


def test_every_reading_says_what_it_reads_and_how():
    readings = paper.readings()
    assert readings.index.is_unique and (readings["our reading"] != "").all()


def test_the_claims_on_means_hold_but_the_llms_gap_is_not_the_smallest_of_all():
    claims = paper.audit_claims()["holds"]
    assert not claims["its gap is the smallest of all systems"]  # GPT-4o, zero-shot, on CR: −1.8
    assert claims.drop("its gap is the smallest of all systems").all()


@needs_jmed
def test_each_sentence_of_table_4_stands_in_the_public_report_that_its_note_names():
    places = paper.table4_in_public_reports(JMED)["stands in"].tolist()
    assert places == ["CRNER-102", "CRNER-120", "CRNER-093", "CRNER-094"]
    assert all(place in note for place, note in zip(places, paper.paper_table(4)["note"], strict=True))
