"""The automaton of a tagged copy: every token sequence that writes one text and only adds tags, so output = input.

The same for training targets (`write`), for decoding (`steps`, used by `decode`) and for reading an answer back
(`read`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nbutils.corpus import Entity
from nbutils.taggers.offsets import Encoded, Span, encode_with_offsets

# A way to go on: tokens still to write before the state behind them is reached.
# A state is (character offset, open label or "", what must come next: "" | "text" | "tag", or "closed" after a tag).
State = tuple[int, str, str]
Path = tuple[tuple[int, ...], State]
Node = tuple[Path, ...]

LINE_BREAKS = frozenset("\r\n")
MOST_WAYS = 16  # of one tag that `ways` lists


class Copier:
    """All the ways to write one text with inline tags around some of its characters, as tokens of one tokenizer.

    The text's own tokenisation is kept wherever no tag falls into a token; where one does, the token is cut there
    and its two parts are tokenised on their own. Tags are tokenised on their own as well.

    `write` and `read` are inverse wherever the tokens say which entities were meant: always when tags are special
    tokens and the text has no unknown characters, else as long as the text holds no literal tag ("a</d>" with <d>
    around "a" or around all of it is the same string twice). Where two sets of entities write the same tokens, `read`
    gives one of them, and that one writes these tokens again; and decoding stops as soon as the text is written.
    """

    def __init__(self, tags: TagTokens, text: str, encoded: Encoded | None = None):
        """`encoded`: the text's tokens, where they are known already."""
        self.tags, self.text = tags, text
        self._one_line = LINE_BREAKS.isdisjoint(text)
        self._unit: dict[int, tuple[tuple[int, ...], int]] = {}
        self._paths: dict[State, list[Path]] = {}
        self._steps: dict[Node, dict[int, Node]] = {}
        self._canonical(*(encoded or encode_with_offsets(tags.tokenizer, text)))
        self.start: Node = tuple(self._reach((0, "", ""), ()))

    def _canonical(self, ids: Sequence[int], offsets: Sequence[Span]) -> None:
        """Group the tokens of the whole text into the smallest runs that begin and end between characters."""
        begin, first = 0, 0
        for k, (_, end) in enumerate(offsets):
            if end > begin and (k + 1 == len(ids) or offsets[k + 1][0] >= end):
                self._unit[begin] = (tuple(ids[first : k + 1]), end)
                begin, first = end, k + 1
        if begin < len(self.text):  # characters that the tokenizer drops, or tokens without any
            self._unit[begin] = (tuple(ids[first:]), len(self.text))

    def unit(self, at: int) -> tuple[tuple[int, ...], int]:
        """The tokens that write the text from character `at`, and the character behind them."""
        if at not in self._unit:
            start = max(b for b in self._unit if b <= at)
            end = self._unit[start][1]
            self._unit[at] = (self._encode(at, end), end)
        return self._unit[at]

    def _encode(self, start: int, end: int) -> tuple[int, ...]:
        return self.tags.encode(self.text[start:end])

    def paths(self, state: State) -> list[Path]:
        """The ways on from a state, plain text first; the order decides between ways that write the same tokens."""
        if state not in self._paths:
            self._paths[state] = self._find_paths(state)
        return self._paths[state]

    def _find_paths(self, state: State) -> list[Path]:
        at, inside, must = state
        ways: list[Path] = []
        if at < len(self.text) and must != "tag":
            ids, end = self.unit(at)
            if not inside or not self._breaks(at, end):
                ways.append((ids, (end, inside, "")))
            for cut in range(end - 1, at, -1):
                if not (self._breaks(at, cut) if inside else self._breaks(cut, cut + 1)):
                    ways.append((self._encode(at, cut), (cut, inside, "tag")))
        if inside and must != "text":
            ways.append((self.tags.close[inside], (at, "", "closed")))
        if not inside and at < len(self.text) and not self._breaks(at, at + 1):
            ways += [(self.tags.open[label], (at, label, "text")) for label in self.tags.open]
        return ways

    def _breaks(self, start: int, end: int) -> bool:
        """Whether a line break lies in `text[start:end]`: no tag opens before one, and no entity runs across."""
        return not self._one_line and not LINE_BREAKS.isdisjoint(self.text[start:end])

    def _reach(self, state: State, seen: tuple[State, ...]) -> list[Path]:
        """The paths from a state; text without tokens (dropped characters) is passed over at no cost.

        Such text at either end of an entity is left outside of it.
        """
        reached: list[Path] = []
        ways = self.paths(state)
        for tokens, behind in sorted(ways, key=lambda way: not way[0]) if state[1] else ways:
            if tokens:
                reached.append((tokens, behind))
            elif behind not in seen:
                reached += self._reach(behind, (*seen, behind))
        if state[0] == len(self.text) and not state[1]:
            reached.append(((), state))
        return reached

    def steps(self, node: Node) -> dict[int, Node]:
        """The tokens allowed here, the one that goes on with plain text first, and where each leads; none at the end.

        As long as a text is unfinished there is at least one.
        """
        if node not in self._steps:
            following: dict[int, list[Path]] = {}
            for tokens, state in () if self.finished(node) else node:
                rest = tokens[1:]
                here = following.setdefault(tokens[0], [])
                here += [(rest, state)] if rest else self._reach(state, (state,))
            self._steps[node] = {token: tuple(dict.fromkeys(paths)) for token, paths in following.items()}
        return self._steps[node]

    @staticmethod
    def finished(node: Node) -> bool:
        return any(not tokens for tokens, _ in node)

    def ways(self, node: Node) -> list[list[int]]:
        """The tokens up to the end of a tag that is sure to come, one list for each way to write it; else one empty.

        Inside a tag, or inside a token that is being cut for one, there may be several: which label, and where the cut
        is. Of more than `MOST_WAYS` only the first is listed.
        """
        if not self._tag_is_due(node):
            return [[]]
        ways, stack = [], [([], node)]
        while stack and len(ways) <= MOST_WAYS:
            tokens, here = stack.pop()
            if self._tag_is_due(here):
                stack += [([*tokens, token], behind) for token, behind in reversed(self.steps(here).items())]
            else:
                ways.append(tokens)
        return ways if len(ways) <= MOST_WAYS else ways[:1]

    @staticmethod
    def _tag_is_due(node: Node) -> bool:
        return all(tokens and must for tokens, (_, _, must) in node)

    def write(self, entities: Sequence[Entity]) -> list[int]:
        """The tokens that write the text with these entities tagged: the training target.

        Raises:
            ValueError: entities overlap, are empty, or lie outside the text.
        """
        out: list[int] = []
        at = 0
        for entity in sorted(entities):
            if not at <= entity.start < entity.end <= len(self.text):
                raise ValueError(f"entity {entity.start}–{entity.end} overlaps another one or lies outside the text")
            out += self._write_text(at, entity.start)
            out += self.tags.open[entity.label]
            out += self._write_text(entity.start, entity.end)
            out += self.tags.close[entity.label]
            at = entity.end
        return out + self._write_text(at, len(self.text))

    def _write_text(self, at: int, stop: int) -> list[int]:
        out: list[int] = []
        while at < stop:
            ids, end = self.unit(at)
            if end > stop:
                ids, end = self._encode(at, stop), stop
            out += ids
            at = end
        return out

    def read(self, tokens: Sequence[int], log_probs: Sequence[float] | None = None) -> list[Entity]:
        """The entities that a token sequence of this automaton tags, with their probability when given the tokens'.

        Raises:
            ValueError: the tokens do not write this text.
        """
        states: dict[Path, tuple] = dict.fromkeys(self.start, ())
        for position, token in enumerate(tokens):
            following: dict[Path, tuple] = {}
            for (rest, state), events in states.items():
                if not rest or rest[0] != token:
                    continue
                if rest[1:]:
                    following.setdefault((rest[1:], state), events)
                else:
                    for path in self._reach(state, (state,)):
                        following.setdefault(path, (*events, (state, position + 1)))
            states = following
        done = [events for (rest, _), events in states.items() if not rest]
        if not done:
            raise ValueError("these tokens do not write the text")
        return self._entities(done[0], log_probs)

    def _entities(self, events: tuple, log_probs: Sequence[float] | None) -> list[Entity]:
        entities = []
        start = first = 0
        label = ""
        for (at, inside, _), behind in events:
            if inside and not label:
                start, label = at, inside
                first = behind - len(self.tags.open[inside])
            elif label and not inside:
                score = None if log_probs is None else math.exp(math.fsum(log_probs[first:behind]))
                entities.append(Entity(start, at, label, score=score))
                label = ""
        return entities


class TagTokens:
    """A tokenizer and its tokens of every tag; a tag is always tokenised by itself: `<d>` and `</d>` for type d."""

    def __init__(self, tokenizer: Any, labels: Sequence[str]):
        self.tokenizer = tokenizer
        self._pieces: dict[str, tuple[int, ...]] = {}
        self.open = {label: self._tag(f"<{label}>") for label in labels}
        self.close = {label: self._tag(f"</{label}>") for label in labels}

    def _tag(self, tag: str) -> tuple[int, ...]:
        """One token if the tokenizer has one for it, unlike the same characters in a text."""
        return tuple(self.tokenizer(tag, add_special_tokens=False)["input_ids"])

    def encode(self, text: str) -> tuple[int, ...]:
        if text not in self._pieces:
            self._pieces[text] = tuple(encode_with_offsets(self.tokenizer, text)[0])
        return self._pieces[text]
