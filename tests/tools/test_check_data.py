"""The bundled corpora obey their rules, and the command that says so can tell when they do not."""

import re

import pytest

from nbutils import ROOT
from nbutils.corpus import Corpus, Document, Entity
from nbutils.corpus.formats import read_corpus
from tools.check_data import PAPER_FIGURES, entity_faults, figures_table, main, style_accuracy
from tools.check_data.annotators import agreement_summary
from tools.check_data.dashboard import PN_BANDS, SILVER_BANDS, dashboard, silver
from tools.check_data.places import doubtful_certainties, untagged_strings

CERTAINTY = {"+": "positive", "?": "suspicious", "-": "negative", "~": "general"}
HEAD, TAIL = '<?xml version="1.0" encoding="UTF-8"?>\n<root><articles>\n', "</articles></root>\n"
REPORTS = """<article id="CR-001" title="肺炎">
６８歳男性が<d certainty="positive">発熱</d>のため入院した．
<d certainty="negative">胸痛</d>はなく，血圧は正常であった．
</article>
<article id="CR-002" title="鉄欠乏性貧血">
４６歳女性，健診で<d certainty="positive">貧血</d>を指摘された．
内視鏡では<d certainty="suspicious">胃癌</d>を疑う像があった．
</article>
"""
NOTES = """<article id="PN-01-01" title="肺がん" case="case-01" physician="phys-01">
お話を伺いますと、<d certainty="positive">息切れ</d>がおありとのことでした。
</article>
<article id="PN-01-02" title="大腸がん" case="case-02" physician="phys-01">
ご家族のお話では、<d certainty="positive">血便</d>がおありとのことでした。
</article>
<article id="PN-02-01" title="肺がん" case="case-01" physician="phys-02">
68M, CC: <d certainty="positive">DOE</d>, HR 88, RR 20, r/o <d certainty="suspicious">Ca</d>
</article>
<article id="PN-02-02" title="大腸がん" case="case-02" physician="phys-02">
59M, HR 72, RR 14, <d certainty="negative">melena</d>(-), CC: n.p.
</article>
"""


def note(marked: str, id: str = "1") -> Document:
    """`[+発熱]あり、[-胸痛]なし` as a document; the sign is the certainty."""
    text, entities = "", []
    for plain, sign, surface in re.findall(r"([^\[]*)(?:\[([+?~-])([^\]]+)\])?", marked):
        text += plain
        if surface:
            entities.append(Entity(len(text), len(text) + len(surface), certainty=CERTAINTY[sign]))
            text += surface
    return Document(id, text, tuple(entities))


@pytest.fixture
def status(tmp_path, capsys):
    """Checks a small sound data folder that two people annotated: the exit status and the complaints.

    `old` is replaced by `new` in all layers, and the pair `second` in the second annotator's only.
    """

    def run(old: str = "", new: str = "", second: tuple[str, str] = ("", "")) -> tuple[int, str]:
        assert old in REPORTS + NOTES and second[0] in REPORTS + NOTES
        for name, content in (("cr", REPORTS), ("pn", NOTES)):
            content = content.replace(old, new) if old else content
            again = content.replace(*second) if second[0] else content
            for folder, annotated in ((name, content), (f"{name}-first", content), (f"{name}-second", again)):
                (tmp_path / folder).mkdir()
                (tmp_path / folder / "all.xml").write_text(HEAD + annotated + TAIL, encoding="utf-8")
        return main(["--data", str(tmp_path)]), capsys.readouterr().err

    return run


def bundled(suffix: str = "") -> dict[str, Corpus]:
    return {name: read_corpus(ROOT / "data" / f"{name.lower()}{suffix}", name=name) for name in PAPER_FIGURES}


def datasheet_rows(table) -> list[str]:
    """The rows of a table as the datasheet has to have them."""
    return [f"| {name} | {' | '.join(row)} |" for name, row in zip(table.index, table.to_numpy(), strict=True)]


def test_the_bundled_corpora_obey_their_rules(capsys):
    assert main([]) == 0, capsys.readouterr().err


def test_the_datasheet_states_the_figures_of_the_data():
    datasheet = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert [row for row in datasheet_rows(figures_table(bundled().values())) if row not in datasheet] == []


