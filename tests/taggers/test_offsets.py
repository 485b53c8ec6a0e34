"""Pieces of any tokenizer come back as spans of the unchanged text."""

import unicodedata

import pytest
import transformers
from conftest import CORPORA, SHARED, uncounted, whole_corpus
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nbutils.taggers.offsets import encode_with_offsets, special_ids
from nbutils.taggers.tiny import character_tokenizer
from tools.tokenizer_check import bio_round_trip

BERT = SHARED / "tokenizers" / "bert-base-japanese"
needs_bert = pytest.mark.skipif(not BERT.is_dir(), reason="needs tokenizers/bert-base-japanese")

VOCABULARY = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] 発熱 痛み 痛 ##み CT ct と の mg 1 12 ガ ハッネツ ハ ##ッ ##ネ ##ツ a ##b ( ) # ###"
)


def japanese_tokenizer(folder, **options):
    """A slow BERT tokenizer, MeCab and NFKC as in the real one, with a handful of word pieces."""
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY.split()), encoding="utf-8")
    return transformers.BertJapaneseTokenizer(
        str(folder / "vocab.txt"), word_tokenizer_type="mecab", mecab_kwargs={"mecab_dic": "unidic_lite"}, **options
    )


@pytest.fixture(scope="session")
def small_slow(tmp_path_factory):
    return japanese_tokenizer(tmp_path_factory.mktemp("slow"))


@pytest.fixture(scope="session")
def by_character(tmp_path_factory):
    return japanese_tokenizer(tmp_path_factory.mktemp("slow"), subword_tokenizer_type="character")


@pytest.fixture(scope="session")
def real_slow():
    return transformers.BertJapaneseTokenizer.from_pretrained(str(BERT))


@pytest.fixture(scope="session")
def real_fast():
    """The same vocabulary behind a fast tokenizer that cuts kanji apart and strips accents, and so drops voicing."""
    return transformers.BertTokenizer(str(BERT / "vocab.txt"), do_lower_case=True)


@pytest.fixture(scope="session")
def characters():
    return character_tokenizer(["発熱と咳嗽の痛みなし。ガハッネツパmg12CTé \n、（）()<>/d"], ["d"])


# --- every text ---------------------------------------------------------------------------------------------------

wild = st.one_of(
    st.text(st.characters(exclude_categories=[]), max_size=20),
    st.text(
        "①㎎㍿ｶﾞﾊｯﾈﾂﾟﾊﾞ゙゚か\u0301\u0323\u200d\ufe0f\U000e0100 \u3000\t\n\0\x1c각각#▁発熱痛みａCTctㇷ゚é¨´𠮷😀\ud800",
        max_size=20,
    ),
    st.sampled_from(["[UNK]", "[SEP]痛み", "##痛み", "<d>痛み</d>", "<|begin|>痛み", "痛み\0発熱", "a" * 120 + "痛み"]),
)
TOKENIZERS = [
    "small_slow",
    "by_character",
    "characters",
    "bpe_tokenizer",
    pytest.param("real_slow", marks=needs_bert),
    pytest.param("real_fast", marks=needs_bert),
]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_offsets_lie_in_any_text_and_never_run_backwards_one_for_each_piece(name, request):
    tokenizer = request.getfixturevalue(name)

    @settings(max_examples=150, deadline=None)
    @given(wild)
    def check(text):
        ids, offsets = encode_with_offsets(tokenizer, text)
        assert len(ids) == len(offsets)
        assert all(0 <= start <= end <= len(text) for start, end in offsets)
        assert [start for start, _ in offsets] == sorted(start for start, _ in offsets)
        assert [end for _, end in offsets] == sorted(end for _, end in offsets)

    check()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_no_visible_character_of_any_text_is_left_without_a_piece(name, request):
    """Else a tagger could never find an entity there."""
    tokenizer = request.getfixturevalue(name)

    @settings(max_examples=150, deadline=None)
    @given(wild)
    def check(text):
        covered = {k for start, end in encode_with_offsets(tokenizer, text)[1] for k in range(start, end)}
        missed = {text[k] for k in range(len(text)) if k not in covered}
        assert {c for c in missed if unicodedata.category(c)[0] not in "CZM" and c not in "▁\ufffd"} == set()

    check()


@pytest.mark.parametrize("name", ["small_slow", pytest.param("real_slow", marks=needs_bert)])
def test_a_known_piece_stands_in_the_text_where_its_span_says(name, request):
    tokenizer = request.getfixturevalue(name)

    @settings(max_examples=200, deadline=None)
    @given(wild)
    @example("①②㎎ｶﾞﾊｯﾈﾂ")
    def check(text):
        ids, offsets = encode_with_offsets(tokenizer, text)
        for piece, (start, end) in zip(tokenizer.convert_ids_to_tokens(ids), offsets, strict=True):
            if piece != tokenizer.unk_token:
                assert piece.removeprefix("##") in unicodedata.normalize("NFKC", text[start:end])

    check()


