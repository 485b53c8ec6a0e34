"""A causal language model that labels tokens: LoRA, and a BIO head in the place of the one that writes.

One pass reads a note; nothing is written. Rows, windows and decoding are those of the encoder (`bert`), so that what
differs from it is the model, and what differs from the language model that rewrites (`lora`) is the form of the answer.
The attention is that which the model came with, or one in which a token sees those behind it as well (Li et al. 2023,
"Label supervised LLaMA finetuning").
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from nbutils.corpus import Document
from nbutils.files import DataError
from nbutils.taggers.bert import BertTagger, Collator, examples
from nbutils.taggers.bio import bio_labels
from nbutils.taggers.models import load_adapter, load_causal, with_adapter
from nbutils.taggers.settings import LoraSettings
from nbutils.taggers.training import train


def fit(
    documents: Iterable[Document], settings: LoraSettings, *, seed: int, start: str | Path | None = None, **options: Any
) -> BertTagger:
    """Tune an adapter and a new head on these documents' entities, or go on from those of the saved tagger `start`.

    `options` are those of `training.train`.
    """
    torch.manual_seed(seed)  # the head is drawn at loading, the adapter after it
    model, tokenizer = _load_model(settings)
    model = with_adapter(model, settings) if start is None else load_adapter(model, start, trainable=True)
    half = [p for p in model.parameters() if p.requires_grad and p.dtype != torch.float32]
    for p in half:  # of a model in half precision: steps are too small for it
        p.data = p.data.float()
    rows = examples(list(documents), tokenizer, settings)
    train(model, rows, Collator(tokenizer), settings, seed=seed, **options)
    for p in half:
        p.data = p.data.to(model.dtype)
    return BertTagger(model, tokenizer, settings)


def load(folder: str | Path, settings: LoraSettings) -> BertTagger:
    """A tagger as `BertTagger.save` left it: the adapter and the head; the base model comes from where it is."""
    model, tokenizer = _load_model(settings)
    return BertTagger(load_adapter(model, folder), tokenizer, settings)


def _load_model(settings: LoraSettings) -> tuple[Any, Any]:
    model, tokenizer = load_causal(settings, bio_labels(settings.labels))
    if settings.attention == "bidirectional":
        attend_both_ways(model)
    return model, tokenizer


def attend_both_ways(model: Any) -> None:
    """Let every token of a causal model see those behind it, padding left out.

    Transformers makes the mask from the configuration and, where no row is padded, leaves it out and asks the layer.

    Raises:
        DataError: the model still does not look ahead.
    """
    for module in model.modules():
        if hasattr(module, "config"):
            module.config.is_causal = False
        if hasattr(module, "is_causal"):
            module.is_causal = False
    model.eval()
    with torch.inference_mode():
        one, other = (model(torch.tensor([[0, last]], device=model.device)).logits[0, 0] for last in (1, 2))
    if torch.equal(one, other):
        raise DataError(f"{type(model).__name__} cannot attend to what comes later; leave out attention: bidirectional")
