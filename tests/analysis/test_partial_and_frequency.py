"""What a score is made of: known and unknown names, whole and partial matches."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils.analysis import main_result
from nbutils.corpus import Corpus, Document, Entity, Prediction
from nbutils.scoring.spans import FREQUENCIES, Scores, exact_scores, frequency_class, scores_by_frequency
from nbutils.study import runs
from nbutils.study.corpora import evaluation_corpus, split
from nbutils.study.file import Study, System
from nbutils.study.results import Results

TEXT = "発熱、咳嗽、胸痛、発熱、"


@st.composite
def spans(draw):
    cuts = sorted(draw(st.sets(st.integers(0, len(TEXT)), max_size=8)))
    return tuple(Entity(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False))


@pytest.mark.parametrize(
    ("count", "name"), [(0, "unseen"), (1, "once"), (2, "2 to 4 times"), (4, "2 to 4 times"), (5, "5 times or more")]
)
def test_a_string_is_sorted_by_how_often_training_marked_it(count, name):
    assert frequency_class(count) == name


def test_a_known_name_that_is_found_and_an_unknown_one_that_is_missed():
    train = [Document("t", TEXT, (Entity(0, 2), Entity(9, 11), Entity(3, 5)))]  # 発熱 twice, 咳嗽 once
    gold = [Document("1", TEXT, (Entity(0, 2), Entity(3, 5), Entity(6, 8)))]  # 発熱, 咳嗽, 胸痛
    found = scores_by_frequency(gold, [Prediction("1", (Entity(0, 2), Entity(9, 11)))], train)
    assert found["2 to 4 times"] == Scores(1, 1, 2, 1)
    assert found["once"] == Scores(0, 0, 0, 1) == found["unseen"]


@given(spans(), spans(), spans())
@settings(max_examples=60, deadline=None)
def test_the_classes_add_up_to_the_score_of_all_entities(train, gold, predicted):
    documents, predictions = [Document("1", TEXT, gold)], [Prediction("1", predicted)]
    found = scores_by_frequency(documents, predictions, [Document("t", TEXT, train)])
    assert list(found) == list(FREQUENCIES)
    assert sum(found.values(), Scores(0, 0, 0, 0)) == exact_scores(documents, predictions)


# --- tables ----------------------------------------------------------------------------------------------------------

STUDY = Study("s", {}, {"a": System("a", "crf", (0, 1), {}, "A")}, train=("CR",), evaluate=("CR", "PN"), seeds=(0, 1))


@pytest.fixture
def example(tmp_path):
    """Notes that mark 発熱, 咳嗽 and 胸痛; seed 0 finds all, seed 1 cuts the first one short."""
    gold = (Entity(0, 2), Entity(3, 5), Entity(6, 8))
    corpora = {n: Corpus(n, tuple(Document(f"{n}{k}", TEXT, gold) for k in range(5))) for n in ("CR", "PN")}
    for seed, cut in ((0, 2), (1, 1)):
        place = tmp_path / "s" / "a" / "CR" / f"seed-{seed}"
        for name in STUDY.evaluate:
            target = evaluation_corpus(STUDY, corpora, "CR", name)
            found = [Prediction(d.id, (Entity(0, cut), *gold[1:])) for d in target]
            runs.write_predictions(found, target, place / "predictions" / f"{name}.jsonl")
        runs.write_run(place, {"system": "a", "train": "CR", "seed": seed})
    return runs.read_runs(tmp_path, "s"), corpora


def test_partial_credit_is_given_for_other_boundaries_and_stands_beside_chance(example):
    row = main_result.partial_table(Results(STUDY, example[1], example[0])).loc[("A", "CR", "PN")]
    assert row["exact (%)"] == pytest.approx((100 + 200 / 3) / 2) and row["any (%)"] == 100
    assert row["exact (%)"] < row["half (%)"] < row["overlap (%)"] < row["any (%)"]
    assert row["any by chance (%)"] <= row["any (%)"] and row["overlap by chance (%)"] <= row["overlap (%)"]


def test_names_are_counted_by_how_often_the_training_part_marks_them(example):
    finished, corpora = example
    table = main_result.frequency_table(Results(STUDY, corpora, finished)).loc[("A", "CR", "PN")]
    assert len(split(STUDY, corpora["CR"])[0]) == 4  # each string is marked four times
    assert table.loc["2 to 4 times", "gold (n)"] == table.loc[main_result.SEEN, "gold (n)"] == 15
    assert table.loc["unseen", "gold (n)"] == 0
    assert table.loc[main_result.SEEN, "recall (%)"] == pytest.approx((100 + 200 / 3) / 2)


def test_a_study_without_runs_has_empty_tables(example):
    _, corpora = example
    assert main_result.partial_table(Results(STUDY, corpora, [])).empty
    assert main_result.frequency_table(Results(STUDY, corpora, [])).empty
