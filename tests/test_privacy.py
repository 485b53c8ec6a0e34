"""The words of a private note are covered wherever text is shown; only a person at JupyterLab can lift the cover."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils import privacy
from nbutils.analysis import agreement, errors
from nbutils.analysis.exploration import top_entities
from nbutils.corpus import Corpus, Document, Entity, Prediction, select
from nbutils.corpus.splits import split_by_document
from nbutils.study.runs import read_predictions, write_predictions
from nbutils.views import html

NOTE = Document("n1", "秘密病あり。\n発熱なし。\n", (Entity(0, 3), Entity(7, 9)), {"title": "秘密題", "case": "c1"})
PUBLIC = Corpus("A", (NOTE,))
PRIVATE = Corpus("A", (NOTE,), private=True)
(HIDDEN,) = PRIVATE.documents


@pytest.fixture
def lab(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/08_error_analysis.ipynb")
    yield
    privacy.hide()


def pages(document):
    """Everything that shows the text of a note, as text."""
    other = Prediction("n1", (Entity(0, 2),))
    other_annotator = Document("n1", document.text, (Entity(0, 2),), private=document.private)
    row = errors.in_its_line(document, other.entities, document.entities[0])
    return {
        "views.side_by_side": html.side_by_side(document, {"x": other}).data,
        "errors.in_its_line": row["line"],
        "corpus.top_entities": top_entities(Corpus("A", (document,), private=document.private)).to_string(),
        "agreement.disagreements": agreement.disagreements([(document, other_annotator)]).to_string(),
    }


@pytest.mark.parametrize("page", pages(NOTE))
def test_a_page_shows_public_text_and_covers_private_text(page):
    assert "秘密" in pages(NOTE)[page]
    assert "秘密" not in pages(HIDDEN)[page] and "■" in pages(HIDDEN)[page]


def test_a_page_shows_private_text_when_a_person_asked_for_it(lab):
    privacy.reveal()
    assert all("秘密" in page for page in pages(HIDDEN).values())
    privacy.hide()
    assert not any("秘密" in page for page in pages(HIDDEN).values())


def test_a_notebook_that_a_program_executes_cannot_lift_the_cover(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    with pytest.raises(RuntimeError, match="JupyterLab only"):
        privacy.reveal()
    assert privacy.shown(HIDDEN).text != HIDDEN.text


@given(st.text())
def test_covered_text_keeps_length_lines_and_spaces_and_nothing_else(text):
    covered = privacy.cover(text)
    assert len(covered) == len(text)
    assert [c.isspace() for c in covered] == [c.isspace() for c in text]
    assert all(c == privacy.COVER or c.isspace() for c in covered)


def test_titles_ids_and_the_names_that_tables_group_by_are_covered():
    assert privacy.shown(HIDDEN).meta == {"title": "■■■", "case": "case 1"} and privacy.shown(HIDDEN).id == "note 1"


def test_two_hospitals_of_equally_long_names_stay_two_groups():
    notes = [Document(f"n{k}", "発熱", (), {"hospital": name}) for k, name in enumerate(("東病院", "西病院", "東病院"))]
    shown = [privacy.shown(d).meta["hospital"] for d in Corpus("A", tuple(notes), private=True)]
    assert shown == ["hospital 1", "hospital 2", "hospital 1"]


def test_a_private_note_without_a_corpus_is_covered_too():
    alone = Document("n1", "秘密", (), {"case": "秘密", "title": "秘密"}, private=True)
    shown = privacy.shown(alone)
    assert "秘密" not in repr(shown) and "n1" not in repr(shown)


def test_a_private_document_stays_private_in_every_part_of_its_corpus():
    corpus = Corpus("A", tuple(Document(f"n{k}", f"発熱{k}") for k in range(10)), private=True)
    parts = [select(corpus), *split_by_document(corpus, test_fraction=0.2, split_seed=0)]
    assert all(d.private for part in parts for d in part)
    assert corpus.documents[0].without_entities().private


def test_what_a_model_wrote_about_a_private_note_is_not_kept(tmp_path):
    answer = Prediction("n1", (Entity(0, 3),), raw="<d>秘密病</d>あり。", repairs={"closed": 1})
    for corpus, kept in ((PUBLIC, answer.raw), (PRIVATE, None)):
        write_predictions([answer], corpus, tmp_path / "A.jsonl")
        (read,) = read_predictions(tmp_path / "A.jsonl", corpus)
        assert read.raw == kept and read.entities == answer.entities and read.repairs == answer.repairs
