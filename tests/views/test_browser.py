"""The note browser follows its menus, compares systems, and keeps the text of a private corpus out of the notebook."""

from dataclasses import replace

import pytest

from nbutils import privacy
from nbutils.corpus import Corpus, Document, Entity, Prediction
from nbutils.views import browser

EVIL = "<script>alert(1)</script> & 発熱"


def corpus(**more):
    notes = [
        Document("n1", "発熱あり", (Entity(0, 2),), {"case": "c1", "physician": "sato"}),
        Document("n2", "咳嗽なし", (Entity(0, 2),), {"case": "c1", "physician": "mori", "title": "肺炎"}),
        Document("n3", EVIL, (), {"case": "<b>c2</b>", "physician": "mori"}),
    ]
    return Corpus("MINE", tuple(notes), **more)


FOUND = {
    "crf": {"n1": Prediction("n1", (Entity(0, 2),)), "n2": Prediction("n2", (Entity(2, 4),))},
    "bert": {"n1": Prediction("n1", ())},
}


def opened(**more):
    return browser._Browser(corpus(**more), FOUND, {"crf": "A CRF"})


def test_the_notes_follow_case_and_physician():
    shown = opened()
    shown.groups["physician"].value = "mori"
    assert shown.ids == ["n2", "n3"] and shown.note.value == "n2" and "咳嗽" in shown.page.value
    shown.groups["case"].value = "<b>c2</b>"
    assert shown.ids == ["n3"] and "note 1 of 1" in shown.place.value


def test_a_case_and_physician_without_a_note_open_none():
    shown = opened()
    shown.groups["physician"].value = "sato"
    shown.groups["case"].value = "<b>c2</b>"
    assert shown.ids == [] and "No note is open" in shown.page.value
    shown.after.click()
    assert shown.note.value is None


def test_buttons_go_round_all_notes():
    shown = opened()
    shown.before.click()
    assert shown.note.value == "n3"
    shown.after.click()
    assert shown.note.value == "n1"


def test_gold_prediction_and_difference_are_three_views():
    shown = opened()
    shown.note.value = "n2"
    pages = {}
    for way in ("gold", "prediction", "difference"):
        shown.way.value = way
        pages[way] = shown.page.value.split("white-space:pre-wrap")[1].split("</div>")[0]
    assert "border-bottom" in pages["gold"] and "⟦" not in pages["gold"] and "missed" not in pages["gold"]
    assert (
        "border-bottom" not in pages["prediction"] and "⟦" in pages["prediction"] and "wrong" not in pages["prediction"]
    )
    assert "missed" in pages["difference"] and "wrong" in pages["difference"]


def test_systems_stand_side_by_side_with_their_counts():
    shown = opened()
    shown.way.value = "systems"
    assert shown.page.value.count("<td style") == 2 and "A CRF" in shown.page.value
    assert "<td>1</td><td>0</td><td>0</td>" in shown.page.value and "<td>0</td><td>1</td><td>0</td>" in shown.page.value


def test_without_predictions_only_gold_can_be_shown():
    assert [way for _, way in browser._Browser(corpus(), {}, {}).way.options] == ["gold"]


def test_a_note_that_no_system_tagged_is_shown_all_the_same():
    shown = opened()
    shown.note.value, shown.way.value = "n3", "difference"
    assert "&lt;script&gt;" in shown.page.value and "<script>" not in shown.page.value


@pytest.mark.parametrize("way", list(browser.WAYS))
def test_no_text_becomes_markup_in_any_view(way):
    note = Document(EVIL, EVIL, (Entity(3, 9),), {"title": EVIL})
    page = browser.page(note, {EVIL: {EVIL: Prediction(EVIL, (Entity(0, 5),))}}, way, EVIL, {EVIL: EVIL})
    assert "<script" not in page and "& 発熱" not in page


def test_a_private_note_is_covered_until_a_person_lifts_the_cover(monkeypatch):
    shown = opened(private=True)
    assert "No note is open" in shown.page.value
    shown.note.value = "note 2"  # whose word the legend does not hold
    assert "咳嗽" not in str(shown.box.get_state()) + shown.page.value and "■■" in shown.page.value
    assert "咳嗽" not in browser.static_view(corpus(private=True), "n2", FOUND).data
    monkeypatch.setitem(privacy._State, "revealed", True)
    assert "咳嗽" in browser.page(corpus(private=True).documents[1], FOUND, "difference", "crf")


def test_the_static_view_shows_what_the_browser_shows():
    shown = opened()
    assert browser.static_view(corpus(), "n1", FOUND, titles={"crf": "A CRF"}).data in shown.page.value
    with pytest.raises(ValueError, match='no document "n9"'):
        browser.static_view(corpus(), "n9")


def test_a_corpus_without_cases_has_no_menu_for_them():
    plain = replace(corpus(), documents=(Document("1", "発熱"),))
    assert browser._Browser(plain, {}, {}).groups == {}


def test_the_menu_of_a_private_corpus_covers_the_titles_of_its_notes():
    assert ("n2 · 肺炎", "n2") in opened().note.options
    assert ("note 2 · ■■", "note 2") in opened(private=True).note.options
    assert "肺炎" not in str(opened(private=True).box.get_state())
