"""A list of medical terms: read in the forms that people have, found after NFKC with exact offsets, used by systems."""

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils import ROOT, taggers
from nbutils.corpus import Document, Entity
from nbutils.files import DataError
from nbutils.prompting.prompts import prompt_string
from nbutils.prompting.tagger import IclTagger
from nbutils.taggers import crf, dictionary
from nbutils.taggers.settings import CrfSettings, DictionarySettings, IclSettings
from nbutils.taggers.terms import Terms, normalised, read_terms, write_terms

TERMS = Terms({"肺炎": "J18.9", "誤嚥性肺炎": "J69.0", "ダンピング": "K91.1", "DM": "E14.9", "圧痛": ""})


@pytest.mark.parametrize(("text", "found"), [
    ("誤嚥性肺炎の疑い、肺炎", ["誤嚥性肺炎", "肺炎"]),
    ("ﾀﾞﾝﾋﾟﾝｸﾞかも", ["ﾀﾞﾝﾋﾟﾝｸﾞ"]),
    ("ＤＭと圧痛", ["ＤＭ", "圧痛"]),
    ("肺 炎", []),
    ("", []),
])  # fmt: skip
def test_the_longest_term_is_found_as_the_text_writes_it(text, found):
    assert [text[a:b] for a, b, _ in TERMS.spans(text)] == found


def test_a_term_does_not_end_inside_a_character_of_the_text():
    """㌔ is キロ in NFKC: キ is no character of the text."""
    assert list(Terms({"キ": ""}).spans("㌔")) == []
    assert [(a, b) for a, b, _ in Terms({"キロ": ""}).spans("a㌔b")] == [(1, 2)]


@given(st.text(alphabet=st.sampled_from("肺炎ｶﾞﾊﾟｶ゙㌔①Ａ é\u0301\n𠮷😀")))
def test_offsets_cover_the_text_once_and_in_order(text):
    plain, starts, ends = normalised(text)
    assert len(plain) == len(starts) == len(ends)
    pieces = list(dict.fromkeys(zip(starts, ends, strict=True)))
    assert all(a[1] == b[0] for a, b in pairwise(pieces))
    assert not text or (pieces[0][0], pieces[-1][1]) == (0, len(text))
    if not any(unicodedata.combining(c) for c in text):
        assert plain == unicodedata.normalize("NFKC", text)


@pytest.mark.parametrize(("name", "code"), [
    ("誤嚥性肺炎", "J69.0"), ("右下葉肺炎", "J18.9"), ("ＤＭ", "E14.9"), ("圧痛", ""), ("骨折", ""),
    ("DM肺炎", "J18.9"),
])  # fmt: skip
def test_a_name_has_the_code_of_the_longest_term_in_it(name, code):
    assert TERMS.code(name) == code


@pytest.mark.parametrize("table", [
    "term,code\n肺炎,J18.9\n肺炎,J15\n圧痛,\n",
    "\ufeffterm\tcode\r\n肺炎\tJ18.9\r\n圧痛\t\r\n",
    'ID,出現形,出現形よみ,ICDコード,標準病名,信頼度レベル\n1,肺炎,はいえん,J18.9,肺炎,S\n2,圧痛,,-1,,C\n',
    "出現形,ICD10コード,標準病名,信頼度LEVEL\n肺炎,J18.9,肺炎,S\n圧痛,-1,,B\n",
], ids=["ours", "tabs, BOM and CRLF", "MANBYO 2021", "MANBYO 2018"])  # fmt: skip
def test_the_tables_that_people_have_are_read(tmp_path, table):
    (tmp_path / "t.csv").write_text(table, encoding="utf-8", newline="")
    assert dict(read_terms(tmp_path / "t.csv").codes) == {"肺炎": "J18.9", "圧痛": ""}


@pytest.mark.parametrize(("table", "says"), [("name\n肺炎\n", "no column"), ("term\n", "no term"), (None, "no such")])
def test_a_table_that_is_none_is_refused_in_a_sentence(tmp_path, table, says):
    if table is not None:
        (tmp_path / "t.csv").write_text(table, encoding="utf-8")
    with pytest.raises(DataError, match=says):
        read_terms(tmp_path / "t.csv")


