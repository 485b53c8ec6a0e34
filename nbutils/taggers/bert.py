"""An encoder that labels tokens (the paper's BERT): BIO labels on pieces, characters in and characters out.

Any model of `AutoModelForTokenClassification` will do, with a fast or a slow tokenizer. Text that is longer than the
model's limit is read in overlapping windows, and every piece takes its label from the window where it has most context.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import BatchEncoding

from nbutils.corpus import Document, Entity, Prediction, sentence_spans
from nbutils.taggers import checksums
from nbutils.taggers.bio import bio_labels, bio_to_entities, entities_to_bio
from nbutils.taggers.models import bf16_products, load_encoder, memory_hint
from nbutils.taggers.offsets import encode_with_offsets, special_ids
from nbutils.taggers.settings import BertSettings, read_settings, save_settings
from nbutils.taggers.training import pad, train
from nbutils.taggers.usage import Tokens
from nbutils.taggers.windows import window_bounds


@dataclass(frozen=True)
class Window:
    """A stretch of one unit's pieces as the model sees it, and the part of it whose labels count."""

    document: int
    ids: list[int]  # pieces only, no special tokens
    offsets: list[tuple[int, int]]  # of the pieces, in the document's text
    first: int  # of the pieces that this window decides
    last: int  # behind the last of them


class BertTagger:
    """An encoder with its classification head, ready to tag."""

    def __init__(self, model: Any, tokenizer: Any, settings: BertSettings):
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.used = Tokens()

    def predict(self, documents: Iterable[Document], progress: bool = False) -> list[Prediction]:
        documents = [d.without_entities() for d in documents]
        units = make_windows(documents, self.tokenizer, self.settings)
        log_probs = iter(self._log_probs([w for unit in units for w in unit], progress))
        entities: list[list[Entity]] = [[] for _ in documents]
        for unit in units:
            scores = np.concatenate([next(log_probs)[w.first : w.last] for w in unit])
            entities[unit[0].document] += bio_to_entities(
                scores, decided_offsets(unit), self.settings.labels, self.settings.decoding
            )
        return [Prediction(d.id, tuple(of_it)) for d, of_it in zip(documents, entities, strict=True)]

    @torch.inference_mode()
    def _log_probs(self, windows: Sequence[Window], progress: bool) -> list[np.ndarray]:
        """Log-probabilities of the labels for every window: [pieces, labels]."""
        self.model.eval()
        out: list[np.ndarray] = [np.empty(0)] * len(windows)
        order = sorted(range(len(windows)), key=lambda n: -len(windows[n].ids))
        key = "decode_batch_size" if hasattr(self.settings, "decode_batch_size") else "batch_size"
        size = getattr(self.settings, key) * (4 if key == "batch_size" else 1)
        collate = Collator(self.tokenizer)
        for k in tqdm(range(0, len(order), size), disable=not progress, desc="tagging", unit="batch"):
            batch = order[k : k + size]
            inputs = collate([{"input_ids": windows[n].ids} for n in batch]).to(self.model.device)
            self.used += Tokens(prompt=int(inputs["attention_mask"].sum()))
            longest = inputs["input_ids"].shape[1]
            fix = f"lower {key} or max_length"
            with (
                bf16_products(self.settings.bf16),
                memory_hint(f"tagging batches of {len(batch)} × {longest:,} pieces", fix),
            ):
                logits = self.model(**inputs).logits.float().log_softmax(-1).cpu().numpy()
            for row, n in enumerate(batch):
                out[n] = logits[row, collate.n_before : collate.n_before + len(windows[n].ids)]
        return out

    def save(self, folder: str | Path) -> None:
        """An ordinary model folder (safetensors) with the tokenizer and our settings."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        save_settings(self.settings, folder)
        checksums.write(folder, "*.safetensors")


def fit(
    documents: Iterable[Document],
    settings: BertSettings,
    *,
    seed: int,
    start: str | Path | None = None,
    **options: Any,
) -> BertTagger:
    """Fine-tune the encoder on these documents' entities; `options` are those of `training.train`.

    With `start`, the folder of a saved tagger with the same labels, training goes on from that one.
    """
    torch.manual_seed(seed)  # the new head is drawn at loading
    origin = (settings.model, settings.revision) if start is None else (start, None)
    model, tokenizer = load_encoder(*origin, bio_labels(settings.labels))
    if settings.freeze_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    rows = examples(list(documents), tokenizer, settings)
    train(model, rows, Collator(tokenizer), settings, seed=seed, **options)
    return BertTagger(model, tokenizer, settings)


def load(folder: str | Path) -> BertTagger:
    """A tagger as `save` left it; DataError for files that are not as they were saved."""
    settings = read_settings(BertSettings, folder)
    return BertTagger(*load_encoder(folder, None, bio_labels(settings.labels)), settings)


# --- pieces and windows -----------------------------------------------------------------------------------------


def make_windows(documents: Sequence[Document], tokenizer: Any, settings: BertSettings) -> list[list[Window]]:
    """The windows of each unit that has pieces: every piece in at least one of them, and decided by exactly one."""
    size = settings.max_length - sum(map(len, special_ids(tokenizer)))
    units = []
    for n, document in enumerate(documents):
        for start, end in sentence_spans(document, settings.unit):
            ids, offsets = encode_with_offsets(tokenizer, document.text[start:end])
            offsets = [(s + start, e + start) for s, e in offsets]
            unit = [
                Window(n, ids[begin:stop], offsets[begin:stop], first - begin, last - begin)
                for begin, stop, first, last in window_bounds(len(ids), size)
            ]
            units += [unit] if unit else []
    return units


def decided_offsets(unit: Sequence[Window]) -> list[tuple[int, int]]:
    """The offsets of a unit's pieces, each from the window that decides it."""
    return [offsets for w in unit for offsets in w.offsets[w.first : w.last]]


def examples(documents: Sequence[Document], tokenizer: Any, settings: BertSettings) -> list[dict[str, list[int]]]:
    """Training rows: `input_ids` of a window's pieces and their `labels`, -100 where another window decides."""
    rows = []
    for unit in make_windows(documents, tokenizer, settings):
        entities = documents[unit[0].document].entities
        labels = iter(entities_to_bio(entities, decided_offsets(unit), settings.labels))
        for w in unit:
            decided = [next(labels) if w.first <= k < w.last else -100 for k in range(len(w.ids))]
            rows.append({"input_ids": w.ids, "labels": decided})
    return rows


class Collator:
    """Rows to tensors [rows, longest], with the tokenizer's special tokens around the pieces."""

    def __init__(self, tokenizer: Any):
        self.before, self.after = special_ids(tokenizer)
        self.n_before = len(self.before)
        self.pad_id = tokenizer.pad_token_id or 0

    def __call__(self, rows: list[dict[str, list[int]]]) -> Any:
        ids = [self.before + r["input_ids"] + self.after for r in rows]
        out = {"input_ids": pad(ids, self.pad_id), "attention_mask": pad([[1] * len(i) for i in ids], 0)}
        if "labels" in rows[0]:
            edge = [-100] * len(self.before), [-100] * len(self.after)
            out["labels"] = pad([edge[0] + r["labels"] + edge[1] for r in rows], -100)
        return BatchEncoding(out)
