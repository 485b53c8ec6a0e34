"""From whatever a language model wrote to spans of the note it was given: inline tags, scanned and never parsed.

A generation is no XML: it may lack, repeat or alter text, and a note may hold a literal "<". So tags are recognised
one by one, the rest is aligned with the note from left to right, and only what the note itself says becomes a span.
Where an answer holds the note several times (an echo, a draft, quotes in a train of thought), the copy is read that
carries the tags, and of several such ones the last.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from nbutils.corpus import Entity, without_overlaps
from nbutils.prompting.alignment import UNMATCHED, copies, matched
from nbutils.taggers.offsets import normalised_stream

POLICIES = ("strict", "repair")
ALIGNED_SHARE = 0.5  # of the shorter one of note and answer; below it the answer is about something else
WHOLE = 0.8  # of the characters of the best copy in an answer; another one with so many is as good a copy
LOOSE = 0.1  # matched characters that a foreign one inside of a copy outweighs
_ESCAPED = re.compile(r"&(?:lt|gt|amp|quot|apos|#39|#x27);")


@dataclass(frozen=True)
class Reading:
    """What an answer says about a note: entities of the note, and how often which kind of damage was met.

    `failed` says that nothing could be taken from the answer; the ledger `repairs` then says why.
    """

    entities: tuple[Entity, ...]
    repairs: Mapping[str, int] = field(default_factory=dict)
    failed: bool = False


@dataclass(frozen=True)
class _Tag:
    label: str
    closes: bool
    at: int  # characters of the answer's text (without tags) before it


def write(text: str, entities: Iterable[Entity]) -> str:
    """The text with `<d>…</d>` around its entities, nothing escaped: what a perfect answer looks like.

    Raises:
        ValueError: entities overlap, are empty, or lie outside the text.
    """
    out, at = [], 0
    for e in sorted(entities):
        if not at <= e.start < e.end <= len(text):
            raise ValueError(f"entity {e.start}–{e.end} overlaps another one or lies outside the text")
        out += [text[at : e.start], f"<{e.label}>", text[e.start : e.end], f"</{e.label}>"]
        at = e.end
    return "".join([*out, text[at:]])


def read(text: str, answer: str, labels: Sequence[str] = ("d",), policy: str = "repair") -> Reading:
    """The entities of `text` that an answer marks; never an error, whatever the answer is, in near-linear time.

    Args:
        answer: what the model wrote, unchanged.
        policy: `repair` takes what can be taken; `strict` takes an answer only if it is the text with well-formed
            tags (white space around it aside), and nothing of it otherwise. Both keep the same ledger.

    Raises:
        ValueError: an unknown policy.

    Where the text holds literal tags, two sets of entities may be written alike; one of them is returned.
    """
    if policy not in POLICIES:
        raise ValueError(f'policy "{policy}" is unknown; use one of {", ".join(POLICIES)}')
    if not answer.strip():
        return Reading((), {"empty answer": 1}, failed=True) if text.strip() else Reading(())
    ledger: Counter[str] = Counter()
    entities = _read_exact(text, answer, labels, ledger)
    if entities is None:
        ledger.clear()
        entities = _read_damaged(text, answer, labels, ledger)
    ledger = +ledger  # without kinds that were looked for and not met
    if policy == "strict" and ledger:
        return Reading((), dict(ledger), failed=True)
    return Reading(entities, dict(ledger), failed="unaligned" in ledger)


# --- an answer whose text is the note, character by character --------------------------------------------------------


def _read_exact(text: str, answer: str, labels: Sequence[str], ledger: Counter[str]) -> tuple[Entity, ...] | None:
    """The entities if the answer is the text with tags in it, else None; a literal tag of the text is text."""
    lead = len(answer) - len(answer.lstrip())
    for begin in dict.fromkeys((0, lead, max(lead - (len(text) - len(text.lstrip())), 0))):
        tags, at, cursor = [], 0, begin
        counted: Counter[str] = Counter()
        for match in tag_pattern(tuple(labels)).finditer(answer, begin):
            between = answer[cursor : match.start()]
            if not text.startswith(between, at):
                break
            at += len(between)
            cursor = match.end()
            if text.startswith(match.group(), at):
                at += len(match.group())
            else:
                tags.append(_tag(match, at, labels, counted))
        else:
            rest = answer[cursor:]
            if text[at:] == rest or (text[at:].rstrip() == rest.rstrip()):
                ledger.update(counted)
                pairs = _paired(tags, ledger)
                return _sound([Entity(a, b, label) for a, b, label in pairs], ledger)
    return None


# --- any other answer ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Copy:
    """One way to align an answer with the note: as a whole, or a stretch of it that is like the note."""

    start: int  # in the answer's characters
    stop: int
    match: Sequence[int] = field(repr=False)  # for each character of the answer, outside of the stretch UNMATCHED
    n_matched: int
    entities: tuple[Entity, ...]
    ledger: Counter[str]

    @property
    def n_loose(self) -> int:
        """Characters between its first and last matched one that are not of the note."""
        return self.stop - self.start - self.n_matched


def _read_damaged(text: str, answer: str, labels: Sequence[str], ledger: Counter[str]) -> tuple[Entity, ...]:
    source, spans = normalised_stream(text)
    written, tags = _stream_with_tags(text, answer, labels, ledger)
    ways = [_aligned(source, spans, written, tags, 0, len(written))]
    if len(written) > ways[0].n_matched:
        ways += [_aligned(source, spans, written, tags, *stretch) for stretch in copies(source, written)]
    chosen = _chosen(ways, len(source))
    if chosen.n_matched < ALIGNED_SHARE * max(min(len(source), len(written)), 1):
        ledger["unaligned"] += 1
        return ()
    _count_damage(source, written, chosen.match, answer, ledger)
    others = (w for w in ways if w.n_matched >= WHOLE * chosen.n_matched)
    if any(w.stop <= chosen.start or w.start >= chosen.stop for w in others):
        ledger["repetition"] = 1
    ledger.update(chosen.ledger)
    return chosen.entities


def _aligned(
    source: str, spans: Sequence[tuple[int, int]], written: str, tags: Sequence[_Tag], start: int, stop: int
) -> _Copy:
    """A stretch of the answer read for itself; it is widened where the note's beginning or end is missing in it."""
    inside = matched(source, written[start:stop])
    known = [i for i in inside if i != UNMATCHED]
    if known and stop - start < len(written):
        wider = max(start - 2 * known[0], 0), min(stop + 2 * (len(source) - 1 - known[-1]), len(written))
        if wider != (start, stop):
            start, stop = wider
            inside = matched(source, written[start:stop])
    places = [j for j, i in enumerate(inside) if i != UNMATCHED]
    match = [UNMATCHED] * start + inside + [UNMATCHED] * (len(written) - stop)
    ledger: Counter[str] = Counter()
    own = [tag for tag in tags if (start < tag.at <= stop if tag.closes else start <= tag.at < stop)]
    entities = []
    for begin, end, label in _paired(own, ledger):
        place = _place(match, begin, end, len(source))
        if place is None:
            ledger["entity not in the text"] += 1
            continue
        if source[place[0] : place[1]] != written[begin:end]:
            ledger["entity altered"] += 1
        entities.append(Entity(spans[place[0]][0], spans[place[1] - 1][1], label))
    sound = _sound(entities, ledger)
    begin, end = (start + places[0], start + places[-1] + 1) if places else (start, start)
    return _Copy(begin, end, match, len(places), sound, ledger)


