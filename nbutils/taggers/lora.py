"""A causal language model, tuned with LoRA (Hu et al. 2021), that re-types a note and brackets the entities.

prompt = instruction + text, target = the text with inline tags, loss on the target only. Decoding is copy-constrained
(`copying.decode`), so the answer is always the text. Any model of `AutoModelForCausalLM` will do.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from tqdm.auto import tqdm

from nbutils.corpus import (
    UNMARKED,
    Document,
    Entity,
    Prediction,
    entities_within,
    sentence_spans,
    separated,
    without_overlaps,
)
from nbutils.files import DataError
from nbutils.taggers import PROMPTS, checksums, token_head
from nbutils.taggers.bert import BertTagger
from nbutils.taggers.copying.decode import Copier, SharedPrefix, TagTokens, decode, shared_prefix
from nbutils.taggers.copying.scorer import without_adapter
from nbutils.taggers.models import HOLE, around, bf16_products, load_adapter, load_causal, memory_hint, with_adapter
from nbutils.taggers.offsets import Encoded, encode_with_offsets
from nbutils.taggers.settings import LoraSettings, prompt_file, read_settings, save_settings
from nbutils.taggers.training import pad, train
from nbutils.taggers.usage import Tokens
from nbutils.taggers.windows import clause_windows

TAG_TOKENS = 8  # kept free for tags and the end, in each of prompt and target
SMALL = 200_000_000  # weights, of a model whose adapter is added to them while it decodes


class LoraTagger:
    """A language model with its adapter, ready to tag."""

    def __init__(self, model: Any, tokenizer: Any, settings: LoraSettings):
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.tags = TagTokens(tokenizer, settings.labels)
        self.used = Tokens()

    def predict(self, documents: Iterable[Document], progress: bool = False) -> list[Prediction]:
        """Tag every document; a piece that is too long for the model is cut into lines or windows first."""
        self.tags = TagTokens(self.tokenizer, self.settings.labels)  # its cache lives for one call, so memory is flat
        documents = [d.without_entities() for d in documents]
        pieces = [piece for k, d in enumerate(documents) for piece in pieces_of(k, d, self.tokenizer, self.settings)]
        of_document: list[list[Entity]] = [[] for _ in documents]
        order = sorted(range(len(pieces)), key=lambda n: -len(pieces[n].text))  # like lengths together
        size = self.settings.decode_batch_size
        self.model.eval()
        prompts = [prompt_ids(self.tokenizer, self.settings.prompt, p.encoded, self.settings.labels) for p in pieces]
        with folded(self.model), bf16_products(self.settings.bf16):
            prefix = shared_prefix(self.model, prompts)  # the instruction: computed once, not for every batch
            for first in tqdm(range(0, len(order), size), disable=not progress, desc="tagging", unit="batch"):
                batch = order[first : first + size]
                tagged = self._tag([pieces[n] for n in batch], [prompts[n] for n in batch], prefix)
                for n, entities in zip(batch, tagged, strict=True):
                    of_document[pieces[n].document] += pieces[n].decided(entities)
        # Two windows may disagree where they meet.
        return [Prediction(d.id, without_overlaps(e)) for d, e in zip(documents, of_document, strict=True)]

    def _tag(
        self, pieces: Sequence[Piece], prompts: Sequence[Sequence[int]], prefix: SharedPrefix
    ) -> list[list[Entity]]:
        copiers = [Copier(self.tags, piece.text, piece.encoded) for piece in pieces]
        longest = max(map(len, prompts))
        fix = f"lower decode_batch_size to {max(len(pieces) // 2, 1)} or lower max_length"
        with memory_hint(f"tagging batches of {len(pieces)} × {longest:,} prompt tokens", fix):
            decoded = decode(self.model, prompts, copiers, prefix=prefix)
        self.used += Tokens(sum(map(len, prompts)), sum(len(tokens) for tokens, _ in decoded))
        return [c.read(*out) for c, out in zip(copiers, decoded, strict=True)]

    def save(self, folder: str | Path) -> None:
        """The adapter (safetensors), the tokenizer and the settings; the base model stays where it is."""
        self.model.save_pretrained(folder, safe_serialization=True)
        self.tokenizer.save_pretrained(folder)
        save_settings(self.settings, folder)
        checksums.write(folder, "*.safetensors")


@contextmanager
def folded(model: Any) -> Iterator[None]:
    """LoRA's products added to the weights while a small model decodes on a CPU; then the weights are put back.

    Of a small model the products are a good part of a pass. Of a large one they are little, and the copy that puts the
    weights back bit for bit would take its memory again; in half precision adding them would round them away.
    """
    layers = [m for m in model.modules() if isinstance(m, LoraLayer)] if isinstance(model, PeftModel) else []
    weights = [layer.get_base_layer().weight for layer in layers]
    small = sum(w.numel() for w in weights) <= SMALL
    plain = all(w.dtype == torch.float32 and w.device.type == "cpu" for w in weights)
    if not layers or not small or not plain or any(layer.merged for layer in layers):
        yield
        return
    kept = [w.detach().clone() for w in weights]
    model.merge_adapter()
    try:
        yield
    finally:
        model.unmerge_adapter()
        for weight, before in zip(weights, kept, strict=True):
            weight.data.copy_(before)


def fit(
    documents: Iterable[Document],
    settings: LoraSettings,
    *,
    seed: int,
    start: str | Path | None = None,
    **options: Any,
) -> LoraTagger | BertTagger:
    """Tune an adapter on these documents' entities; with `epochs: 0` the model stays as it came (untuned).

    With `head: classify` the language model labels tokens (`token_head`). `options` are those of `training.train`.
    With `start`, the folder of a saved tagger, its adapter is tuned on.
    """
    if settings.head == "classify":
        return token_head.fit(documents, settings, seed=seed, start=start, **options)
    model, tokenizer = load_causal(settings)
    torch.manual_seed(seed)  # the adapter is drawn here
    tagger = LoraTagger(model, tokenizer, settings)
    if start is None:
        tagger.model = with_adapter(model, settings, _tag_ids(tagger.tags) if settings.train_tags else None)
    else:
        tagger.model = load_adapter(model, start, trainable=True)
    if settings.epochs:
        rows = examples(documents, tokenizer, settings, tagger.tags)
        train(tagger.model, rows, Collator(tokenizer, tagger.model), settings, seed=seed, **options)
    return tagger


def _tag_ids(tags: TagTokens) -> list[int]:
    ids = [*tags.open.values(), *tags.close.values()]
    if any(len(tag) != 1 for tag in ids):
        raise DataError("train_tags needs a tokenizer in which each tag is one token; leave it out for this model")
    return [tag[0] for tag in ids]


def load(folder: str | Path) -> LoraTagger | BertTagger:
    """A tagger as `save` left it; DataError for files that are not as they were saved."""
    settings = read_settings(LoraSettings, folder)
    if settings.head == "classify":
        return token_head.load(folder, settings)
    model, tokenizer = load_causal(settings)
    return LoraTagger(load_adapter(model, folder), tokenizer, settings)


# --- prompts ----------------------------------------------------------------------------------------------------------


def prompt_text(name: str, text: str, labels: Sequence[str] = ("d",)) -> str:
    """The prompt file with the tags in the place of {tags} and the text in that of {text}.

    A note is data, so nothing in it is replaced.
    """
    prompt = prompt_file(name).removesuffix("\n")
    # What to mark and how: "病名・症状・異常所見を表す部分を <d> と </d> で、…".
    tags = "、".join(f"{_meaning(label)}を表す部分を <{label}> と </{label}> で" for label in labels)
    return prompt.replace("{tags}", tags).replace("{text}", text)


@cache  # asked for every line
def _meaning(label: str) -> str:
    """The tag in Japanese, its certainty behind it; a tag that MedTxt does not have stands for itself."""
    bare = separated(Entity(0, 0, label))
    meaning = _meanings()["tags"].get(bare.label, bare.label)
    certainty = _meanings()["certainties"].get(bare.certainty or UNMARKED)
    return meaning if bare.label == label else f"{meaning}（{certainty}）"


@cache
def _meanings() -> Mapping[str, Mapping[str, str]]:
    return yaml.safe_load((PROMPTS / "meanings_ja.yaml").read_text(encoding="utf-8"))


def prompt_ids(tokenizer: Any, name: str, text: Encoded, labels: Sequence[str] = ("d",)) -> list[int]:
    """The prompt as tokens, in the model's chat template when it has one.

    The text is tokenised by itself, with the same tokens as in the answer, and whatever looks like a special token in
    it ("<|eot_id|>") is read as characters: a note is data.
    """
    before, after = around(tokenizer, prompt_text(name, HOLE, labels))
    return [*before, *text[0], *after]


# --- pieces and training rows -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """A stretch of a document as the model sees it; it decides the entities that start in `[first, last)` of it."""

    document: int
    start: int
    text: str
    encoded: Encoded
    first: int
    last: int

    def decided(self, entities: Iterable[Entity]) -> list[Entity]:
        """Those of the piece's entities that it decides, with offsets in the document."""
        return [
            replace(e, start=e.start + self.start, end=e.end + self.start)
            for e in entities
            if self.first <= e.start < self.last
        ]


