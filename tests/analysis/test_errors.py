"""Kinds of mistakes: each rule on the smallest text that shows it, and nothing counted twice or lost."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils import figures
from nbutils.analysis import errors
from nbutils.analysis.errors import FALSE_NEGATIVE, FALSE_POSITIVE, KINDS, document_errors, false_positive_kind
from nbutils.analysis.paper import paper_table
from nbutils.corpus import Corpus, Document, Entity, Prediction
from nbutils.scoring.spans import exact_document
from nbutils.study.file import Study, System
from nbutils.study.results import Results
from nbutils.study.runs import Run, write_predictions


def document(text, *gold):
    return Document("1", text, tuple(Entity(*span) for span in gold))


def kinds(text, gold, predicted):
    """(kinds of false positives, kinds of false negatives)."""
    found = list(document_errors(document(text, *gold), [Entity(*span) for span in predicted]))
    return tuple([kind for side, kind, _ in found if side == wanted] for wanted in (FALSE_POSITIVE, FALSE_NEGATIVE))


def kind_of(text, name, **more):
    """The kind of `name`, predicted where it first stands in a text without any gold entity."""
    start = text.index(name)
    entity = Entity(start, start + len(name))
    return false_positive_kind(entity, document(text), [entity], **more)


# --- borders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "gold", "predicted"),
    [
        ("too short", (2, 8), (5, 6)),
        ("too short", (2, 8), (2, 6)),
        ("too long", (2, 6), (1, 7)),
        ("too long", (2, 6), (2, 7)),
        ("shifted", (2, 6), (4, 8)),
        ("shifted", (4, 8), (2, 6)),
    ],
)
def test_borders_that_differ_have_a_name_that_both_sides_share(kind, gold, predicted):
    assert kinds("0123456789", [gold], [predicted]) == ([kind], [kind])


def test_one_gold_entity_in_two_pieces_is_split():
    assert kinds("急性心筋梗塞", [(0, 6)], [(0, 2), (2, 6)]) == (["split", "split"], ["split"])


def test_two_gold_entities_in_one_prediction_are_merged():
    assert kinds("発熱、咳嗽", [(0, 2), (3, 5)], [(0, 5)]) == (["merged"], ["merged", "merged"])


def test_a_chain_of_overlaps_is_shifted():
    assert kinds("0123456789", [(0, 4), (4, 8)], [(2, 6), (6, 9)]) == (["shifted"] * 2, ["shifted"] * 2)


def test_the_same_span_of_another_type_is_the_wrong_type():
    assert kinds("発熱", [(0, 2, "d")], [(0, 2, "m")]) == (["wrong type"], ["wrong type"])


def test_a_neighbour_without_a_common_character_is_no_border_error():
    assert kinds("発熱咳嗽", [(0, 2)], [(2, 4)]) == (["other"], ["missed"])


def test_what_is_found_exactly_is_no_error():
    assert kinds("発熱", [(0, 2)], [(0, 2), (0, 2)]) == ([], [])


@st.composite
def spans(draw):
    cuts = sorted(draw(st.sets(st.integers(0, 20), max_size=8)))
    return [(a, b, draw(st.sampled_from("dm"))) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]


@given(spans(), spans())
@settings(max_examples=200, deadline=None)
def test_every_error_that_the_score_counts_has_exactly_one_kind(gold, predicted):
    false_positives, false_negatives = kinds("発熱と咳嗽、 Hb 8.1 CT<d>&x", gold, predicted)
    scores = exact_document([Entity(*s) for s in gold], [Entity(*s) for s in predicted])
    assert len(false_positives) == scores.n_predicted - scores.matched_predicted
    assert len(false_negatives) == scores.n_gold - scores.matched_gold
    assert set(false_positives) <= set(KINDS[FALSE_POSITIVE]) and set(false_negatives) <= set(KINDS[FALSE_NEGATIVE])


@given(spans(), spans())
@settings(max_examples=100, deadline=None)
def test_swapping_gold_and_prediction_swaps_split_and_merged_and_short_and_long(gold, predicted):
    swap = {"split": "merged", "merged": "split", "too short": "too long", "too long": "too short"}
    _, missed = kinds("0123456789" * 2, gold, predicted)
    spurious, _ = kinds("0123456789" * 2, predicted, gold)
    borders = set(errors.BORDER_KINDS)
    assert [swap.get(k, k) for k in missed if k in borders] == [k for k in spurious if k in borders]


# --- what a spurious name is -----------------------------------------------------------------------------------------


def test_the_papers_own_examples_get_the_kind_that_its_text_gives_them():
    found = {}
    for row in paper_table(4).to_dict("records"):
        gold = [(row["sentence"].index(row["gold"]),)] if row["gold"] != "None" else []
        gold = [(start, start + len(row["gold"])) for (start,) in gold]
        for name in row["prediction"].split("; "):
            start = row["sentence"].index(name)
            predicted = Entity(start, start + len(name))
            found[name] = false_positive_kind(predicted, document(row["sentence"], *gold), [predicted])
    test = "test or biomarker"
    assert found == {"腫瘍マーカー": test, "低下": test, "血小板": test, "Hb8": test, "多": "too short"}


TESTS = "Hb|Ｈｂ|Hb 8.1 g/dL|Hb 6.8→9.2|CRP↑|Plt 36万|血清フェリチン|CA19-9|CA125 40|ＭＲＩ|抗ＳＳ－Ａ抗体|上昇傾向"


@pytest.mark.parametrize("name", [*TESTS.split("|"), "SpO2 86%", "RBC：30-49/HPF"])
def test_a_test_with_or_without_its_value_is_no_disease(name):
    assert kind_of(f"本日 {name} 。", name) == "test or biomarker"


@pytest.mark.parametrize("name", ["血小板減少", "Hb低下", "CRP高値", "炎症反応上昇", "ST上昇"])
def test_the_abnormal_state_of_a_test_is_no_test(name):
    assert kind_of(f"本日{name}あり", name) == "other"


@pytest.mark.parametrize("name", ["HT", "Ca", "MK", "plastics"])
def test_abbreviations_of_diseases_and_ends_of_words_are_no_tests(name):
    assert kind_of(f"既往: {name}", name) == "other"


@pytest.mark.parametrize("name", ["肝", "右下葉", "S状結腸", "両膝", "下腹部"])
def test_a_bare_site_is_anatomy(name):
    assert kind_of(f"{name}の精査", name) == "anatomy"


@pytest.mark.parametrize("name", ["悪心", "肺結節", "脳転移", "肝腫瘤"])
def test_a_disease_of_a_site_is_not_anatomy(name):
    assert kind_of(f"{name}の精査", name) == "other"


@pytest.mark.parametrize("name", ["EMR後抗菌薬", "右尿管ステント", "放射線療法", "術"])
def test_treatments_are_sorted_by_how_they_end(name):
    assert kind_of(f"{name}あり", name) == "drug or procedure"


@pytest.mark.parametrize(("text", "name"), [("逆血良好", "逆血良好"), ("腹部 平坦・軟", "腹部"), ("心音は整", "心音"),
                                            ("付属器n.p.", "付属器"), ("肝臓に異常なし", "肝臓")])  # fmt: skip
def test_what_the_note_calls_normal_is_a_normal_finding(text, name):
    assert kind_of(text, name) == "normal finding"


@pytest.mark.parametrize("name", ["脈不整", "体調不良好転", "境界不明瞭"])
def test_irregular_is_not_regular(name):
    assert kind_of(f"{name}あり", name) != "normal finding"


def test_normal_in_the_next_line_says_nothing_about_this_one():
    assert kind_of("肝臓\n正常", "肝臓") == "anatomy"


@pytest.mark.parametrize("name", ["、", "2", "■ ", "熱", "; 1"])
def test_signs_and_single_characters_are_fragments(name):
    assert kind_of(f"あ{name}。", name) == "fragment"


def test_what_a_study_leaves_out_is_named_by_its_certainty():
    denied, suspected = Entity(0, 2, certainty="negative"), Entity(0, 2, certainty="suspicious")
    assert kind_of("発熱なし", "発熱", left_out=[denied]) == "negated"
    assert kind_of("発熱疑い", "発熱", left_out=[suspected]) == "other certainty"


def test_borders_come_before_what_a_study_left_out():
    predicted = Entity(0, 5)
    note = document("発熱、咳嗽なし", (0, 2))
    left_out = [Entity(3, 5, certainty="negative")]
    assert false_positive_kind(predicted, note, [predicted], left_out) == "too long"


def test_the_rules_in_the_docstring_are_the_kinds_of_the_table():
    rules = [line.split("|")[2].strip() for line in false_positive_kind.__doc__.splitlines() if line.count("|") > 3]
    assert set(rules[2:]) == set(KINDS[FALSE_POSITIVE])


# --- a study's errors ------------------------------------------------------------------------------------------------

TEXT = "発熱あり\nHb 8.1、咳嗽\n"
FEVER, COUGH, HB, SHORT = Entity(0, 2), Entity(12, 14), Entity(5, 7), Entity(13, 14)


@pytest.fixture
def example(tmp_path):
    """Two systems on one note of PN that were trained on CR: `a` with two seeds, `b` with one."""
    note = Document("PN-1", TEXT, (FEVER, COUGH), {"case": "case-01", "physician": "phys-01"})
    corpora = {
        "CR": Corpus("CR", tuple(Document(f"CR-{k}", "発熱", (Entity(0, 2),)) for k in range(5))),
        "PN": Corpus("PN", (note,)),
    }
    found = {("a", 0): (FEVER, HB), ("a", 1): (FEVER, HB, SHORT), ("b", 0): ()}
    runs = []
    for (system, seed), entities in found.items():
        folder = tmp_path / system / str(seed)
        write_predictions([Prediction("PN-1", entities)], corpora["PN"], folder / "predictions" / "PN.jsonl")
        runs.append(Run(folder, {"system": system, "train": "CR", "seed": seed}))
    systems = {name: System(name, "crf", (0, 1), {}, f"System {name}") for name in ("b", "a")}
    study = Study("small", {}, systems, train=("CR", "PN"), evaluate=("CR", "PN"), caption="Small.")
    results = Results(study, corpora, runs)
    rows = errors.of_runs(results, train="CR", evaluate="PN")
    return SimpleNamespace(study=study, runs=runs, corpora=corpora, rows=rows, n_runs=errors.runs_of(results, "CR"))


def test_rows_come_in_the_order_of_the_study_with_case_and_physician(example):
    assert list(dict.fromkeys(example.rows["system"])) == ["b", "a"]
    assert set(example.rows["case"]) == {"case-01"} and set(example.rows["physician"]) == {"phys-01"}


def test_a_row_shows_its_line_and_all_that_is_marked_there(example):
    row = example.rows.query("kind == 'test or biomarker'").iloc[0]
    assert row["line"] == "Hb 8.1、咳嗽"
    assert [row["line"][s:e] for s, e, _ in row["gold"]] == ["咳嗽"]
    assert [row["line"][s:e] for s, e, _ in row["predicted"]] == ["Hb"]


def test_counts_are_means_over_the_runs_of_a_system(example):
    table = errors.count_table(example.study, example.rows, example.n_runs, FALSE_POSITIVE)
    assert list(table.columns) == ["System b", "System a"]
    assert table.loc["test or biomarker", "System a"] == 1 and table.loc["too short", "System a"] == 0.5
    assert table.loc["all", "System a"] == 1.5 and table.loc["all", "System b"] == 0


def test_one_note_is_shown_with_the_first_seed_of_every_system_in_the_studys_order(example):
    where = {"train": "CR", "evaluate": "PN"}
    note, found = errors.on_document(Results(example.study, example.corpora, example.runs[::-1]), "PN-1", **where)
    assert note.id == "PN-1"
    assert {title: p.entities for title, p in found.items()} == {"System b": (), "System a": (FEVER, HB)}
    assert list(found) == ["System b", "System a"]


@pytest.mark.parametrize(("evaluate", "document"), [(("CR", "PN"), "PN-1"), (("PN",), "PN-1"), (("CR",), "CR-2")])
def test_the_note_shown_without_a_choice_is_of_another_corpus_where_the_study_has_one(example, evaluate, document):
    study = replace(example.study, evaluate=evaluate)
    note, _ = errors.on_document(Results(study, example.corpora, []), train="CR")
    assert note.id == document


def test_runs_on_another_corpus_are_not_counted(example):
    other = [*example.runs, Run(example.runs[0].folder, {"system": "a", "train": "PN", "seed": 0})]
    results = Results(example.study, example.corpora, other)
    assert len(errors.of_runs(results, train="CR", evaluate="PN")) == len(example.rows)
    assert errors.runs_of(results, "CR") == {"a": 2, "b": 1}


def test_an_example_is_the_error_that_most_seeds_make(example):
    table = errors.examples(example.study, example.rows)
    assert list(table.index) == [("System a", "too short"), ("System a", "test or biomarker")]
    assert table.loc[("System a", "test or biomarker"), "seeds"] == 2
    assert table.loc[("System a", "too short"), "prediction"] == "Hb, 嗽"


def test_of_equal_errors_the_shortest_line_is_shown(example):
    twice = pd.concat([example.rows, example.rows.assign(document="PN-2", line="Hb 8.1、咳嗽と長い続き")])
    table = errors.examples(example.study, twice.iloc[::-1], n=1)
    assert set(table["document"]) == {"PN-1"}


def test_a_line_without_gold_says_none(example):
    rows = errors.of_runs(
        Results(example.study, {**example.corpora, "PN": bare(example)}, example.runs), train="CR", evaluate="PN"
    )
    assert set(errors.examples(example.study, rows)["gold annotation"]) == {"none"}


def test_names_that_a_study_leaves_out_are_looked_up_in_the_full_corpora(example):
    only_cough = {**example.corpora, "PN": bare(example)}
    marked = {"PN": Corpus("PN", (Document("PN-1", TEXT, (Entity(0, 2, certainty="negative"), COUGH)),))}
    rows = errors.of_runs(Results(example.study, only_cough, example.runs), train="CR", evaluate="PN", marked=marked)
    assert set(rows.query("entity == '発熱'")["kind"]) == {"negated"}


def test_an_error_across_two_lines_shows_both(example):
    note = example.corpora["PN"].documents[0]
    row = errors.in_its_line(note, [Entity(2, 7)], Entity(2, 7))
    assert row["line"] == "発熱あり\nHb 8.1、咳嗽" and row["predicted"] == ((2, 7, "d"),)


def test_the_figure_of_kinds_names_the_commonest_and_leaves_out_what_never_happened(example):
    counts = errors.count_table(example.study, example.rows, example.n_runs, FALSE_POSITIVE)
    figure = figures.errors.kinds(example.study, counts)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["too short", "test or biomarker"]
    assert axes.get_title(loc="left") == "Commonest kind of false positive: test or biomarker (1 of 2 systems)"


def bare(example):
    return Corpus("PN", tuple(d.without_entities() for d in example.corpora["PN"]))
