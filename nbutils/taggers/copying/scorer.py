"""The model's side of copy decoding: feeds drafts, keeps keys and values by position, scores candidates only.

Works with any `AutoModelForCausalLM` of full attention that takes position ids (Llama, Qwen, Gemma, Granite, …), with
or without a PEFT adapter, in any precision, on any device.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from nbutils.files import DataError
from nbutils.taggers.copying.automaton import Node

LEAST_PREFIX = 16  # tokens; a shorter one is not worth a pass of its own

Draft = list[tuple[int, dict[int, Node]]]  # tokens, each with what else is allowed in its place and where it leads
Choice = tuple[int, float]  # a token and its log-probability among those allowed


@dataclass(frozen=True)
class SharedPrefix:
    """Tokens that many prompts begin with, and each layer's keys and values for them: [1, heads, tokens, size]."""

    tokens: tuple[int, ...] = ()
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()


@torch.inference_mode()
def shared_prefix(model: Any, prompts: Sequence[Sequence[int]]) -> SharedPrefix:
    """The longest beginning that all prompts share, computed once; empty for one prompt or for few tokens.

    At least one token of every prompt is left over, to be fed with its text. Good for one model as it is: after a step
    of training, or with another adapter, the keys and values are others.
    """
    if len(prompts) < 2:
        return SharedPrefix()
    first, last = min(prompts), max(prompts)  # what these two share, all between them share
    alike = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    tokens = list(first[: min(alike, *(len(p) - 1 for p in prompts))])
    if len(tokens) < LEAST_PREFIX:
        return SharedPrefix()
    with scoring(model, SharedPrefix(), 1) as scorer:
        scorer.score([tokens], [0], [[]])
        layers = [(layer.keys, layer.values) for layer in scorer.cache.layers]
    n = len(tokens)
    return SharedPrefix(tuple(tokens), tuple((keys[:, :, :n], values[:, :, :n]) for keys, values in layers))


@contextmanager
def scoring(model: Any, prefix: SharedPrefix, n_rows: int) -> Iterator[Scorer]:
    """The model with its head replaced by one that scores candidates only; put back at the end, whatever happens.

    So whatever the model does to its logits (scaling, soft-capping) is done to these too.
    """
    base = without_adapter(model)
    longest = _longest(model, base)
    head = base.get_output_embeddings()
    candidates = _CandidateHead(head)
    base.set_output_embeddings(candidates)
    try:
        yield Scorer(base, candidates, prefix, n_rows, longest)
    finally:
        base.set_output_embeddings(head)


def without_adapter(model: Any) -> Any:
    """The model under a PEFT adapter, whose layers carry it; any other model as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _longest(model: Any, base: Any) -> int | None:
    """Positions up to which the model's attention is full; None without an end. Refuses what the cache cannot serve."""
    name, config = type(base).__name__, base.config.get_text_config(decoder=True)
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        raise DataError(
            f"{name} has an adapter of virtual tokens (prompt learning); use one that changes weights (LoRA)"
        )
    types = set(getattr(config, "layer_types", None) or ())
    known = {"full_attention", "sliding_attention", "chunked_attention"}
    if getattr(base, "_is_stateful", False) or types - known:
        raise DataError(f"{name} keeps a state that cannot forget a rejected draft; use a model with attention only")
    if "position_ids" not in inspect.signature(base.forward).parameters:
        raise DataError(f"{name} takes no position ids; use a model with rotary or learned positions")
    if config._attn_implementation not in ("sdpa", "eager"):
        raise DataError(f'{name}: {config._attn_implementation} takes no mask of ours; load it with attention "sdpa"')
    sliding = getattr(config, "sliding_window", None) if not types or "sliding_attention" in types else None
    chunked = getattr(config, "attention_chunk_size", None) if "chunked_attention" in types else None
    return min(filter(None, (sliding, chunked)), default=None)


