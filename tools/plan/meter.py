"""What one training step of a model costs, without running it: parameters, peak bytes, floating-point operations.

Everything happens on torch's meta device, where tensors have shapes and no data, so an 8B model fits on a laptop. The
forward and backward passes are the real ones of transformers and peft; a counter (`LiveBytes`) follows every
storage that they allocate and free, and torch's own counter adds up the operations.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import AttentionInterface, AutoModelForCausalLM, AutoModelForTokenClassification, PretrainedConfig

from nbutils.taggers.models import lora_config
from nbutils.taggers.settings import BertSettings, LoraSettings

ADAMW = 8  # bytes a trainable parameter: two moments in single precision
GRADIENT = 4  # and its gradient
NF4 = 0.516  # bytes a weight with double quantisation: 4.127 bits (Dettmers et al. 2023, section 3)


@dataclass(frozen=True)
class Cost:
    """One optimiser step of `accumulation` batches, each [rows, tokens]."""

    parameters: int
    trainable: int
    fixed_bytes: int  # weights, gradients, optimiser: there all the time
    peak_bytes: int  # with the activations of the batch at their highest
    flops: float  # of the step: forward, backward and what gradient checkpointing computes again
    calls: int  # of torch's operators in the step; each takes some microseconds to start, however small it is


def meta_model(config: PretrainedConfig, settings: BertSettings | LoraSettings) -> torch.nn.Module:
    """The model as it is trained, on the meta device, its activations in the settings' precision."""
    AttentionInterface.register("meter", _attention)
    config = type(config).from_dict(config.to_dict() | {"attn_implementation": "meter", "use_cache": False})
    config._attn_implementation = "meter"
    dtype = torch.bfloat16 if settings.bf16 else torch.float32
    writes = isinstance(settings, LoraSettings) and settings.head == "write"
    with torch.device("meta"):
        if writes:
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        else:
            config.num_labels = 1 + 2 * len(settings.labels)
            model = AutoModelForTokenClassification.from_config(config, dtype=dtype)
        if isinstance(settings, LoraSettings):
            tags = list(range(2 * len(settings.labels))) if settings.train_tags else None
            # In training the adapter is kept in single precision and runs under autocast, so that its activations are
            # those of `dtype`; the bytes of its weights are counted in `step_cost`.
            model = get_peft_model(model, lora_config(settings, tags), autocast_adapter_dtype=False)
    model.config.pad_token_id = None  # else some models look for it in the rows, which hold no values here
    return model.train()


def _of_all_layers(
    config: PretrainedConfig, cost: Callable[[PretrainedConfig], tuple[float, ...]]
) -> tuple[float, ...]:
    """What `cost` says of the whole model: layers are alike, so two shallow models say how much each layer adds."""
    layers = config.num_hidden_layers
    if layers <= 4:
        return cost(with_layers(config, layers))
    two, four = (cost(with_layers(config, n)) for n in (2, 4))
    return tuple(a + (layers - 2) / 2 * (b - a) for a, b in zip(two, four, strict=True))


def step_cost(config: PretrainedConfig, settings: BertSettings | LoraSettings, rows: int, tokens: int) -> Cost:
    """The cost of one optimiser step with batches [rows, tokens]."""
    whole = meta_model(config, settings)
    total = sum(p.numel() for p in whole.parameters())
    trainable = sum(p.numel() for p in whole.parameters() if p.requires_grad)
    batch_bytes, flops, calls = _of_all_layers(config, lambda shallow: _one_batch(shallow, settings, rows, tokens))
    weights = _weight_bytes(whole, settings, total, trainable)
    fixed = weights + (GRADIENT + ADAMW) * trainable
    # The first batch of a step makes the gradients on its way, a further one finds them there.
    peak = weights + ADAMW * trainable + batch_bytes
    if settings.accumulation > 1:
        peak += GRADIENT * trainable
    else:
        peak += (GRADIENT - (2 if settings.bf16 else 4)) * trainable  # made in the precision of the activations here
    n = settings.accumulation
    return Cost(total, trainable, fixed, int(max(peak, fixed)), flops * n, int(calls * n))


