"""Constrained copy decoding: a language model re-types a text and may only add tags (`automaton.Copier`).

`decode` finds the model's greedy choice in the automaton, and gets there fast: the rest of the text without tags is a
*draft* that one forward pass verifies (speculative decoding: Leviathan et al. 2023), what all prompts begin with is
computed once, and only the candidates that the automaton allows are scored, never the whole vocabulary (`scorer`).
docs/copy_decoding.md says why the answer is that of one token at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from nbutils.files import DataError
from nbutils.taggers.copying.automaton import Copier, Node, TagTokens
from nbutils.taggers.copying.scorer import Choice, Draft, SharedPrefix, scoring, shared_prefix

__all__ = ["Copier", "SharedPrefix", "TagTokens", "decode", "shared_prefix"]

# Draft tokens of a text in a pass: least, most, and how many of a whole batch are still cheap.
# A CPU is soon busy, and then a rejected draft costs; a GPU reads its weights in the time of some hundred tokens.
WINDOWS = {"cpu": (4, 16, 64), "cuda": (16, 64, 512)}


@dataclass
class _Row:
    """One text under way: where it stands, what is written, and what the model has not been fed yet."""

    copier: Copier
    node: Node
    pending: list[int]  # written (or prompt) tokens that the model has not seen
    position: int  # tokens that the model has seen and that stand
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return self.copier.finished(self.node)


@torch.inference_mode()
def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    copiers: Sequence[Copier],
    *,
    window: int | None = None,
    prefix: SharedPrefix | None = None,
) -> list[tuple[list[int], list[float]]]:
    """Greedy constrained decoding of one batch.

    Args:
        model: a causal LM, with or without a PEFT adapter, in evaluation mode.
        prompts: token ids before the answer, one list a text, none empty.
        copiers: what each answer may be.
        window: least number of draft tokens of a text in one pass. None: by the device and the number of unfinished
            texts.
        prefix: of `shared_prefix`, when more batches begin with it; else what these prompts share is computed here.

    Returns:
        For each text the tokens written and the log-probability of each under the constrained distribution
        (0 where only one token was possible).

    Raises:
        DataError: a model whose attention or cache is of another kind, or prompts that do not begin with `prefix`.
    """
    prefix = prefix or shared_prefix(model, prompts)
    n_shared = len(prefix.tokens)
    if any(tuple(p[:n_shared]) != prefix.tokens or len(p) == n_shared for p in prompts):
        raise DataError("a prompt does not begin with the shared prefix and go on; compute the prefix from all prompts")
    rows = [_Row(c, c.start, list(p[n_shared:]), n_shared) for c, p in zip(copiers, prompts, strict=True)]
    live = [row for row in rows if not row.finished]
    with scoring(model, prefix, len(live)) as scorer:
        while live:
            least = window or _window(scorer.device, len(live))
            trials = [(n, way) for n, row in enumerate(live) for way in row.copier.ways(row.node)]
            width = max(len(live[n].pending) + len(way) for n, way in trials) + least - 1  # the last one is not fed
            drafts = [_draft(live[n], way, width - len(live[n].pending) + 1) for n, way in trials]
            scorer.select([n for n, _ in trials])
            pending = [live[n].pending for n, _ in trials]
            choices = scorer.score(pending, [live[n].position for n, _ in trials], drafts)
            best = _best_trials([n for n, _ in trials], drafts, choices)
            for k in best:
                _accept(live[trials[k][0]], drafts[k], choices[k])
            scorer.select([k for k in best if not live[trials[k][0]].finished])
            live = [row for row in live if not row.finished]
    return [(row.tokens, row.log_probs) for row in rows]


def _window(device: torch.device, n_live: int) -> int:
    """Few texts can draft far ahead at little cost; many fill a pass already."""
    least, most, cheap = WINDOWS.get(device.type, WINDOWS["cuda"])
    return min(max(cheap // n_live, least), most)


def _draft(row: _Row, way: Sequence[int], length: int) -> Draft:
    """The next tokens (behind `way`) if no other tag comes, each with what else would be allowed in its place.

    As long as the widest row of the batch, since shorter ones would be padded and cost as much.
    """
    draft: Draft = []
    node = row.node
    while len(draft) < length and (allowed := row.copier.steps(node)):
        token = way[len(draft)] if len(draft) < len(way) else next(iter(allowed))
        draft.append((token, allowed))
        node = allowed[token]
    return draft


def _best_trials(owners: list[int], drafts: list[Draft], choices: list[list[Choice]]) -> list[int]:
    """For each row the trial whose draft the model follows furthest: all begin alike, so the others were wrong."""
    best: dict[int, tuple[int, int]] = {}
    for k, (owner, draft, chosen) in enumerate(zip(owners, drafts, choices, strict=True)):
        followed = next((i for i, ((t, _), (c, _)) in enumerate(zip(draft, chosen, strict=True)) if t != c), len(draft))
        if owner not in best or followed > best[owner][0]:
            best[owner] = followed, k
    return [k for _, k in best.values()]


def _accept(row: _Row, draft: Draft, choices: list[Choice]) -> None:
    """Take the draft up to the model's first other choice, and that choice."""
    row.position += len(row.pending)
    before = len(row.tokens)
    for (token, allowed), (chosen, log_prob) in zip(draft, choices, strict=True):
        row.tokens.append(chosen)
        row.log_probs.append(log_prob)
        row.node = allowed[chosen]
        if chosen != token:
            break
    # The last token taken is a choice that was not fed, or the end of the draft, which was not fed either.
    row.position += len(row.tokens) - before - 1
    row.pending = row.tokens[-1:]
    while len(allowed := row.copier.steps(row.node)) == 1:  # forced: the rest of a tag, a closing tag before the end
        token, row.node = next(iter(allowed.items()))
        row.tokens.append(token)
        row.log_probs.append(0.0)
        row.pending.append(token)