@pytest.mark.parametrize("name", ["small_slow", "characters", pytest.param("real_slow", marks=needs_bert)])
def test_pieces_are_those_that_the_tokenizer_itself_gives(name, request):
    tokenizer = request.getfixturevalue(name)

    @settings(max_examples=100, deadline=None)
    @given(st.text("①㎎ｶﾞﾊｯﾈﾂ゙゚か\u0301 \u3000発熱痛みａCTét、。（）𠮷", max_size=20))
    def check(text):
        assert encode_with_offsets(tokenizer, text)[0] == tokenizer(text, add_special_tokens=False)["input_ids"]

    check()


# --- texts that once went wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("①㎎", [("1", "①"), ("mg", "㎎")]),
        ("発熱㎎", [("発熱", "発熱"), ("mg", "㎎")]),
        ("ｶﾞの", [("ガ", "ｶﾞ"), ("の", "の")]),
        ("ﾊｯﾈﾂと", [("ハッネツ", "ﾊｯﾈﾂ"), ("と", "と")]),
        ("発熱\u3000と\u3000痛み", [("発熱", "発熱"), ("と", "と"), ("痛み", "痛み")]),
        ("発熱\0痛み", [("発熱", "発熱"), ("[UNK]", "\0"), ("痛み", "痛み")]),
        ("𠮷の", [("[UNK]", "𠮷"), ("の", "の")]),
        ("と\u3099痛み", [("[UNK]", "と\u3099"), ("痛み", "痛み")]),
        ("", []),
    ],
)
def test_a_slow_tokenizers_pieces_are_laid_over_what_they_came_from(small_slow, text, pieces):
    ids, offsets = encode_with_offsets(small_slow, text)
    words = small_slow.convert_ids_to_tokens(ids)
    assert [(word, text[start:end]) for word, (start, end) in zip(words, offsets, strict=True)] == pieces


@pytest.mark.parametrize(
    ("text", "surfaces"),
    [
        ("ｶﾞの", ["ｶﾞ", "の"]),
        ("か\u3099の", ["か\u3099", "の"]),
        ("e\u0301の", ["e\u0301", "の"]),
        ("㎎の", ["㎎", "㎎", "の"]),
    ],
)
def test_a_fast_tokenizers_composed_character_keeps_its_mark(characters, text, surfaces):
    _, offsets = encode_with_offsets(characters, text)
    assert [text[start:end] for start, end in offsets] == surfaces


def test_unknown_characters_in_a_row_take_one_character_each(by_character):
    _, offsets = encode_with_offsets(by_character, "𠮷😀の")
    assert offsets == [(0, 1), (1, 2), (2, 3)]


def test_a_lower_casing_tokenizer_finds_the_upper_case_word_in_its_own_place(tmp_path):
    tokenizer = japanese_tokenizer(tmp_path, do_lower_case=True)
    _, offsets = encode_with_offsets(tokenizer, "CTとct")
    assert offsets == [(0, 2), (2, 3), (3, 5)]


@pytest.mark.parametrize("name", ["characters", "small_slow", "bpe_tokenizer"])
@pytest.mark.parametrize("text", ["[SEP]", "<d>", "<|end|>"])
def test_a_special_token_written_in_a_note_is_read_as_plain_characters(name, text, request):
    tokenizer = request.getfixturevalue(name)
    ids, _ = encode_with_offsets(tokenizer, text)
    assert len(ids) > 1
    assert not set(ids) & set(tokenizer.convert_tokens_to_ids(["[SEP]", "<d>", "<|end|>"])) - {
        tokenizer.unk_token_id,
        None,
    }


def test_special_ids_stand_where_the_tokenizer_puts_them(characters, small_slow, bpe_tokenizer):
    assert special_ids(characters) == ([2], [3])
    assert special_ids(small_slow) == ([2], [3])
    assert special_ids(bpe_tokenizer) == ([], [])


# --- gold entities --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("tokenizer_name", ["characters", pytest.param("real_slow", marks=needs_bert)])
@uncounted
def test_gold_entities_come_back_exactly_save_for_few_that_a_piece_cuts(name, tokenizer_name, request):
    trip = bio_round_trip(whole_corpus(name), request.getfixturevalue(tokenizer_name))
    print(f"{tokenizer_name} on {name}: {trip.cut} of {trip.entities} gold entities cut ({100 * trip.cut_rate:.2f} %)")
    assert trip.entities > 500
    assert trip.lost == 0
    assert trip.cut_rate <= 0.01


@needs_bert
@pytest.mark.parametrize("name", CORPORA)
@uncounted
def test_even_pieces_that_do_not_suit_japanese_lose_only_the_entities_that_they_cut(name, real_fast):
    """A whole katakana word is one unknown piece there; what is not cut inside one comes back."""
    trip = bio_round_trip(whole_corpus(name), real_fast)
    print(f"real_fast on {name}: {trip.cut} of {trip.entities} gold entities cut ({100 * trip.cut_rate:.2f} %)")
    assert trip.lost == 0
