"""CoNLL columns are read as meant, or one sentence says which line is not."""

import pytest
from exports import refused, refused_whole, surfaces, written

from nbutils.corpus.formats import read_corpus

TOKENS = "-DOCSTART- -X- O O\n\n胸 NN O\n水 NN B-d\nあり VB O\n\n熱 NN B-d\nなし VB O\n"


def test_tokens_join_as_declared_and_a_blank_line_is_a_line_break(tmp_path):
    path = written(tmp_path, "a.conll", TOKENS)
    (joined,) = read_corpus(path, "conll", join="none")
    (spaced,) = read_corpus(path, "conll", join="space")
    assert (joined.text, spaced.text) == ("胸水あり\n熱なし", "胸 水 あり\n熱 なし")
    assert [joined.surface(e) for e in joined.entities] == [spaced.surface(e) for e in spaced.entities] == ["水", "熱"]


def test_documents_divide_as_declared(tmp_path):
    path = written(tmp_path, "a.conll", TOKENS.split("\n\n", 1)[1])
    assert [d.text for d in read_corpus(path, "conll", join="none", documents="blank")] == ["胸水あり", "熱なし"]
    assert [d.id for d in read_corpus(path, "conll", join="none", documents="file")] == ["a"]


@pytest.mark.parametrize(
    ("content", "how", "sentence"),
    [
        (TOKENS, {}, "say `join: none`"),
        ("熱 B-d\n", {"join": "none"}, "there is no -DOCSTART-"),
        ("-DOCSTART-\n熱 I-d\n", {"join": "none"}, "line 2: I-d follows no entity"),
        ("-DOCSTART-\n熱 B-d\n\n高 I-d\n", {"join": "none"}, "line 4: I-d follows no entity"),
        ("-DOCSTART-\n熱 B-d\n高 I-a\n", {"join": "none"}, "line 3: I-a follows no entity"),
        ("-DOCSTART-\n熱 S-d\n咳 B-d\n", {"join": "none"}, 'line 2: the label "S-d" is not IOB2'),
        ("-DOCSTART-\n熱\n咳 B-d\n", {"join": "none"}, "line 2: 1 columns"),
        ("-DOCSTART-\n熱 NN B-d\n高 O\n", {"join": "none"}, "line 3: 2 columns where line 2 has 3"),
        ("-DOCSTART-\n右 肺 NN B-d\n熱 NN O\n", {"join": "none"}, "line 3: 3 columns where line 2 has 4"),
        ("-DOCSTART-\n熱 0 2 B-d\n", {"join": "offsets"}, "line 2: the offsets 0–2 do not fit"),
        ("-DOCSTART-\n熱 a b B-d\n咳 0 1 B-d\n", {"join": "offsets"}, "line 2: columns 2 and 3 are no offsets"),
        ("-DOCSTART-\n熱 0 99999999999 B-d\n咳 0 1 B-d\n", {"join": "offsets"}, "line 2: an offset lies beyond"),
        (f"-DOCSTART-\n熱 0 {'9' * 5000} B-d\n咳 0 1 B-d\n", {"join": "offsets"}, "line 2: an offset lies beyond"),
        ('-DOCSTART-\n# text = "咳"\n熱 0 1 B-d\n', {"join": "offsets"}, "line 3: the `# text =`"),
        ("熱 O\n-DOCSTART-\n咳 B-d\n", {"join": "none"}, "line 1: tokens before the first"),
        (TOKENS, {"join": "none", "overlaps": "longest"}, "means nothing for the format conll"),
        (TOKENS, {"join": "glue"}, "use one of none, space, offsets"),
        ('-DOCSTART-\n# meta = {"a": 1}\n熱 B-d\n', {"join": "none"}, "line 2: behind `# meta =` a JSON object"),
    ],
)
def test_faulty_columns_give_file_line_and_fix(tmp_path, content, how, sentence):
    assert sentence in refused(written(tmp_path, "a.conll", content), "conll", **how)


def test_all_faulty_lines_are_told_at_once(tmp_path):
    content = "-DOCSTART-\n熱 X\n咳 Y\n痰\n咳 I-d\n咳 B-d\n"
    sentences = refused_whole(written(tmp_path, "a.conll", content), "conll", join="none")
    assert "line 2: the label" in sentences and "2 such; also line 3" in sentences
    assert "line 4: 1 columns" in sentences and "line 5: I-d follows" in sentences


def test_offsets_without_the_text_keep_their_places_and_say_so(tmp_path):
    path = written(tmp_path, "a.conll", "-DOCSTART-\nno 0 2 O\nfever 3 8 B-d\n\ncough 10 15 B-d\n")
    corpus = read_corpus(path, "conll", join="offsets")
    assert corpus.documents[0].text == "no fever\n cough" and "where spaces stand now" in corpus.notices[0]


@pytest.mark.parametrize("blank", ["\u3000", "\u00a0", "\u2003", "\u2028", "\x85"])
@pytest.mark.parametrize("divider", [" ", "   ", "\t"])
def test_only_tabs_and_ordinary_blanks_divide_columns(tmp_path, blank, divider):
    rows = [["右" + blank + "肺炎", "-X-", "B-d"], ["あり", "-X-", "O"]]
    content = "-DOCSTART-\n" + "".join(divider.join(row) + "\n" for row in rows)
    (document,) = read_corpus(written(tmp_path, "a.conll", content), "conll", join="none")
    assert document.text == f"右{blank}肺炎あり" and document.surface(document.entities[0]) == f"右{blank}肺炎"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_divides_tokens(tmp_path, end):
    path = written(tmp_path, "a.conll", TOKENS.replace("\n", end))
    corpus = read_corpus(path, "conll", join="none")
    assert corpus.documents[0].text == "胸水あり\n熱なし" and surfaces(corpus) == ["水", "熱"]
