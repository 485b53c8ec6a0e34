"""brat's standoff files are read as meant, or one sentence says what is wrong."""

import pytest
from exports import brat, refused, refused_whole, spans, surfaces

from nbutils.corpus import Entity
from nbutils.corpus.formats import read_corpus


def test_brat_attributes_stay_with_their_entity_and_certainty_is_understood(tmp_path):
    ann = "T1\tDisease 0 2\t発熱\nA1\tCertainty T1 negative\nA2\tSeverity T1 mild\nA3\tNegated T1\n"
    (entity,) = read_corpus(brat(tmp_path / "b", ann), "brat").documents[0].entities
    assert entity == Entity(0, 2, "Disease", "negative", (("Severity", "mild"), ("Negated", "true")))


def test_what_brat_knows_beside_entities_is_counted_and_reported(tmp_path):
    ann = (
        "T1\tD 0 2\t発熱\nT2\tD 3 5\t咳嗽\nR1\tWith Arg1:T1 Arg2:T2\n#1\tAnnotatorNotes T1\tsure?\n"
        "E1\tD:T1\nA1\tNegated E1\n*\tEquiv T1 T2\nN1\tReference T1 ICD:R50\t発熱\n"
    )
    corpus = read_corpus(brat(tmp_path / "b", ann), "brat")
    told = " ".join(corpus.notices)
    assert len(corpus.documents[0].entities) == 2
    kinds = ("relations", "notes of the annotator", "events", "attributes of relations", "equivalences", "normalis")
    assert all(f"1 {kind}" in told for kind in kinds)


# --- pieces ----------------------------------------------------------------------------------------------------------


def test_a_discontinuous_span_is_refused_with_its_line_until_the_user_chooses(tmp_path):
    sentence = refused(brat(tmp_path / "b", "T1\td 0 2\t発熱\nT2\td 0 1;3 4\t発 咳\n"), "brat")
    assert "1.ann, line 2: T2 is discontinuous (0 1;3 4); say `discontinuous: fragments`" in sentence


@pytest.mark.parametrize(("choice", "expected"), [("fragments", [(0, 1), (3, 4)]), ("cover", [(0, 4)])])
def test_a_discontinuous_span_is_read_as_declared_and_reported(tmp_path, choice, expected):
    corpus = read_corpus(brat(tmp_path / "b", "T2\td 0 1;3 4\t発 咳\n"), "brat", discontinuous=choice)
    assert spans(corpus) == expected
    assert len(corpus.notices) == 1 and "1.ann, line 1: T2" in corpus.notices[0]


def test_a_piece_that_two_discontinuous_entities_share_is_one_entity(tmp_path):
    ann = "T1\td 0 2;5 7\t右肺 腫瘤\nT2\td 3 7\t左肺腫瘤\nT3\td 0 2;5 7\t右肺 腫瘤\n"
    folder = brat(tmp_path / "b", ann, "右肺と左肺腫瘤")
    corpus = read_corpus(folder, "brat", discontinuous="fragments", overlaps="longest")
    assert spans(corpus) == [(0, 2), (3, 7)]
    (notice,) = (notice for notice in corpus.notices if "read once" in notice)
    assert "2 such" in notice


@pytest.mark.parametrize(
    ("text", "pieces", "expected"),
    [
        ("胸部\r\n異常", "0 2;4 6", (0, 6)),
        ("胸部\r異常", "0 2;3 5", (0, 5)),
        ("胸部\n　　異常", "0 2;5 7", (0, 7)),
        ("胸部 \n\t異常", "0 2;5 7", (0, 7)),
        ("胸部異常", "0 2;2 4", (0, 4)),
    ],
)
def test_an_entity_that_is_wrapped_and_indented_is_one(tmp_path, text, pieces, expected):
    corpus = read_corpus(brat(tmp_path / "b", f"T1\td {pieces}\t胸部 異常\n", text), "brat")
    assert spans(corpus) == [expected] and not corpus.notices


