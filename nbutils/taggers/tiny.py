"""Tiny models built on the spot, so that the whole study runs offline on a CPU in minutes.

A small encoder and a small Llama are made from nothing but the bare lines of a training split, and saved as ordinary
Hugging Face folders. From there on `bert.py` and `lora.py` treat them like any model from the hub. Their scores say
nothing about real checkpoints.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    DataCollatorForLanguageModeling,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
)

from nbutils.corpus import Document, Entity, sentence_spans
from nbutils.taggers import lora
from nbutils.taggers.copying.decode import TagTokens
from nbutils.taggers.crf import words
from nbutils.taggers.settings import TinyEncoderSettings, TinyLlmSettings
from nbutils.taggers.training import train

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PHRASE = "n"  # the tag of the self-supervised task; the study's own tags stay unseen until fine-tuning
NOUNS = frozenset(("名詞", "接頭辞", "接尾辞", "記号"))


def character_tokenizer(texts: Iterable[str], labels: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """One token for each character after NFKC, [UNK] for those that the texts do not have; a tag is one token."""
    normalizer = normalizers.NFKC()
    characters = sorted({c for text in texts for c in normalizer.normalize_str(text)})
    tags = [tag for label in labels for tag in (f"<{label}>", f"</{label}>")]
    vocabulary = {word: k for k, word in enumerate(dict.fromkeys([*SPECIAL, *tags, *characters]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    if tags:
        tokenizer.add_special_tokens(tags)
    pad, unk, cls, sep, mask = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, unk_token=unk, cls_token=cls, sep_token=sep, mask_token=mask,
        bos_token=cls, eos_token=sep, model_max_length=512,
    )  # fmt: skip


def bare_lines(documents: Iterable[Document]) -> list[str]:
    """The lines of the documents without their entities: all that the self-supervised start may see."""
    return [d.text[s:e] for d in documents for s, e in sentence_spans(d.without_entities())]


def build_encoder(
    documents: Iterable[Document], folder: str | Path, settings: TinyEncoderSettings, *, progress: bool = True
) -> None:
    """An encoder pretrained as a masked language model on these documents' lines."""
    texts = bare_lines(documents)
    tokenizer = character_tokenizer(texts)
    torch.manual_seed(0)
    model = ModernBertForMaskedLM(
        ModernBertConfig(
            **_shape(settings, tokenizer),
            local_attention=settings.local_attention,
            global_attn_every_n_layers=settings.layers,
            max_position_embeddings=512,
            cls_token_id=2,
            sep_token_id=3,
        )
    )
    rows = [{"input_ids": tokenizer(t, truncation=True, max_length=512)["input_ids"]} for t in texts]
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=settings.masked)
    train(model, rows, collate, settings, seed=0, progress=progress)
    _save(model, tokenizer, folder)


def build_llm(
    documents: Iterable[Document],
    folder: str | Path,
    settings: TinyLlmSettings,
    *,
    labels: Sequence[str] = ("d",),
    progress: bool = True,
) -> None:
    """A Llama whose self-supervised start is the study's form of answer to another question.

    It re-types stretches of the documents' lines and brackets the noun phrases that MeCab finds with `<n>`. So it
    learns to copy, to look ahead in the prompt, and that brackets go around words; nothing of diseases. The study's
    own tags have tokens but are never shown.
    """
    texts = bare_lines(documents)
    tokenizer = character_tokenizer([*texts, lora.prompt_text(settings.prompt, "", labels)], [*labels, PHRASE])
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            **_shape(settings, tokenizer),
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            initializer_range=settings.hidden**-0.5,
        )
    )
    rows = phrase_rows(texts, tokenizer, settings)
    train(model, rows, lora.Collator(tokenizer, model), settings, seed=0, progress=progress)
    _save(model, tokenizer, folder)


def _shape(settings: TinyEncoderSettings | TinyLlmSettings, tokenizer: Any) -> dict[str, int]:
    """What the configurations of both models say alike; the special tokens are numbered as in `SPECIAL`."""
    return {
        "vocab_size": len(tokenizer), "hidden_size": settings.hidden, "intermediate_size": 2 * settings.hidden,
        "num_hidden_layers": settings.layers, "num_attention_heads": settings.hidden // 32,
        "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
    }  # fmt: skip


def phrase_rows(texts: Sequence[str], tokenizer: Any, settings: TinyLlmSettings) -> list[dict[str, list[int]]]:
    """Random stretches of lines with their noun phrases bracketed: prompt + target + end, as `lora.example` makes."""
    rng = random.Random(0)
    tags = TagTokens(tokenizer, [PHRASE])
    phrases = {text: noun_phrases(text) for text in texts}
    rows = []
    for _ in range(settings.samples):
        text = rng.choice(texts)
        length = min(len(text), rng.randint(4, settings.longest))
        start = rng.randint(0, len(text) - length)
        inside = [(max(s - start, 0), min(e - start, length)) for s, e in phrases[text]]
        entities = [Entity(s, e, PHRASE) for s, e in inside if s < e]
        rows.append(lora.example(tokenizer, settings.prompt, tags, text[start : start + length], entities))
    return rows


def noun_phrases(text: str) -> list[tuple[int, int]]:
    """Runs of adjoining nouns, prefixes, suffixes and symbols in MeCab's analysis, as (start, end)."""
    runs: list[tuple[int, int]] = []
    for start, end, pos in words(text):
        if pos in NOUNS:
            if runs and runs[-1][1] == start:
                runs[-1] = (runs[-1][0], end)
            else:
                runs.append((start, end))
    return runs


def _save(model: Any, tokenizer: Any, folder: str | Path) -> None:
    """Write beside, then rename, so that a folder under its name is a whole model."""
    folder = Path(folder)
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    model.save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(beside, folder)
