"""Read a language model from a GGUF file: what it says about itself, and its tensors as float32.

Only the kinds of tensors that the file of SmolLM2 has: plain float32, and blocks of 32 weights in 4 or 8 bits.
Layout: the specification of GGUF version 3 and the block types of ggml (little endian).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from nbutils.files import DataError

BLOCK = 32  # weights
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class Gguf:
    """A file as it was read; a tensor has the shape that torch gives it (the slowest dimension first)."""

    about: dict[str, Any]
    tensors: dict[str, np.ndarray]


def read(path: Path) -> Gguf:
    """Everything in the file.

    Raises:
        DataError: it is no GGUF file, it ends too early, or a tensor is of a kind that is not read here.
    """
    content = path.read_bytes()
    if content[:4] != b"GGUF":
        raise DataError(f"{path}: not a GGUF file; get the package again")
    cursor = _Cursor(content, 4, path)
    version, n_tensors, n_keys = cursor.number("I"), cursor.number("Q"), cursor.number("Q")
    if version not in (2, 3):
        raise DataError(f"{path}: GGUF version {version} is not read here, only 2 and 3")
    about = {cursor.text(): cursor.value(cursor.number("I")) for _ in range(n_keys)}
    entries = [cursor.tensor() for _ in range(n_tensors)]
    step = about.get("general.alignment", 32)
    begin = -(-cursor.at // step) * step
    tensors = {}
    for name, shape, kind, offset in entries:
        if kind not in _KINDS:
            raise DataError(f"{path}: {name} is of ggml's type {kind}, which is not read here")
        bytes_per_block, weights_per_block, decoded = _KINDS[kind]
        blocks, rest = divmod(prod(shape), weights_per_block)
        if rest:
            raise DataError(f"{path}: {name} has no whole number of blocks; get the package again")
        raw = cursor.bytes_at(begin + offset, blocks * bytes_per_block)
        tensors[name] = decoded(np.frombuffer(raw, np.uint8).reshape(blocks, bytes_per_block)).reshape(shape)
    return Gguf(about, tensors)


class _Cursor:
    """A place in the file that moves on with everything that is read there."""

    def __init__(self, content: bytes, at: int, path: Path):
        self.content, self.at, self.path = content, at, path

    def bytes_at(self, at: int, n: int) -> bytes:
        if at + n > len(self.content):
            raise DataError(f"{self.path}: the file ends too early; get the package again")
        return self.content[at : at + n]

    def take(self, n: int) -> bytes:
        found = self.bytes_at(self.at, n)
        self.at += n
        return found

    def number(self, kind: str) -> Any:
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, n = self.number("I"), self.number("Q")
            return [self.value(inner) for _ in range(n)]
        if kind not in _NUMBERS:
            raise DataError(f"{self.path}: a value of an unknown type ({kind}); get the package again")
        return self.number(_NUMBERS[kind])

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name, n_dimensions = self.text(), self.number("I")
        fastest_first = [self.number("Q") for _ in range(n_dimensions)]
        return name, tuple(reversed(fastest_first)), self.number("I"), self.number("Q")


def _float32(blocks: np.ndarray) -> np.ndarray:
    return blocks.view("<f4").copy()


def _q4_1(blocks: np.ndarray) -> np.ndarray:
    """Scale and least weight as float16, then 32 nibbles: byte j holds weight j (low) and weight j + 16 (high)."""
    scale, least = (blocks[:, k : k + 2].copy().view("<f2").astype(np.float32) for k in (0, 2))
    return scale * nibbles(blocks[:, 4:]) + least


def _q8_0(blocks: np.ndarray) -> np.ndarray:
    """Scale as float16, then 32 signed bytes."""
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    return scale * blocks[:, 2:].view(np.int8).astype(np.float32)


def nibbles(packed: np.ndarray) -> np.ndarray:
    """Halves of bytes as numbers from 0 to 15, [blocks, 16] to [blocks, 32]: all low halves before all high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)


_KINDS: dict[int, tuple[int, int, Callable[[np.ndarray], np.ndarray]]] = {  # bytes and weights of a block
    0: (4, 1, _float32),
    3: (20, BLOCK, _q4_1),
    8: (34, BLOCK, _q8_0),
}
