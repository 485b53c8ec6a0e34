"""One training loop for encoders and language models: Hugging Face's Trainer, set up the same way for both.

Knows optimiser settings, seeds and devices. Knows nothing of tags or notes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from nbutils import ROOT


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
    progress: bool = True,
    checkpoints: str | Path | None = None,
) -> list[dict[str, float]]:
    """Train in place with AdamW; the same seed gives the same weights on one machine.

    Args:
        examples: rows with `input_ids` (batches are of like lengths) and whatever `collate` needs.
        warmup: steps when at least 1, else the share of all steps.
        checkpoints: a folder to save to after each epoch and to go on from, or None.

    Returns:
        The Trainer's log: loss and learning rate by epoch.
    """
    if not examples:
        raise ValueError("there is no text to train on; check the corpus and the split")
    set_seed(seed)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=str(checkpoints or scratch),
                num_train_epochs=epochs,
                learning_rate=learning_rate,
                per_device_train_batch_size=batch_size,
                gradient_accumulation_steps=accumulation,
                weight_decay=weight_decay,
                warmup_steps=warmup,
                lr_scheduler_type=scheduler,
                max_grad_norm=max_grad_norm,
                bf16=bf16,
                seed=seed,
                adam_beta2=adam_beta2,
                remove_unused_columns=False,
                save_strategy="epoch" if checkpoints else "no",
                save_total_limit=1,
                logging_strategy="epoch",
                report_to=[],
                disable_tqdm=not progress,
                dataloader_pin_memory=torch.cuda.is_available(),
            ),
            train_dataset=_Rows(examples),
            data_collator=collate,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=_last_checkpoint(checkpoints))
    return trainer.state.log_history


def _last_checkpoint(folder: str | Path | None) -> bool:
    return folder is not None and any(Path(folder).glob("checkpoint-*"))


class _Trainer(Trainer):
    """Trainer with batches of like lengths in random order (its own `group_by_length` feeds long batches first)."""

    def _get_train_sampler(self, dataset: Any = None) -> LengthBatches:
        lengths = [len(row["input_ids"]) for row in self.train_dataset]
        return LengthBatches(lengths, self.args.train_batch_size, self.args.seed)


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
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def local_or_hub(model: str | Path) -> str:
    """A model folder, counted from the repository when relative, or else the name of a model on the hub."""
    folder = ROOT / model
    return str(folder) if folder.is_dir() else str(model)