def pieces_of(number: int, document: Document, tokenizer: Any, settings: LoraSettings) -> list[Piece]:
    """The units of a document; one whose prompt and target could pass `max_length` is cut (see `clause_windows`)."""
    n_prompt = len(prompt_ids(tokenizer, settings.prompt, ([], []), settings.labels))
    size = (settings.max_length - n_prompt) // 2 - TAG_TOKENS
    if size < 8:
        raise DataError(f"max_length {settings.max_length} leaves no space for a text behind the prompt; raise it")
    pieces = []
    for start, end in sentence_spans(document, settings.unit):
        text = document.text[start:end]
        encoded = encode_with_offsets(tokenizer, text)
        keep = [(e.start, e.end) for e in entities_within(document, start, end)]
        for begin, stop, first, last in clause_windows(text, [end for _, end in encoded[1]], size, keep):
            part = text[begin:stop]
            tokens = encoded if part == text else encode_with_offsets(tokenizer, part)
            pieces.append(Piece(number, start + begin, part, tokens, first - begin, last - begin))
    return pieces


def examples(
    documents: Iterable[Document], tokenizer: Any, settings: LoraSettings, tags: TagTokens
) -> list[dict[str, list[int]]]:
    """Training rows: `input_ids` of prompt + target + end, and `labels` that leave the prompt out (-100)."""
    rows = []
    for document in documents:
        for piece in pieces_of(0, document, tokenizer, settings):
            entities = entities_within(document, piece.start, piece.start + len(piece.text))
            rows.append(example(tokenizer, settings.prompt, tags, piece.text, entities, piece.encoded))
    return rows


