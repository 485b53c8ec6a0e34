"""MedTxt XML is read as it is, and a faulty file gives line and column."""

import pytest
from exports import medtxt, refused, refused_whole, surfaces, written

from nbutils import ROOT, files
from nbutils.corpus import MEDTXT_TAGS, Corpus, Document, Entity
from nbutils.corpus import formats as f
from nbutils.corpus.formats.medtxt import medtxt_string

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<root><articles>\n'
TAIL = "</articles></root>\n"


@pytest.mark.parametrize("path", sorted((ROOT / "data").glob("[cp][rn]/*.xml")), ids=lambda p: p.stem)
def test_bundled_xml_comes_back_byte_for_byte(path):
    assert medtxt_string(f.read_corpus(path)).encode() == path.read_bytes()


def test_adjacent_entities_stay_two(tmp_path):
    document = Document("1", "肺癌肝転移", (Entity(0, 2), Entity(2, 5)))
    f.write_medtxt(Corpus("a", (document,)), tmp_path / "a.xml")
    assert f.read_corpus(tmp_path / "a.xml").documents[0].entities == document.entities


def test_the_official_form_with_metadata_and_every_tag_is_read_as_it_is(tmp_path):
    body = "".join(f'<{tag} state="executed">語</{tag}>は' for tag in sorted(MEDTXT_TAGS))
    head = HEAD.replace("<articles>", "<metadata><name>CR</name></metadata><articles>")
    corpus = f.read_corpus(written(tmp_path, "a.xml", f'{head}<article id="1">{body}</article>{TAIL}'))
    assert [e.label for e in corpus.documents[0].entities] == sorted(MEDTXT_TAGS)
    assert corpus.documents[0].entities[0].attributes == (("state", "executed"),) and corpus.meta == {"name": "CR"}


def test_utf_16_and_a_byte_order_mark_are_understood(tmp_path):
    xml = medtxt("①<d>肺癌</d>")
    for name, data in (("a.xml", xml.replace("UTF-8", "UTF-16").encode("utf-16")), ("b.xml", xml.encode("utf-8-sig"))):
        assert f.read_corpus(written(tmp_path, name, data)).documents[0].text == "①肺癌"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('<article id="1">a<d>x<d>y</d></d></article>', ', line 3, column 22: <d> inside <d> in article "1"'),
        ('<article id="1">a<d>x</article>', ", line 3, column 24: not well-formed"),
        ("<article id=１>a</article>", ", line 3, column 13: not well-formed"),
        ('<article id="1">a<b>x</b></article>', ", line 3, column 18: <b>"),
        ('<article id="1">a<d></d></article>', ", line 3, column 21: an empty <d>"),
        (
            '<article id="1"><d>a</d></article><article id="1">b</article>',
            ', line 3, column 35: the id "1" stands already',
        ),
        ("<article>a</article>", ", line 3, column 1: an <article> without id"),
        ('<article id="1">a<d certainty="maybe">x</d></article>', ', line 3, column 18: certainty="maybe"'),
        ('<article id="1"> </article>', ', line 3, column 18: article "1" has no text'),
        ("lost words", ", line 3, column 1: text outside an article"),
        ('<metadata/><article id="1"><d>a</d></article>', ", line 3, column 1: <metadata> inside <articles>"),
    ],
)
def test_faulty_xml_gives_file_line_column_and_fix(tmp_path, body, sentence):
    path = written(tmp_path, "a.xml", f"{HEAD}{body}{TAIL}")
    message = refused(path).removeprefix(str(path))
    assert message.startswith(sentence) and ";" in message


def test_all_faults_of_a_file_are_told_at_once(tmp_path):
    path = written(tmp_path, "a.xml", medtxt("a<b>x</b>", "<d certainty='?'>y</d>", "<d>発<d>熱</d></d>と<i>z</i>"))
    sentences = refused_whole(path)
    assert 'column 18: <b> in article "1" is no MedTxt tag (2 such' in sentences
    assert 'certainty="?"' in sentences and "<d> inside <d>" in sentences


def test_entity_declarations_are_refused_before_anything_is_expanded(tmp_path):
    bomb = '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><root>&b;</root>'
    assert "document types" in refused(written(tmp_path, "a.xml", bomb))


def test_an_encoding_is_never_guessed(tmp_path):
    xml = HEAD.replace("UTF-8", "Shift_JIS") + f'<article id="1">①<d>熱</d></article>{TAIL}'
    sentence = refused(written(tmp_path, "a.xml", xml.encode("cp932")))
    assert "line 3, byte 17: not Shift_JIS" in sentence and "cp932" in sentence
    assert "not UTF-8" in refused(written(tmp_path, "a.xml", medtxt("あ").encode("euc_jp")))


@pytest.mark.parametrize("encoding", ["punycode", "undefined", "idna", "zlib", "rot13", "unicode_escape", "no-such"])
def test_an_encoding_that_is_none_of_text_is_named(tmp_path, encoding):
    path = written(tmp_path, "a.xml", medtxt("<d>熱</d>").replace("UTF-8", encoding))
    assert refused(path).startswith(f'{path}: unknown encoding "{encoding}"; name one that Python knows')


def test_line_ends_and_white_space_at_the_edges_are_those_of_xml(tmp_path):
    corpus = f.read_corpus(written(tmp_path, "a.xml", medtxt("高熱\r\n<d> 発熱　</d>と\r<d>咳\r\n嗽</d>")))
    assert corpus.documents[0].text == "高熱\n 発熱　と\n咳\n嗽" and surfaces(corpus) == ["発熱", "咳\n嗽"]
    (notice,) = corpus.notices
    assert "an entity begins or ends with white space" in notice


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path):
    (tmp_path / "a.xml").write_text("old", encoding="utf-8")
    with pytest.raises(files.DataError, match=r"U\+0000"):
        f.write_medtxt(Corpus("a", (Document("1", "x\x00y"),)), tmp_path / "a.xml")
    assert [p.name for p in tmp_path.iterdir()] == ["a.xml"] and (tmp_path / "a.xml").read_text() == "old"
