"""A corpus goes through every format and comes back the same, or is refused with one sentence and leaves nothing."""

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils import ROOT
from nbutils.corpus import Corpus, Document, Entity, spans_only
from nbutils.corpus.formats import FORMATS, read_corpus, write_corpus
from nbutils.corpus.formats.metadata import TABLE
from nbutils.files import DataError

WRITABLE = [name for name, format in FORMATS.items() if format.write]
WITH_ENTITIES = [name for name in WRITABLE if name != "text"]
HOLD_CERTAINTY = {"medtxt", "brat", "labelstudio", "jsonl"}
PLAIN = "発熱咳嗽の増悪あり。①ｶﾞ𠮷👩‍⚕️abc <&>\"' #\n"


def there_and_back(corpus, format, folder):
    path = folder / f"{format}{'' if FORMATS[format].folder else FORMATS[format].suffix}"
    write_corpus(corpus, path, format)
    table = {"meta": TABLE} if path.is_dir() and (path / TABLE).exists() else {}
    return read_corpus(path, format, unannotated=True, **FORMATS[format].declared, **table)


def same(a, b):
    def content(corpus):
        return sorted(
            (d.id, d.text, sorted((*e.key, e.certainty, e.attributes) for e in d.entities), dict(d.meta))
            for d in corpus
        )

    return content(a) == content(b)


@st.composite
def corpora(draw, alphabet, *, certainty=False):
    documents = []
    for id in draw(st.sets(st.sampled_from(["a", "b-2", "病歴 3", "ward/4"]), min_size=1)):
        text = draw(st.text(alphabet, min_size=1, max_size=40).filter(str.strip))
        cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
        entities = tuple(
            Entity(a, b, draw(st.sampled_from(["d", "a"])), "negative" if certainty and draw(st.booleans()) else None)
            for a, b in zip(cuts[::2], cuts[1::2], strict=False)
        )
        meta = draw(st.dictionaries(st.sampled_from(["case", "physician"]), st.sampled_from(["c,1", '"木"', "x"])))
        documents.append(Document(id, text, entities, meta))
    return Corpus("any", tuple(sorted(documents, key=lambda d: d.id)))


def edges_are_words(corpus):
    """Whether no entity begins or ends with white space, which every reader takes off."""
    return not any(d.surface(e)[k].isspace() for d in corpus for e in d.entities for k in (0, -1))


@pytest.mark.parametrize("format", WITH_ENTITIES)
def test_an_entity_whose_white_space_reading_would_take_off_is_refused(tmp_path, format):
    with pytest.raises(DataError, match=r"read back the same|white space"):
        write_corpus(Corpus("a", (Document("1", "発熱 あり", (Entity(0, 3),)),)), tmp_path / "out", format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", WITH_ENTITIES)
@given(corpus=corpora(PLAIN).filter(edges_are_words))
@settings(max_examples=20, deadline=None)
def test_notes_with_spans_survive_every_format(tmp_path_factory, format, corpus):
    assert same(there_and_back(corpus, format, tmp_path_factory.mktemp("any")), corpus)


@pytest.mark.parametrize("format", sorted(HOLD_CERTAINTY))
@given(corpus=corpora(PLAIN, certainty=True).filter(edges_are_words))
@settings(max_examples=20, deadline=None)
def test_certainty_survives_where_the_format_has_a_place_for_it(tmp_path_factory, format, corpus):
    assert same(there_and_back(corpus, format, tmp_path_factory.mktemp("any")), corpus)


@given(corpus=corpora(st.characters()).filter(edges_are_words))
@settings(max_examples=60, deadline=None)
def test_any_text_at_all_survives_json_lines(tmp_path_factory, corpus):
    assert same(there_and_back(corpus, "jsonl", tmp_path_factory.mktemp("any")), corpus)


XML_CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff") | st.sampled_from(
    "\t\n\r<>&\"']"
)


@given(corpus=corpora(XML_CHARACTERS, certainty=True).filter(edges_are_words))
@settings(max_examples=60, deadline=None)
def test_any_text_that_xml_can_hold_survives_xml(tmp_path_factory, corpus):
    assert same(there_and_back(corpus, "medtxt", tmp_path_factory.mktemp("any")), corpus)


