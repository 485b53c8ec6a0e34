"""Forward passes alone, counted without a model: how far copy decoding is from what could be saved at all.

The tagger is thought to set the tags that the annotators set, in the order in which `lora.LoraTagger` meets the lines.
So the counts are exact, the same on every machine, and done in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from unittest import mock

import torch

from nbutils.taggers.copying import decode as copying
from nbutils.taggers.copying.automaton import Copier, TagTokens
from nbutils.taggers.copying.scorer import Choice, Draft, SharedPrefix
from tools.bench import Table
from tools.bench.decoding import Line, annotated_lines, drafting, tokenizer_of

CORPORA = ("cr", "pn")


def table(notes: int, sizes: Sequence[int] = (1, 8, 32)) -> Table:
    """Passes for so many notes of each bundled corpus, by batch size, with the windows of a CPU and of a GPU."""
    rows: Table = []
    for corpus in CORPORA:
        lines = sorted(annotated_lines(corpus, notes), key=lambda line: -len(line[0]))
        tags = TagTokens(tokenizer_of([text for text, _ in lines]), ["d"])
        copiers = [Copier(tags, text) for text, _ in lines]
        for device in ("cpu", "cuda"):
            for size in sizes:
                batches = [(copiers[k : k + size], lines[k : k + size]) for k in range(0, len(lines), size)]
                ours = count(batches, device)
                rows.append({
                    "corpus": corpus, "lines": len(lines), "entities": sum(len(e) for _, e in lines),
                    "window of a": {"cpu": "CPU", "cuda": "GPU"}[device], "batch": size,
                    "one token at a time": sum(map(_longest, batches)),
                    "bound": sum(bound(*b, device) for b in batches), "ours": ours,
                    "told every tag": count(batches, device, told=True),
                })  # fmt: skip
    return rows


def _longest(batch: tuple[Sequence[Copier], Sequence[Line]]) -> int:
    return max(len(copier.write(entities)) for copier, (_, entities) in zip(*batch, strict=True))


def bound(copiers: Sequence[Copier], lines: Sequence[Line], device: str) -> int:
    """2 · E + ⌈T / window⌉ + 1 of the slowest text of a batch; docs/copy_decoding.md derives it."""
    window = copying._window(torch.device(device), len(lines))
    pairs = zip(copiers, (entities for _, entities in lines), strict=True)
    return max(2 * len(entities) - (-len(c.write(entities)) // window) + 1 for c, entities in pairs)


def count(batches: Sequence[tuple[Sequence[Copier], Sequence[Line]]], device: str, *, told: bool = False) -> int:
    """Forward passes of all batches; `told`: as if every draft had the tags in it."""
    total = 0
    for copiers, lines in batches:
        answers = {text: c.write(entities) for c, (text, entities) in zip(copiers, lines, strict=True)}
        asked = _Annotators([answers[c.text] for c in copiers if not c.finished(c.start)], device)
        drafts = drafting(lambda row, length, of=answers: of[row.copier.text][len(row.tokens) :][:length])
        with mock.patch.object(copying, "scoring", asked.scoring), drafts if told else nullcontext():
            copying.decode(None, [[0]] * len(lines), copiers, prefix=SharedPrefix())
        total += asked.passes
    return total


class _Annotators:
    """In the place of `scorer.Scorer`: chooses at every drafted place what the annotated answer has there."""

    def __init__(self, answers: Sequence[Sequence[int]], device: str):
        self.rows, self.device, self.passes = list(answers), torch.device(device), 0

    @contextmanager
    def scoring(self, *_: object) -> Iterator[_Annotators]:
        yield self

    def select(self, rows: list[int]) -> None:
        self.rows = [self.rows[row] for row in rows]

    def score(
        self, pending: Sequence[Sequence[int]], positions: Sequence[int], drafts: Sequence[Draft]
    ) -> list[list[Choice]]:
        self.passes += 1
        return [
            [(self._right(answer, position + len(fed) - 1 + k, place), 0.0) for k, place in enumerate(draft)]
            for answer, fed, position, draft in zip(self.rows, pending, positions, drafts, strict=True)
        ]

    @staticmethod
    def _right(answer: Sequence[int], at: int, place: tuple[int, dict]) -> int:
        drafted, allowed = place  # behind a wrong draft the answer's token may be impossible, and nobody asks
        return answer[at] if at < len(answer) and answer[at] in allowed else drafted
