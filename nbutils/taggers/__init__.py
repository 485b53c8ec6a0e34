"""Kinds of systems that find entities in notes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from nbutils.corpus import Document, Prediction

PROMPTS = Path(__file__).parent / "prompts"  # the instructions that a study file names, one text file each


class Tagger(Protocol):
    """Anything that finds entities; built by the `fit` of its module (`crf.fit`, `bert.fit`, `lora.fit`).

    One that works with tokens counts in `used` (a `Tokens`) those of every note that it has tagged.
    """

    def predict(self, documents: Iterable[Document]) -> list[Prediction]: ...
