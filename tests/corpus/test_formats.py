"""Corpora on disk come back as they were, and faulty files give one sentence and nothing else."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils import ROOT, files
from nbutils.corpus import Corpus, Document, Entity, lines
from nbutils.corpus import formats as f

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<root><articles>\n'
TAIL = "</articles></root>\n"
JMED = next((p for p in (ROOT / "data/jmed-llm", ROOT.parent / "shared/data/jmed-llm") if p.exists()), Path("absent"))


def read(path):
    return f.read_corpus(path)


def refused(tmp_path, content, name="a.xml", format="medtxt", encoding=None):
    """The sentence with which a file of this content is refused."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(files.DataError) as caught:
        f.read_corpus(path, format, encoding=encoding)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize("path", sorted((ROOT / "data").glob("[cp][rn]/*.xml")), ids=lambda p: p.stem)
def test_bundled_xml_comes_back_byte_for_byte(path):
    assert f.medtxt_string(read(path)).encode() == path.read_bytes()


@st.composite
def documents(draw, alphabet):
    text = draw(st.text(alphabet, min_size=1, max_size=40).filter(str.strip))
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pairs = zip(cuts[::2], cuts[1::2], strict=False)
    certainty = st.sampled_from([None, *sorted(f.CERTAINTIES)])
    entities = tuple(Entity(a, b, draw(st.sampled_from(["d", "a", "m-key"])), draw(certainty)) for a, b in pairs)
    meta = draw(st.dictionaries(st.sampled_from(["title", "case"]), st.text(alphabet, max_size=8)))
    return Document("1", text, entities, meta)


XML_PLAIN = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
XML_CHARACTERS = XML_PLAIN | st.sampled_from("\t\n\r<>&\"']")


@given(documents(XML_CHARACTERS))
@settings(max_examples=100, deadline=None)
def test_any_text_that_xml_can_hold_survives_xml(tmp_path_factory, document):
    path = tmp_path_factory.mktemp("xml") / "a.xml"
    f.write_corpus(Corpus("a", (document,)), path)
    assert read(path).documents == (document,)


@given(documents(st.characters()))
@settings(max_examples=100, deadline=None)
def test_any_text_at_all_survives_json_lines(tmp_path_factory, document):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    f.write_corpus(Corpus("a", (document,)), path)
    assert f.read_corpus(path, "jsonl").documents == (document,)


def test_adjacent_entities_stay_two(tmp_path):
    document = Document("1", "肺癌肝転移", (Entity(0, 2), Entity(2, 5)))
    f.write_medtxt(Corpus("a", (document,)), tmp_path / "a.xml")
    assert read(tmp_path / "a.xml").documents[0].entities == document.entities


def test_the_official_form_with_metadata_and_every_tag_is_read_as_it_is(tmp_path):
    body = "".join(f'<{tag} state="executed">語</{tag}>は' for tag in sorted(f.MEDTXT_TAGS))
    head = HEAD.replace("<articles>", "<metadata><name>CR</name></metadata><articles>")
    xml = f'{head}<article id="1">{body}</article>{TAIL}'
    (tmp_path / "a.xml").write_text(xml, encoding="utf-8")
    corpus = read(tmp_path / "a.xml")
    assert [e.label for e in corpus.documents[0].entities] == sorted(f.MEDTXT_TAGS)
    assert corpus.documents[0].entities[0].attributes == (("state", "executed"),) and corpus.meta == {"name": "CR"}


def test_utf_16_and_a_byte_order_mark_are_understood(tmp_path):
    xml = f'{HEAD}<article id="1">①<d>肺癌</d></article>{TAIL}'
    for name, data in (("a.xml", xml.replace("UTF-8", "UTF-16").encode("utf-16")), ("b.xml", xml.encode("utf-8-sig"))):
        (tmp_path / name).write_bytes(data)
        assert read(tmp_path / name).documents[0].text == "①肺癌"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('<article id="1">a<d>x<d>y</d></d></article>', ", line 3, column 22: <d> inside <d>"),
        ('<article id="1">a<d>x</article>', ", line 3, column 24: not well-formed"),
        ("<article id=１>a</article>", ", line 3, column 13: not well-formed"),
        ('<article id="1">a<b>x</b></article>', ", line 3, column 18: <b>"),
        ('<article id="1">a<d></d></article>', ", line 3, column 21: an empty <d>"),
        (
            '<article id="1">a</article><article id="1">b</article>',
            ', line 3, column 28: the article id "1" stands twice',
        ),
        ("<article>a</article>", ", line 3, column 1: an <article> without id"),
        ('<article id="1">a<d certainty="maybe">x</d></article>', ', line 3, column 18: certainty="maybe"'),
        ('<article id="1"> </article>', ', line 3, column 18: article "1" has no text'),
        ("lost words", ", line 3, column 1: text outside an article"),
    ],
)
def test_faulty_xml_gives_file_line_column_and_mend(tmp_path, body, sentence):
    message = refused(tmp_path, f"{HEAD}{body}{TAIL}")
    assert message.startswith(sentence) and (";" in message or "." in message)


