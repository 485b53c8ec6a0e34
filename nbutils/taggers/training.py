"""One training loop for encoders and language models: Hugging Face's Trainer, set up the same way for both."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback, TrainerCallback
from transformers.training_args import ParallelMode

from nbutils.files import DataError
from nbutils.taggers import checksums
from nbutils.taggers.models import bf16_products, device, memory_hint
from nbutils.taggers.settings import Training

SECONDS = "seconds.json"  # in a checkpoint
# Settings that Trainer calls by the same name.
SAME_NAME = ("learning_rate", "weight_decay", "max_grad_norm", "gradient_checkpointing", "adam_beta2")


def train(
    model: torch.nn.Module,
    rows: Sequence[dict[str, Any]],
    collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]],
    settings: Training,
    *,
    seed: int,
    progress: bool = True,
    checkpoints: str | Path | None = None,
    checkpoint_steps: int = 100,
) -> list[dict[str, float]]:
    """Train in place with AdamW; the same seed gives the same weights on one machine.

    Args:
        rows: each with `input_ids` (batches are of like lengths) and whatever `collate` needs.
        checkpoints: a folder to save to every `checkpoint_steps` optimiser steps and to go on from, or None. An
            interrupted training that goes on gives the same weights as one that was not.

    Returns:
        The Trainer's log: loss and learning rate by epoch.

    Raises:
        DataError: the memory does not suffice; the sentence says what to lower.
    """
    if not rows:
        raise DataError("there is no text to train on; check the corpus and the split")
    set_seed(seed)
    longest = max(len(row["input_ids"]) for row in rows)
    what = f"training with batches of {settings.batch_size} × up to {longest:,} tokens"
    with (
        tempfile.TemporaryDirectory() as scratch,
        memory_hint(what, _less_memory(settings)),
        bf16_products(settings.bf16),
    ):
        trainer = _Trainer(
            model=model,
            args=_one_device(
                TrainingArguments(
                    output_dir=str(checkpoints or scratch),
                    num_train_epochs=settings.epochs,
                    per_device_train_batch_size=settings.batch_size,
                    gradient_accumulation_steps=settings.accumulation,
                    warmup_steps=settings.warmup,
                    lr_scheduler_type=settings.scheduler,
                    **{name: getattr(settings, name) for name in SAME_NAME},
                    bf16=settings.bf16 and device().type == "cuda",
                    use_cpu=device().type == "cpu",
                    gradient_checkpointing_kwargs={"use_reentrant": False},
                    seed=seed,
                    remove_unused_columns=False,
                    save_strategy="steps" if checkpoints else "no",
                    save_steps=checkpoint_steps,
                    save_total_limit=2,  # so that a damaged one leaves the one before it
                    logging_strategy="epoch",
                    report_to=[],
                    disable_tqdm=not progress,
                    dataloader_pin_memory=torch.cuda.is_available(),
                )
            ),
            train_dataset=list(rows),
            data_collator=collate,
        )
        trainer.remove_callback(PrinterCallback)
        if progress:
            trainer.add_callback(_Pace())
        last = _last_checkpoint(checkpoints)
        trainer.begin = time.monotonic() - _seconds_at(last)
        trainer.train(resume_from_checkpoint=last)
    return trainer.state.log_history


def _less_memory(settings: Training) -> str:
    batch_size, accumulation = max(settings.batch_size // 2, 1), 2 * settings.accumulation
    more = "" if settings.gradient_checkpointing else ", set gradient_checkpointing: true"
    return (
        f"lower batch_size to {batch_size} and raise accumulation to {accumulation} (as many rows a step as before), "
        f"lower max_length{more}"
    )


def _one_device(args: TrainingArguments) -> TrainingArguments:
    """One GPU unless started by `accelerate launch`: on seeing several, Trainer would multiply the batch in silence."""
    if args.parallel_mode == ParallelMode.NOT_DISTRIBUTED:
        args._n_gpu = min(args.n_gpu, 1)
    return args


def seconds_trained(checkpoints: str | Path | None) -> float:
    """How long the training took, in all its parts, up to the checkpoint that it will go on from; else 0."""
    return _seconds_at(_last_checkpoint(checkpoints))


def _seconds_at(checkpoint: str | None) -> float:
    path = Path(checkpoint or "") / SECONDS
    return json.loads(path.read_text(encoding="utf-8")) if checkpoint and path.exists() else 0.0


def _last_checkpoint(folder: str | Path | None) -> str | None:
    """The newest checkpoint that is as it was written; what was cut off or damaged is deleted."""
    if folder is None:
        return None
    for path in sorted(Path(folder).glob("checkpoint-*[0-9]"), key=lambda p: (len(p.name), p.name), reverse=True):
        if checksums.problem(path) is None:
            return str(path)
        shutil.rmtree(path)
    return None


class _Trainer(Trainer):
    """Trainer with batches of like lengths in random order (its own `group_by_length` feeds long batches first)."""

    begin: float  # by the monotonic clock, as if the training had never been cut off

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process writes the state of its random numbers
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            (folder / SECONDS).write_text(json.dumps(round(time.monotonic() - self.begin, 3)), encoding="utf-8")
            checksums.write(folder)

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
        full = [b for b in batches if len(b) == self.batch_size]
        for k in rng.permutation(len(full)):
            yield from full[k]
        yield from (n for b in batches if len(b) < self.batch_size for n in b)  # at most one; it must come last


def pad(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """Right-pad to the longest row: [rows, longest]."""
    longest = max(map(len, rows))
    return torch.tensor([list(row) + [value] * (longest - len(row)) for row in rows])