class Scorer:
    """The model and its key/value cache: feeds pending and drafted tokens, chooses at every drafted place."""

    def __init__(self, base: Any, head: _CandidateHead, prefix: SharedPrefix, n_rows: int, longest: int | None):
        self.base, self.head, self.n_rows, self.longest = base, head, n_rows, longest
        self.device, self.dtype = base.get_input_embeddings().weight.device, base.dtype
        self.cache = _SlotCache(prefix, n_rows)

    def select(self, rows: list[int]) -> None:
        """Go on with these rows only; a row named twice becomes two."""
        if rows != list(range(self.n_rows)):
            self.n_rows = len(rows)
            self.cache.select(rows)

    def score(
        self, pending: Sequence[Sequence[int]], positions: Sequence[int], drafts: Sequence[Draft]
    ) -> list[list[Choice]]:
        """Feed each row's pending tokens, from its position on, and its draft; what is chosen at every drafted place.

        The last drafted token need not be fed, since nothing behind it is asked for.
        """
        fed = [[*p, *(token for token, _ in draft[:-1])] for p, draft in zip(pending, drafts, strict=True)]
        width = max(map(len, fed))
        if self.longest and max(p + len(f) for p, f in zip(positions, fed, strict=True)) > self.longest:
            raise DataError(
                f"{type(self.base).__name__} attends to {self.longest} tokens at a time and prompt and text have more; "
                "lower max_length, or use a model with full attention"
            )
        begin = torch.tensor(positions, device=self.device)[:, None]
        columns = torch.arange(width, device=self.device)[None]
        lengths = torch.tensor([len(f) for f in fed], device=self.device)[:, None]
        position_ids = begin + torch.minimum(columns, lengths - 1)  # padding stays within the model's positions
        mask = self.cache.expect(begin + columns, max(positions) + width)
        self._point(pending, drafts)
        out = self.base(
            input_ids=torch.tensor([f + f[-1:] * (width - len(f)) for f in fed], device=self.device),
            attention_mask=self._for_attention(mask),
            position_ids=position_ids,
            past_key_values=self.cache,
            use_cache=True,
        )
        return self._choose(out.logits, drafts)

    def _for_attention(self, mask: torch.Tensor) -> torch.Tensor:
        if self.base.config.get_text_config(decoder=True)._attn_implementation == "sdpa":
            return mask
        return torch.zeros_like(mask, dtype=self.dtype).masked_fill(~mask, torch.finfo(self.dtype).min)

    def _point(self, pending: Sequence[Sequence[int]], drafts: Sequence[Draft]) -> None:
        """Tell the head which places have a choice, and between which tokens."""
        self.places = [(r, k) for r, draft in enumerate(drafts) for k, (_, a) in enumerate(draft) if len(a) > 1]
        allowed = [list(drafts[r][k][1]) for r, k in self.places]
        most = max(map(len, allowed), default=1)
        at = [(r, len(pending[r]) - 1 + k) for r, k in self.places]
        self.head.at = torch.tensor(at, dtype=torch.long, device=self.device).reshape(-1, 2)
        candidates = [a + [-1] * (most - len(a)) for a in allowed]
        self.head.candidates = torch.tensor(candidates, dtype=torch.long, device=self.device).reshape(-1, most)

    def _choose(self, logits: torch.Tensor, drafts: Sequence[Draft]) -> list[list[Choice]]:
        choices = [[(token, 0.0) for token, _ in draft] for draft in drafts]
        if self.places:
            candidates = self.head.candidates.to(logits.device)
            log_probs = logits.float().masked_fill(candidates < 0, float("-inf")).log_softmax(-1)
            best, which = log_probs.max(-1)
            chosen = candidates.gather(1, which[:, None])[:, 0]
            for (r, k), token, value in zip(self.places, chosen.tolist(), best.tolist(), strict=True):
                choices[r][k] = token, value
        return choices


class _CandidateHead(torch.nn.Module):
    """The model's head for a few vocabulary entries at a few places: logits [places, candidates]."""

    def __init__(self, head: torch.nn.Module):
        super().__init__()
        self.head = head
        self.at = self.candidates = torch.empty(0)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        at, candidates = self.at.to(hidden.device), self.candidates.to(hidden.device).clamp(min=0)
        hidden = hidden[at[:, 0], at[:, 1]]
        if type(self.head) is not torch.nn.Linear:  # with an adapter of its own, or quantised
            return self.head(hidden).gather(1, candidates)
        exact = torch.promote_types(hidden.dtype, torch.float32)  # few numbers, so rounding them would save nothing
        logits = torch.einsum("nh,nch->nc", hidden.to(exact), self.head.weight[candidates].to(exact))
        return logits if self.head.bias is None else logits + self.head.bias[candidates]


class _SlotCache(Cache):
    """Keys and values by position: a token's slot is its position in its row.

    So a rejected token needs no clearing: no query before its position sees it, and the next token there overwrites it.
    """

    def __init__(self, prefix: SharedPrefix, n_rows: int):
        super().__init__(layer_class_to_replicate=partial(_SlotLayer, self))
        self.slots, self.n_slots = torch.empty(0), len(prefix.tokens)
        for keys, values in prefix.layers:
            layer = _SlotLayer(self)
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys.expand(n_rows, -1, -1, -1), values.expand(n_rows, -1, -1, -1)
            self.layers.append(layer)

    def expect(self, slots: torch.Tensor, n_slots: int) -> torch.Tensor:
        """Note where the next tokens go, [rows, width]; the mask of what each may see, [rows, 1, width, slots]."""
        self.slots, self.n_slots = slots, n_slots
        return (torch.arange(n_slots, device=slots.device) <= slots[:, :, None])[:, None]

    def select(self, rows: list[int]) -> None:
        for layer in self.layers:
            index = torch.tensor(rows, dtype=torch.long, device=layer.keys.device)
            layer.keys, layer.values = layer.keys[index], layer.values[index]


class _SlotLayer(DynamicLayer):
    """One layer's keys and values, [rows, heads, slots, size] with spare slots."""

    def __init__(self, cache: _SlotCache):
        super().__init__()
        self.cache = cache

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
            self.keys, self.values = keys[:, :, :0], values[:, :, :0]
        self.keys, self.values = self._put(self.keys, keys), self._put(self.values, values)
        return self.keys[:, :, : self.cache.n_slots], self.values[:, :, : self.cache.n_slots]

    def _put(self, held: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        if held.shape[2] < self.cache.n_slots:
            rows, heads, _, size = new.shape
            wider = new.new_zeros(rows, heads, self.cache.n_slots + 64, size)
            wider[:, :, : held.shape[2]] = held
            held = wider
        slots = self.cache.slots.to(new.device)[:, None, :, None]
        return held.scatter_(2, slots.expand_as(new), new)