def prompting_cost(config: PretrainedConfig, bf16: bool, rows: int, tokens: int) -> tuple[int, int, int]:
    """Parameters, bytes of the weights, and bytes at the highest of a model that answers prompts [rows, tokens].

    The highest point is the pass over a whole prompt, with keys and values kept; `tokens` counts the answer, too.
    """
    whole = _causal(config, bf16)
    total = sum(p.numel() for p in whole.parameters())
    weights = total * (2 if bf16 else 4)
    (added,) = _of_all_layers(config, lambda shallow: (_one_prompt(shallow, bf16, rows, tokens),))
    return total, weights, int(weights + added)


def _one_prompt(config: PretrainedConfig, bf16: bool, rows: int, tokens: int) -> int:
    model = _causal(config, bf16)
    ids = torch.zeros(rows, tokens, dtype=torch.long, device="meta")
    live = LiveBytes(model.parameters())
    with torch.no_grad(), live:
        model(input_ids=ids, use_cache=True, logits_to_keep=1)  # as `generate` asks for it
    return live.peak


def _causal(config: PretrainedConfig, bf16: bool) -> torch.nn.Module:
    AttentionInterface.register("meter", _attention)
    config = type(config).from_dict(config.to_dict())
    config._attn_implementation = "meter"
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if bf16 else torch.float32).eval()


def with_layers(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    values = config.to_dict() | {"num_hidden_layers": layers}
    if isinstance(values.get("layer_types"), list):
        values["layer_types"] = values["layer_types"][:layers]
    return type(config).from_dict(values)


def _one_batch(
    config: PretrainedConfig, settings: BertSettings | LoraSettings, rows: int, tokens: int
) -> tuple[float, float, float]:
    """Bytes that one batch adds at its highest, floating-point operations, and calls of torch's operators."""
    model = meta_model(config, settings)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    ids = torch.zeros(rows, tokens, dtype=torch.long, device="meta")
    known = list(model.parameters())
    if settings.accumulation > 1:
        for p in (p for p in known if p.requires_grad):
            p.grad = torch.empty_like(p)
            known.append(p.grad)
    live = LiveBytes(known)
    with live:
        model(input_ids=ids, labels=ids).loss.backward()
    with FlopCounterMode(display=False) as counter:  # on its own: it keeps tensors alive
        model(input_ids=ids, labels=ids).loss.backward()
    return live.peak, counter.get_total_flops(), live.calls


def _weight_bytes(model: torch.nn.Module, settings: BertSettings | LoraSettings, total: int, trainable: int) -> int:
    """Bytes of the weights on the device while training."""
    if isinstance(settings, BertSettings):  # single precision, and under autocast a copy of each weight in bf16
        return total * (6 if settings.bf16 else 4)
    frozen, width = total - trainable, 2 if settings.bf16 else 4
    if not settings.load_in_4bit:
        return frozen * width + trainable * 4
    linear = sum(
        p.numel() for n, p in model.named_parameters() if not p.requires_grad and "base_layer" in n and p.dim() == 2
    )
    return int(linear * NF4 + (frozen - linear) * width + trainable * 4)


class LiveBytes(TorchDispatchMode):
    """Follows the storages that operations allocate, until they are freed: how many bytes live at once, at most."""

    def __init__(self, known: Iterable[torch.Tensor]):
        super().__init__()
        self.now = self.peak = self.calls = 0
        self._seen = {t.untyped_storage()._cdata for t in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls += 1
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._note(leaf.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, key, storage.nbytes())

    def _freed(self, key: int, n_bytes: int) -> None:
        self._seen.discard(key)
        self.now -= n_bytes


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention that never holds the [tokens, tokens] matrix, as the kernels of a GPU do (Dao et al. 2022)."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    out = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, dropout, False)[0]
    return out.transpose(1, 2).contiguous(), None