def test_what_is_written_reads_back(tmp_path):
    write_terms(Terms({'"a,b"': "X", "肺炎": ""}), tmp_path / "t.csv")
    assert dict(read_terms(tmp_path / "t.csv").codes) == {'"a,b"': "X", "肺炎": ""}


def test_the_bundled_list_has_icd_10_codes():
    codes = read_terms("data/examples/terms.csv").codes
    assert len(codes) > 60 and codes["肺炎"] == "J18.9"


NOTES = [Document("1", "発熱と肺炎あり", (Entity(0, 2), Entity(3, 5, "s")))]


@pytest.fixture
def listed(tmp_path):
    write_terms(Terms({"喘息": "J45.9", "肺炎": "J18.9"}), tmp_path / "list.csv")
    return str(tmp_path / "list.csv")


def test_a_dictionary_row_knows_the_list_and_what_it_learned_and_keeps_both(tmp_path, listed):
    tagger = dictionary.fit(NOTES, DictionarySettings(labels=("d", "s"), dictionary=listed))
    tagger.save(tmp_path / "model")
    (tmp_path / "list.csv").unlink()  # the model does not need it any more
    note = Document("2", "喘息、発熱、肺炎")
    for one in (tagger, taggers.load("dictionary", tmp_path / "model")):
        assert [e.key for e in one.predict([note])[0].entities] == [(0, 2, "d"), (3, 5, "d"), (6, 8, "s")]


def test_a_dictionary_row_without_learning_knows_the_list_only(listed):
    tagger = dictionary.fit(NOTES, DictionarySettings(dictionary=listed, learn=False))
    assert [e.key for e in tagger.predict(NOTES)[0].entities] == [(3, 5, "d")]
    with pytest.raises(DataError, match="neither"):
        dictionary.fit(NOTES, DictionarySettings(learn=False))


def test_a_crf_with_a_list_knows_a_term_that_training_never_showed(tmp_path, listed):
    """Diseases and pastimes stand in the same places; of two new words only the list tells which is a disease."""
    names, others = ["発熱", "咳嗽", "腹痛", "胸痛", "頭痛", "嘔吐"], ["散歩", "読書", "園芸", "料理", "体操", "将棋"]
    write_terms(Terms(dict.fromkeys([*names, "腫瘤"], "")), tmp_path / "list.csv")
    notes = [Document(n, f"朝から{n}あり", (Entity(3, 5),) if n in names else ()) for n in (*names, *others)]
    new = [Document(n, f"朝から{n}あり") for n in ("腫瘤", "手芸")]
    tagger = crf.fit(notes, CrfSettings(iterations=30, dictionary=listed), progress=False)
    tagger.save(tmp_path / "model")
    (tmp_path / "list.csv").unlink()  # the model keeps its own
    for one in (tagger, taggers.load("crf", tmp_path / "model")):
        assert [[e.key for e in p.entities] for p in one.predict(new)] == [[(3, 5, "d")], []]


def test_without_a_list_the_features_are_those_of_before():
    with_list, without = crf.features("肺炎あり", TERMS), crf.features("肺炎あり")
    assert [some[: len(before)] for some, before in zip(with_list, without, strict=True)] == without
    assert with_list[0][len(without[0]) :] == ["t0=B", "t1=E"]


def test_a_prompt_names_the_terms_that_the_text_holds_and_no_more_than_it_may(listed):
    note = Document("n", "肺炎、喘息、肺炎")
    prompt = {
        hints: prompt_string(
            IclTagger(IclSettings(model="m", dictionary=listed, hints=hints), (), 0).pieces([note])[0].prompt
        )
        for hints in (1, 20)
    }
    assert "（参考）：肺炎、喘息\n" in prompt[20] and "（参考）：肺炎\n" in prompt[1]
    without = prompt_string(IclTagger(IclSettings(model="m"), (), 0).pieces([note])[0].prompt)
    assert "（参考）" not in without and prompt[20].endswith("テキスト：肺炎、喘息、肺炎\n\nアノテーション：")


def test_the_example_list_lies_where_the_docs_say():
    assert (ROOT / "data/examples/terms.csv").is_file()