def test_pieces_that_a_blank_alone_divides_are_what_the_annotator_made_two(tmp_path):
    assert "discontinuous" in refused(brat(tmp_path / "b", "T1\td 0 2;3 5\t胸部 異常\n", "胸部 異常"), "brat")


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ann", "sentence"),
    [
        ("T1\td 0 2\t発熱\nT2\td 1 3\t熱と\n", "line 2: 1–3 overlaps 0–2 (line 1)"),
        ("T1\td 0 2\t発熱\nT2\td 0 2\t発熱\n", "line 2: 0–2 is the same entity as 0–2 (line 1)"),
        ("T1\td 0 5\t発熱と咳嗽\nT2\td 3 5\t咳嗽\n", "line 2: 3–5 overlaps 0–5 (line 1)"),
        ("T1\td 0 2\t咳嗽\n", "line 1: the file quotes another text than stands at 0–2 in the note"),
        ("T1\td 0 99\t発熱\n", "line 1: the entity 0–99 does not lie in the text (0–9)"),
        ("T1\td 2 2\t\n", "line 1: the entity 2–2 is empty"),
        ("T1\td 0 2\t発熱\nT1\td 3 5\t咳嗽\n", "line 2: the id T1 stands already in line 1"),
        ("T1\td 0 2\t発熱\nA1\tNegated T9\n", "line 2: there is no T9"),
        ("T1\td 0 2\t発熱\nT2 d 3 5 咳嗽\n", "line 2: no line of brat's standoff format"),
        (f"T1\td 0 2\t発熱\nT2\td 3 {'9' * 5000}\t咳嗽\n", "line 2: an offset has more than 15 digits"),
    ],
)
def test_a_faulty_annotation_gives_file_line_and_fix(tmp_path, ann, sentence):
    message = refused(brat(tmp_path / "b", ann), "brat")
    assert f"1.ann, {sentence}" in message and ";" in message


def test_every_problem_of_a_folder_is_told_at_once_with_its_count_and_first_three_places(tmp_path):
    for name in "ab":
        brat(tmp_path / "b", "T1\td 0 2\t咳嗽\nT2\td 3 5\t発熱\nT3\td 6 6\t\n", name=name)
    first, quotes, empty = refused_whole(tmp_path / "b", "brat").split("\n")
    assert first == f"{tmp_path / 'b'}: 2 kinds of problems"
    assert "b/a.ann, line 1: the file quotes another text than stands at 0–2 in the note (4 such; also" in quotes
    assert f"also line 2, {tmp_path / 'b'}/b.ann, line 1, …); " in quotes
    assert "a.ann, line 3: the entity 6–6 is empty (2 such; also" in empty


@pytest.mark.parametrize(
    ("text", "ann", "cause"),
    [
        ("咳\r\n発熱", "T1\td 2 4\t発熱\n", "CRLF counts as one: say `offsets: codepoints-lf`"),
        ("👩👩\r\n発熱", "T1\td 5 7\t発熱\n", "say `offsets: utf16-lf`"),
        ("\ufeff咳。発熱", "T1\td 3 5\t発熱\n", "byte-order mark"),
        ("👩咳発熱", "T1\td 3 5\t発熱\n", "say `offsets: utf16`"),
        ("カ\u3099ン疑い", "T1\td 0 3\tガン\n", "Unicode normalisation"),
        ("カ\u3099ン疑い。発熱", "T1\td 5 7\t発熱\n", "save the note in NFC"),
        ("CRP<3と発熱", "T1\td 0 5\tCRP&lt;3\n", "HTML-escaped"),
    ],
)
def test_the_usual_causes_of_a_quote_that_does_not_fit_are_named(tmp_path, text, ann, cause):
    assert cause in refused(brat(tmp_path / "b", ann, text), "brat")


@pytest.mark.parametrize(
    ("text", "at", "way"), [("咳\r\n発熱", "2 4", "codepoints-lf"), ("👩\r\n発熱", "3 5", "utf16-lf")]
)
def test_offsets_that_count_crlf_as_one_are_read_where_that_is_declared(tmp_path, text, at, way):
    corpus = read_corpus(brat(tmp_path / "b", f"T1\td {at}\t発熱\n", text), "brat", offsets=way)
    assert surfaces(corpus) == ["発熱"]


