"""Which character of a rewritten text is which character of its source, and where in a longer text its copies lie.

Runs of equal characters are followed. Where they end, the nearest place is taken at which both texts agree again
over several characters, and the short stretch in between is aligned by its longest common subsequence.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

UNMATCHED = -1
GRAMS = (8, 4, 2)  # characters that must agree for the texts to be together again; the shorter ones are tried last
CELLS = 4_000  # of the table for one stretch in between; a larger one stays unmatched but for its ends
COPIES = 5  # that are looked for in one text
SPARSE = 0.5  # what a character of a copy costs; where fewer than so many of them are of the source, a copy ends
STEPS = 1_000_000_000  # of one character with one other; longer texts are not searched for copies


def matched(source: str, written: str) -> list[int]:
    """For each character of `written` the index of its like in `source`, rising, or `UNMATCHED`.

    Time: O((n + m) log m) and at most `CELLS` steps for every stretch that disagrees, n and m being the lengths.
    """
    match = [UNMATCHED] * len(written)
    indices: dict[int, dict[str, list[int]]] = {}
    i = j = 0
    while i < len(source) and j < len(written):
        if source[i] == written[j]:
            match[j] = i
            i, j = i + 1, j + 1
            continue
        place = _together_again(source, written, i, j, indices)
        if place is None:
            break
        _stretch(source, written, (i, place[0]), (j, place[1]), match)
        i, j = place
    _stretch(source, written, (i, len(source)), (j, len(written)), match)
    return match


def _together_again(
    source: str, written: str, i: int, j: int, indices: dict[int, dict[str, list[int]]]
) -> tuple[int, int] | None:
    """The nearest place behind (i, j) at which both texts agree over some characters.

    The search goes no further in the source than the place that it returns, so that all searches together are linear.
    Once the longer stretches are used up they are not looked for again.
    """
    for size in GRAMS:
        if size not in indices:
            indices[size] = _index(written, size)
        index = indices[size]
        best, place = len(source) + len(written), None
        step = 0
        while index and step < best and i + step + size <= len(source):
            places = index.get(source[i + step : i + step + size])
            if places and (k := bisect_left(places, j)) < len(places) and step + places[k] - j < best:
                best, place = step + places[k] - j, (i + step, places[k])
            step += 1
        if place is not None:
            return place
        indices[size] = {}
    return None


def _index(text: str, size: int) -> dict[str, list[int]]:
    places = defaultdict(list)
    for k in range(len(text) - size + 1):
        places[text[k : k + size]].append(k)
    return dict(places)


def _stretch(source: str, written: str, a: tuple[int, int], b: tuple[int, int], match: list[int]) -> None:
    """Match what source[a] and written[b] have in common, in order: their ends, then the subsequence between."""
    (i, i_stop), (j, j_stop) = a, b
    while i < i_stop and j < j_stop and source[i_stop - 1] == written[j_stop - 1]:
        i_stop, j_stop = i_stop - 1, j_stop - 1
        match[j_stop] = i_stop
    n, m = i_stop - i, j_stop - j
    if n * m == 0 or n * m > CELLS:
        return
    lengths = _subsequence_lengths(source[i:i_stop], written[j:j_stop])
    p = q = 0
    while p < n and q < m:
        if source[i + p] == written[j + q]:
            match[j + q] = i + p
            p, q = p + 1, q + 1
        elif lengths[p + 1][q] >= lengths[p][q + 1]:
            p += 1
        else:
            q += 1


def _subsequence_lengths(a: str, b: str) -> Sequence[Sequence[int]]:
    """lengths[p][q]: how long the longest common subsequence of a[p:] and b[q:] is."""
    lengths = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for p in range(len(a) - 1, -1, -1):
        row, below = lengths[p], lengths[p + 1]
        for q in range(len(b) - 1, -1, -1):
            row[q] = below[q + 1] + 1 if a[p] == b[q] else max(below[q], row[q + 1])
    return lengths


# --- copies of the source in a longer text ---------------------------------------------------------------------------


def copies(source: str, written: str) -> list[tuple[int, int]]:
    """Stretches of `written` that are each like the source as a whole, or like much of it, in no order.

    Each is a stretch with the most characters in the order of the source, less `SPARSE` for each of its own characters:
    a piece of the source before a copy of all of it adds nothing, so it is left out. The last such stretch is taken,
    then what lies before and behind it is searched again; and the first one, which may overlap the last in a text that
    repeats itself.

    Source: longest common subsequences by bits of long integers (Hyyrö 2004), O(len(source) · len(written) / word).
    """
    if not source or len(source) * len(written) > STEPS:
        return []
    stretches = [_densest(source, written, 0, len(written), from_end=False)]
    regions = [(0, len(written))]
    while regions and len(stretches) <= COPIES:
        start, stop = regions.pop()
        if 2 * (stop - start) >= len(source):
            begin, end = _densest(source, written, start, stop, from_end=True)
            if 4 * (end - begin) >= len(source):  # else there is nothing better beside it
                stretches.append((begin, end))
                regions += [(start, begin), (end, stop)]
    return [(start, stop) for start, stop in dict.fromkeys(stretches) if 4 * (stop - start) >= len(source)]


def _densest(source: str, written: str, start: int, stop: int, *, from_end: bool) -> tuple[int, int]:
    """The best stretch of written[start:stop], of several equal ones the shortest last (or else first) one."""
    for backwards in (from_end, not from_end):
        chosen = written[start:stop]
        n = _best_length(source[::-1] if backwards else source, chosen[::-1] if backwards else chosen)
        start, stop = (stop - n, stop) if backwards else (start, start + n)
    return start, stop


def _best_length(source: str, written: str) -> int:
    """The shortest beginning of `written` with the best balance of characters in common and characters of its own."""
    common = _common_lengths(source, written)
    balances = [n - SPARSE * k for k, n in enumerate(common)]
    return balances.index(max(balances))


def _common_lengths(source: str, written: str) -> list[int]:
    """The length of the longest common subsequence of the source and each beginning of `written`, the empty one first.

    Bit i of `row` is 0 where one more character is in common with source[: i + 1] than with source[:i].
    """
    places: dict[str, int] = defaultdict(int)
    for i, character in enumerate(source):
        places[character] |= 1 << i
    everything = (1 << len(source)) - 1
    row, lengths = everything, [0]
    for character in written:
        if equal := row & places.get(character, 0):
            row = ((row + equal) | (row - equal)) & everything
            lengths.append(len(source) - row.bit_count())
        else:
            lengths.append(lengths[-1])
    return lengths
