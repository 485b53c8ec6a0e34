"""Highlighted notes: the text survives, nothing of it becomes markup, and grey print tells who marked what."""

from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nbutils.corpus import Document, Entity, Prediction
from nbutils.views import html
from nbutils.views.html import error_page, explorer, filtered, highlight, static_page, two_annotators

EVIL = '<img src=x onerror="alert(1)"><script>alert(2)</script>&lt;d&gt; p<0.05'


class Reader(HTMLParser):
    """A browser's view of a page: its text with and without the bracket marks, and the tags it has."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.text, self.with_marks, self.tags, self.marks = "", "", [], [False]
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.marks.append(dict(attributes).get("class") == "mark")

    def handle_endtag(self, tag):
        self.marks.pop()

    def handle_data(self, data):
        self.with_marks += data
        self.text += "" if self.marks[-1] else data


def rows(**columns):
    """Two errors as `errors.of_runs` gives them."""
    frame = pd.DataFrame(
        {
            "system": ["crf", "bert"],
            "seed": [0, 0],
            "document": ["PN-1", "PN-2"],
            "case": ["case-01", "case-02"],
            "physician": ["phys-01", "phys-02"],
            "side": ["false positive", "false negative"],
            "kind": ["too short", "missed"],
            "entity": ["多", "頭痛"],
            "line": ["排液量が過多であった", "頭痛なし"],
            "gold": [((0, 6, "d"),), ((0, 2, "d"),)],
            "predicted": [((5, 6, "d"),), ()],
        }
    )
    return frame.assign(**columns)


spans = st.lists(st.tuples(st.integers(-2, 30), st.integers(-2, 30)), max_size=6)


@given(st.text(max_size=30), spans, spans)
@example(EVIL, [(0, 4)], [(2, 40)])
@example("⟦発熱⟧\r\n", [(1, 3)], [(0, 4)])
@settings(max_examples=200, deadline=None)
def test_taking_away_tags_and_marks_gives_back_the_text(text, gold, predicted):
    page = Reader(highlight(text, gold, predicted))
    assert page.text == text
    assert set(page.tags) <= {"span"}


@given(st.text(alphabet="発熱咳<>&", min_size=1, max_size=12), spans)
@settings(max_examples=100, deadline=None)
def test_every_prediction_opens_and_closes_one_bracket(text, predicted):
    inside = {(max(s, 0), min(e, len(text))) for s, e in predicted if max(s, 0) < min(e, len(text))}
    shown = Reader(highlight(text, [], predicted)).with_marks
    assert shown.count("⟦") == shown.count("⟧") == len(inside)


def test_brackets_stand_at_the_borders_of_the_prediction():
    assert Reader(highlight("右下葉に浸潤影あり", [], [(4, 7)])).with_marks == "右下葉に⟦浸潤影⟧あり"


def test_adjacent_predictions_close_before_they_open():
    assert Reader(highlight("発熱咳嗽", [], [(0, 2), (2, 4)])).with_marks == "⟦発熱⟧⟦咳嗽⟧"


def test_gold_is_underlined_and_a_lone_prediction_is_not():
    assert "border-bottom" in highlight("発熱", [(0, 2)])
    assert "border-bottom" not in highlight("発熱", [], [(0, 2)])


def test_adjacent_gold_entities_stay_two():
    assert highlight("発熱咳嗽", [(0, 2), (2, 4)]).count("margin-left") == 2


@pytest.mark.parametrize(
    ("gold", "predicted", "status"),
    [
        ([(0, 2)], [(0, 2)], "found"),
        ([(0, 2)], [], "missed"),
        ([], [(0, 2)], "wrong"),
        ([(0, 4)], [(0, 2)], "boundary"),
        ([(0, 2, "d")], [(0, 2, "m")], "boundary"),
    ],
)
def test_the_colour_says_whether_gold_and_prediction_are_alike(gold, predicted, status):
    assert html.BACKGROUNDS[status] in highlight("発熱咳嗽", gold, predicted)


def test_a_plain_line_has_no_colour_at_all():
    assert highlight("特記なし", []) == "特記なし"


def test_a_note_keeps_its_line_breaks_and_shows_its_case():
    note = Document("PN-1", "発熱\n咳嗽", (Entity(0, 2),), {"case": "case-01", "physician": ""})
    page = html.side_by_side(note, {"x": Prediction("PN-1", (Entity(3, 5),))}).data
    assert "white-space:pre-wrap" in page and "case case-01" in page and "physician" not in page
    assert "発熱</span>\n" in page and "⟦" in page


def test_neither_text_nor_id_nor_meta_nor_system_can_put_markup_into_a_page():
    note = Document(EVIL, EVIL, (Entity(0, 9),), {EVIL: EVIL})
    prediction = {EVIL: Prediction(EVIL, (Entity(2, 20),))}
    evil_rows = rows(system=EVIL, kind=EVIL, entity=EVIL, document=EVIL, case=EVIL, line=EVIL)
    pages = [html.side_by_side(note, prediction).data, error_page(evil_rows)]
    for page in pages:
        assert not {"img", "script", "d"} & set(Reader(page).tags)
        assert EVIL in Reader(page).text


def test_two_systems_stand_side_by_side_against_the_same_gold():
    note = Document("PN-1", "発熱", (Entity(0, 2),))
    page = html.side_by_side(note, {"A": Prediction("PN-1", ()), "B": Prediction("PN-1", (Entity(0, 2),))}).data
    cells = page.split("<td")[1:]
    assert html.BACKGROUNDS["missed"] in cells[0] and html.BACKGROUNDS["found"] in cells[1].split("</table>")[0]


def test_filters_narrow_and_all_means_any():
    assert list(filtered(rows(), system="crf")["entity"]) == ["多"]
    assert len(filtered(rows(), system="all", kind="all")) == 2
    assert filtered(rows(), system="crf", kind="missed").empty


def test_an_unknown_filter_is_named():
    with pytest.raises(ValueError, match='"seed"'):
        filtered(rows(), seed="0")


def test_a_page_shows_gold_against_prediction_and_how_many_there_are():
    page = error_page(rows(), titles={"crf": "A CRF"}, limit=1)
    assert "1 of 2 errors" in page and "A CRF" in page
    assert "排液量が過⟦多⟧であった" in Reader(page).with_marks
    assert "頭痛なし" not in Reader(page).text


def test_the_explorer_follows_its_menus_and_its_static_page_is_the_same():
    box = explorer(rows(), titles={"bert": "BERT"})
    menus, page = {menu.description: menu for menu in box.children[0].children}, box.children[1]
    assert set(menus) == {"system", "side", "kind", "physician", "case"}
    assert "2 of 2 errors" in page.value
    menus["system"].value = "bert"
    assert page.value == static_page(rows(), titles={"bert": "BERT"}, system="bert").data
    assert "頭痛なし" in Reader(page.value).text and "排液量" not in Reader(page.value).text


def test_an_explorer_of_no_errors_says_so():
    assert "0 of 0 errors" in explorer(rows().head(0)).children[1].value


def test_the_legend_explains_every_colour():
    shown = Reader(html.legend()).text
    assert all(meaning in shown for meaning in html.MEANINGS.values())


def test_two_annotators_stand_side_by_side_and_only_what_differs_is_bracketed():
    line = "発熱と<b>咳嗽"
    same = Entity(0, 2, certainty="positive")
    html = two_annotators([("n<1>", line, [same, Entity(6, 8, certainty="negative")], [same])]).data
    first, second = html.split("<td ")[2:4]
    assert "⟦" in first and "negative" in first and "⟦" not in second
    assert "Lines that differ: 1" in html and "n&lt;1&gt;" in html and "<b>咳" not in html


def test_the_same_span_with_another_certainty_is_bracketed_on_both_sides():
    sides = [[Entity(0, 2, certainty=c)] for c in ("positive", "suspicious")]
    html = two_annotators([("1", "発熱あり", *sides)]).data
    assert html.count("⟦") == 2 and "<sub>positive</sub>" in html and "<sub>suspicious</sub>" in html
