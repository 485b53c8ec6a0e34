"""What the second annotation has to cover, and what its table counts."""

from nbutils.corpus import Corpus, Document, Entity
from tools.check_data.second import note_coverage_faults, report_coverage_faults, second_table

TEXT = "\n発熱と悪寒\n"


def corpus_of_notes(physicians: int, cases: int, leave_out: str = "") -> Corpus:
    return Corpus(
        "PN",
        tuple(
            Document(f"{p}-{c}", TEXT, meta={"physician": f"phys-{p}", "case": f"case-{c}"})
            for p in range(physicians)
            for c in range(cases)
            if f"case-{c}" != leave_out
        ),
    )


def test_three_notes_of_a_physician_are_enough_and_two_are_not():
    first = corpus_of_notes(2, 6)
    some = {n: Corpus("PN", tuple(d for d in first if d.meta["case"] < f"case-{n}")) for n in (2, 3)}
    few = [fault for fault in note_coverage_faults(first, some[2]) if "notes of" in fault]
    assert len(few) == 2 and not any("notes of" in fault for fault in note_coverage_faults(first, some[3]))


def test_a_case_that_was_not_annotated_again_is_named():
    faults = note_coverage_faults(corpus_of_notes(2, 4), corpus_of_notes(2, 4, leave_out="case-1"))
    assert faults == ["second annotation: no note on case-1; every case is wanted"]


def test_fifteen_reports_are_enough_and_fourteen_are_not():
    reports = [Corpus("CR", tuple(Document(str(k), TEXT) for k in range(n))) for n in (148, 15, 14)]
    assert not report_coverage_faults(reports[0], reports[1])
    assert report_coverage_faults(reports[0], reports[2]) == [
        "second annotation: 14 case reports; at least 15 are wanted"
    ]


def test_the_table_counts_only_what_was_annotated_twice():
    fever, chills = Entity(1, 3, certainty="positive"), Entity(4, 6, certainty="negative")
    first = Corpus("CR", (Document("1", TEXT, (fever, chills)), Document("2", TEXT, (fever,))))
    second = Corpus("CR", (Document("1", TEXT, (Entity(1, 3, certainty="general"), chills)),))
    table = second_table({"CR": first}, {"CR": second})["CR"]
    assert (table["documents annotated twice"], table["entities, first annotation"]) == ("1", "2")
    assert (table["matched, exact"], table["matched, exact, same certainty"]) == ("2", "1")
    assert table["F1, exact"].startswith("1.000 ") and table["F1, exact, same certainty"].startswith("0.500 ")
