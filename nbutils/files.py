"""Bytes and names: files are decoded strictly, and written whole or not at all.

Knows encodings and paths. Knows nothing of corpora.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

MAX_BYTES = 100_000_000  # a hundred times the largest public corpus of this kind; memory, not taste, sets the limit


class DataError(ValueError):
    """Faulty input: one sentence with file, place and mend, fit to be shown to a person as it is."""


def text_of(path: Path, encoding: str | None = None) -> str:
    """The characters of a file, line ends as they are, without a byte-order mark; UTF-8 unless another one is named."""
    return decoded(path, bytes_of(path), encoding or "utf-8")


def bytes_of(path: Path) -> bytes:
    if path.is_dir():
        raise DataError(f"{path}: is a folder where a file is needed; rename or move it")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise DataError(
            f"{path}: {size:,} bytes is more than {MAX_BYTES:,}; split the file and put the parts in a folder"
        )
    data = path.read_bytes()
    if not data.strip():
        raise DataError(f"{path}: the file is empty; fetch it anew or remove it")
    return data


def decoded(path: Path, data: bytes, encoding: str) -> str:
    """Decode strictly; the sentence for bytes that do not fit says where, and which encoding may be meant."""
    try:
        codec = codecs.lookup(encoding).name
        text = data.decode(codec)
    except LookupError:  # not known, or no encoding of text (zlib)
        raise DataError(f'{path}: unknown encoding "{encoding}"; name one that Python knows, such as utf-8') from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        hint = "cp932 (Windows)" if codec.startswith("shift_jis") else "cp932, euc_jp or utf-16"
        raise DataError(
            f"{path}, line {line}, byte {column}: not {encoding}; state the true encoding (perhaps {hint}) "
            "or save the file as UTF-8"
        ) from None
    return text.removeprefix("\ufeff")


@contextmanager
def written_whole(path: str | Path) -> Iterator[IO[str]]:
    """A UTF-8 text file that appears under its name only when it is complete: written beside, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()