def _chosen(ways: Sequence[_Copy], n_source: int) -> _Copy:
    """The last whole copy of the note with entities in it; without any, the last whole copy.

    Behind a whole copy without entities, such as an echo, a cut one that has some is the answer.
    """
    apart: list[_Copy] = []  # of several ways to cut out the same copy the best one
    for way in sorted(ways, key=lambda w: (w.n_matched - LOOSE * w.n_loose, bool(w.entities), w.start), reverse=True):
        if all(way.stop <= w.start or w.stop <= way.start for w in apart):
            apart.append(way)
    whole = [w for w in apart if w.n_matched >= WHOLE * max(w.n_matched for w in apart)]
    chosen = max([w for w in whole if w.entities] or whole, key=lambda w: w.start)
    if not chosen.entities:
        behind = [w for w in apart if w.entities and w.start >= chosen.stop and w.n_matched >= ALIGNED_SHARE * n_source]
        chosen = max(behind, key=lambda w: w.start, default=chosen)
    return chosen


def _stream_with_tags(text: str, answer: str, labels: Sequence[str], ledger: Counter[str]) -> tuple[str, list[_Tag]]:
    """The answer's characters as they are compared (NFKC, case folded, no white space), and where the tags stand."""
    pattern = tag_pattern(tuple(labels))
    has_literal = pattern.search(text) is not None
    has_escapes = _ESCAPED.search(text) is not None
    pieces: list[str] = []
    tags: list[_Tag] = []
    length = cursor = 0

    def add(piece: str) -> int:
        if not has_escapes and _ESCAPED.search(piece):
            ledger["escaped character"] += 1
            piece = html.unescape(piece)
        pieces.append(normalised_stream(piece)[0])
        return len(pieces[-1])

    for match in pattern.finditer(answer):
        if has_literal and answer[max(match.start() - 2, 0) : match.end() + 1] in text:
            continue  # the note itself says so here
        length += add(answer[cursor : match.start()])
        cursor = match.end()
        tags.append(_tag(match, length, labels, ledger))
    add(answer[cursor:])
    return "".join(pieces), tags


def _place(match: Sequence[int], begin: int, stop: int, n_source: int) -> tuple[int, int] | None:
    """Where the characters [begin, stop) of the answer lie in the source, or None when that is not plain.

    A border that was altered is taken from the character on the other side of the tag. At least half of the
    characters, on both sides, must have their like.
    """
    if begin >= stop:
        return None
    first, last = match[begin], match[stop - 1]
    if first == UNMATCHED and begin > 0 and match[begin - 1] != UNMATCHED:
        first = match[begin - 1] + 1
    if last == UNMATCHED and stop < len(match) and match[stop] != UNMATCHED:
        last = match[stop] - 1
    if first == UNMATCHED or last == UNMATCHED or not 0 <= first <= last < n_source:
        return None
    alike = sum(i != UNMATCHED for i in match[begin:stop])
    return (first, last + 1) if 2 * alike >= max(stop - begin, last + 1 - first) else None