def example(
    tokenizer: Any, prompt: str, tags: TagTokens, text: str, entities: Sequence[Entity], encoded: Encoded | None = None
) -> dict[str, list[int]]:
    """One training row: a text, perhaps with its tokens, and its entities."""
    encoded = encoded or encode_with_offsets(tokenizer, text)
    before = prompt_ids(tokenizer, prompt, encoded, tuple(tags.open))
    target = [*Copier(tags, text, encoded).write(entities), tokenizer.eos_token_id]
    return {"input_ids": before + target, "labels": [-100] * len(before) + target}


class Collator:
    """Rows to right-padded tensors: input_ids and attention_mask [rows, longest], labels [rows, kept].

    A model that takes `logits_to_keep` computes no logits for what all prompts of the batch have at the front: with a
    vocabulary of 128,256 these are most of the memory of a long prompt. The labels are cut to match.
    """

    def __init__(self, tokenizer: Any, model: Any = None):
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        forward = None if model is None else without_adapter(model).forward
        self.cuts = forward is not None and "logits_to_keep" in inspect.signature(forward).parameters

    def __call__(self, rows: list[dict[str, list[int]]]) -> dict[str, Any]:
        ids = pad([r["input_ids"] for r in rows], self.pad_id)
        mask = pad([[1] * len(r["input_ids"]) for r in rows], 0)
        labels = pad([r["labels"] for r in rows], -100)
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        if self.cuts:
            first = int((labels != -100).any(dim=0).int().argmax())  # to be predicted, from the token before it
            kept = labels.shape[1] - max(first - 1, 0)
            at = torch.arange(labels.shape[1] - kept, labels.shape[1])  # a number would make slow, scattered products
            batch |= {"labels": labels[:, -kept:], "logits_to_keep": at}
        return batch
