"""`python -m tools.bench.gpu`: at most 8 minutes on one GPU of 80 GB or more; asks for torch, transformers, pydantic.

First the tests marked `gpu` (needs pytest, hypothesis and peft), then a Llama-3.1-8B of random weights, made on the
device: decoding beside the usual ways, then LoRA steps and their memory beside the estimate of `make plan` (needs
peft). What is not installed is skipped with a word. Writes bench_gpu.json, .md and, with matplotlib, the figure.
`--toy` does the same on any machine with a model that learns nothing and is fast.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import LlamaConfig

from nbutils import ROOT
from nbutils.study.provenance import provenance
from tools.bench import OUT, Table, decoding, markdown, say, write
from tools.bench.memory import bandwidth, clock, this_device

LINES, TOY_LINES = {1: 8, 8: 16, 32: 32}, {1: 1, 2: 2}  # by batch size
ROWS, TOY_ROWS = (4, 512), (2, 24)  # of a LoRA batch: rows, tokens
LEAST = 70e9  # bytes of memory; an 8B in bf16 with the gradients of its adapter has to fit
SECONDS = 150  # that the tests may take
TESTS = ("tests/taggers", "tests/tools/test_plan.py")
HEAD = (
    "Random weights: {shape}, in bf16, made on the device. {device}; copies move {bandwidth:,.0f} GB/s. Measured in "
    "one run; time depends on shapes, not on what a model has learned."
)


def llama_8b() -> LlamaConfig:
    """The shape of Llama-3.1-8B, whose numbers `make plan` keeps."""
    import json

    file = ROOT / "tools" / "plan" / "configs" / "llama-3.1-swallow-8b.json"
    values = json.loads(file.read_text(encoding="utf-8"))["config"]
    return LlamaConfig(**values | {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.gpu", description=__doc__)
    parser.add_argument("--toy", action="store_true", help="a tiny model on whatever this machine has; no tests first")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for bench_gpu.json, .md, .png and .svg")
    chosen = parser.parse_args(arguments)
    if not chosen.toy and (problem := _unfit()):
        print(problem, file=sys.stderr)
        return 1
    transformers.logging.set_verbosity_error()
    begin, toy = time.perf_counter(), chosen.toy
    tests = "not run" if toy else gpu_tests(TESTS)
    say(f"tests marked gpu: {tests}")
    config = decoding.llama(64, 2, 1_500) if toy else llama_8b()
    tables = {
        "decoding": decoding.measure(config, TOY_LINES if toy else LINES, (0, 20 if toy else 400), say, torch.bfloat16)
    }
    if this_device().type == "cuda":
        torch.cuda.empty_cache()
    tables |= lora_table(config, *(TOY_ROWS if toy else ROWS), say)
    about = {
        "weights": "random", "toy": toy, "tests": tests, "shape": _shape(config),
        "bandwidth": bandwidth(this_device()) / 1e9, "seconds": round(time.perf_counter() - begin), **provenance(),
    }  # fmt: skip
    head = HEAD.format(**about)
    write(chosen.out / "bench_gpu", head, about, tables)
    print(head, *(f"{name}\n\n{markdown(rows)}" for name, rows in tables.items()), sep="\n\n")
    return 0


def _unfit() -> str:
    if not torch.cuda.is_available():
        return "This machine has no CUDA device; `python -m tools.bench.gpu --toy` shows what would be measured."
    total = torch.cuda.get_device_properties(0).total_memory
    return "" if total >= LEAST else f"The GPU has {total / 1e9:.0f} GB; an 8B model in bf16 with its adapter needs 70."


def _shape(config: LlamaConfig) -> str:
    return f"a Llama of {config.num_hidden_layers} layers × {config.hidden_size}, vocabulary {config.vocab_size:,}"


def gpu_tests(paths: Sequence[str], seconds: int = SECONDS) -> str:
    """The last line of pytest on the tests marked `gpu`; what is skipped is said by pytest."""
    missing = [name for name in ("pytest", "hypothesis", "peft") if find_spec(name) is None]
    if missing:
        return f"skipped, {' and '.join(missing)} missing"
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-m", "gpu", "-q", "-rs", *paths]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"cut off after {seconds} s"
    say(done.stdout[-3000:])
    return (done.stdout.strip() or done.stderr.strip() or "nothing was printed").splitlines()[-1].strip("= ")


def lora_table(config: LlamaConfig, rows: int, tokens: int, progress: Callable[[str], None]) -> dict[str, Table]:
    """Steps a second and peak memory of LoRA on random tokens, with and without checkpointing, beside the plan."""
    if find_spec("peft") is None:
        progress("LoRA: skipped, since peft is not installed")
        return {}
    from nbutils.taggers.settings import LoraSettings
    from tools.plan import meter

    table: Table = []
    for again in (True, False):
        settings = LoraSettings(model="", bf16=True, accumulation=1, batch_size=rows, gradient_checkpointing=again)
        estimate = meter.step_cost(config, settings, rows, tokens).peak_bytes
        seconds, peak = _steps(config, settings, rows, tokens)
        table.append({
            "gradient checkpointing": again, "rows": rows, "tokens a row": tokens, "steps/s": 1 / seconds,
            "tokens/s": rows * tokens / seconds, "peak memory (GB)": None if peak is None else peak / 1e9,
            "estimate of make plan (GB)": estimate / 1e9,
            "estimate over measured": None if peak is None else estimate / peak,
        })  # fmt: skip
        progress(f"LoRA, gradient checkpointing {again}: {1 / seconds:.2f} steps/s")
    return {"LoRA": table}


def _steps(config: LlamaConfig, settings: Any, rows: int, tokens: int, steps: int = 8) -> tuple[float, int | None]:
    """Mean seconds of a step behind two that warm up, and the peak of allocated bytes; None on a CPU."""
    from peft import get_peft_model

    from nbutils.taggers.models import lora_config

    on_gpu = this_device().type == "cuda"
    model = get_peft_model(decoding.random_model(config, torch.bfloat16), lora_config(settings)).train()
    model.config.use_cache = False
    if settings.gradient_checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    weights = [w for w in model.parameters() if w.requires_grad]
    optimiser = torch.optim.AdamW(weights, fused=on_gpu)
    ids = torch.randint(2, 1_000, (rows, tokens), device=this_device())
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    for step in range(2 + steps):
        if step == 2:
            begin = clock(this_device())
        with torch.autocast(this_device().type, torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    seconds = (clock(this_device()) - begin) / steps
    return seconds, torch.cuda.max_memory_allocated() if on_gpu else None


if __name__ == "__main__":
    sys.exit(main())
