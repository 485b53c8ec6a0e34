"""What a study file may say about each kind of system, with defaults from Table 2 of the paper where it speaks.

Plain data and nothing heavy, so that a study file is checked in a moment. Types are strict: "2" and True are no
numbers.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from nbutils.files import DataError, text_of, written_whole

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
FILLED_IN = frozenset(("labels", "certainties", "private_corpora"))  # fields that the study knows; no keys of a system

PROMPTS = Path(__file__).parent / "prompts"  # the instructions that a study file names, one text file each


@cache
def prompt_file(name: str) -> str:
    """The text of one of them; one that is edited is read again by a new process."""
    return (PROMPTS / f"{name}.txt").read_text(encoding="utf-8")


def _prompt(name: str) -> str:
    names = sorted(path.stem for path in PROMPTS.glob("*.txt"))
    if name not in names:
        raise ValueError(f'there is no prompt "{name}"{nearest(name, names)}')
    return name


Texts = Annotated[tuple[str, ...], Field(strict=False)]  # a list of the file becomes a tuple
Number = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(gt=0, lt=2**31)]
Width = Annotated[int, Field(ge=32, multiple_of=32)]  # of a tiny model, whose attention heads are 32 wide
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Prompt = Annotated[str, AfterValidator(_prompt)]
Unit = Literal["sentence", "note"]
Scheduler = Literal["linear", "cosine", "constant"]


class Training:
    """What `training.train` reads: of settings without a field of that name, the value that stands here."""

    learning_rate: float
    batch_size: int
    epochs = 1.0
    accumulation = 1
    weight_decay = 0.0
    warmup = 0.0
    scheduler = "linear"
    max_grad_norm = 1.0
    adam_beta2 = 0.999
    bf16 = False
    gradient_checkpointing = False


@dataclass(frozen=True, config=STRICT)
class CrfSettings:
    """What a study file may say about a CRF (Lafferty et al. 2001; not in the paper)."""

    labels: Texts = ("d",)
    unit: Unit = "sentence"
    c1: NotNegative = 0.05  # L1 penalty
    c2: NotNegative = 0.05  # L2 penalty
    iterations: Count = 80  # of L-BFGS
    dictionary: str | None = None  # a list of terms (taggers/terms.py), whose matches become features


@dataclass(frozen=True, config=STRICT)
class DictionarySettings:
    """What a study file may say about a dictionary as a row of its own (not in the paper)."""

    labels: Texts = ("d",)
    dictionary: str | None = None  # a list of terms (taggers/terms.py)
    learn: bool = True  # add the strings that are entities in the training part


@dataclass(frozen=True, config=STRICT)
class BertSettings(Training):
    """What a study file may say about an encoder; the defaults are Table 2 of the paper where it speaks."""

    model: str
    revision: str | None = None  # a commit of the hub's repository; unstated in the paper
    labels: Texts = ("d",)
    unit: Unit = "sentence"  # ambiguous in the paper
    max_length: Count = 512  # pieces, special ones included
    learning_rate: Positive = 2e-5
    epochs: NotNegative = 10
    batch_size: Count = 8
    accumulation: Count = 1  # batches a step; for a smaller batch_size where memory is short
    weight_decay: NotNegative = 0.0
    warmup: NotNegative = 0  # steps, or a share of the steps when below 1
    scheduler: Scheduler = "linear"  # unstated in the paper
    bf16: bool = False  # unstated in the paper
    gradient_checkpointing: bool = False  # less memory, a third more work; unstated in the paper
    freeze_embeddings: bool = False  # leave the pieces' vectors as they came; a large vocabulary makes steps slow
    decoding: Literal["argmax", "viterbi"] = "argmax"  # viterbi: the likeliest label sequence that is well-formed BIO


@dataclass(frozen=True, config=STRICT)
class LoraSettings(Training):
    """What a study file may say about a LoRA system; the defaults are Table 2 of the paper where it speaks.

    Raises:
        ValueError: values that do not go together, in one sentence.
    """

    model: str
    revision: str | None = None  # a commit of the hub's repository; unstated in the paper
    labels: Texts = ("d",)
    head: Literal["write", "classify"] = "write"  # re-types a note with tags, or labels its tokens (not in the paper)
    attention: Literal["causal", "bidirectional"] = "causal"  # bidirectional: sees what comes later; classify only
    prompt: Prompt = "rewrite_ja"  # a file under taggers/prompts; unstated in the paper
    unit: Unit = "sentence"  # ambiguous in the paper
    rank: Count = 16
    alpha: Count = 64  # the paper's "scaling factor 64" read as lora_alpha: a multiplier of 64/16
    dropout: Share = 0.05
    target_modules: str = "all-linear"  # unstated in the paper
    train_tags: bool = False  # train the embeddings of the tags too; needs tags that are one token each
    learning_rate: Positive = 2e-4
    epochs: NotNegative = 2  # 0: the model as it came
    batch_size: Count = 4
    accumulation: Count = 4
    warmup: NotNegative = 0.05  # share of the steps, or steps when 1 or more
    scheduler: Scheduler = "linear"  # unstated in the paper
    weight_decay: NotNegative = 0.0  # unstated in the paper for the LLM
    max_grad_norm: NotNegative = 0.3
    max_length: Count = 3000  # tokens of prompt and target together
    bf16: bool = False  # unstated in the paper
    gradient_checkpointing: bool = False  # less memory, a third more work; unstated in the paper
    load_in_4bit: bool = False  # NF4 base weights (QLoRA: Dettmers et al. 2023); needs a GPU and the extra `quant`
    decode_batch_size: Count = 32

    decoding = "argmax"  # of the labels of tokens

    def __post_init__(self) -> None:
        if self.head == "write" and self.attention != "causal":
            raise ValueError("attention: who writes sees only what is written; add head: classify, or leave it out")
        if self.head == "classify" and self.train_tags:
            raise ValueError("train_tags: a classifier writes no tags; leave it out")
        if self.head == "classify" and not self.epochs:
            raise ValueError("epochs: a new head knows nothing before it is trained; write more than 0")


@dataclass(frozen=True, config=STRICT)
class IclSettings:
    """What a study file may say about prompting a model as it is (in-context learning); see docs/icl.md.

    Raises:
        ValueError: values that do not go together, in one sentence.
    """

    model: str  # as the endpoint names it; a folder or a name on the hub when there is no endpoint
    labels: Texts = ("d",)
    shots: Number = 0  # annotated notes of the training part in the prompt; the paper's few-shot is 1
    shot_characters: Number | None = None  # a longer one is cut to whole lines
    prompt: Prompt = "icl_ja"  # PROMPT.txt and PROMPT_example.txt under taggers/prompts
    unit: Unit = "note"  # sentence: asks for each line, with the whole guideline every time
    dictionary: str | None = None  # a list of terms (taggers/terms.py); those in the text are named in the prompt
    hints: Count = 20  # of them at most
    policy: Literal["repair", "strict"] = "repair"  # strict: only answers without any damage count (markup.read)
    tokens_per_character: Positive = 2.0  # of the limit on an answer; Llama 3 needs 0.93 on Japanese case reports
    # A local model (no endpoint)
    revision: str | None = None
    decoding: Literal["free", "copy"] = "free"  # copy: constrained to copy the text and set tags
    bf16: bool = False  # on a CPU its products alone (models.bf16_products)
    decode_batch_size: Count = 16
    max_length: Count = 8192  # tokens of prompt and answer together; the guideline alone is some 1,800
    # An endpoint that speaks OpenAI's chat completions
    endpoint: str | None = None  # such as http://127.0.0.1:8000/v1; null: the model runs in this process
    external: bool = False  # whether text may go to a host that is neither this machine nor in allowed_hosts
    allowed_hosts: Texts = ()  # hosts that private corpora may go to, too
    private_corpora: Texts = ()  # filled in by the study: those whose text this row would send
    key_variable: str | None = None  # the environment variable with the key; null: OPENAI_API_KEY, for OpenAI only
    limit_name: str | None = "max_tokens"  # newer OpenAI models want max_completion_tokens; null: no limit is sent
    seed_name: str | None = "seed"  # Mistral wants random_seed; null: not sent
    temperature: NotNegative | None = 0.0  # null: not sent
    concurrency: Count = 4  # requests under way at once
    timeout: Positive = 120.0  # seconds for one attempt, all in all
    attempts: Count = 6  # of one request that fails in a way that may pass (429, 5xx, time-out, connection)
    # Paid requests under way when a run was killed: ask (stop), count (as failed) or resend
    interrupted: Literal["ask", "count", "resend"] = "ask"
    price: Mapping[str, NotNegative] = field(default_factory=dict)  # {input: …, output: …} per million tokens
    budget: NotNegative | None = None  # money, in the currency of the price; nothing is sent that could pass it
    budget_tokens: Number | None = None  # the same in tokens, of prompts and answers
    dry_run: bool = False  # print what it would cost at most, send nothing
    cache: str = "runs/answers.sqlite"  # every answer that was paid for; holds text of notes

    def __post_init__(self) -> None:
        if self.price and set(self.price) != {"input", "output"}:
            raise ValueError("price: write {input: 2.5, output: 10.0}, per million tokens")
        names = [name for name in (self.limit_name, self.seed_name) if name is not None]
        if {*names} & {"model", "messages", "temperature", "stream", "n"} or len({*names}) < len(names):
            raise ValueError("limit_name, seed_name: write the server's own names of two parameters, or null")
        if self.limit_name is None and (self.budget is not None or self.budget_tokens is not None):
            raise ValueError("budget: cannot hold for answers without a limit; give limit_name, or leave budget out")
        if self.budget is not None and not self.price:
            raise ValueError("budget: needs a price to be counted in; add price, or use budget_tokens")
        if self.endpoint is not None and self.decoding == "copy":
            raise ValueError("decoding: copy needs the model in this process; leave out endpoint, or decode free")


@dataclass(frozen=True, config=STRICT)
class ExternalSettings:
    """What a study file may say about predictions made elsewhere; see docs/external.md."""

    predictions: Mapping[str, str]  # evaluation corpus: file or folder with what the tool found in it
    format: Literal["offsets", "medtxt", "brat", "conll", "doccano", "labelstudio", "jmed", "jsonl"] = "offsets"
    labels: Texts = ("d",)
    labels_as: Mapping[str, str] | None = None  # type in the files: type in the study; others are left out
    certainties: Texts | None = None  # filled in by the study: entities of any other certainty are left out
    private_corpora: Texts = ()  # filled in by the study
    encoding: str | None = None
    overlaps: str | None = None  # these five as for a corpus (docs/your_own_notes.md)
    discontinuous: str | None = None
    offsets: str | None = None
    join: str | None = None
    documents: str | None = None


@dataclass(frozen=True, config=STRICT)
class TinyEncoderSettings(Training):
    """A ModernBERT (Warner et al. 2024): rotary positions and local attention learn from few notes, absolute do not."""

    hidden: Width = 128
    layers: Count = 3
    local_attention: Count = 16  # characters
    epochs: Positive = 30
    learning_rate: Positive = 2e-3
    batch_size: Count = 32
    masked: Annotated[float, Field(gt=0, lt=1)] = 0.3  # share of the characters

    warmup = 0.05


@dataclass(frozen=True, config=STRICT)
class TinyLlmSettings(Training):
    """A Llama with tied embeddings, which make copying easy to learn."""

    hidden: Width = 128
    layers: Count = 3
    samples: Count = 48_000  # lines of the self-supervised task
    longest: Annotated[int, Field(ge=4)] = 40  # characters of a line
    learning_rate: Positive = 3e-3
    batch_size: Count = 32
    prompt: Prompt = "tiny_ja"

    warmup, weight_decay, adam_beta2 = 0.03, 0.01, 0.98


PLAIN = {  # in the sentences of pydantic
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid boolean": "true or false",
    "a valid tuple": "a list",
    "a valid dictionary": "a mapping (key: value)",
    "greater than": "more than",
    "more than or equal to": "at least",
}
TINY = {"encoder": TinyEncoderSettings, "llm": TinyLlmSettings}
Settings = TypeVar("Settings")


# --- on disk ----------------------------------------------------------------------------------------------------------


def save_settings(settings: Any, folder: str | Path, **besides: Any) -> None:
    """Write settings.json beside a model; `besides` are further keys of it."""
    with written_whole(Path(folder) / "settings.json") as file:
        json.dump(asdict(settings) | besides, file, indent=1, ensure_ascii=False)


def read_settings(kind: type[Settings], folder: str | Path) -> Settings:
    """The settings that `save_settings` wrote.

    Raises:
        DataError: there are none, or they are not those of this kind of system.
    """
    path = Path(folder) / "settings.json"
    if not path.is_file():
        raise DataError(f"{folder}: there is no model with its settings.json here; train it again")
    try:
        return kind(**json.loads(text_of(path)))
    except ValidationError as error:
        where, sentence = problems_of(error, kind)[0]
        raise DataError(f"{path}, {'.'.join(map(str, where))}: {sentence}") from None
    except (ValueError, TypeError, RecursionError):
        raise DataError(f"{path}: these are no settings of a model; train it again") from None


# --- sentences --------------------------------------------------------------------------------------------------------


def problems_of(
    error: ValidationError, kind: type, besides: Iterable[str] = (), hidden: Iterable[str] = ()
) -> list[tuple[tuple[Any, ...], str]]:
    """What is wrong with the values of a dataclass: for each problem its place and a sentence.

    Args:
        besides: keys that may stand among them too, for the advice.
        hidden: keys that may not, for the advice.
    """
    known = {*kind.__dataclass_fields__, *besides} - {*hidden}
    return [_problem(dict(one), known) for one in error.errors(include_url=False)]


def _problem(error: dict[str, Any], known: Iterable[str]) -> tuple[tuple[Any, ...], str]:
    where, what, message = error["loc"], error["type"], error["msg"]
    if what == "unexpected_keyword_argument":
        return where, f'unknown key "{where[-1]}"{nearest(where[-1], known)}'
    if what == "missing":
        return where[:-1], f'the key "{where[-1]}" is missing'
    if what == "value_error":
        message = message.removeprefix("Value error, ")
        key, _, sentence = message.partition(": ")
        return (where, message) if where else ((key,), sentence)
    if what == "literal_error":
        expected = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return where, f"there is no {shortened(error['input'])}; use one of {expected}"
    for word, plain in PLAIN.items():
        message = message.replace(word, plain)
    return where, message.replace("Input", shortened(error["input"]))


def shortened(value: Any) -> str:
    """A value as a sentence may quote it."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def nearest(name: Any, known: Iterable[str]) -> str:
    """The advice behind "there is no such name": the known name that is most like it, or else all of them."""
    close = difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=0.5)
    return f'; did you mean "{close[0]}"?' if close else f"; known are {', '.join(sorted(known))}"
