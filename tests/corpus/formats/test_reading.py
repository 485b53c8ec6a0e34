"""What holds for every format: white space, offsets, corpora without entities, names of files, and what is told."""

import pytest
from exports import brat, lines, medtxt, refused, refused_whole, spans, surfaces, task, written
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nbutils.corpus.formats import FORMATS, files_of, read_corpus

FORMATS_WITH_OFFSETS = ["brat", "doccano", "labelstudio", "labelstudio quoted"]
WAYS = ["codepoints", "utf16", "codepoints-lf", "utf16-lf"]


def exported(folder, format, text, marked, way="codepoints"):
    """A file as the tool writes it for these code-point spans, its offsets counted in a way; and how to read it."""
    counted = [(_count(text, a, way), _count(text, b, way)) for a, b in marked]
    if format == "brat":
        quotes = [text[a:b].replace("\r\n", " ").replace("\n", " ").replace("\r", " ") for a, b in marked]
        rows = (f"T{k}\td {a} {b}\t{q}\n" for k, ((a, b), q) in enumerate(zip(counted, quotes, strict=True), 1))
        return brat(folder, "".join(rows), text), "brat", {}
    if format == "doccano":
        return written(folder, "a.jsonl", lines({"text": text, "label": [[a, b, "d"] for a, b in counted]})), format, {}
    if format.startswith("labelstudio"):
        quotes = [text[a:b] if "quoted" in format else None for a, b in marked]
        spans = ((a, b, q) for (a, b), q in zip(counted, quotes, strict=True))
        return written(folder, "a.json", [task(text, *spans)]), "labelstudio", {}
    if format == "jsonl":
        entities = [{"start": a, "end": b} for a, b in marked]
        return written(folder, "a.jsonl", lines({"id": "1", "text": text, "entities": entities})), format, {}
    if format == "conll":
        rows, at = ["-DOCSTART-"], 0
        for a, b in [*marked, (len(text), len(text))]:
            rows += [f"{text[at:a]}\tO"] * (at < a) + [f"{text[a:b]}\tB-d"] * (a < b)
            at = b
        return written(folder, "a.conll", "\n".join(rows)), format, {"join": "none"}
    body, at = "", 0
    for a, b in marked:
        body, at = f"{body}{text[at:a]}<d>{text[a:b]}</d>", b
    return written(folder, "a.xml", medtxt(body + text[at:])), "medtxt", {}


def _count(text, at, way):
    before = text[:at].replace("\r\n", "\n") if "-lf" in way else text[:at]
    return len(before) + ("utf16" in way and sum(ord(c) > 0xFFFF for c in before))


# --- white space -----------------------------------------------------------------------------------------------------

ALL = ["brat", "doccano", "labelstudio", "labelstudio quoted", "jsonl", "conll", "medtxt"]


@pytest.mark.parametrize("blank", [" ", "　", "\t", "\u00a0", "\u200b", "  "])
@pytest.mark.parametrize("format", ALL)
def test_white_space_at_the_edge_of_an_entity_is_taken_off_and_counted(tmp_path, format, blank):
    if format == "conll" and blank == "\t":
        pytest.skip("a tab divides columns")
    n = len(blank)
    text, marked = f"{blank}発熱{blank}と咳嗽{blank}あり", [(0, 2 + 2 * n), (3 + 2 * n, 5 + 3 * n)]
    path, format, how = exported(tmp_path, format, text, marked)
    corpus = read_corpus(path, format, **how)
    assert surfaces(corpus) == ["発熱", "咳嗽"]
    (notice,) = corpus.notices
    assert "an entity begins or ends with white space, which was taken off (2 such; also" in notice


@pytest.mark.parametrize("blank", [" ", "　", "\n", "\u200b"])
@pytest.mark.parametrize("format", sorted(set(ALL) - {"conll"}))
def test_an_entity_of_white_space_alone_is_refused(tmp_path, format, blank):
    path, format, how = exported(tmp_path, format, f"発熱{blank}{blank}咳", [(2, 4)])
    assert "the entity 2–4 holds nothing but white space" in refused(path, format, **how)


# --- what offsets count ----------------------------------------------------------------------------------------------


