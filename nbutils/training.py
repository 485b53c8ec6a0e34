"""One training loop for encoders and language models: Hugging Face's Trainer, set up the same way for both.

Knows optimiser settings, seeds and devices. Knows nothing of tags or notes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback, TrainerCallback
from transformers.training_args import ParallelMode

from nbutils import ROOT
from nbutils.formats import DataError

_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)


def train(
    model: torch.nn.Module,
    examples: Sequence[dict[str, Any]],
    collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]],
    *,
    seed: int,
    epochs: float,
    learning_rate: float,
    batch_size: int,
    weight_decay: float = 0.0,
    warmup: float = 0.0,
    scheduler: str = "linear",
    max_grad_norm: float = 1.0,
    accumulation: int = 1,
    adam_beta2: float = 0.999,
    bf16: bool = False,
    gradient_checkpointing: bool = False,
    progress: bool = True,
    checkpoints: str | Path | None = None,
    checkpoint_steps: int = 100,
) -> list[dict[str, float]]:
    """Train in place with AdamW; the same seed gives the same weights on one machine.

    Args:
        examples: rows with `input_ids` (batches are of like lengths) and whatever `collate` needs.
        warmup: steps when at least 1, else the share of all steps.
        bf16: on a GPU mixed precision; on a CPU see `bf16_products`.
        gradient_checkpointing: compute activations again on the way back; less memory, a third more work.
        checkpoints: a folder to save to every `checkpoint_steps` optimiser steps and to go on from, or None. An
            interrupted training that goes on gives the same weights as one that was not.

    Returns:
        The Trainer's log: loss and learning rate by epoch.

    Raises:
        DataError: the memory does not suffice; the sentence says what to lower.
    """
    if not examples:
        raise ValueError("there is no text to train on; check the corpus and the split")
    set_seed(seed)
    mend = (
        f"lower batch_size to {max(batch_size // 2, 1)} and raise accumulation to {2 * accumulation} (as many rows a "
        "step as before), lower max_length" + ("" if gradient_checkpointing else ", set gradient_checkpointing: true")
    )
    longest = max(len(row["input_ids"]) for row in examples)
    with (
        tempfile.TemporaryDirectory() as scratch,
        memory_hint(f"training with batches of {batch_size} × up to {longest:,} tokens", mend),
        bf16_products(bf16),
    ):
        trainer = _Trainer(
            model=model,
            args=_one_device(
                TrainingArguments(
                    output_dir=str(checkpoints or scratch),
                    num_train_epochs=epochs,
                    learning_rate=learning_rate,
                    per_device_train_batch_size=batch_size,
                    gradient_accumulation_steps=accumulation,
                    weight_decay=weight_decay,
                    warmup_steps=warmup,
                    lr_scheduler_type=scheduler,
                    max_grad_norm=max_grad_norm,
                    bf16=bf16 and device().type == "cuda",
                    use_cpu=device().type == "cpu",
                    gradient_checkpointing=gradient_checkpointing,
                    gradient_checkpointing_kwargs={"use_reentrant": False},
                    seed=seed,
                    adam_beta2=adam_beta2,
                    remove_unused_columns=False,
                    save_strategy="steps" if checkpoints else "no",
                    save_steps=checkpoint_steps,
                    save_total_limit=1,
                    logging_strategy="epoch",
                    report_to=[],
                    disable_tqdm=not progress,
                    dataloader_pin_memory=torch.cuda.is_available(),
                )
            ),
            train_dataset=_Rows(examples),
            data_collator=collate,
        )
        trainer.remove_callback(PrinterCallback)
        if progress:
            trainer.add_callback(_Pace())
        trainer.train(resume_from_checkpoint=_last_checkpoint(checkpoints))
    return trainer.state.log_history


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


def _one_device(args: TrainingArguments) -> TrainingArguments:
    """One GPU unless started by `accelerate launch`: on seeing several, Trainer would multiply the batch in silence."""
    if args.parallel_mode == ParallelMode.NOT_DISTRIBUTED:
        args._n_gpu = min(args.n_gpu, 1)
    return args


def _last_checkpoint(folder: str | Path | None) -> str | None:
    """The newest whole checkpoint; Trainer writes its state last, so one without was cut off while it was written."""
    if folder is None:
        return None
    newest_first = sorted(Path(folder).glob("checkpoint-*"), key=lambda p: -int(p.name.split("-")[1]))
    for path in newest_first:
        if _is_whole(path / "trainer_state.json"):
            return str(path)
        shutil.rmtree(path)
    return None


def _is_whole(path: Path) -> bool:
    try:
        return "global_step" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


@contextmanager
def memory_hint(what: str, mend: str) -> Iterator[None]:
    """Turn an out-of-memory error, of a GPU or of the machine, into one sentence with the numbers and the mend."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        raise DataError(f"out of memory{_memory()} while {what}; {mend}") from None


