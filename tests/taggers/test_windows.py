"""Long texts are cut so that everything is decided exactly once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils.taggers.windows import clause_windows, window_bounds


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 400), st.integers(1, 100))
def test_every_piece_is_decided_exactly_once(n, size):
    decided = [k for _, _, first, last in window_bounds(n, size) for k in range(first, last)]
    assert decided == list(range(n))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 400), st.integers(1, 100))
def test_a_window_decides_only_what_it_reads_and_is_never_too_long(n, size):
    for begin, stop, first, last in window_bounds(n, size):
        assert 0 <= begin <= first <= last <= stop <= n
        assert stop - begin <= size


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.integers(2, 60))
def test_a_piece_is_decided_where_it_has_most_context(n, size):
    windows = window_bounds(n, size)

    def context(k, begin, stop):
        return min(k - begin if begin else n, stop - 1 - k if stop < n else n)

    for begin, stop, first, last in windows:
        for k in range(first, last):
            best = max(context(k, b, s) for b, s, *_ in windows if b <= k < s)
            assert context(k, begin, stop) >= best - 1  # two windows may share the middle piece


def test_a_window_without_room_is_refused():
    with pytest.raises(ValueError, match="raise max_length"):
        window_bounds(10, 0)
    with pytest.raises(ValueError, match="raise max_length"):
        clause_windows("発熱", [1, 2], 0)


@st.composite
def tokenised_texts(draw):
    """A text and the character behind each of its tokens: some characters have several, some tokens several."""
    text = draw(st.text("発熱なし、。 ,.a1Ａ(）\n\u3000", max_size=80))
    ends, at = [], 0
    while at < len(text):
        at = min(at + draw(st.integers(1, 3)), len(text))
        ends += [at] * draw(st.integers(1, 3))
    return text, ends[: len(ends) - draw(st.integers(0, 1))]  # the last characters may have no token


@st.composite
def spans_to_keep(draw, length):
    cuts = sorted(draw(st.sets(st.integers(0, length), max_size=8)))
    return list(zip(cuts[::2], cuts[1::2], strict=False))


@settings(max_examples=300, deadline=None)
@given(tokenised_texts(), st.integers(1, 40), st.data())
def test_clause_windows_decide_every_character_exactly_once(case, size, data):
    text, ends = case
    keep = data.draw(spans_to_keep(len(text)))
    at = 0
    for begin, stop, first, last in clause_windows(text, ends, size, keep):
        assert 0 <= begin <= first <= last <= stop <= len(text)
        assert first == at
        at = last
    assert at == len(text)


@settings(max_examples=300, deadline=None)
@given(tokenised_texts(), st.integers(9, 40), st.data())
def test_a_clause_window_is_too_long_only_where_a_span_to_keep_reaches_over_its_edge(case, size, data):
    text, ends = case
    keep = data.draw(spans_to_keep(len(text)))
    for begin, stop, _, _ in clause_windows(text, ends, size, keep):
        tokens = [end for end in ends if begin < end <= stop]
        forced = sum(
            sum(start < end <= stop_ for end in tokens) for start, stop_ in keep if stop_ == stop or start == begin
        )
        assert len(tokens) <= size + forced


@settings(max_examples=300, deadline=None)
@given(tokenised_texts(), st.integers(9, 40), st.data())
def test_a_span_to_keep_lies_whole_in_the_window_that_decides_it_and_is_cut_by_none(case, size, data):
    text, ends = case
    keep = data.draw(spans_to_keep(len(text)))
    windows = clause_windows(text, ends, size, keep)
    for start, end in keep:
        assert not any(start < begin < end or start < stop < end for begin, stop, _, _ in windows)
        assert (
            sum(first <= start < last and begin <= start and end <= stop for begin, stop, first, last in windows) == 1
        )


def test_a_long_text_is_cut_behind_a_clause():
    text = "発熱と咳嗽を認めた。胸部ＣＴで肺炎を認めた。"
    windows = clause_windows(text, range(1, len(text) + 1), 16)
    assert [text[begin:stop] for begin, stop, _, _ in windows] == ["発熱と咳嗽を認めた。", "胸部ＣＴで肺炎を認めた。"]


@pytest.mark.parametrize("name", ["Crohn disease", "Ｈ．ｐｙｌｏｒｉ感染", "1,200mLの胸水", "ＩｇＧ４\u3000disease"])
def test_a_name_with_a_blank_or_a_point_in_it_is_not_cut_as_if_a_clause_ended_there(name):
    text = f"患者は発熱あり、{name}と診断"
    assert len(text) > 16
    for _, stop, _, last in clause_windows(text, range(1, len(text) + 1), 16):
        assert (stop, last) == (len(text), len(text)) or text[:stop].endswith("、")


def test_a_text_without_any_clause_is_read_in_overlapping_windows():
    windows = clause_windows("あ" * 20, range(1, 21), 8)
    assert windows == [(0, 8, 0, 6), (4, 12, 6, 10), (8, 16, 10, 14), (12, 20, 14, 20)]


def test_a_text_that_fits_is_one_window():
    assert clause_windows("発熱、咳", [1, 2, 3, 4], 4) == [(0, 4, 0, 4)]
