"""The kinds of systems that find entities in notes: known here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nbutils.corpus import Document, Prediction
from nbutils.taggers.settings import BertSettings, CrfSettings, IclSettings, LoraSettings

PROMPTS = Path(__file__).parent / "prompts"  # the instructions that a study file names, one text file each


class Tagger(Protocol):
    """Anything that finds entities; built by the `fit` of its module (`crf.fit`, `bert.fit`, `lora.fit`).

    One that works with tokens counts in `used` (a `Tokens`) those of every note that it has tagged.
    """

    def predict(self, documents: Iterable[Document]) -> list[Prediction]: ...


@dataclass(frozen=True)
class Kind:
    """A kind of system: its settings, the module with its `fit` and `load`, and what the grid must know of it."""

    settings: type
    module: str
    resumable: bool = False  # training that was cut off goes on from its last checkpoint
    gpu: bool = True
    priority: int = 0  # of what could start, the grid starts the longest jobs first
    tiny: str | None = None  # the offline model that the study may build for it


KINDS = {
    "crf": Kind(CrfSettings, "nbutils.taggers.crf", gpu=False),
    "bert": Kind(BertSettings, "nbutils.taggers.bert", resumable=True, tiny="encoder"),
    "lora": Kind(LoraSettings, "nbutils.taggers.lora", resumable=True, priority=2, tiny="llm"),
    "icl": Kind(IclSettings, "nbutils.prompting.tagger", priority=1, tiny="llm"),
}
