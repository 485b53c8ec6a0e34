"""Cutting what is longer than a model's limit so that every piece of it is decided exactly once."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise

CLOSING = frozenset("。！？!?）)」】]\n\r")
CLAUSE_ENDS = CLOSING | frozenset("、，．,.;；：: \t\u3000")


def window_bounds(n: int, size: int) -> list[tuple[int, int, int, int]]:
    """(begin, stop, first decided, behind last decided) of overlapping windows over `n` pieces.

    Windows overlap by half. Where two overlap, each decides the half of the overlap that lies farther from its edge,
    so the decided parts cover all pieces once.

    Raises:
        ValueError: the size is not positive.
    """
    if size < 1:
        raise ValueError(f"a window of {size} pieces holds nothing; raise max_length")
    if n <= size:
        return [(0, n, 0, n)] if n else []
    stride = max(size // 2, 1)
    begins = [*range(0, n - size, stride), n - size]
    cuts = [0] + [(b + a + size) // 2 for a, b in pairwise(begins)] + [n]
    return [(b, b + size, cuts[k], cuts[k + 1]) for k, b in enumerate(begins)]


def clause_windows(
    text: str, ends: Sequence[int], size: int, keep: Sequence[tuple[int, int]] = ()
) -> list[tuple[int, int, int, int]]:
    """(begin, stop, first decided, behind last decided), in characters, of windows of at most `size` tokens.

    A text that is too long is cut behind the last end of a clause that fits; each such window decides all of itself.
    Where no clause ends in its second half, the next window overlaps it by half and decides what starts in the
    second half of the overlap.

    Args:
        ends: the character behind each token of the text, not falling; a character has fewer than `size / 4` tokens.
        keep: spans (start, end) that must not be cut, such as gold entities in training; a window with such a span
            at its edge becomes longer than `size`.

    Raises:
        ValueError: the size is not positive.
    """
    if size < 1:
        raise ValueError(f"a window of {size} tokens holds nothing; raise max_length")
    windows = []
    begin = decided = first = 0  # character, character, token
    while len(ends) - first > size:
        soft = _last_clause_end(text, ends, first + max(size // 2, 1), first + size, keep)
        if soft is not None:
            windows.append((begin, ends[soft - 1], decided, ends[soft - 1]))
            begin = decided = ends[soft - 1]
            first = soft
        else:
            last = first + size
            while last > first + 1 and ends[last - 1] == ends[last]:  # between two tokens of one character
                last -= 1
            stop = next((e for s, e in keep if s < ends[last - 1] < e), ends[last - 1])
            behind = min(ends[first + max(3 * size // 4, 1) - 1], stop)
            windows.append((begin, stop, decided, behind))
            first += max(size // 2, 1)
            begin, decided = min(ends[first - 1], behind), behind
            begin = next((s for s, e in keep if s < begin < e), begin)
    return [*windows, (begin, len(text), decided, len(text))]


def _last_clause_end(
    text: str, ends: Sequence[int], first: int, last: int, keep: Sequence[tuple[int, int]]
) -> int | None:
    """The greatest number of tokens in [first, last] behind which a clause ends and nothing to keep is cut."""
    for n in range(last, first - 1, -1):
        at = ends[n - 1]
        if ends[n] > at and _clause_ends(text, at) and not any(s < at < e for s, e in keep):
            return n
    return None


def _clause_ends(text: str, at: int) -> bool:
    """Whether a clause ends before `text[at]`; not so inside "Crohn disease", "H.pylori" or "1,200"."""
    mark = text[at - 1 : at]
    if mark not in CLAUSE_ENDS:
        return False
    return mark in CLOSING or not (_is_latin(text[at - 2 : at - 1]) and _is_latin(text[at : at + 1]))


def _is_latin(character: str) -> bool:
    narrow = unicodedata.normalize("NFKC", character)[:1]
    return narrow.isascii() and narrow.isalnum()
