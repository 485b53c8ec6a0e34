"""Answers that hold the note more than once: the copy that carries the entities is read, whatever stands around it."""

import time

import pytest
from conftest import note, uncounted, whole_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils.corpus import Document, Entity
from nbutils.prompting.alignment import copies
from nbutils.prompting.markup import read, write

TEXT = "既往に高血圧がある。三日前から発熱と咳嗽が出現した。胸部CTで浸潤影を認めた。肺炎と診断した。"
WORDS = ("高血圧", "発熱", "咳嗽", "浸潤影", "肺炎")
ENTITIES = tuple(Entity(TEXT.index(w), TEXT.index(w) + len(w)) for w in WORDS)
ANSWER = write(TEXT, ENTITIES)


def quotes(document, every):
    return "".join(f"「{line}」を確かめる。" for line in document.text.split("\n")[::every])


# Each makes of a note and its perfect answer a longer one, which says the same.
AROUND = {
    "echo": lambda d, a: f"原文：\n{d.text}\n\n出力：\n{a}",
    "echo without a word": lambda d, a: d.text + a,
    "echo behind": lambda d, a: f"{a}\n\n（原文：{d.text}）",
    "echo on both sides": lambda d, a: f"{d.text}\n{a}\n{d.text}",
    "thinking that quotes every fifth line": lambda d, a: f"<think>\n{quotes(d, 5)}\n</think>\n\n{a}",
    "thinking that quotes every line": lambda d, a: f"<think>\n{quotes(d, 1)}\n</think>\n\n{a}",
    "thinking whose opening tag is missing": lambda d, a: f"{quotes(d, 2)}</think>{a}",
    "thinking in other marks": lambda d, a: f"[THINK]{quotes(d, 3)}[/THINK]{a}",
    "plan": lambda d, a: f"病名は{'、'.join(map(d.surface, d.entities))}。\n\n{a}",
    "tagged plan": lambda d, a: f"計画：{'、'.join(f'<d>{d.surface(e)}</d>' for e in d.entities)}\n\n{a}",
    "second thoughts": lambda d, a: f"{a}\n\n補足：{'、'.join(f'<d>{d.surface(e)}</d>' for e in d.entities[:3])}。",
    "fence": lambda d, a: f"以下に示します。\n```xml\n{a}\n```\n以上です。",
    "draft with other tags": lambda d, a: f"下書き：\n<d>{d.text[:9]}</d>{d.text[9:]}\n\n清書：\n{a}",
    "summary and translation": lambda d, a: f"要約：{d.text[::7]}\nSummary: the patient was admitted.\n\n{a}",
    "all at once": lambda d, a: f"<think>{quotes(d, 2)}</think>\n原文：{d.text}\n```\n{a}\n```\n「{d.text[:30]}」",
}  # fmt: skip


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND.keys())
def test_the_copy_with_the_entities_is_read_whatever_stands_around_it(around):
    document = Document("x", TEXT, ENTITIES)
    reading = read(TEXT, around(document, ANSWER))
    assert [e.key for e in reading.entities] == [e.key for e in ENTITIES]
    assert reading.repairs and not reading.failed and read(TEXT, around(document, ANSWER), policy="strict").failed


@uncounted
@pytest.mark.parametrize("corpus", ["cr", "pn"])
@pytest.mark.parametrize("around", ["echo", "thinking that quotes every fifth line", "all at once"])
def test_perfect_answers_stay_perfect_on_whole_corpora(corpus, around):
    for document in whole_corpus(corpus):
        reading = read(document.text, AROUND[around](document, write(document.text, document.entities)))
        assert [e.key for e in reading.entities] == [e.key for e in sorted(document.entities)], document.id


def piece_of(text):
    return st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(lambda cut: text[min(cut) : max(cut)])


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(0, 11))
def test_pieces_of_the_note_before_the_answer_change_nothing(data, number):
    """With tags or without, whole or cut anywhere, also in the middle of a tag."""
    document = note(number)
    answer = write(document.text, document.entities)
    piece = st.one_of(piece_of(document.text), piece_of(answer), st.sampled_from(["", "\n", "原文：", "</think>"]))
    before = "".join(data.draw(st.lists(piece, max_size=8)))
    reading = read(document.text, before + "\n" + answer)
    assert [e.key for e in reading.entities] == [e.key for e in document.entities]


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(0, 11))
def test_bare_pieces_of_the_note_on_both_sides_change_nothing(data, number):
    """Pieces of less than half of the note: a longer one behind the answer may be a second, untagged answer."""
    document = note(number)
    short = piece_of(document.text).map(lambda piece: piece[: len(document.text) // 2 - 1])
    answer = f"{data.draw(short)}\n{write(document.text, document.entities)}\n{data.draw(short)}"
    reading = read(document.text, answer)
    assert [e.key for e in reading.entities] == [e.key for e in document.entities]


def test_an_untagged_copy_behind_quotes_with_tags_means_no_entity():
    note = "発熱なし。咳嗽なし。胸水は認めない。皮疹もない。"
    thought = "「<d>発熱</d>なし」は否定なので囲まない。「<d>咳嗽</d>なし」も。\n\n"
    assert not read(note, thought + note).entities


def test_an_answer_that_was_cut_off_behind_an_echo_keeps_what_it_has():
    reading = read(TEXT, f"原文：{TEXT}\n出力：{ANSWER[: ANSWER.index('を認めた')]}")
    assert [e.key for e in reading.entities] == [e.key for e in ENTITIES[:4]]


def test_the_last_of_several_tagged_copies_counts():
    draft = write(TEXT, [Entity(0, 5), Entity(10, 13)])
    assert [e.key for e in read(TEXT, f"{draft}\n修正：\n{ANSWER}").entities] == [e.key for e in ENTITIES]


def test_a_note_told_twice_is_counted_as_repetition():
    assert read(TEXT, f"{TEXT}\n{ANSWER}").repairs["repetition"] == 1


def test_copies_are_cut_out_to_the_character():
    assert copies("abcdefgh", "xxabcdefghyyyabcdefghz")[0] == (2, 10)
    assert (13, 21) in copies("abcdefgh", "xxabcdefghyyyabcdefghz")
    assert copies("", "abc") == [] and copies("abc", "xyz") == []


@pytest.mark.parametrize("text", [TEXT * 180, "ab" * 4_000], ids=["note", "periodic"])
def test_eight_thousand_characters_with_an_echo_take_about_a_second(text):
    begin = time.process_time()
    read(text, f"<think>{text[::2]}</think>原文：{text}\n出力：<d>{text[:2]}</d>{text[2:]}")
    assert time.process_time() - begin < 2
