"""Tokens that a model reads and writes, counted alike for every kind of system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Tokens:
    """Tokens of prompts and of answers: what a model is given and what it writes."""

    prompt: int = 0
    answer: int = 0

    def cost(self, price: Mapping[str, float]) -> float:
        """In the currency of the price, which is per million tokens; 0 without one."""
        return (self.prompt * price.get("input", 0) + self.answer * price.get("output", 0)) / 1e6

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.answer + other.answer)
