"""What a study file may say about each kind of system, with defaults from Table 2 of the paper where it speaks.

Plain data and nothing heavy, so that a study file is checked in a moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CrfSettings:
    """What a study file may say about a CRF (Lafferty et al. 2001; not in the paper)."""

    labels: tuple[str, ...] = ("d",)
    unit: str = "sentence"
    c1: float = 0.05  # L1 penalty
    c2: float = 0.05  # L2 penalty
    iterations: int = 80  # of L-BFGS


@dataclass(frozen=True)
class BertSettings:
    """What a study file may say about an encoder; the defaults are Table 2 of the paper where it speaks."""

    model: str
    revision: str | None = None  # a commit of the hub's repository; unstated in the paper
    labels: tuple[str, ...] = ("d",)
    unit: str = "sentence"  # or "note"; ambiguous in the paper
    max_length: int = 512  # pieces, special ones included
    learning_rate: float = 2e-5
    epochs: float = 10
    batch_size: int = 8
    accumulation: int = 1  # batches a step; for a smaller batch_size where memory is short
    weight_decay: float = 0.0
    warmup: float = 0  # steps, or a share of the steps when below 1
    scheduler: str = "linear"  # unstated in the paper
    bf16: bool = False  # unstated in the paper
    gradient_checkpointing: bool = False  # less memory, a third more work; unstated in the paper
    decoding: str = "argmax"  # or "viterbi": the likeliest label sequence that is well-formed BIO


@dataclass(frozen=True)
class LoraSettings:
    """What a study file may say about a LoRA system; the defaults are Table 2 of the paper where it speaks."""

    model: str
    revision: str | None = None  # a commit of the hub's repository; unstated in the paper
    labels: tuple[str, ...] = ("d",)
    prompt: str = "rewrite_ja"  # a file under nbutils/prompts; unstated in the paper
    unit: str = "sentence"  # or "note"; ambiguous in the paper
    rank: int = 16
    alpha: int = 64  # the paper's "scaling factor 64" read as lora_alpha: a multiplier of 64/16
    dropout: float = 0.05
    target_modules: str = "all-linear"  # unstated in the paper
    train_tags: bool = False  # train the embeddings of the tags too; needs tags that are one token each
    learning_rate: float = 2e-4
    epochs: float = 2
    batch_size: int = 4
    accumulation: int = 4
    warmup: float = 0.05  # share of the steps
    scheduler: str = "linear"  # unstated in the paper
    weight_decay: float = 0.0  # unstated in the paper for the LLM
    max_grad_norm: float = 0.3
    max_length: int = 3000  # tokens of prompt and target together
    bf16: bool = False  # unstated in the paper
    gradient_checkpointing: bool = False  # less memory, a third more work; unstated in the paper
    load_in_4bit: bool = False  # NF4 base weights (QLoRA: Dettmers et al. 2023); needs a GPU and the extra `quant`
    decode_batch_size: int = 32


@dataclass(frozen=True)
class TinyEncoderSettings:
    """A ModernBERT (Warner et al. 2024): rotary positions and local attention learn from few notes, absolute do not."""

    hidden: int = 128
    layers: int = 3
    local_attention: int = 16  # characters
    epochs: float = 30
    learning_rate: float = 2e-3
    batch_size: int = 32
    masked: float = 0.3  # share of the characters


@dataclass(frozen=True)
class TinyLlmSettings:
    """A Llama with tied embeddings, which make copying easy to learn."""

    hidden: int = 128
    layers: int = 3
    samples: int = 48_000  # lines of the game
    longest: int = 40  # characters of a line
    learning_rate: float = 3e-3
    batch_size: int = 32
    prompt: str = "tiny_ja"


CHOICES = {
    "unit": ("sentence", "note"),
    "decoding": ("argmax", "viterbi"),
    "scheduler": ("linear", "cosine", "constant"),
}
SETTINGS = {"crf": CrfSettings, "bert": BertSettings, "lora": LoraSettings}
TINY = {"encoder": TinyEncoderSettings, "llm": TinyLlmSettings}


def settings_from(kind: type, values: dict[str, Any]) -> Any:
    """A settings dataclass from what JSON or YAML gave: lists become tuples."""
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
