"""A language model in this process that answers prompts: freely, or constrained to copy the text and set tags.

A note's text is tokenised as plain characters: what looks like a special token in it is none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tqdm.auto import tqdm

from nbutils.prompting import markup
from nbutils.prompting.ledger import Outcome
from nbutils.prompting.prompts import Prompt, answer_limit
from nbutils.taggers.copying.decode import Copier, TagTokens, decode
from nbutils.taggers.models import HOLE, around, bf16_products, load_causal
from nbutils.taggers.offsets import encode_with_offsets
from nbutils.taggers.settings import IclSettings
from nbutils.taggers.usage import Tokens


class LocalModel:
    """The model on the best device, and its tokenizer: safetensors only, never remote code."""

    def __init__(self, settings: IclSettings):
        self.settings = settings
        self.model, self.tokenizer = load_causal(settings)
        self.model.eval()
        self.tags = TagTokens(self.tokenizer, settings.labels)
        self.used = Tokens()

    def answers(
        self, prompts: Sequence[Prompt], texts: Sequence[str], seed: int = 0, progress: bool = False
    ) -> list[Outcome]:
        """One outcome per prompt; a prompt that leaves no space for the answer is `too long`."""
        torch.manual_seed(seed)
        ids = [self.prompt_ids(prompt) for prompt in prompts]
        limits = [min(answer_limit(t, self.settings), self.settings.max_length - len(p))
                  for t, p in zip(texts, ids, strict=True)]  # fmt: skip
        found = [Outcome("too long")] * len(ids)
        order = sorted((k for k in range(len(ids)) if limits[k] > 0), key=lambda k: -len(ids[k]) - limits[k])
        size = self.settings.decode_batch_size
        answer = self._copied if self.settings.decoding == "copy" else self._generated
        for first in tqdm(range(0, len(order), size), disable=not progress, desc="answering", unit="batch"):
            batch = order[first : first + size]
            with bf16_products(self.settings.bf16):
                outcomes = answer([ids[k] for k in batch], [texts[k] for k in batch], [limits[k] for k in batch])
            for k, outcome in zip(batch, outcomes, strict=True):
                found[k] = outcome
        return found

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """The prompt as tokens, in the model's chat template when it has one; example notes with the tags' tokens."""
        before, after = around(self.tokenizer, HOLE)
        inside: list[int] = []
        plain = ""
        for part in prompt:
            if isinstance(part, str):
                plain += part
            else:
                inside += encode_with_offsets(self.tokenizer, plain)[0]
                inside += Copier(self.tags, part.text).write(part.entities)
                plain = ""
        return [*before, *inside, *encode_with_offsets(self.tokenizer, plain)[0], *after]

    def _copied(self, ids: Sequence[list[int]], texts: Sequence[str], limits: Sequence[int]) -> list[Outcome]:
        copiers = [Copier(self.tags, text) for text in texts]
        decoded = decode(self.model, ids, copiers)
        self.used += Tokens(sum(map(len, ids)), sum(len(tokens) for tokens, _ in decoded))
        found = [c.read(*out) for c, out in zip(copiers, decoded, strict=True)]
        return [Outcome("stop", markup.write(t, e)) for t, e in zip(texts, found, strict=True)]

    @torch.inference_mode()
    def _generated(self, ids: Sequence[list[int]], texts: Sequence[str], limits: Sequence[int]) -> list[Outcome]:
        longest = max(map(len, ids))
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        rows = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in ids], device=self.model.device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in ids], device=self.model.device)
        sampled = bool(self.settings.temperature)
        out = self.model.generate(
            input_ids=rows, attention_mask=mask, max_new_tokens=max(limits), num_beams=1, do_sample=sampled,
            temperature=self.settings.temperature if sampled else None, top_p=None, top_k=None, pad_token_id=pad,
        )  # fmt: skip
        self.used += Tokens(prompt=sum(map(len, ids)))
        return [self._outcome(row[longest:].tolist(), limit) for row, limit in zip(out, limits, strict=True)]

    def _outcome(self, tokens: list[int], limit: int) -> Outcome:
        eos = self.model.generation_config.eos_token_id
        ends = set(eos if isinstance(eos, list) else [eos]) - {None}
        stop = next((k for k, token in enumerate(tokens[:limit]) if token in ends), None)
        answer = tokens[: limit if stop is None else stop]
        self.used += Tokens(answer=len(answer))
        text = self._text(answer)
        return Outcome("length" if stop is None else "stop" if text else "empty", text or None)

    def _text(self, tokens: list[int]) -> str:
        """The tokens as text: special tokens are left out, but for tags."""
        tag_ids = {i for ids in (*self.tags.open.values(), *self.tags.close.values()) for i in ids if len(ids) == 1}
        special = set(self.tokenizer.all_special_ids) - tag_ids
        kept = [token for token in tokens if token not in special]
        return self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
