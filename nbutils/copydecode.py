"""Constrained copy decoding: a language model re-types a text and may only add tags, so output text = input text.

`Copier` knows every token sequence that writes one text with tags (a small automaton, the same for training targets
and for decoding). `decode` finds the model's greedy choice in it, and gets there fast: the rest of the text without
tags is a *draft* that one forward pass verifies (speculative decoding: Leviathan et al. 2023), and only the
candidates that the automaton allows are scored, never the whole vocabulary. Needs a model with full attention and
explicit position ids (Llama, Qwen, Mistral without sliding window, …).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nbutils.align import encode_with_offsets
from nbutils.corpus import Entity

# A way to go on: tokens still to write before the state behind them is reached.
# A state is (character offset, open label or "", what must come next: "" | "text" | "tag").
State = tuple[int, str, str]
Path = tuple[tuple[int, ...], State]
Node = tuple[Path, ...]

LINE_BREAKS = frozenset("\r\n")


class Copier:
    """All the ways to write one text with inline tags around some of its characters, as tokens of one tokenizer.

    The text's own tokenisation is kept wherever no tag falls into a token; where one does, the token is cut there
    and its two parts are tokenised on their own. Tags are tokenised on their own as well.

    `write` and `read` are inverse wherever the tokens say which entities were meant: always when tags are special
    tokens and the text has no unknown characters, else as long as the text holds no literal tag ("a</d>" with <d>
    around "a" or around all of it is the same string twice). Where two sets of entities write the same tokens, `read`
    gives one of them, and that one writes these tokens again; and decoding stops as soon as the text is written.
    """

    def __init__(self, tags: TagTokens, text: str):
        self.tags, self.text = tags, text
        self._unit: dict[int, tuple[tuple[int, ...], int]] = {}
        self._paths: dict[State, list[Path]] = {}
        self._steps: dict[Node, dict[int, Node]] = {}
        self._canonical()
        self.start: Node = tuple(self._reach((0, "", ""), ()))

    def _canonical(self) -> None:
        """Group the tokens of the whole text into the smallest runs that begin and end between characters."""
        ids, offsets = encode_with_offsets(self.tags.tokenizer, self.text)
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
            ways.append((self.tags.close[inside], (at, "", "")))
        if not inside and at < len(self.text) and not self._breaks(at, at + 1):
            ways += [(self.tags.open[label], (at, label, "text")) for label in self.tags.open]
        return ways

    def _breaks(self, start: int, end: int) -> bool:
        """Whether a line break lies in `text[start:end]`: no tag opens before one, and no entity runs across."""
        return not LINE_BREAKS.isdisjoint(self.text[start:end])

    def _reach(self, state: State, seen: tuple[State, ...]) -> list[Path]:
        """The paths from a state; text without tokens (dropped characters) is passed over at no cost.

        Such text at either end of an entity is left outside of it.
        """
        found: list[Path] = []
        ways = self.paths(state)
        for tokens, behind in sorted(ways, key=lambda way: not way[0]) if state[1] else ways:
            if tokens:
                found.append((tokens, behind))
            elif behind not in seen:
                found += self._reach(behind, (*seen, behind))
        if state[0] == len(self.text) and not state[1]:
            found.append(((), state))
        return found

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
        found = []
        start = first = 0
        label = ""
        for (at, inside, _), behind in events:
            if inside and not label:
                start, label = at, inside
                first = behind - len(self.tags.open[inside])
            elif label and not inside:
                score = None
                if log_probs is not None:
                    score = float(torch.tensor(log_probs[first:behind], dtype=torch.float64).sum().exp())
                found.append(Entity(start, at, label, score=score))
                label = ""
        return found


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


@dataclass
class _Row:
    """One text under way: where it stands, what is written, and what the model has not been fed yet."""

    copier: Copier
    node: Node
    pending: list[int]  # written (or prompt) tokens that the model has not seen
    tokens: list[int]
    log_probs: list[float]
    window: int  # draft tokens in the next pass
    position: int = 0  # tokens that the model has seen and that stand


@torch.inference_mode()
def decode(
    model: Any, prompts: Sequence[Sequence[int]], copiers: Sequence[Copier], *, window: int = 32
) -> list[tuple[list[int], list[float]]]:
    """Greedy constrained decoding of one batch.

    Args:
        model: a causal LM, with or without a PEFT adapter, in evaluation mode.
        prompts: token ids before the answer, one list a text, none empty.
        copiers: what each answer may be.
        window: draft tokens in the first pass; doubled for a row whose draft was wholly accepted, else reset.

    Returns:
        For each text the tokens written and the log-probability of each under the constrained distribution
        (0 where only one token was possible).
    """
    rows = [_Row(c, c.start, list(p), [], [], window) for c, p in zip(copiers, prompts, strict=True)]
    scorer = _Scorer(model)
    live = [k for k, row in enumerate(rows) if not row.copier.finished(row.node)]
    scorer.begin(len(live))
    while live:
        drafts = [_draft(rows[k]) for k in live]
        choices = scorer.score([rows[k] for k in live], drafts)
        fed = [_accept(rows[k], draft, choice, window) for k, draft, choice in zip(live, drafts, choices, strict=True)]
        scorer.keep(fed)
        going = [n for n, k in enumerate(live) if not rows[k].copier.finished(rows[k].node)]
        if len(going) < len(live):
            scorer.select(going)
            live = [live[n] for n in going]
    return [(row.tokens, row.log_probs) for row in rows]


def _draft(row: _Row) -> list[tuple[int, dict[int, Node]]]:
    """The next tokens if no further tag comes, each with what else would be allowed in its place."""
    draft = []
    node = row.node
    while len(draft) < row.window and (allowed := row.copier.steps(node)):
        token = next(iter(allowed))
        draft.append((token, allowed))
        node = allowed[token]
    return draft


def _accept(row: _Row, draft: list[tuple[int, dict[int, Node]]], choices: list[tuple[int, float]], window: int) -> int:
    """Take the draft up to the model's first other choice, and that choice; returns how many fed tokens stay valid."""
    n_pending = len(row.pending)
    accepted = 0
    wholly = True
    for (token, allowed), (chosen, log_prob) in zip(draft, choices, strict=True):
        row.tokens.append(chosen)
        row.log_probs.append(log_prob)
        row.node = allowed[chosen]
        if chosen != token:
            wholly = False
            break
        accepted += 1
    # The last drafted token was chosen but not fed, and neither was a choice that differs from the draft.
    fed = n_pending + (accepted if not wholly else len(draft) - 1)
    row.pending = row.tokens[-1:]
    while len(allowed := row.copier.steps(row.node)) == 1:  # forced: the rest of a tag, a closing tag before the end
        token, row.node = next(iter(allowed.items()))
        row.tokens.append(token)
        row.log_probs.append(0.0)
        row.pending.append(token)
    row.position += fed
    row.window = row.window * 2 if wholly else window
    return fed


