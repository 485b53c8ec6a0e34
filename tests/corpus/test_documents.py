"""Notes and corpora: private ones stay private, under names that tell nothing, wherever they go."""

import unicodedata

from nbutils import privacy
from nbutils.corpus import Corpus, Document, Entity, private_by_text, problems, same_words_hash, select
from nbutils.corpus.splits import split_by_document


def ward(private=True):
    notes = [
        Document(f"田中{k}", f"発熱{k}", (), {"physician": f"佐藤{k % 2}", "case": f"症例{k // 2}"}) for k in range(10)
    ]
    return Corpus("W", tuple(notes), private=private)


def test_private_notes_get_numbers_that_go_with_them_into_every_part():
    corpus = ward()
    for part in (corpus, select(corpus), *split_by_document(corpus)):
        for document in part:
            k = int(document.id[-1])
            shown = privacy.shown(document)
            assert document.private and shown.id == privacy.shown_id(document) == f"note {k + 1}"
            assert shown.meta == {"physician": f"physician {k % 2 + 1}", "case": f"case {k // 2 + 1}"}
            assert privacy.shown_fact(document, "case") == f"case {k // 2 + 1}"
            assert privacy.shown_fact(document, "title") == ""


def test_public_notes_are_shown_as_they_are():
    assert [privacy.shown(d) for d in ward(private=False)] == list(ward(private=False))


def test_faults_of_private_entities_name_no_id_and_no_type():
    (document,) = Corpus("W", (Document("田中", "発熱", (Entity(0, 2, "秘密"), Entity(0, 9))),), private=True)
    said = " ".join(problems(document, labels={"d"}))
    assert "田中" not in said and "秘密" not in said and 'document "note 1"' in said


def test_a_copy_of_a_private_note_makes_its_corpus_private_too():
    text = "カ\u3099ンと発熱。\r\n咳嗽あり。"
    private = Corpus("W", (Document("1", text),), private=True)
    copies = {
        "same": text, "line ends": text.replace("\r\n", "\n"), "normalised": unicodedata.normalize("NFC", text),
        "wrapped": text.replace("と", "と\n　"),
    }  # fmt: skip
    corpora = {name: Corpus(name, (Document("x", "他の記録"), Document("y", t))) for name, t in copies.items()}
    marked = private_by_text({**corpora, "W": private, "other": Corpus("other", (Document("1", "他の記録"),))})
    for name in copies:
        assert marked[name].private and all(d.private for d in marked[name])
        assert marked[name].notices == ("1 of its notes are also in W, which is private; so it is private, too",)
    assert not marked["other"].private and marked["W"] is private


def test_types_that_a_study_does_not_name_are_counted_and_covered_if_private():
    note = Document("1", "発熱と咳嗽", (Entity(0, 2, "d", "positive"), Entity(3, 5, "秘密")))
    for private, shown in ((False, "秘密"), (True, "■■■")):
        chosen = select(Corpus("A", (note,), private=private))
        assert chosen.notices == (f'left out 1 entities of the type "{shown}", which the study does not name',)
    assert "negative" not in str(select(Corpus("A", (note,)), ["d", "秘密"]).notices)
    chosen = select(Corpus("A", (note,)), ["d", "秘密"], ["negative"])
    assert 'of the certainty "positive"' in chosen.notices[0] and 'of the certainty "unmarked"' in chosen.notices[1]


def test_hashes_tell_texts_apart():
    assert same_words_hash("発熱 あり") == same_words_hash("発熱あり\r\n") != same_words_hash("発熱なし")
