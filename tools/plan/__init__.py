"""Memory and time of a study before a GPU is rented: one table for a study file and a device, nothing trained.

It reads study files, the numbers of published architectures (`configs/*.json`) and devices. What a step costs it asks
`meter`. The times are estimates: operations and bytes over what the device can do at best, times an assumed efficiency.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from nbutils import ROOT
from nbutils.corpus import Corpus, entities_within, select, sentence_spans
from nbutils.corpus.formats import read_corpus
from nbutils.files import DataError
from nbutils.study import systems
from nbutils.study.corpora import corpus_path, evaluation_corpus, open_corpus, split
from nbutils.study.file import Study, System, load_study
from nbutils.taggers import KINDS
from nbutils.taggers.settings import BertSettings, IclSettings, LoraSettings

CONFIGS = Path(__file__).parent / "configs"
STAND_IN = "data/cr"  # for a corpus that is not on this machine: as many documents as the paper's CR
LAUNCH = 1e-5  # seconds until an operator of eager PyTorch is under way; sets the pace of small models
CHAT = 40  # tokens that a chat template and the beginning of a text add, at most
TAGS = 8  # tokens of an opening and a closing tag


@dataclass(frozen=True)
class Device:
    """What a device can do at best, from its maker's data sheet."""

    name: str
    tflops: float  # 10^12 operations a second on dense bf16 matrices
    tflops_fp32: float  # the same in single precision
    bandwidth: float  # GB/s of its memory
    memory: float  # GB


DEVICES = {
    "h100": Device("NVIDIA H100 SXM", 989, 67, 3350, 80),
    "a100": Device("NVIDIA A100 SXM 80 GB", 312, 19.5, 2039, 80),
    "l4": Device("NVIDIA L4", 121, 30.3, 300, 24),
    "rtx4090": Device("NVIDIA GeForce RTX 4090", 165, 82.6, 1008, 24),
}


def plan(s: Study, device: Device, efficiency: float = 0.4) -> pd.DataFrame:
    """One column for each system that loads a neural model and each training corpus, one row for each quantity.

    A prompted model is not trained, so only its memory is estimated; one behind an endpoint costs no memory here.

    Args:
        efficiency: the share of the device's best that training reaches; 0.3 to 0.5 is usual for models of this size.

    Raises:
        DataError: a corpus is faulty, or the architecture of a model is not known here.
    """
    columns = {}
    for system in s.systems.values():
        for train in s.train:
            if KINDS[system.kind].resumable:
                columns[f"{system.name} ← {train}"] = _column(s, system, train, device, efficiency)
            elif system.kind == "icl" and not system.settings.get("endpoint"):
                columns[f"{system.name} ← {train}"] = _prompting_column(s, system, train, device)
    if not columns:
        raise DataError(f"{s.path}: no system of this study loads a neural model here; there is nothing to plan")
    return pd.DataFrame(columns).reindex(list(max(columns.values(), key=len))).fillna("—")


def _column(s: Study, system: System, train: str, device: Device, efficiency: float) -> dict[str, str]:
    values = systems.settings(s, system, train)
    corpus, stand_in = training_part(s, train)
    lengths = row_lengths(corpus, values)
    cost = _cost(values, min(values.batch_size, len(lengths)), max(lengths))
    steps = optimiser_steps(len(lengths), values)
    share = fmean(lengths) / max(lengths)  # operations go with tokens; attention's square is left out
    seconds = step_seconds(cost, values, share, device, efficiency)
    return {
        "parameters (M)": f"{cost.parameters / 1e6:,.1f}",
        "trainable (M)": f"{cost.trainable / 1e6:,.1f}",
        "training rows": f"{len(lengths):,}" + (" *" if stand_in else ""),
        "tokens per row, mean / longest": f"{fmean(lengths):,.0f} / {max(lengths):,}",
        "optimiser steps per run": f"{steps:,}",
        "weights, gradients, optimiser (GB)": f"{cost.fixed_bytes / 1e9:,.1f}",
        "peak memory (GB)": _fits(cost.peak_bytes, device),
        "operations per step (TFLOP)": f"{cost.flops * share / 1e12:,.1f}",
        "step time (s)": f"{seconds:,.3f}",
        "training per run (min)": f"{seconds * steps / 60:,.1f}",
        "runs": str(len(system.seeds)),
    }


def _prompting_column(s: Study, system: System, train: str, device: Device) -> dict[str, str]:
    values = systems.settings(s, system, train)
    lengths = prompt_lengths(s, system, train, values)
    rows = min(values.decode_batch_size, len(lengths))
    parameters, weights, peak = _prompting_cost(values.model, values.revision, values.bf16, rows, max(lengths))
    return {
        "parameters (M)": f"{parameters / 1e6:,.1f}",
        "tokens per row, mean / longest": f"{fmean(lengths):,.0f} / {max(lengths):,}",
        "weights, gradients, optimiser (GB)": f"{weights / 1e9:,.1f}",
        "peak memory (GB)": _fits(peak, device),
        "runs": str(len(system.seeds)),
    }


