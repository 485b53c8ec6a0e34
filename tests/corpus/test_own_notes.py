"""Notes that somebody brings along: what other tools export is read as meant, or one sentence says what is wrong."""

import json

import pytest

from nbutils.corpus import Entity
from nbutils.corpus.formats import files_of, read_corpus
from nbutils.files import DataError
from nbutils.study.__main__ import main
from nbutils.study.file import load_study


def brat(folder, ann, text="発熱と咳嗽あり。\n", name="1", encoding="utf-8"):
    """A folder with one brat note."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.txt").write_bytes(text.encode(encoding))
    (folder / f"{name}.ann").write_bytes(ann.encode(encoding))
    return folder


def refused(path, format, **how):
    with pytest.raises(DataError) as caught:
        read_corpus(path, format, **how)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def written(folder, name, content):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


# --- brat ------------------------------------------------------------------------------------------------------------


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
    for what in (
        "relations",
        "notes of the annotator",
        "events",
        "attributes of relations",
        "equivalences",
        "normalis",
    ):
        assert f"1 {what}" in told


def test_a_discontinuous_span_is_refused_with_its_line_until_the_user_chooses(tmp_path):
    folder = brat(tmp_path / "b", "T1\td 0 2\t発熱\nT2\td 0 1;3 4\t発 咳\n")
    sentence = refused(folder, "brat")
    assert (
        "1.ann, line 2: T2 is discontinuous (0 1;3 4; 1 such in this file)" in sentence
        and "discontinuous: fragments" in sentence
    )


@pytest.mark.parametrize(("choice", "spans"), [("fragments", [(0, 1), (3, 4)]), ("cover", [(0, 4)])])
def test_a_discontinuous_span_is_read_as_declared_and_reported(tmp_path, choice, spans):
    folder = brat(tmp_path / "b", "T2\td 0 1;3 4\t発 咳\n")
    corpus = read_corpus(folder, "brat", discontinuous=choice)
    assert [(e.start, e.end) for e in corpus.documents[0].entities] == spans
    assert len(corpus.notices) == 1 and "1.ann, line 1: T2" in corpus.notices[0]


def test_a_piece_that_two_discontinuous_entities_share_is_one_entity(tmp_path):
    folder = brat(
        tmp_path / "b", "T1\td 0 2;5 7\t右肺 腫瘤\nT2\td 3 7\t左肺腫瘤\nT3\td 0 2;5 7\t右肺 腫瘤\n", "右肺と左肺腫瘤"
    )
    corpus = read_corpus(folder, "brat", discontinuous="fragments", overlaps="longest")
    assert [(e.start, e.end) for e in corpus.documents[0].entities] == [(0, 2), (3, 7)]
    assert sum("read once" in notice for notice in corpus.notices) == 2


def test_an_entity_across_a_line_break_is_one_as_brat_writes_it(tmp_path):
    folder = brat(tmp_path / "b", "T1\td 0 2;4 6\t胸部 異常\n", "胸部\r\n異常")
    corpus = read_corpus(folder, "brat")
    assert [(e.start, e.end) for e in corpus.documents[0].entities] == [(0, 6)] and not corpus.notices


@pytest.mark.parametrize(
    ("ann", "sentence"),
    [
        ("T1\td 0 2\t発熱\nT2\td 1 3\t熱と\n", "line 2: 1–3 overlaps 0–2 (line 1)"),
        ("T1\td 0 2\t発熱\nT2\td 0 2\t発熱\n", "line 2: 0–2 is the same entity as 0–2 (line 1)"),
        ("T1\td 0 5\t発熱と咳嗽\nT2\td 3 5\t咳嗽\n", "line 2: 3–5 overlaps 0–5 (line 1)"),
        ("T1\td 0 2\t咳嗽\n", "line 1: T1 quotes another text than stands at 0 2"),
        ("T1\td 0 99\t発熱\n", "line 1: T1 (0 99) does not lie in the text (0–9)"),
        ("T1\td 2 2\t\n", "line 1: T1 (2 2) is empty"),
        ("T1\td 0 2\t発熱\nT1\td 3 5\t咳嗽\n", "line 2: the id T1 stands already in line 1"),
        ("T1\td 0 2\t発熱\nA1\tNegated T9\n", "line 2: there is no T9"),
        ("T1 d 0 2 発熱\n", "line 1: no line of brat's standoff format"),
    ],
)
def test_a_faulty_annotation_gives_file_line_and_mend(tmp_path, ann, sentence):
    assert f"1.ann, {sentence}" in refused(brat(tmp_path / "b", ann), "brat")


def test_of_overlapping_entities_the_longest_is_kept_where_that_is_declared(tmp_path):
    folder = brat(tmp_path / "b", "T1\td 3 5\t咳嗽\nT2\td 0 5\t発熱と咳嗽\n")
    corpus = read_corpus(folder, "brat", overlaps="longest")
    assert [(e.start, e.end) for e in corpus.documents[0].entities] == [(0, 5)]
    assert "1.ann, line 1: 3–5 overlaps 0–5 (line 2) and was left out" in corpus.notices[0]


def test_entities_of_types_that_the_study_does_not_want_may_overlap_and_are_counted(tmp_path):
    folder = brat(tmp_path / "b", "T1\tDisease 0 2\t発熱\nT2\tPhrase 0 5\t発熱と咳嗽\n")
    corpus = read_corpus(folder, "brat", labels_as={"Disease": "d"})
    assert [e.key for e in corpus.documents[0].entities] == [(0, 2, "d")]
    assert '1 entities of the type "Phrase"' in corpus.notices[0]


def test_a_type_that_never_occurs_is_a_slip_and_named(tmp_path):
    folder = brat(tmp_path / "b", "T1\tDisease 0 2\t発熱\n")
    assert 'labels_as names "Diseas", but the types here are Disease' in refused(
        folder, "brat", labels_as={"Diseas": "d"}
    )


@pytest.mark.parametrize(
    ("text", "ann", "cause"),
    [
        ("咳\r\n発熱", "T1\td 2 4\t発熱\n", "CRLF counts as one"),
        ("\ufeff咳。発熱", "T1\td 3 5\t発熱\n", "byte-order mark"),
        ("👩咳発熱", "T1\td 3 5\t発熱\n", "offsets: utf16"),
    ],
)
def test_the_usual_causes_of_shifted_offsets_are_named(tmp_path, text, ann, cause):
    assert cause in refused(brat(tmp_path / "b", ann, text), "brat")


def test_a_note_without_annotations_and_annotations_without_a_note_are_named(tmp_path):
    folder = brat(tmp_path / "b", "")
    (folder / "2.txt").write_text("咳", encoding="utf-8")
    assert "2.txt: there is no 2.ann" in refused(folder, "brat")
    (folder / "2.txt").rename(folder / "3.txt")
    (folder / "2.ann").touch()
    assert "2.ann: there is no 2.txt" in refused(folder, "brat")


def test_an_empty_ann_is_a_note_without_entities(tmp_path):
    assert read_corpus(brat(tmp_path / "b", ""), "brat").documents[0].entities == ()


def test_brat_in_another_encoding_is_read_when_it_is_named_and_refused_when_not(tmp_path):
    folder = brat(tmp_path / "b", "T1\td 0 2\t発熱\n", "発熱①", encoding="cp932")
    assert "byte 1: not utf-8" in refused(folder, "brat")
    assert read_corpus(folder, "brat", encoding="cp932").documents[0].text == "発熱①"


def test_folders_in_the_folder_are_read_and_hidden_files_are_not(tmp_path):
    folder = tmp_path / "notes"
    (folder / "ward").mkdir(parents=True)
    brat(folder / "ward", "", name="7")
    brat(folder, "", name="._junk")
    assert [d.id for d in read_corpus(folder, "brat")] == ["ward/7"]


# --- CoNLL -----------------------------------------------------------------------------------------------------------

TOKENS = "-DOCSTART- -X- O O\n\n胸 NN O\n水 NN B-d\nあり VB O\n\n熱 NN B-d\nなし VB O\n"


def test_tokens_join_as_declared_and_a_blank_line_is_a_line_break(tmp_path):
    path = written(tmp_path, "a.conll", TOKENS)
    (joined,) = read_corpus(path, "conll", join="none")
    (spaced,) = read_corpus(path, "conll", join="space")
    assert (joined.text, spaced.text) == ("胸水あり\n熱なし", "胸 水 あり\n熱 なし")
    assert [joined.surface(e) for e in joined.entities] == [spaced.surface(e) for e in spaced.entities] == ["水", "熱"]


def test_documents_divide_as_declared(tmp_path):
    path = written(tmp_path, "a.conll", TOKENS.split("\n\n", 1)[1])
    assert [d.text for d in read_corpus(path, "conll", join="none", documents="blank")] == ["胸水あり", "熱なし"]
    assert [d.id for d in read_corpus(path, "conll", join="none", documents="file")] == ["a"]


@pytest.mark.parametrize(
    ("content", "how", "sentence"),
    [
        (TOKENS, {}, "say `join: none`"),
        ("熱 B-d\n", {"join": "none"}, "there is no -DOCSTART-"),
        ("-DOCSTART-\n熱 I-d\n", {"join": "none"}, "line 2: I-d follows no entity"),
        ("-DOCSTART-\n熱 B-d\n\n高 I-d\n", {"join": "none"}, "line 4: I-d follows no entity"),
        ("-DOCSTART-\n熱 B-d\n高 I-a\n", {"join": "none"}, "line 3: I-a follows no entity"),
        ("-DOCSTART-\n熱 S-d\n", {"join": "none"}, 'line 2: the label "S-d" is not IOB2'),
        ("-DOCSTART-\n熱\n", {"join": "none"}, "line 2: 1 columns"),
        ("-DOCSTART-\n熱 0 2 B-d\n", {"join": "offsets"}, "line 2: the offsets 0–2 do not fit"),
        ("-DOCSTART-\n熱 a b B-d\n", {"join": "offsets"}, "line 2: columns 2 and 3 are no offsets"),
        ('-DOCSTART-\n# text = "咳"\n熱 0 1 B-d\n', {"join": "offsets"}, "line 3: the `# text =`"),
        ("熱 O\n-DOCSTART-\n", {"join": "none"}, "line 1: tokens before the first"),
        (TOKENS, {"join": "none", "overlaps": "longest"}, "means nothing for the format conll"),
        (TOKENS, {"join": "glue"}, "use one of none, space, offsets"),
    ],
)
def test_faulty_columns_give_file_line_and_mend(tmp_path, content, how, sentence):
    assert sentence in refused(written(tmp_path, "a.conll", content), "conll", **how)


def test_offsets_without_the_text_keep_their_places_and_say_so(tmp_path):
    path = written(tmp_path, "a.conll", "-DOCSTART-\nno 0 2 O\nfever 3 8 B-d\n\ncough 10 15 B-d\n")
    corpus = read_corpus(path, "conll", join="offsets")
    assert corpus.documents[0].text == "no fever\n cough" and "where spaces stand now" in corpus.notices[0]


# --- doccano and Label Studio ----------------------------------------------------------------------------------------


def test_both_shapes_of_doccano_are_read_and_strings_beside_the_text_are_kept(tmp_path):
    old = {"id": 7, "text": "発熱あり", "label": [[0, 2, "D"]], "physician": "A", "Comments": []}
    new = {"id": 8, "text": "咳嗽", "entities": [{"id": 1, "label": "D", "start_offset": 0, "end_offset": 2}],
           "relations": [{"id": 1, "from_id": 1, "to_id": 1, "type": "x"}]}  # fmt: skip
    path = written(tmp_path, "a.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in (old, new)))
    first, second = (corpus := read_corpus(path, "doccano", labels_as={"D": "d"})).documents
    assert (first.id, first.entities, first.meta) == ("7", (Entity(0, 2),), {"physician": "A"})
    assert (second.id, second.entities) == ("8", (Entity(0, 2),))
    assert corpus.notices == (f"{path}: left out 1 relations",)


def task(text, *spans, **more):
    result = [
        {"id": f"r{k}", "type": "labels", "from_name": "label", "to_name": "text",
         "value": {"start": a, "end": b, "labels": ["d"]} | ({"text": quoted} if quoted else {})}
        for k, (a, b, quoted) in enumerate(spans)
    ]  # fmt: skip
    return {
        "id": 1,
        "data": {"text": text, "case": "c1"},
        "annotations": [{"result": result}],
        "predictions": [],
    } | more


def test_a_label_studio_task_is_read_with_its_choices_and_facts(tmp_path):
    one = task("発熱なし", (0, 2, "発熱"))
    one["annotations"][0]["result"] += [
        {"id": "r0", "type": "choices", "from_name": "certainty", "value": {"choices": ["negative"]}},
        {"type": "relation", "from_id": "r0", "to_id": "r0"},
    ]  # fmt: skip
    one["annotations"].append({"result": [], "was_cancelled": True})
    corpus = read_corpus(written(tmp_path, "a.json", [one]), "labelstudio")
    assert corpus.documents[0].entities == (Entity(0, 2, "d", "negative"),)
    assert corpus.documents[0].meta == {"case": "c1"} and '1 results of the type "relation"' in corpus.notices[0]


@pytest.mark.parametrize("format", ["doccano", "labelstudio"])
def test_what_offsets_count_is_never_guessed_where_it_matters(tmp_path, format):
    text = "👩発熱"
    content = [task(text, (2, 4, None))] if format == "labelstudio" else {"text": text, "label": [[2, 4, "d"]]}
    path = written(tmp_path, "a.json", content)
    assert "say `offsets: codepoints` or `offsets: utf16`" in refused(path, format)
    assert read_corpus(path, format, offsets="utf16").documents[0].entities == (Entity(1, 3),)
    assert "does not lie in the text" in refused(path, format, offsets="codepoints")


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ([task("発熱", (0, 2, "咳嗽"))], "task 1, result 1: the export quotes another text"),
        ([task("発熱", (0, 2, None), (1, 2, None))], "task 1, result 2: 1–2 overlaps 0–2 (result 1)"),
        ([task("発熱", (1, 1, None))], "task 1, result 1: the entity 1–1 is empty"),
        ([task("発熱", (0, 3, None))], "task 1, result 1: the entity 0–3 does not lie in the text"),
        ([task("発熱", annotations=[])], "task 1: 0 finished annotations"),
        ([task("発熱", annotations=[{"result": []}, {"result": []}])], "task 1: 2 finished annotations"),
        ([{"text": "発熱", "label": []}], 'task 1: there is no string "text" under "data"'),
        ([task("発熱"), task("咳嗽")], 'task 2: the id "1" stands twice'),
        ({"data": {}}, "a list of tasks is needed"),
        ("[{", "line 1, column"),
    ],
)
def test_a_faulty_label_studio_export_gives_the_task_and_mend(tmp_path, tasks, sentence):
    assert sentence in refused(written(tmp_path, "a.json", tasks), "labelstudio")


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"text": "発熱", "label": [[0, 3, "d"]]}, "line 1, label 1: the entity 0–3 does not lie"),
        ({"text": "発熱", "label": [[0, 2, "d"], [0, 1, "d"]]}, "line 1, label 2: 0–1 overlaps 0–2 (label 1)"),
        ({"text": "発熱", "label": [["0", 2, "d"]]}, "line 1, label 1: start, end and type"),
        ({"text": "発熱"}, 'line 1: exactly one of "entities" and "label"'),
        ({"label": []}, 'line 1: an object with the string "text"'),
        ("{", "line 1, column 2: not JSON"),
    ],
)
def test_a_faulty_doccano_line_gives_its_place_and_mend(tmp_path, row, sentence):
    assert sentence in refused(written(tmp_path, "a.jsonl", row), "doccano")


# --- who, and which case ---------------------------------------------------------------------------------------------


def test_a_table_beside_the_notes_says_who_and_which_case(tmp_path):
    folder = brat(tmp_path / "b", "")
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
        ("id,case\n1\n", "line 2: 2 cells are needed"),
    ],
)
def test_a_faulty_table_gives_its_line_and_mend(tmp_path, table, sentence):
    folder = brat(tmp_path / "b", "")
    written(folder, "notes.csv", table)
    assert sentence in refused(folder, "brat", meta="notes.csv")


def test_file_names_say_who_and_which_case(tmp_path):
    folder = brat(tmp_path / "b", "", name="tanaka_c-07")
    (document,) = read_corpus(folder, "brat", names="{physician}_{case}")
    assert document.meta == {"physician": "tanaka", "case": "c-07"}


def test_a_name_that_does_not_fit_and_a_template_with_two_readings_are_refused(tmp_path):
    folder = brat(tmp_path / "b", "", name="a_b_c")
    assert 'the note "a_b_c" is not named like' in refused(folder, "brat", names="{physician}_{case}")
    assert "something between them" in refused(folder, "brat", names="{physician}{case}")


def test_bare_text_is_read_to_be_tagged_but_not_to_learn_from(tmp_path):
    written(tmp_path, "n.txt", "発熱")
    assert read_corpus(tmp_path, "text").documents[0].text == "発熱"
    plan = "corpora:\n  A: {path: data/cr}\n  N: {path: %s, format: text}\nsystems:\n  crf:\n"
    path = written(tmp_path, "s.yaml", plan % tmp_path)
    assert load_study(path).train == load_study(path).evaluate == ("A",)
    path = written(tmp_path, "s.yaml", plan % tmp_path + "evaluate: [N]\n")
    with pytest.raises(DataError, match="N is bare text"):
        load_study(path)


def test_the_check_tells_what_was_read_and_what_was_left_out(tmp_path, capsys):
    folder = brat(tmp_path / "b", "T1\tDisease 0 2\t発熱\nT2\tDrug 3 5\t咳嗽\n")
    mine = f"{{path: {folder}, format: brat, private: true, names: '{{case}}', labels_as: {{Disease: d}}}}"
    path = written(
        tmp_path, "s.yaml", f"corpora:\n  A: {{path: data/cr}}\n  MINE: {mine}\nsystems:\n  crf:\ntrain: [A]\n"
    )
    assert main(["check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "MINE (private): 1 notes, 1 entities, 1 cases" in out and 'of the type "Drug"' in out
    assert "発熱" not in out


def test_rows_of_a_nursing_file_that_ask_for_something_else_are_counted(tmp_path):
    rows = "tag,question,answer\nd,「発熱あり」,['発熱']\nm-key,「発熱あり」,[]\n"
    corpus = read_corpus(written(tmp_path, "n.csv", rows), "jmed", private=True)
    assert [e.key for e in corpus.documents[0].entities] == [(0, 2, "d")] and corpus.private and corpus.silver
    assert '1 rows with the tag "m-key"' in corpus.notices[0]


def test_no_sentence_about_a_fault_quotes_a_note(tmp_path):
    folder = brat(tmp_path / "b", "T1\td 0 2\t秘密\n", "秘密では無い")
    for ann in ("T1\td 0 3\t秘密\n", "T1\td 0 2;4 5\t秘密 な\n", "T1\td 0 2\t秘密\nT2\td 1 2\t密\n", "秘密\n"):
        (folder / "1.ann").write_text(ann, encoding="utf-8")
        assert "秘密" not in refused(folder, "brat")
