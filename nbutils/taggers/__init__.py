"""The kinds of systems that find entities in notes: known here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from nbutils.corpus import Document, Prediction
from nbutils.files import DataError
from nbutils.taggers.settings import (
    PROMPTS,
    BertSettings,
    CrfSettings,
    DictionarySettings,
    ExternalSettings,
    IclSettings,
    LoraSettings,
)

__all__ = ["KINDS", "PROMPTS", "Kind", "Tagger", "load"]


class Tagger(Protocol):
    """Anything that finds entities; built by the `fit` of its module (`crf.fit`, `bert.fit`, `lora.fit`).

    One that works with tokens counts in `used` (a `Tokens`) those of every note that it has tagged.
    """

    def predict(self, documents: Iterable[Document], progress: bool = False) -> list[Prediction]: ...

    def save(self, folder: str | Path) -> None: ...


@dataclass(frozen=True)
class Kind:
    """A kind of system: its settings, the module with its `fit` and `load`, and what the grid must know of it."""

    settings: type
    module: str
    notebook: str  # the one that the grid executes for each of its runs
    resumable: bool = False  # training that was cut off goes on from its last checkpoint
    gpu: bool = True
    deterministic: bool = False  # its training has no chance in it: every seed gives the same model
    priority: int = 0  # of what could start, the grid starts the longest jobs first
    tiny: str | None = None  # the offline model that the study may build for it
    elsewhere: bool = False  # it only reads what another tool found, so nothing of its cost is measured


KINDS = {
    "crf": Kind(CrfSettings, "nbutils.taggers.crf", "notebooks/03_crf_baseline.ipynb", gpu=False, deterministic=True),
    "dictionary": Kind(
        DictionarySettings,
        "nbutils.taggers.dictionary",
        "notebooks/03_crf_baseline.ipynb",
        gpu=False,
        deterministic=True,
    ),
    "bert": Kind(
        BertSettings, "nbutils.taggers.bert", "notebooks/03_bert_finetune.ipynb", resumable=True, tiny="encoder"
    ),
    "lora": Kind(
        LoraSettings, "nbutils.taggers.lora", "notebooks/04_lora_finetune.ipynb", resumable=True, priority=2, tiny="llm"
    ),
    "icl": Kind(IclSettings, "nbutils.prompting.tagger", "notebooks/05_icl_baselines.ipynb", priority=1, tiny="llm"),
    "external": Kind(
        ExternalSettings, "nbutils.taggers.external", "notebooks/03_external.ipynb", gpu=False, elsewhere=True
    ),
}


def load(kind: str, folder: str | Path, *context: Iterable[Document]) -> Tagger:
    """A tagger as its `save` left it; `context` is what a kind's own `load` needs besides, such as notes to show.

    Raises:
        DataError: there is none, or its files are cut, changed, or not those of this kind.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise DataError(f'{folder}: there is no kind of system "{kind}"; known are {", ".join(KINDS)}')
    module = import_module(KINDS[kind].module)
    try:
        return module.load(Path(folder), *context)
    except DataError:
        raise
    except Exception as error:  # whatever a library says of files that are not as they were saved
        raise DataError(f"{folder}: the model cannot be loaded ({type(error).__name__}); train it again") from None