def test_of_overlapping_entities_the_longest_is_kept_where_that_is_declared(tmp_path):
    folder = brat(tmp_path / "b", "T1\td 3 5\t咳嗽\nT2\td 0 5\t発熱と咳嗽\n")
    corpus = read_corpus(folder, "brat", overlaps="longest")
    assert spans(corpus) == [(0, 5)]
    assert "1.ann, line 1: 3–5 overlaps 0–5 (line 2) and was left out" in corpus.notices[0]


def test_entities_of_types_that_the_study_does_not_want_may_overlap_and_are_counted(tmp_path):
    folder = brat(tmp_path / "b", "T1\tDisease 0 2\t発熱\nT2\tPhrase 0 5\t発熱と咳嗽\n")
    corpus = read_corpus(folder, "brat", labels_as={"Disease": "d"})
    assert [e.key for e in corpus.documents[0].entities] == [(0, 2, "d")]
    assert '1 entities of the type "Phrase"' in corpus.notices[0]


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_note_without_annotations_and_annotations_without_a_note_are_named(tmp_path):
    folder = brat(tmp_path / "b", "T1\td 0 2\t発熱\n")
    (folder / "2.txt").write_text("咳", encoding="utf-8")
    assert "2.txt: there is no .ann" in refused_whole(folder, "brat")
    (folder / "3.ann").touch()
    sentences = refused_whole(folder, "brat")
    assert "2.txt: there is no .ann" in sentences and "3.ann: there is an .ann without a .txt" in sentences


def test_an_empty_ann_is_a_note_without_entities_and_counted_among_others(tmp_path):
    folder = brat(tmp_path / "b", "T1\td 0 2\t発熱\n")
    brat(folder, "", name="2")
    corpus = read_corpus(folder, "brat")
    assert corpus.documents[1].entities == ()
    assert corpus.notices == (f"{folder}: 1 of 2 notes have no annotation at all (the first: {folder / '2.txt'})",)


def test_brat_in_another_encoding_is_read_when_it_is_named_and_refused_when_not(tmp_path):
    folder = brat(tmp_path / "b", "T1\td 0 2\t発熱\n", "発熱①", encoding="cp932")
    sentence = refused(folder, "brat")
    assert "byte 1: not utf-8" in sentence and "cp932" in sentence
    assert read_corpus(folder, "brat", encoding="cp932").documents[0].text == "発熱①"


@pytest.mark.parametrize("encoding", ["cp932", "euc_jp"])
@pytest.mark.parametrize("quoted", ["発熱", "浸潤影疑い"])
def test_an_ann_in_utf8_beside_a_note_that_is_not_is_told_as_the_cause(tmp_path, encoding, quoted):
    folder = brat(tmp_path / "b", f"T1\td 0 {len(quoted)}\t{quoted}\n", f"{quoted}あり")
    (folder / "1.txt").write_bytes(f"{quoted}あり".encode(encoding))
    assert "the .ann is UTF-8" in refused(folder, "brat", encoding=encoding)


def test_folders_in_the_folder_are_read_and_hidden_files_are_not(tmp_path):
    folder = tmp_path / "notes"
    (folder / "ward").mkdir(parents=True)
    brat(folder / "ward", "T1\td 0 2\t発熱\n", name="7")
    brat(folder, "", name="._junk")
    assert [d.id for d in read_corpus(folder, "brat")] == ["ward/7"]


def test_two_ann_files_of_one_note_are_refused(tmp_path):
    folder = brat(tmp_path / "b", "T1\td 0 2\t発熱\n")
    (folder / "1.ANN").write_text("", encoding="utf-8")
    assert "another spelling of its ending" in refused(folder, "brat")


def test_an_ann_with_line_ends_of_the_old_mac_is_read(tmp_path):
    assert surfaces(read_corpus(brat(tmp_path / "b", "T1\td 0 2\t発熱\rT2\td 3 5\t咳嗽\r"), "brat")) == ["発熱", "咳嗽"]