def test_entity_declarations_are_refused_before_anything_is_expanded(tmp_path):
    bomb = '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><root>&b;</root>'
    assert "document types" in refused(tmp_path, bomb)


def test_an_encoding_is_never_guessed(tmp_path):
    xml = HEAD.replace("UTF-8", "Shift_JIS") + f'<article id="1">①</article>{TAIL}'
    assert "line 3, byte 17: not Shift_JIS" in refused(tmp_path, xml.encode("cp932"))
    assert "not UTF-8" in refused(tmp_path, f'{HEAD}<article id="1">あ</article>{TAIL}'.encode("euc_jp"))


def test_an_empty_and_a_huge_file_are_refused(tmp_path, monkeypatch):
    assert "empty" in refused(tmp_path, "")
    monkeypatch.setattr(files, "MAX_BYTES", 10)
    assert "split the file" in refused(tmp_path, HEAD)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("{", "not JSON"),
        ('{"id": "1"}', '"text"'),
        ('{"id": "1", "text": "ab", "entities": [{"start": 1, "end": 1}]}', "mend the offsets"),
        ('{"id": "1", "text": "ab", "entities": [{"start": 0, "end": 3}]}', "mend the offsets"),
        ('{"id": "1", "text": "ab", "entities": [{"start": 0, "end": 2}, {"start": 1, "end": 2}]}', "overlap"),
        ('{"id": "1", "text": "ab", "entities": [{"start": "0", "end": 2}]}', "whole numbers"),
        ('{"id": "1", "text": "ab", "note": 1}', "unknown key"),
    ],
)
def test_a_faulty_json_line_gives_its_number_and_mend(tmp_path, row, sentence):
    good = json.dumps({"id": "0", "text": "x"})
    message = refused(tmp_path, f"{good}\n{row}\n", "a.jsonl", "jsonl")
    assert message.startswith(", line 2") and sentence in message


@pytest.mark.parametrize("answer", ["__import__('os').system('touch owned')", "[1]", "['肺癌'", "['胃癌']"])
def test_an_answer_that_is_no_list_of_strings_of_the_text_is_refused_and_never_run(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    with open(tmp_path / "x.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["tag", "question", "answer"], ["d", "「肺癌」", answer]])
    assert "line 2" in refused(tmp_path, (tmp_path / "x.csv").read_bytes(), "a.csv", "jmed")
    assert not (tmp_path / "owned").exists()


def test_the_longest_string_is_marked_first_and_every_occurrence():
    found = f.project_strings("肺癌と右肺癌と肺癌", ["肺癌", "右肺癌"])
    assert [(e.start, e.end) for e in found] == [(0, 2), (3, 6), (7, 9)]


@pytest.mark.skipif(not JMED.exists(), reason="jmed-llm is absent")
def test_real_case_reports_give_the_known_numbers_of_silver_spans():
    corpus = f.read_corpus(JMED / "CRNER.csv", "jmed")
    n_lines = sum(len(lines(d.text)) for d in corpus)
    assert (len(corpus), sum(len(d.entities) for d in corpus), n_lines, corpus.silver) == (147, 1986, 1907, True)


def test_a_file_that_cannot_be_finished_leaves_nothing_behind(tmp_path):
    (tmp_path / "a.xml").write_text("old", encoding="utf-8")
    bad = Corpus("a", (Document("1", "x\x00y"),))
    with pytest.raises(files.DataError, match=r"U\+0000"):
        f.write_medtxt(bad, tmp_path / "a.xml")
    with pytest.raises(KeyboardInterrupt), files.written_whole(tmp_path / "b.txt") as file:
        file.write("half")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["a.xml"] and (tmp_path / "a.xml").read_text() == "old"


def test_unknown_formats_missing_paths_and_empty_folders_are_named(tmp_path):
    for path, format, sentence in (
        (tmp_path, "word", "unknown format"),
        (tmp_path / "no", "medtxt", "no such file"),
        (tmp_path, "medtxt", "holds no .xml"),
    ):
        with pytest.raises(files.DataError, match=sentence):
            f.read_corpus(path, format)
