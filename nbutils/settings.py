"""What a study file may say about each kind of system, with defaults from Table 2 of the paper where it speaks.

Plain data and nothing heavy, so that a study file is checked in a moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    freeze_embeddings: bool = False  # leave the pieces' vectors as they came; a large vocabulary makes steps slow
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
class IclSettings:
    """What a study file may say about prompting a model as it is (in-context learning); see docs/icl.md.

    Raises:
        ValueError: values that do not go together, in one sentence.
    """

    model: str  # as the endpoint names it; a folder or a name on the hub when there is no endpoint
    labels: tuple[str, ...] = ("d",)
    shots: int = 0  # annotated notes of the training part in the prompt; the paper's few-shot is 1
    shot_characters: int | None = None  # a longer one is cut to whole lines (for models with little room)
    prompt: str = "icl_ja"  # PROMPT.txt and PROMPT_example.txt under nbutils/prompts
    unit: str = "note"  # or "sentence": asks for each line, with the whole guideline every time
    policy: str = "repair"  # or "strict": only answers without any damage count (markup.read)
    tokens_per_character: float = 2.0  # of the limit on an answer; Llama 3 needs 0.93 on Japanese case reports
    # A local model (no endpoint)
    revision: str | None = None
    decoding: str = "free"  # or "copy": constrained to copy the text and set tags (copydecode)
    bf16: bool = False
    decode_batch_size: int = 16
    max_length: int = 8192  # tokens of prompt and answer together; the guideline alone is some 1,800
    # An endpoint that speaks OpenAI's chat completions
    endpoint: str | None = None  # such as http://127.0.0.1:8000/v1; null: the model runs in this process
    external: bool = False  # whether text may go to a host that is neither this machine nor in allowed_hosts
    allowed_hosts: tuple[str, ...] = ()  # hosts that private corpora may go to, too
    private_corpora: tuple[str, ...] = ()  # filled in by the study: those whose text this row would send
    key_variable: str | None = None  # the environment variable with the key; null: OPENAI_API_KEY, for OpenAI only
    limit_name: str = "max_tokens"  # newer OpenAI models want max_completion_tokens
    temperature: float | None = 0.0  # null: not sent
    concurrency: int = 4  # requests under way at once
    timeout: float = 120.0  # seconds for one attempt, all in all
    attempts: int = 6  # of one request that fails in a way that may pass (429, 5xx, time-out, connection)
    interrupted: str = "ask"  # paid requests under way when a run was killed: ask (stop), count (as failed) or resend
    price: Mapping[str, float] = field(default_factory=dict)  # {input: …, output: …} per million tokens
    budget: float | None = None  # money, in the currency of the price; nothing is sent that could pass it
    budget_tokens: int | None = None  # the same in tokens, of prompts and answers
    dry_run: bool = False  # print what it would cost at most, send nothing
    cache: str = "runs/answers.sqlite"  # every answer that was paid for; holds text of notes

    def __post_init__(self) -> None:
        for name, allowed in (("policy", ("strict", "repair")), ("decoding", ("free", "copy")),
                              ("unit", ("note", "sentence")), ("interrupted", ("ask", "count", "resend")),
                              ("limit_name", ("max_tokens", "max_completion_tokens"))):  # fmt: skip
            if getattr(self, name) not in allowed:
                raise ValueError(f'{name}: "{getattr(self, name)}" is unknown; use one of {", ".join(allowed)}')
        if self.price and (
            set(self.price) != {"input", "output"} or not all(_is_price(p) for p in self.price.values())
        ):
            raise ValueError("price: write {input: 2.5, output: 10.0}, per million tokens")
        if self.budget is not None and not self.price:
            raise ValueError("budget: needs a price to be counted in; add price, or use budget_tokens")
        for name in ("concurrency", "timeout", "attempts", "tokens_per_character", "decode_batch_size", "max_length"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be more than 0")
        for name in ("shots", "shot_characters", "budget", "budget_tokens"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name}: must not be less than 0")
        if self.endpoint is not None and self.decoding == "copy":
            raise ValueError("decoding: copy needs the model in this process; leave out endpoint, or decode free")


def _is_price(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < float("inf")


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


UNITS, SCHEDULERS = ("sentence", "note"), ("linear", "cosine", "constant")
CHOICES = {  # what a word in the settings may be; `IclSettings` checks its own
    "crf": {"unit": UNITS},
    "bert": {"unit": UNITS, "decoding": ("argmax", "viterbi"), "scheduler": SCHEDULERS},
    "lora": {"unit": UNITS, "scheduler": SCHEDULERS},
    "icl": {},
}
SETTINGS = {"crf": CrfSettings, "bert": BertSettings, "lora": LoraSettings, "icl": IclSettings}
TINY = {"encoder": TinyEncoderSettings, "llm": TinyLlmSettings}


def settings_from(kind: type, values: dict[str, Any]) -> Any:
    """A settings dataclass from what JSON or YAML gave: lists become tuples."""
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