def _count_damage(source: str, written: str, match: Sequence[int], answer: str, ledger: Counter[str]) -> None:
    """Note which text was added, left out or only normalised, in runs of characters; some have their like."""
    places = [j for j, i in enumerate(match) if i != UNMATCHED]
    if places[0] > 0:
        ledger["code fence" if "```" in answer[: answer.find("\n", 4) + 1] else "preamble"] += 1
    if (tail := written[places[-1] + 1 :]) != "":
        ledger["repetition" if len(tail) >= 10 and tail[:10] in written[: places[-1] + 1] else "afterword"] += 1
    if match[places[-1]] < len(source) - 1:
        ledger["cut off"] += 1
    if match[places[0]] > 0:
        ledger["text missing"] += 1
    for here, following in pairwise(places):
        ledger["text added"] += following > here + 1
        ledger["text missing"] += match[following] > match[here] + 1
    if not any(ledger.values()):
        ledger["text normalised"] += 1


# --- tags ------------------------------------------------------------------------------------------------------------


@cache
def tag_pattern(labels: tuple[str, ...]) -> re.Pattern[str]:
    """One opening or closing tag as models write it: `<d>`, `＜d＞`, `<D>`, `&lt;d&gt;`, `<d a="b">`, `<d …`, `</d`."""
    names = "|".join(map(_any_width, sorted(labels, key=len, reverse=True)))
    left, right = r"(?:[<＜]|&lt;)", r"(?:[>＞]|&gt;)"
    attribute = r"\s{1,4}[A-Za-z][\w:.-]{0,40}\s?=\s?(?:\"[^\"<>]{0,80}\"|'[^'<>]{0,80}'|[^\s<>\"'＜＞]{1,80})"
    opening = rf"(?P<open>{names})(?:(?P<attributes>(?:{attribute}){{1,8}})?\s{{0,4}}{right}|(?P<bare>[ \u3000]))"
    closing = rf"\s?[/／]\s?(?P<close>{names})(?:\s?{right}|(?![\w-]))"
    return re.compile(rf"{left}(?:\s?{opening}|{closing})")


def _any_width(label: str) -> str:
    """A pattern for the label in any case, in ASCII or full-width characters."""
    return "".join(
        f"[{re.escape(c.lower() + c.upper() + chr(ord(c.lower()) + 0xFEE0) + chr(ord(c.upper()) + 0xFEE0))}]"
        if "!" <= c.lower() <= "~" and "!" <= c.upper() <= "~"
        else re.escape(c)
        for c in label
    )


def _tag(match: re.Match[str], at: int, labels: Sequence[str], ledger: Counter[str]) -> _Tag:
    name = match["open"] or match["close"]
    folded = normalised_stream(name)[0]
    label = next(label for label in labels if normalised_stream(label)[0] == folded)
    closes = match["close"] is not None
    if match["attributes"]:
        ledger["tag with attributes"] += 1
    elif match.group() != (f"</{label}>" if closes else f"<{label}>"):
        ledger["tag misspelt"] += 1
    return _Tag(label, closes, at)


def _paired(tags: Sequence[_Tag], ledger: Counter[str]) -> list[tuple[int, int, str]]:
    """(begin, stop, label) of tags that belong together: each closing one takes the last open one of its label.

    Of nested pairs the outermost stands, as the guideline wants the longest phrase. Unclosed, unopened, crossed and
    empty tags are counted and mark nothing.
    """
    waiting: list[_Tag] = []
    pairs: list[tuple[int, int, str]] = []
    for tag in tags:
        if not tag.closes:
            waiting.append(tag)
            continue
        k = next((k for k in range(len(waiting) - 1, max(len(waiting) - 9, -1), -1)
                  if waiting[k].label == tag.label), None)  # fmt: skip
        if k is None:
            ledger["tag unopened"] += 1
            continue
        ledger["tag crossed"] += k < len(waiting) - 1 and any(t.at > waiting[k].at for t in waiting[k + 1 :])
        opened = waiting.pop(k)
        if opened.at == tag.at:
            ledger["tag empty"] += 1
        else:
            pairs.append((opened.at, tag.at, tag.label))
    ledger["tag unclosed"] += len(waiting)
    outer: list[tuple[int, int, str]] = []
    for pair in sorted(pairs, key=lambda p: (p[0], -p[1])):
        if outer and pair[1] <= outer[-1][1]:
            ledger["tag nested"] += 1
        else:
            outer.append(pair)
    return outer


def _sound(entities: Sequence[Entity], ledger: Counter[str]) -> tuple[Entity, ...]:
    """The entities in order, without overlaps, which are counted."""
    kept = without_overlaps(entities)
    if len(kept) < len(entities):
        ledger["entity overlaps"] += len(entities) - len(kept)
    return kept