def _memory() -> str:
    if not torch.cuda.is_available():
        return ""
    total = torch.cuda.get_device_properties(device()).total_memory
    return f" ({torch.cuda.max_memory_allocated() / 2**30:.1f} of the GPU's {total / 2**30:.1f} GiB were in use)"


class _Trainer(Trainer):
    """Trainer with batches of like lengths in random order (its own `group_by_length` feeds long batches first)."""

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: nobody reads it, and counting the weights at every step slows a tiny model."""
        return 0

    def _get_train_sampler(self, dataset: Any = None) -> LengthBatches:
        lengths = [len(row["input_ids"]) for row in self.train_dataset]
        return LengthBatches(lengths, self.args.train_batch_size, self.args.seed)


class _Pace(TrainerCallback):
    """Says now and then how fast a training is and when it will end; a bar is of no use in a log file."""

    def __init__(self, every: float = 60):
        self.every = every  # seconds

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.first, self.begin, self.said = state.global_step, time.monotonic(), time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.monotonic()
        if now - self.said >= self.every:
            self.said = now
            rate = (state.global_step - self.first) / (now - self.begin)  # of this process, not of one before it
            left = (state.max_steps - state.global_step) / rate
            end = time.strftime("%d %b %H:%M", time.localtime(time.time() + left))
            step = f"step {state.global_step:,} of {state.max_steps:,}"
            print(f"{step}, {rate:.2f} steps/s, expected end {end}", file=sys.stderr, flush=True)


class LengthBatches(torch.utils.data.Sampler[int]):
    """Row numbers in an order whose runs of `batch_size` have like lengths; a new order each epoch."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        # Sorted within a random pool, not over all rows, so that rows meet different neighbours in each epoch.
        pool = 16 * self.batch_size
        order = rng.permutation(len(self.lengths)).tolist()
        pools = [sorted(order[k : k + pool], key=lambda n: self.lengths[n]) for k in range(0, len(order), pool)]
        batches = [p[k : k + self.batch_size] for p in pools for k in range(0, len(p), self.batch_size)]
        short = [b for b in batches if len(b) < self.batch_size]  # at most one; it must come last
        full = [b for b in batches if len(b) == self.batch_size]
        for k in rng.permutation(len(full)):
            yield from full[k]
        for batch in short:
            yield from batch


class _Rows(torch.utils.data.Dataset):
    def __init__(self, rows: Sequence[dict[str, Any]]):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


def pad(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """Right-pad to the longest row: [rows, longest]."""
    longest = max(map(len, rows))
    return torch.tensor([list(row) + [value] * (longest - len(row)) for row in rows])


def device() -> torch.device:
    """The GPU of this process (`accelerate launch` starts one process a GPU), else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def is_main_process() -> bool:
    """Whether this process is to tag and write: the only one, or the first that `accelerate launch` started."""
    return int(os.environ.get("RANK", 0)) == 0


def local_or_hub(model: str | Path) -> str:
    """A model folder, counted from the repository when relative, or else the name of a model on the hub.

    A folder `models/hub/OWNER/NAME` goes before the hub: weights made into safetensors (`hub.fetch`) or brought along.
    """
    for folder in (ROOT / model, ROOT / "models" / "hub" / model):
        if folder.is_dir():
            return str(folder)
    return str(model)
