"""Where a model comes from and where it runs: every loading of weights, tokenizers and adapters, device, memory hint.

Weights come as safetensors, and code that a model brings along is never run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
)

from nbutils import ROOT
from nbutils.files import DataError
from nbutils.taggers import checksums
from nbutils.taggers.settings import LoraSettings

HEADS = ["score", "classifier"]  # what transformers calls the head of a model that labels tokens
HOLE = "\ue000text\ue000"  # private-use characters, where the text goes in a prompt
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)


# --- loading ----------------------------------------------------------------------------------------------------------


def load_tokenizer(model: str | Path, revision: str | None = None) -> Any:
    """The tokenizer of a model folder or of a model on the hub; DataError when there is none."""
    with _said_of(model):
        return AutoTokenizer.from_pretrained(local_or_hub(model), revision=revision, trust_remote_code=False)


def load_config(model: str | Path, revision: str | None = None) -> Any:
    """The configuration of a model; DataError when it cannot be read."""
    with _said_of(model):
        return AutoConfig.from_pretrained(local_or_hub(model), revision=revision, trust_remote_code=False)


def load_encoder(model: str | Path, revision: str | None, names: list[str]) -> tuple[Any, Any]:
    """An encoder with a head for labels of these names, on the best device, and its tokenizer."""
    return _load(AutoModelForTokenClassification, model, revision, **_named(names)), load_tokenizer(model, revision)


def _named(names: list[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: k for k, name in enumerate(names)}}


def load_causal(settings: Any, names: list[str] | None = None) -> tuple[Any, Any]:
    """The language model of settings (`model`, `revision`, `bf16`, perhaps `load_in_4bit`), and its tokenizer.

    Args:
        names: of labels, for a new head that labels tokens instead of the one that writes them.
    """
    half = settings.bf16 and device().type == "cuda"  # on a CPU only products are (bf16_products)
    dtype = torch.bfloat16 if half else torch.float32
    options: dict[str, Any] = {"dtype": dtype}
    if getattr(settings, "load_in_4bit", False):
        options["device_map"] = {"": device()}
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=HEADS if names else None,
        )
    auto = AutoModelForTokenClassification if names else AutoModelForCausalLM
    model = _load(auto, settings.model, settings.revision, **options, **(_named(names) if names else {}))
    return model, load_tokenizer(settings.model, settings.revision)


def lora_config(settings: LoraSettings, tag_ids: list[int] | None = None) -> LoraConfig:
    """The adapter that the settings ask for; a head that labels tokens is trained as a whole, beside it."""
    writes = settings.head == "write"
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
        exclude_modules=None if writes else HEADS,
        trainable_token_indices=tag_ids,
        task_type="CAUSAL_LM" if writes else "TOKEN_CLS",
    )


def with_adapter(model: Any, settings: LoraSettings, tag_ids: list[int] | None = None) -> Any:
    """The model with a new adapter, drawn from torch's random numbers."""
    if settings.load_in_4bit and settings.epochs:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # Trainer switches that on
    return get_peft_model(model, lora_config(settings, tag_ids))


def load_adapter(model: Any, folder: str | Path, *, trainable: bool = False) -> Any:
    """The model with the adapter that a folder holds."""
    _refuse_pickles(Path(folder), "adapter_model.safetensors")
    with _said_of(folder):
        return PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)


def _load(auto: Any, model: str | Path, revision: str | None, **options: Any) -> Any:
    name = local_or_hub(model)
    if Path(name).is_dir():
        _refuse_pickles(Path(name), "*.safetensors")
    with _said_of(model):
        loaded = auto.from_pretrained(name, revision=revision, use_safetensors=True, trust_remote_code=False, **options)
        return loaded if "device_map" in options else loaded.to(device())


def _refuse_pickles(folder: Path, wanted: str) -> None:
    """What was saved here must be as it was saved; a pickle, which could run code, never stands in for safetensors."""
    if (folder / checksums.NAME).exists():
        checksums.check(folder)
    if not any(folder.glob(wanted)):
        pickles = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLES)
        hint = f"{pickles[0]} could run code and is not opened; " if pickles else ""
        raise DataError(
            f"{folder}: there are no weights as safetensors here; {hint}convert the model or train it again"
        )


@contextmanager
def _said_of(model: str | Path) -> Iterator[None]:
    """One sentence instead of whatever a library raises for files that are missing, cut or of another kind."""
    try:
        with memory_hint(f"loading {model}", "use a smaller model, or bf16: true"):
            yield
    except DataError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise DataError(f"{model}: the model cannot be loaded ({reason}); get its files again") from None


def local_or_hub(model: str | Path) -> str:
    """A model folder, counted from the repository when relative, or else the name of a model on the hub.

    A folder `models/hub/OWNER/NAME` goes before the hub: made into safetensors (`make models`) or brought along.
    """
    folders = (ROOT / model, ROOT / "models" / "hub" / model)
    return next((str(folder) for folder in folders if folder.is_dir()), str(model))


# --- prompts ----------------------------------------------------------------------------------------------------------


def around(tokenizer: Any, content: str) -> tuple[list[int], list[int]]:
    """The tokens of a prompt before and behind its `HOLE`, in the model's chat template when it has one.

    Raises:
        DataError: the template does not take up the prompt exactly once.
    """
    return _around(tokenizer, repr(tokenizer.chat_template), content)


@lru_cache(maxsize=8)  # asked for every line
def _around(tokenizer: Any, template: str, content: str) -> tuple[list[int], list[int]]:
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    if tokenizer.chat_template:
        message = [{"role": "user", "content": content}]
        content = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        begin = []  # the template writes it
    parts = content.split(HOLE)
    if len(parts) != 2:
        raise DataError(f"the model's chat template holds a prompt {len(parts) - 1} times and not once; use another")
    before, after = (list(tokenizer(part, add_special_tokens=False)["input_ids"]) for part in parts)
    return begin + before, after


# --- device and memory ------------------------------------------------------------------------------------------------


def device() -> torch.device:
    """The GPU of this process (`accelerate launch` starts one process for each GPU), else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


@contextmanager
def bf16_products(wanted: bool) -> Iterator[None]:
    """On a CPU, multiply matrices in bfloat16 and keep weights, sums and all else in single precision.

    Twice as fast as single precision where the processor has instructions for it (AMX, AVX-512 BF16), and faster than
    mixed precision, whose copies cost more than they save there. Other processors stay with single precision.
    """
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    if wanted and device().type == "cpu":
        matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


@contextmanager
def memory_hint(what: str, fix: str) -> Iterator[None]:
    """Turn an out-of-memory error, of a GPU or of the machine, into one sentence with the numbers and the fix."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        raise DataError(f"out of memory{_memory()} while {what}; {fix}") from None


def _memory() -> str:
    if not torch.cuda.is_available():
        return ""
    total = torch.cuda.get_device_properties(device()).total_memory
    return f" ({torch.cuda.max_memory_allocated() / 2**30:.1f} of the GPU's {total / 2**30:.1f} GiB were in use)"