@pytest.mark.parametrize("format", WITH_ENTITIES)
@given(corpus=corpora(st.characters() | st.sampled_from("\r\n\t\ufeff\u2028 \\#"), certainty=True))
@settings(max_examples=30, deadline=None)
def test_any_text_at_all_comes_back_the_same_or_is_refused_whole(tmp_path_factory, format, corpus):
    folder = tmp_path_factory.mktemp("any")
    try:
        back = there_and_back(corpus, format, folder)
    except DataError as error:
        assert "\n" not in str(error) and not list(folder.iterdir())
    else:
        assert same(back, corpus)


@given(corpus=corpora(PLAIN + "\r"))
@settings(max_examples=20, deadline=None)
def test_bare_notes_survive_plain_text(tmp_path_factory, corpus):
    bare = replace(corpus, documents=tuple(d.without_entities() for d in corpus))
    assert same(there_and_back(bare, "text", tmp_path_factory.mktemp("any")), bare)


@pytest.mark.parametrize(("first", "second"), list(permutations(WITH_ENTITIES, 2)))
def test_the_bundled_notes_survive_the_way_through_two_formats(tmp_path, first, second):
    corpus = spans_only(read_corpus(ROOT / "data" / "pn"))
    corpus = replace(corpus, documents=corpus.documents[:12])
    through = there_and_back(corpus, first, tmp_path)
    assert same(there_and_back(through, second, tmp_path), corpus)


@pytest.mark.parametrize("format", sorted(HOLD_CERTAINTY))
def test_the_bundled_notes_keep_their_certainty(tmp_path, format):
    corpus = read_corpus(ROOT / "data" / "pn")
    assert same(there_and_back(corpus, format, tmp_path), corpus)


@pytest.mark.parametrize("format", sorted(set(WITH_ENTITIES) - HOLD_CERTAINTY))
def test_a_certainty_that_has_no_place_is_refused_and_not_dropped(tmp_path, format):
    corpus = Corpus("a", (Document("1", "発熱", (Entity(0, 2, "d", "negative"),)),))
    with pytest.raises(DataError, match="spans_only"):
        write_corpus(corpus, tmp_path / "out", format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("document", "format", "sentence"),
    [
        (Document("1", "発熱", (Entity(0, 2),)), "text", "plain text cannot hold"),
        (Document("../../etc/x", "発熱"), "brat", "cannot be a file name"),
        (Document("/x", "発熱"), "text", "cannot be a file name"),
        (Document(".hidden", "発熱"), "text", "cannot be a file name"),
        (Document("1", "発\n熱", (Entity(1, 3),)), "brat", "line break"),
        (Document("1", "発 熱", (Entity(1, 3),)), "conll", "white space"),
        (Document("1", "\ufeff発熱"), "brat", "would not read back"),
        (Document("1", "発熱", meta={"case": ""}), "brat", "would not read back"),
        (Document("1", "発熱", meta={"text": "x"}), "labelstudio", '"text"'),
        (Document("1", "発熱", meta={"label": "x"}), "doccano", "must be a list of entities"),
        (Document("1", "発\ud800熱"), "brat", "surrogate"),
        (Document("1", "発熱", (Entity(0, 2, "a b"),)), "brat", "not written"),
        (Document("1", "発熱", (Entity(0, 2), Entity(1, 2))), "brat", "overlap"),
        (Document("1", "発熱", (Entity(0, 2, "d", None, (("x", "1"), ("x", "2"))),)), "jsonl", "two attributes"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_and_leaves_nothing(tmp_path, document, format, sentence):
    with pytest.raises(DataError, match=sentence):
        write_corpus(Corpus("a", (document,)), tmp_path / "out", format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", sorted(set(WRITABLE) - {"medtxt"}))
def test_facts_about_the_whole_corpus_are_refused_where_they_have_no_place(tmp_path, format):
    with pytest.raises(DataError, match="its meta"):
        write_corpus(Corpus("a", (Document("1", "発熱"),), meta={"name": "A"}), tmp_path / "out", format)


@pytest.mark.parametrize("format", ["brat", "jsonl", "doccano", "labelstudio", "conll", "text"])
def test_windows_line_ends_are_kept(tmp_path, format):
    corpus = Corpus("a", (Document("1", "発熱。\r\n咳嗽。\r\n", () if format == "text" else (Entity(5, 7),)),))
    assert there_and_back(corpus, format, tmp_path).documents == corpus.documents