@st.composite
def marked_texts(draw):
    """A text with anything that tools count differently, and spans whose edges are words."""
    pieces = st.sampled_from(["\r\n", "\r", "\n", "　", " ", "👩‍⚕️", "𠮷", "発熱", "咳", "ｶﾞ", "e\u0301", "。", "\u2028"])
    text = "発" + "".join(draw(st.lists(pieces, max_size=20))) + "。"
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=8)))
    marked = list(zip(cuts[::2], cuts[1::2], strict=False))
    marked = [(a, b) for a, b in marked if not text[a].isspace() and not text[b - 1].isspace()]
    assume(marked)
    return text, marked


@given(case=marked_texts())
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("format", FORMATS_WITH_OFFSETS)
def test_offsets_counted_in_any_declared_way_come_back_as_code_points(tmp_path_factory, format, way, case):
    text, marked = case
    path, format, how = exported(tmp_path_factory.mktemp("any"), format, text, marked, way)
    corpus = read_corpus(path, format, offsets=way, **how)
    assert corpus.documents[0].text == text and spans(corpus) == marked


@given(case=marked_texts(), way=st.sampled_from(WAYS))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("format", FORMATS_WITH_OFFSETS)
def test_without_a_declaration_no_other_characters_are_ever_taken(tmp_path_factory, format, case, way):
    text, marked = case
    path, format, how = exported(tmp_path_factory.mktemp("any"), format, text, marked, way)
    try:
        corpus = read_corpus(path, format, **how)
    except ValueError as error:
        causes = ("offsets:", "byte-order mark", "was the text changed", "Unicode normalisation")
        assert any(cause in str(error) for cause in causes)
    else:
        assert surfaces(corpus) == [text[a:b] for a, b in marked]


@given(case=marked_texts())
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("format", ["jsonl", "conll"])
def test_files_of_one_meaning_give_the_same_surfaces(tmp_path_factory, format, case):
    text, marked = case
    if format == "conll":
        assume("\r" not in text and "\n" not in text)
    path, format, how = exported(tmp_path_factory.mktemp("any"), format, text, marked)
    assert surfaces(read_corpus(path, format, **how)) == [text[a:b] for a, b in marked]


@pytest.mark.parametrize("format", ["doccano", "labelstudio"])
@pytest.mark.parametrize(
    ("text", "marked", "ways", "likely"),
    [
        ("👩発熱と咳", [(1, 3)], ["codepoints", "utf16"], None),
        ("熱\r\n発熱。", [(3, 5)], ["codepoints", "codepoints-lf"], "codepoints-lf"),
        ("👩\r\n発熱。", [(3, 5)], WAYS, None),
    ],
)
def test_what_offsets_count_is_asked_where_it_matters(tmp_path, format, text, marked, ways, likely):
    path, format, _ = exported(tmp_path, format, text, marked, "codepoints-lf")
    sentence = refused(path, format)
    assert f"say {' or '.join(f'`offsets: {way}`' for way in ways)} in the study file" in sentence
    assert likely is None or f"only {likely} fits" in sentence


@pytest.mark.parametrize("format", ["doccano", "labelstudio"])
def test_what_stands_behind_the_last_entity_does_not_matter(tmp_path, format):
    path, format, _ = exported(tmp_path, format, "発熱。\r\n👩咳\r\n", [(0, 2)])
    assert surfaces(read_corpus(path, format)) == ["発熱"]


# --- nothing sound that is empty -------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", sorted(set(ALL) - {"conll"}))
def test_a_corpus_without_one_entity_is_refused_unless_it_is_said_to_have_none(tmp_path, format):
    path, format, how = exported(tmp_path, format, "発熱あり", [])
    sentence = refused(path, format, **how)
    assert "not one entity in 1 notes" in sentence and "`unannotated: true`" in sentence
    assert len(read_corpus(path, format, unannotated=True, **how)) == 1


def test_bare_text_needs_no_entities(tmp_path):
    written(tmp_path, "n.txt", "発熱")
    assert read_corpus(tmp_path, "text").documents[0].text == "発熱"


@pytest.mark.parametrize("format", ALL)
def test_a_type_that_never_occurs_is_a_slip_and_named(tmp_path, format):
    path, format, how = exported(tmp_path, format, "発熱あり", [(0, 2)])
    assert 'labels_as names "Diseas", but the types here are d' in refused(
        path, format, labels_as={"Diseas": "d"}, **how
    )


def test_a_type_that_never_occurs_is_refused_where_there_is_no_type_at_all(tmp_path):
    path, format, _ = exported(tmp_path, "doccano", "発熱あり", [])
    assert 'labels_as names "d", but there is no entity here' in refused(path, format, labels_as={"d": "d"})


