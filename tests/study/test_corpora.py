"""Where the corpora of a study lie, and whose text is private under whatever name it is read."""

import os
from dataclasses import replace

import pytest

from nbutils.corpus import Corpus, Document, Entity
from nbutils.corpus.formats import write_corpus, write_medtxt
from nbutils.files import DataError
from nbutils.study.corpora import corpus_path, open_annotators, open_corpora, private_names
from nbutils.study.file import load_study
from nbutils.study.systems import check_endpoints

TEXT = "昨夜から発熱があり、解熱剤で改善した。咳嗽はみられない。\n"
SHORT = "発熱なし。\n"


def note(id, text):
    start = text.index("発熱")
    return Document(id, text, (Entity(start, start + 2, certainty="positive"),))


@pytest.fixture
def ward(tmp_path):
    """A private corpus of five notes, and another one that shares only a line with it."""
    notes = tuple(note(f"w{k}", f"{k}日目。{TEXT}") for k in range(5))
    write_medtxt(Corpus("W", (*notes, note("w5", SHORT))), tmp_path / "ward.xml")
    write_medtxt(
        Corpus("O", (*(note(f"o{k}", f"{k}例目。{TEXT}") for k in range(5)), note("o5", SHORT))), tmp_path / "o.xml"
    )
    (tmp_path / "link.xml").symlink_to("ward.xml")
    os.link(tmp_path / "ward.xml", tmp_path / "hard.xml")
    (tmp_path / "copy.xml").write_bytes((tmp_path / "ward.xml").read_bytes())
    write_corpus(Corpus("W", notes[:2]), tmp_path / "two.jsonl")
    wide = replace(notes[0], text=notes[0].text.replace("0日目", "０日目"))
    write_corpus(Corpus("W", (wide,)), tmp_path / "wide.jsonl")
    (tmp_path / "deep").mkdir()
    return tmp_path


def study(folder, **entries):
    corpora = "".join(f"  {name}: {{{entry}}}\n" for name, entry in entries.items())
    path = folder / "s.yaml"
    path.write_text(
        f"corpora:\n{corpora}train: [O]\nevaluate: [O, V]\nseeds: [0]\nsystems:\n"
        "  ask: {kind: icl, endpoint: 'https://evil.example/v1', model: m, external: true}\n",
        encoding="utf-8",
    )
    return load_study(path)


@pytest.mark.parametrize(
    "again",
    [
        "ward.xml",
        "./deep/../ward.xml",
        "link.xml",
        "hard.xml",
        "copy.xml",
        "two.jsonl, format: jsonl",
        "wide.jsonl, format: jsonl",
    ],
    ids=["same path", "another spelling", "link", "hard link", "copy", "two notes in another format", "full-width"],
)
def test_a_second_entry_of_private_notes_is_private(ward, again):
    chosen = study(ward, W=f"path: {ward}/ward.xml, private: true", V=f"path: {ward}/{again}", O=f"path: {ward}/o.xml")
    assert private_names(chosen) == {"W", "V"}
    corpora = open_corpora(chosen)
    assert all(d.private for d in corpora["V"]) and not any(d.private for d in corpora["O"])
    with pytest.raises(DataError, match='corpus "V" is marked private'):
        check_endpoints(chosen)


def test_what_two_annotators_marked_is_as_private_as_their_corpus(ward):
    """It is so by its text alone here: neither the corpus nor its annotators' files are marked."""
    two = f"path: {ward}/two.jsonl, format: jsonl, second: {ward}/two.jsonl"
    chosen = study(ward, W=f"path: {ward}/ward.xml, private: true", V=two, O=f"path: {ward}/o.xml")
    assert all(d.private for layer in open_annotators(chosen, "V") for d in layer)


def test_a_short_line_in_common_makes_no_corpus_private(ward):
    chosen = study(ward, W=f"path: {ward}/ward.xml, private: true", V=f"path: {ward}/o.xml", O=f"path: {ward}/o.xml")
    assert private_names(chosen) == {"W"}


def test_the_value_of_a_variable_is_never_printed(ward, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-SECRETKEY")
    for path in ("$OPENAI_API_KEY", "${OPENAI_API_KEY}/notes", "data/$OPENAI_API_KEY"):
        chosen = study(ward, V=f"path: '{path}'", O=f"path: {ward}/o.xml")
        with pytest.raises(DataError) as caught:
            corpus_path(chosen, "V")
        assert "SECRETKEY" not in str(caught.value) and path in str(caught.value)


def test_a_variable_that_is_not_set_is_named(ward, monkeypatch):
    monkeypatch.delenv("WARD_DIR", raising=False)
    with pytest.raises(DataError, match=r"\$WARD_DIR is not set"):
        corpus_path(study(ward, V="path: $WARD_DIR/notes", O=f"path: {ward}/o.xml"), "V")


def test_a_folder_may_have_a_dollar_in_its_name(ward):
    (ward / "$(touch x)").mkdir()
    (ward / "$(touch x)" / "o.xml").write_bytes((ward / "o.xml").read_bytes())
    chosen = study(ward, V=f"path: '{ward}/$(touch x)/o.xml'", O=f"path: {ward}/o.xml")
    assert corpus_path(chosen, "V").exists()


def test_notices_name_files_but_no_folder_of_this_machine(ward):
    (ward / "ward2").mkdir()
    (ward / "ward2" / "n.txt").write_text(TEXT, encoding="utf-8")
    (ward / "ward2" / "n.ann").write_text("T1\td 4 6\t発熱\n#1\tAnnotatorNotes T1\tx\n", encoding="utf-8")
    chosen = study(ward, V=f"path: {ward}/ward2, format: brat", O=f"path: {ward}/o.xml")
    assert not any(str(ward) in notice for notice in open_corpora(chosen)["V"].notices)