class _Scorer:
    """The model with its key/value cache: feeds tokens, scores candidates, forgets what was rejected."""

    def __init__(self, model: Any):
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.decoder, self.head, self.config = base.get_decoder(), base.get_output_embeddings(), base.config
        self.device = self.head.weight.device
        self.forwards = 0
        self.cache: Any = None
        self.valid = torch.empty(0)

    def begin(self, n_rows: int) -> None:
        self.cache = None
        self.valid = torch.zeros(n_rows, 0, dtype=torch.long, device=self.device)

    def score(self, rows: list[_Row], drafts: list[list]) -> list[list[tuple[int, float]]]:
        """Feed pending and drafted tokens (the last drafted one need not be fed); choose at every drafted place."""
        fed = [row.pending + [token for token, _ in draft[:-1]] for row, draft in zip(rows, drafts, strict=True)]
        width = max(map(len, fed))
        ids = torch.tensor([f + [0] * (width - len(f)) for f in fed], device=self.device)
        real = torch.tensor([[1] * len(f) + [0] * (width - len(f)) for f in fed], device=self.device)
        begin = torch.tensor([row.position for row in rows], device=self.device)
        position_ids = begin[:, None] + torch.arange(width, device=self.device)[None]
        self.valid = torch.cat([self.valid, real], dim=1)
        out = self.decoder(
            input_ids=ids,
            attention_mask=self.valid,
            position_ids=position_ids,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.forwards += 1
        self.cache, self.width = out.past_key_values, width
        return self._choose(out.last_hidden_state, rows, drafts)

    def _choose(self, hidden: torch.Tensor, rows: list[_Row], drafts: list[list]) -> list[list[tuple[int, float]]]:
        choices = [[(token, 0.0) for token, _ in draft] for draft in drafts]
        places = [
            (r, k, list(allowed))
            for r, draft in enumerate(drafts)
            for k, (_, allowed) in enumerate(draft)
            if len(allowed) > 1
        ]
        if not places:
            return choices
        at = torch.tensor([(r, len(rows[r].pending) - 1 + k) for r, k, _ in places], device=self.device)
        most = max(len(c) for *_, c in places)
        candidates = torch.tensor([c + [-1] * (most - len(c)) for *_, c in places], device=self.device)
        logits = self._logits(hidden[at[:, 0], at[:, 1]], candidates.clamp(min=0))
        log_probs = logits.float().masked_fill(candidates < 0, float("-inf")).log_softmax(-1)
        best, which = log_probs.max(-1)
        for (r, k, tokens), value, index in zip(places, best.tolist(), which.tolist(), strict=True):
            choices[r][k] = (tokens[index], value)
        return choices

    def _logits(self, hidden: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """Scores of only these vocabulary entries, [places, candidates], as the model's own head would give them."""
        if isinstance(self.head, torch.nn.Linear):
            logits = torch.einsum("nh,nch->nc", hidden, self.head.weight[candidates])
            if self.head.bias is not None:
                logits = logits + self.head.bias[candidates]
        else:  # with an adapter of its own (LoRA on the head, trained tag embeddings)
            logits = self.head(hidden).gather(1, candidates)
        if (scale := getattr(self.config, "logits_scaling", None)) is not None:  # Granite divides
            logits = logits / scale
        if (scale := getattr(self.config, "logit_scale", None)) is not None:  # Cohere multiplies
            logits = logits * scale
        if (cap := getattr(self.config, "final_logit_softcapping", None)) is not None:  # Gemma
            logits = torch.tanh(logits / cap) * cap
        return logits

    def keep(self, fed: list[int]) -> None:
        """Forget the keys and values of rejected and padded tokens; drop slots that no row needs any more."""
        columns = torch.arange(self.width, device=self.device)[None]
        self.valid[:, -self.width :] *= columns < torch.tensor(fed, device=self.device)[:, None]
        needed = int(self.valid.sum(1).max())
        if self.valid.shape[1] > 1.25 * needed + 16:
            self._compact(needed)

    def _compact(self, needed: int) -> None:
        order = self.valid.argsort(dim=1, stable=True)[:, -needed:]  # invalid slots first, the others in order
        self.valid = self.valid.gather(1, order)
        for layer in self.cache.layers:
            index = order[:, None, :, None].expand(-1, layer.keys.shape[1], -1, layer.keys.shape[3])
            layer.keys, layer.values = layer.keys.gather(2, index), layer.values.gather(2, index)

    def select(self, rows: list[int]) -> None:
        index = torch.tensor(rows, dtype=torch.long, device=self.device)
        self.valid = self.valid[index]
        self.cache.batch_select_indices(index)