def test_a_note_without_annotations_among_annotated_ones_is_counted(tmp_path):
    rows = [{"id": k, "text": "発熱あり", "label": [[0, 2, "D" if k < 3 else "X"]] if k < 5 else []} for k in range(8)]
    path = written(tmp_path, "a.jsonl", lines(*rows))
    corpus = read_corpus(path, "doccano", labels_as={"D": "d"})
    assert f"{path}: 3 of 8 notes have no annotation at all (the first: {path}, line 6)" in corpus.notices


# --- names of files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_files_whose_ending_is_written_in_capitals_are_read(tmp_path, format):
    content = {
        "medtxt": medtxt("<d>発熱</d>"), "brat": "発熱", "text": "発熱", "conll": "-DOCSTART-\n発熱 B-d\n",
        "doccano": lines({"id": "1", "text": "発熱", "label": [[0, 2, "d"]]}),
        "labelstudio": [task("発熱", (0, 2, None))],
        "jmed": "tag,question,answer\nd,「発熱」,['発熱']\n",
        "jsonl": lines({"id": "1", "text": "発熱", "entities": [{"start": 0, "end": 2}]}),
    }[format]  # fmt: skip
    suffix = FORMATS[format].suffix.upper()
    written(tmp_path, f"N{suffix}", content)
    if format == "brat":
        written(tmp_path, "N.ANN", "T1\td 0 2\t発熱\n")
    corpus = read_corpus(tmp_path, format, **({"join": "none"} if format == "conll" else {}))
    assert [d.text for d in corpus] == ["発熱"] and not corpus.notices
    assert files_of(tmp_path, format)[0].name == f"N{suffix}"
    assert len(files_of(tmp_path, format)) == 1 + (format == "brat")


def test_files_that_look_like_notes_and_are_not_read_are_counted(tmp_path):
    written(tmp_path, "a.jsonl", lines({"text": "発熱", "label": [[0, 2, "d"]]}))
    for name in ("b.json", "c.JSON", "readme.md", "d.txt", ".hidden.json"):
        written(tmp_path, name, "x")
    assert read_corpus(tmp_path, "doccano").notices == (
        f"{tmp_path}: passed over files that this format does not have (2 .json, 1 .txt)",
    )


# --- what is told ----------------------------------------------------------------------------------------------------


def test_types_that_are_left_out_are_told_first_and_each_kind_of_change_once(tmp_path):
    text, ann = "右肺と左肺の腫瘤あり。" * 40, ""
    for k in range(40):
        a = 11 * k
        ann += (
            f"T{2 * k}\tDisease {a} {a + 2};{a + 6} {a + 8}\t右肺 腫瘤\nT{2 * k + 1}\tSymptom {a + 8} {a + 10}\tあり\n"
        )
    corpus = read_corpus(brat(tmp_path / "b", ann, text), "brat", discontinuous="cover", labels_as={"Disease": "d"})
    first, second = corpus.notices
    assert first.endswith('left out 40 entities of the type "Symptom", which labels_as does not name')
    assert "T0 is discontinuous (0 2;6 8); it was read as 0–8 (40 such; also line 3, line 5, …)" in second


def test_many_types_that_are_left_out_are_told_in_one_sentence_with_their_counts(tmp_path):
    label = [[k, k + 1, f"X{k:02}"] for k in range(25)] + [[30, 32, "D"]]
    path = written(tmp_path, "a.jsonl", lines({"text": "あ" * 40, "label": label}))
    (notice,) = read_corpus(path, "doccano", labels_as={"D": "d"}).notices
    assert "left out 25 entities of types that labels_as does not name" in notice
    assert all(f'"X{k:02}" 1' in notice for k in range(25))


def test_control_characters_of_a_file_are_never_printed(tmp_path):
    evil = "\x1b[2J\x1b]0;owned\x07\u202e"
    path = written(tmp_path, "a.jsonl", lines({"id": evil, "text": "発熱", "label": [[0, 2, evil]]}) * 2)
    for how in ({}, {"labels_as": {"d": "d"}}):
        said = refused_whole(path, "doccano", **how)
        assert not any(c in said for c in evil if not c.isprintable()) and "\\x1b" in said
    row = {"id": "1", "text": "発熱咳", "label": [[0, 2, "d"], [2, 3, evil]]}
    path = written(tmp_path, "b.jsonl", lines(row))
    assert "\\x1b" in read_corpus(path, "doccano", labels_as={"d": "d"}).notices[0]