def test_the_datasheet_states_the_agreement_as_it_stands():
    datasheet = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    first, second = bundled("-first"), bundled("-second")
    table = agreement_summary({name: (first[name], second[name]) for name in first})
    assert [row for row in datasheet_rows(table) if row not in datasheet] == []


def test_the_datasheet_states_the_measures_beside_their_bands():
    datasheet = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    reports, notes = bundled()["CR"], bundled()["PN"]
    for table, most in ((dashboard(silver(reports), SILVER_BANDS), 7), (dashboard(notes, PN_BANDS), 3)):
        assert int((~table["inside"]).sum()) <= most
        for name, row in table[table["band"] != ""].iterrows():
            assert f"| {name} |" in datasheet and f"{row['value']:.3f}" in datasheet, name


def test_the_datasheet_states_how_well_the_physicians_are_told_apart():
    datasheet = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    notes = bundled()["PN"]
    n_physicians = len({d.meta["physician"] for d in notes})
    assert f"in {style_accuracy(notes):.2f} of the notes (chance {1 / n_physicians:.2f})" in " ".join(datasheet.split())


def test_a_sound_folder_passes_in_silence(status):
    assert status() == (0, "")


BREACHES = {
    "ill-formed XML": ("発熱</d>のため", "発熱</dのため", "not well-formed"),
    "an entity without certainty": ('<d certainty="positive">発熱', "<d>発熱", "has no certainty"),
    "an unknown certainty": ('"positive">発熱', '"sure">発熱', 'certainty="sure"'),
    "an empty entity": (">発熱</d>", "></d>", "empty <d>"),
    "a nested entity": (">発熱</d>", '><d certainty="general">発熱</d></d>', "may not nest"),
    "another type than d": ('<d certainty="positive">発熱</d>', '<a certainty="positive">発熱</a>', "unknown type"),
    "an entity over a line break": ("発熱</d>のため", "発熱\nの</d>ため", "line break"),
    "an entity that takes in a comma": ("</d>はなく，", "はなく，</d>", "punctuation"),
    "a blank line": ("入院した．\n", "入院した．\n\n", "blank"),
    "an indented line": ("６８歳", "　６８歳", "space at its edge"),
    "a text that starts behind its tag": ('title="肺炎">\n', 'title="肺炎">', "start and end with a line break"),
    "a gap in the numbers of the reports": ("CR-002", "CR-003", '"CR-002" is missing'),
    "two reports of one title": ('title="鉄欠乏性貧血"', 'title="肺炎"', '"肺炎" stands 2 times'),
    "an id that contradicts the physician": ('"PN-02-02"', '"PN-03-02"', "make id and attributes agree"),
    "a case with two titles": (
        'がん" case="case-02" physician="phys-02"',
        '癌" case="case-02" physician="phys-02"',
        "titles",
    ),
    "a case that a physician left out": (NOTES[NOTES.index('<article id="PN-02-02"') :], "", "wrote 0 notes"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_the_command_fails_and_names(status, breach):
    old, new, sentence = BREACHES[breach]
    code, complaints = status(old, new)
    assert code == 1 and sentence in complaints


def test_another_opinion_of_the_second_annotator_is_no_fault(status):
    opinion = ('<d certainty="suspicious">胃癌</d>を疑う像', '胃癌を<d certainty="general">疑う像</d>')
    assert status(second=opinion) == (0, "")


SECOND_BREACHES = {
    "ill-formed XML": ("発熱</d>のため", "発熱</dのため", "not well-formed"),
    "an entity without certainty": ('<d certainty="positive">発熱', "<d>発熱", "has an entity without a certainty"),
    "a nested entity": (">発熱</d>", '><d certainty="general">発熱</d></d>', "may not nest"),
    "another text than the first annotation's": ("６８歳", "86歳", '"CR-001" is not in the corpus or has another text'),
    "a document that the first annotation has not": ('"CR-002"', '"CR-003"', '"CR-003" is not in the corpus'),
    "too few reports": (REPORTS[REPORTS.index('<article id="CR-002"') :], "", "1 documents are missing"),
    "too few notes of one physician": (NOTES[NOTES.index('<article id="PN-02-02"') :], "", "1 documents are missing"),
}


@pytest.mark.parametrize("breach", SECOND_BREACHES)
def test_the_command_fails_and_names_in_the_second_annotation(status, breach):
    old, new, sentence = SECOND_BREACHES[breach]
    code, complaints = status(second=(old, new))
    assert code == 1 and sentence in complaints


@pytest.mark.parametrize("surface", ["発熱、", "（肺癌", "左（上葉肺癌", "肺癌 ", "・胸水"])
def test_is_no_entity_as_it_stands(surface):
    assert list(entity_faults(surface, "positive"))


@pytest.mark.parametrize(
    "surface", ["気胸再発", "神経症状", "ＯＴＣ（酵素）欠損症", "ST↑", "高度視力障害", "Ｏ’Ｌ病", "尿潜血（３＋）"]
)
def test_is_an_entity_as_it_stands(surface):
    assert not list(entity_faults(surface, "positive"))


CONTRADICTED = """
    [+発熱]なし|[+発熱]はありません|[+発熱]はございませんでした|[+発熱]はみられなかった|[+発熱](-)|[+発熱]や[-悪寒]は認めず
    [~胸水]を認めない|[?肺炎]は否定された|[-胸水]あり|[-胸水]は消失した|[-微熱]がみられなくなった|□[+失神]なし
    [+肺炎]疑い|[+肺炎]の可能性|r/o [+肺炎]|[+DIC] s/o|[+DIC]?|[?肺炎]と診断した|父に[+胃癌]あり|母：[-乳癌]なし
"""
IN_ORDER = """
    [-発熱]なし|[-発熱]や[-悪寒]はございません|□[-失神]　■[+動悸]|[-発熱]：□|[-ﾈﾂ]- [+ｾｷ]+|[+発熱]は消失した
    [+腹水]は陰性化|[+微熱]がなくなった|[+発熱]続く、[-悪寒]なく|[?肺炎]の疑い|[?肺炎]を疑ったが否定された|父に[~胃癌]なし|妹が[+嘔吐]に気づいた
    [+発熱]を伴う[?肺炎]疑い|[~胃癌]ないし[~胃炎]
"""


@pytest.mark.parametrize("line", re.split(r"\s*[|\n]\s*", CONTRADICTED.strip()))
def test_a_certainty_is_doubted_in(line):
    assert doubtful_certainties([note(line)])


@pytest.mark.parametrize("line", re.split(r"\s*[|\n]\s*", IN_ORDER.strip()))
def test_a_certainty_is_believed_in(line):
    assert not doubtful_certainties([note(line)])


@pytest.mark.parametrize("line", ["咳嗽と胸水", "右胸水", "抗MRと", "MR増悪", "胸水術後"])
def test_a_forgotten_mention_is_found_in(line):
    assert untagged_strings([note("[+胸水]、[+MR]"), note(line, id="2")])


@pytest.mark.parametrize("line", ["頭部MRI", "ＥMR後", "ショッピング", "カショ", "胸水培養", "胸水術", "髄膜炎菌"])
def test_another_word_is_no_forgotten_mention_in(line):
    assert not untagged_strings([note("[+胸水]、[+MR]、[+ショ]、[+髄膜炎]"), note(line, id="2")])


def by(physician: str, case: str, text: str) -> Document:
    return Document(f"{physician}-{case}", text, meta={"physician": physician, "case": case})


def test_style_names_the_physician_of_a_case_never_seen():
    notes = [by("1", c, f"{word}でございます。") for c, word in (("a", "頭痛"), ("b", "腹痛"))]
    notes += [by("2", c, f"CC: {word} (+)") for c, word in (("a", "HA"), ("b", "RLQ"))]
    assert style_accuracy(Corpus("PN", tuple(notes))) == 1


def test_physicians_who_write_alike_cannot_be_told_apart():
    notes = [by(p, c, f"{c}の再診") for p in "1234" for c in "ab"]
    assert style_accuracy(Corpus("PN", tuple(notes))) == 0.25


def test_a_note_has_no_part_in_the_training_that_judges_it():
    # Each writes on one case what the other writes on the other: whoever has seen the note itself does better than 0.
    notes = [by("1", "a", "はい"), by("1", "b", "イエ"), by("2", "a", "イエ"), by("2", "b", "はい")]
    assert style_accuracy(Corpus("PN", tuple(notes))) == 0