def _fits(peak_bytes: float, device: Device) -> str:
    return f"{peak_bytes / 1e9:,.1f} ({'fits' if peak_bytes < 0.95e9 * device.memory else 'DOES NOT FIT'})"


def step_seconds(cost: Any, values: Any, share: float, device: Device, efficiency: float) -> float:
    """The longest of computing, of moving the weights, and of starting the operators.

    Args:
        share: the mean length of the rows over the longest one's.
    """
    best = device.tflops if values.bf16 else device.tflops_fp32
    computing = cost.flops * share / (best * 1e12 * efficiency)
    passes = 3 if values.gradient_checkpointing else 2  # forward, backward, and forward again
    moved = passes * values.accumulation * cost.fixed_bytes + 28 * cost.trainable  # AdamW reads 16 bytes, writes 12
    return max(computing, moved / (device.bandwidth * 1e9 * efficiency), cost.calls * LAUNCH)


def optimiser_steps(n_rows: int, values: Any) -> int:
    """As many as Trainer makes: the last batch and the last accumulation of an epoch may be short."""
    batches = math.ceil(n_rows / values.batch_size)
    return math.ceil(values.epochs * math.ceil(batches / values.accumulation))


# --- what is trained on -----------------------------------------------------------------------------------------------


def training_part(s: Study, train: str) -> tuple[Corpus, bool]:
    """The training part of a corpus, and whether the bundled case reports had to stand in for one that is not here."""
    corpus, stand_in = _corpus(s, train)
    return split(s, corpus)[0], stand_in


def _corpus(s: Study, name: str) -> tuple[Corpus, bool]:
    try:
        corpus_path(s, name)
    except DataError:
        return select(read_corpus(ROOT / STAND_IN, "medtxt", name), s.labels, s.certainties), True
    return open_corpus(s, name), False


def row_lengths(corpus: Corpus, values: BertSettings | LoraSettings) -> list[int]:
    """Tokens of each training row: counted where the tokenizer is on this machine, else estimated from characters."""
    if (folder := _folder_with_tokenizer(values)) is not None:
        return _counted(corpus, values, folder)
    rate = architecture(values.model)["tokens_per_character"]
    rows = [
        (end - start, len(entities_within(d, start, end)))
        for d in corpus
        for start, end in sentence_spans(d, values.unit)
    ]
    if _labels_tokens(values):
        return [min(math.ceil(n * rate) + 2, values.max_length) for n, _ in rows]
    from nbutils.taggers.lora import prompt_text

    prompt = math.ceil(len(prompt_text(values.prompt, "")) * rate) + CHAT
    return [min(prompt + 2 * math.ceil(n * rate) + TAGS * e, values.max_length) for n, e in rows]


def _labels_tokens(values: BertSettings | LoraSettings) -> bool:
    return isinstance(values, BertSettings) or values.head == "classify"


def prompt_lengths(s: Study, system: System, train: str, values: IclSettings) -> list[int]:
    """Tokens of each prompt with the longest answer that it may have; counted or estimated as in `row_lengths`."""
    from nbutils.prompting import tagger as icl
    from nbutils.prompting.prompts import answer_limit, prompt_string

    n_tokens = _token_counter(values)
    corpora = {name: _corpus(s, name)[0] for name in {train, *s.evaluate}}
    tagger = icl.fit(split(s, corpora[train])[0], values, seed=system.seeds[0])
    targets = [evaluation_corpus(s, corpora, train, name) for name in s.evaluate]
    lengths = [
        n_tokens(prompt_string(piece.prompt)) + CHAT + answer_limit(piece.text, values)
        for target in targets
        for piece in tagger.pieces(target.documents)
    ]
    return [min(n, values.max_length) for n in lengths]


def _token_counter(values: IclSettings) -> Callable[[str], int]:
    folder = _folder_with_tokenizer(values)
    if folder is None:
        rate = architecture(values.model)["tokens_per_character"]
        return lambda text: math.ceil(len(text) * rate)
    from nbutils.taggers.models import load_tokenizer

    tokenizer = load_tokenizer(folder)
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _folder_with_tokenizer(values: BertSettings | LoraSettings | IclSettings) -> Path | None:
    from nbutils.taggers.hub import locate

    folder = locate(values.model, values.revision)
    names = ("tokenizer_config.json", "tokenizer.json")
    return folder if folder is not None and any((folder / n).exists() for n in names) else None


