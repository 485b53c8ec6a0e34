"""Who wrote a note, and on which case: a table or names of files say it, and a slip in them cannot pass."""

import pytest
from exports import brat, refused, refused_whole, written

from nbutils.corpus.formats import files_of, read_corpus

ANN = "T1\td 0 2\t発熱\n"


def test_a_table_beside_the_notes_says_who_and_which_case(tmp_path):
    folder = brat(tmp_path / "b", ANN)
    (folder / "notes.csv").write_text("\ufeffid,case,physician\r\n1,c1,\r\n", encoding="utf-8")
    assert read_corpus(folder, "brat", meta="notes.csv").documents[0].meta == {"case": "c1"}
    assert [p.name for p in files_of(folder, "brat", "notes.csv")] == ["1.txt", "1.ann", "notes.csv"]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("id,case\n", 'notes.csv: there is no row for the note "1"'),
        ("id,case\n1,a\n2,b\n", 'line 3: there is no note "2"'),
        ("id,case\n1,a\n1,b\n", 'line 3: a second row for the note "1"'),
        ("note,case\n1,a\n", "line 1: the first line must name the columns"),
        ("id,case\n1,a\n2\n", "line 3: 2 cells are needed"),
    ],
)
def test_a_faulty_table_gives_its_line_and_fix(tmp_path, table, sentence):
    folder = brat(tmp_path / "b", ANN)
    written(folder, "notes.csv", table)
    assert sentence in refused(folder, "brat", meta="notes.csv")


def test_all_faults_of_a_table_are_told_at_once(tmp_path):
    folder = brat(tmp_path / "b", ANN)
    written(folder, "notes.csv", "id,case\n2,a\n3,b\n4\n")
    sentences = refused_whole(folder, "brat", meta="notes.csv")
    assert 'there is no note "2" (2 such; also line 3)' in sentences
    assert "line 4: 2 cells" in sentences and 'no row for the note "1"' in sentences


def test_file_names_say_who_and_which_case(tmp_path):
    folder = brat(tmp_path / "b", ANN, name="tanaka_c-07")
    (document,) = read_corpus(folder, "brat", names="{physician}_{case}")
    assert document.meta == {"physician": "tanaka", "case": "c-07"}


def test_a_name_that_does_not_fit_and_a_template_with_two_readings_are_refused(tmp_path):
    folder = brat(tmp_path / "b", ANN, name="a_b_c")
    assert 'the note "a_b_c" is not named like' in refused(folder, "brat", names="{physician}_{case}")
    assert "something between them" in refused(folder, "brat", names="{physician}{case}")