def _counted(corpus: Corpus, values: BertSettings | LoraSettings, folder: Path) -> list[int]:
    from nbutils.taggers import bert, lora
    from nbutils.taggers.copying.decode import TagTokens
    from nbutils.taggers.models import load_tokenizer
    from nbutils.taggers.offsets import special_ids

    tokenizer = load_tokenizer(folder)
    if _labels_tokens(values):
        extra = sum(map(len, special_ids(tokenizer)))
        return [len(row["input_ids"]) + extra for row in bert.examples(corpus.documents, tokenizer, values)]
    tags = TagTokens(tokenizer, values.labels)
    return [len(row["input_ids"]) for row in lora.examples(corpus.documents, tokenizer, values, tags)]


# --- architectures ----------------------------------------------------------------------------------------------------


def architecture(model: str) -> dict[str, Any]:
    """The numbers of a published architecture, with their source.

    Raises:
        DataError: a model whose numbers are neither here nor in a folder on this machine.
    """
    found = _architectures().get(model)
    if found is None:
        raise DataError(
            f"{model}: its architecture is not known here; download the model once (`make models STUDY=…`), build it "
            f"(`make study`), or add its numbers to {CONFIGS.name}/ in nbutils"
        )
    return found


@cache
def _architectures() -> Mapping[str, dict[str, Any]]:
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(CONFIGS.glob("*.json"))]
    return {model: file for file in files for model in file["models"]}


def config_of(model: str, revision: str | None) -> Any:
    """The configuration of a model: from its folder when it is on this machine, else from its published numbers."""
    from transformers import AutoConfig

    from nbutils.taggers.hub import locate
    from nbutils.taggers.models import load_config

    folder = locate(model, revision)
    if folder is not None and (folder / "config.json").exists():
        return load_config(folder)
    return AutoConfig.for_model(**architecture(model)["config"])


@cache
def _cost(values: BertSettings | LoraSettings, rows: int, tokens: int) -> Any:
    from tools.plan import meter  # torch takes seconds to load

    return meter.step_cost(config_of(values.model, values.revision), values, rows, tokens)


@cache
def _prompting_cost(model: str, revision: str | None, bf16: bool, rows: int, tokens: int) -> tuple[int, int, int]:
    from tools.plan import meter

    return meter.prompting_cost(config_of(model, revision), bf16, rows, tokens)


# --- command ----------------------------------------------------------------------------------------------------------


def this_machine() -> Device:
    """This machine's processor: matrix products and copies timed here, for less than a second each."""
    import torch

    a = torch.rand(1024, 1024)
    operations = 2 * 1024**3 / _fastest(lambda: a @ a)
    block = torch.rand(32 * 2**20)
    moved = 2 * block.numel() * 4 / _fastest(lambda: block.clone())
    memory = 0.0
    if Path("/proc/meminfo").exists():
        memory = int(Path("/proc/meminfo").read_text(encoding="ascii").split()[1]) * 1024 / 1e9
    tflops = operations / 1e12
    return Device("this processor, as timed now", tflops, tflops, moved / 1e9, memory or float("inf"))


def _fastest(work: Any, times: int = 7) -> float:
    def once() -> float:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    return min(once() for _ in range(times))


def main(arguments: Sequence[str] | None = None) -> int:
    """Estimate memory and time of a study file on a device."""
    parser = argparse.ArgumentParser(prog="python -m tools.plan", description=main.__doc__)
    parser.add_argument("file", help="the study file")
    parser.add_argument("--device", default="h100", choices=[*DEVICES, "this"], help="`this` times this processor")
    parser.add_argument("--tflops", type=float, help="10^12 operations a second, instead of the data sheet's")
    parser.add_argument("--bandwidth", type=float, help="GB/s, instead of the data sheet's")
    parser.add_argument("--memory", type=float, help="GB, instead of the data sheet's")
    parser.add_argument("--efficiency", type=float, default=0.4, help="share of the device's best (default 0.4)")
    chosen = parser.parse_args(arguments)
    device = this_machine() if chosen.device == "this" else DEVICES[chosen.device]
    device = Device(
        device.name,
        chosen.tflops or device.tflops,
        chosen.tflops or device.tflops_fp32,
        chosen.bandwidth or device.bandwidth,
        chosen.memory or device.memory,
    )
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")  # of its use by itself
    try:
        s = load_study(chosen.file)
        table = plan(s, device, chosen.efficiency)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{s.title or s.name} on one {device.name}:\n{device.tflops:,.3g} TFLOP/s in bf16, "
        f"{device.tflops_fp32:,.3g} in single precision, "
        f"{device.bandwidth:,.0f} GB/s, {device.memory:,.0f} GB;\nefficiency {chosen.efficiency:g}\n"
    )
    print(table.to_string(line_width=shutil.get_terminal_size().columns if sys.stdout.isatty() else None))
    if table.map(lambda cell: cell.endswith(" *")).to_numpy().any():
        print(f"\n* the corpus is not on this machine; {STAND_IN} (bundled, fictional) stands in for its size")
    print(
        "\nMemory is that of the longest batch, times are those of mean batches; tagging\n"
        "comes on top. Of a prompted model, which is not trained,\nonly the memory is estimated."
    )
    return 0
