"""Bytes and names: files are read within bounds, decoded strictly, and written whole or not at all."""

from __future__ import annotations

import codecs
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nbutils import ROOT

MAX_BYTES = 100_000_000  # a hundred times the largest public corpus of this kind; memory, not taste, sets the limit
MAX_DIGITS = 15  # of a whole number; no offset, count or id needs more
HIDDEN = "■■■"
# What a terminal obeys instead of showing it (escape sequences, reversed text), breaks a line, or cannot encode.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_NOT_FOR_TEXT = {"punycode", "idna", "undefined", "unicode_escape", "raw_unicode_escape"}
_LIKELY = ("utf-8", "cp932", "euc_jp", "iso2022_jp")  # of Japanese notes, in the order in which they are tried


def printable(text: object, keep: str = "") -> str:
    """A text that can be printed: control characters, direction marks and lone surrogates as escapes."""
    return _UNPRINTABLE.sub(lambda m: m[0] if m[0] in keep else m[0].encode("unicode_escape").decode(), str(text))


class DataError(ValueError):
    """Faulty input: a sentence with file, place and fix, to be shown to a person as it is."""

    def __init__(self, sentence: str):
        super().__init__(printable(sentence, keep="\n"))


class Place(str):
    """Where something stands: shown as it is. Any other text that comes from a file is covered if it is private."""

    __slots__ = ()


@dataclass(frozen=True)
class Remark:
    """Something to be told about a place in a file; remarks with the same `what` and `fix` are of one kind.

    `what` has a `{}` for everything that differs from place to place (`says`): numbers and `Place`s are always shown,
    words of the file only if its corpus is not private.
    """

    place: str
    what: str
    fix: str
    says: tuple[object, ...] = ()

    def sentence(self, hidden: bool, besides: str = "") -> str:
        """The remark as one line; `besides` goes behind what it says."""
        what = self.what.format(*(_said(value, hidden) for value in self.says))
        return printable(f"{self.place}: {what}{besides}" + (f"; {self.fix}" if self.fix else ""))


def _said(value: object, hidden: bool) -> str:
    if isinstance(value, (int, Place)):
        return str(value)
    shown = printable(value)
    return HIDDEN if hidden else shown if len(shown) <= 60 else f"{shown[:59]}…"


class Fault(DataError):
    """One remark that makes a file unusable. Its own sentence quotes nothing; `read_corpus` may tell more."""

    def __init__(self, place: str, what: str, fix: str, *says: object):
        self.remark = Remark(place, what, fix, says)
        super().__init__(self.remark.sentence(hidden=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return Fault, (self.remark.place, self.remark.what, self.remark.fix, *self.remark.says)


def summarised(remarks: Iterable[Remark], hidden: bool) -> list[str]:
    """One sentence for each kind of remark: the first place in full, how many there are, and two more places."""
    kinds: dict[tuple[str, str], list[Remark]] = {}
    for remark in remarks:
        kinds.setdefault((remark.what, remark.fix), []).append(remark)
    sentences = []
    for first, *others in kinds.values():
        also = ", ".join(_short(other.place, first.place) for other in others[:2])
        more = f" ({len(others) + 1:,} such; also {also}{', …' if len(others) > 2 else ''})" if others else ""
        sentences.append(first.sentence(hidden, more))
    return sentences


def _short(place: str, first: str) -> str:
    """A place without what it shares with the first one: "line 7" of the same file."""
    file, _, spot = place.partition(", ")
    return spot if spot and first.startswith(f"{file}, ") else place


# --- reading ----------------------------------------------------------------------------------------------------------


def text_of(path: Path, encoding: str | None = None, where: str | None = None) -> str:
    """The characters of a file, line ends as they are, without a byte-order mark; UTF-8 unless another one is named.

    Raises:
        Fault: as `bytes_of` and `decoded`; `where` opens the sentence instead of the path.
    """
    return decoded(where or str(path), bytes_of(path, where), encoding or "utf-8")


def bytes_of(path: Path, where: str | None = None, *, empty: bool = False) -> bytes:
    """The bytes of a regular file that is not too large, nor, unless `empty` says so, empty.

    Raises:
        Fault: a folder, pipe or device, a file that cannot be opened, is empty, or has more than `MAX_BYTES`.
    """
    where = where or str(path)
    with opened(path, where) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        what = "the file has more than {} bytes"
        raise Fault(where, what, "split it and put the parts in a folder", Place(f"{MAX_BYTES:,}"))
    if not data.strip() and not empty:
        raise Fault(where, "the file is empty", "get it again or remove it")
    return data


@contextmanager
def opened(path: Path, where: str | None = None) -> Iterator[IO[bytes]]:
    """A regular file to read bytes from; opening a pipe would wait for ever, and a device has no end.

    Raises:
        Fault: no such file, one that may not be read, or something that is no regular file.
    """
    where = where or str(path)
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = Place(error.strerror if isinstance(error, OSError) else "no file can have this name")
        raise Fault(where, "cannot be opened ({})", "correct the path or the permissions", reason) from None
    try:
        kind = os.fstat(number).st_mode
        if stat.S_ISDIR(kind):
            raise Fault(where, "is a folder where a file is needed", "rename or move it")
        if not stat.S_ISREG(kind):
            raise Fault(where, "is a pipe or a device where a file is needed", "save its content as a file")
        with open(number, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(number)


def decoded(where: str | Path, data: bytes, encoding: str) -> str:
    """Decode strictly; the sentence for bytes that do not fit says where, and under which encoding they would.

    Raises:
        Fault: an unknown encoding, or bytes that are not of this one.
    """
    codec = codec_of(encoding, str(where))
    try:
        text = data.decode(codec)
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        line = len(re.findall(rb"\r\n|\r|\n", data[:start])) + 1
        column = start - max(data.rfind(b"\n", 0, start), data.rfind(b"\r", 0, start))
        marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        fits = ["utf-16"] if marked else [e for e in _LIKELY if _decodes(data, e)]
        hint = f"these bytes would be {' or '.join(fits)}" if fits else "perhaps parts of it differ"
        raise Fault(
            f"{where}, line {line}, byte {column}",
            "not {}",
            f"state the true encoding ({hint}) or save the file as UTF-8",
            Place(encoding),
        ) from None
    return text.removeprefix("\ufeff")


def codec_of(encoding: str, where: str) -> str:
    """Python's name of an encoding of text.

    Raises:
        Fault: there is none of this name.
    """
    try:
        codec = codecs.lookup(encoding).name
        "".encode(codec)  # an encoding of bytes (zlib) is none of text
        if codec.replace("-", "_") in _NOT_FOR_TEXT:
            raise LookupError
    except (LookupError, UnicodeError, ValueError):
        what = 'unknown encoding "{}"'
        raise Fault(where, what, "name one that Python knows, such as utf-8", Place(encoding)) from None
    return codec


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeError:
        return False
    return True


def only_utf8(data: bytes, encoding: str, where: str) -> bool:
    """Whether bytes are text in UTF-8 (not ASCII alone), and this encoding writes Japanese in other bytes."""
    is_utf8 = not data.isascii() and _decodes(data, "utf-8")
    return is_utf8 and "あ".encode(codec_of(encoding, where), "replace") != "あ".encode()


def rows_of(text: str) -> list[str]:
    """The lines of a file of lines, divided at LF, CRLF or CR; other separators (U+2028) belong to a line."""
    return re.split(r"\r\n|\r|\n", text)


def json_of(text: str, where: str, fix: str, *, lines: bool = False) -> Any:
    """A JSON value, its numbers within bounds and no key of an object twice; `fix` closes the sentence.

    `lines` says that the text has lines of its own, which a sentence should name.

    Raises:
        Fault: anything else.
    """
    try:
        return json.loads(text, parse_int=_bounded, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if lines else ""
        raise Fault(f"{where}{line}, column {error.colno}", "not JSON", fix) from None
    except KeyError as error:
        what = 'the key "{}" stands twice in one object'
        raise Fault(where, what, "keep one of the two", error.args[0]) from None
    except RecursionError:
        raise Fault(where, "not JSON of this kind: brackets lie too deep in each other", fix) from None


def _bounded(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else float("inf")  # no whole number to whoever asks for one


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in pairs:
        if key in row:
            raise KeyError(key)
        row[key] = value
    return row


def record_in(path: Path) -> dict[str, Any]:
    """The JSON object that a file of ours holds; an empty one when it is not there or holds anything else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


# --- writing ----------------------------------------------------------------------------------------------------------


@contextmanager
def written_whole(path: str | Path, *, private: bool = False) -> Iterator[IO[str]]:
    """A UTF-8 text file that appears under its name only when it is complete: written beside, then renamed.

    A `private` one can be read by its owner alone (mode 600), from the first byte on.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = part_of(path)
    beside.unlink(missing_ok=True)
    try:
        number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if private else 0o666)
        with open(number, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_whole(path: str | Path, text: str, *, private: bool = False) -> None:
    """Write a text as `written_whole` does."""
    with written_whole(path, private=private) as file:
        file.write(text)


def from_repository(written: str | Path) -> Path:
    """Where a path of a study file points: it counts from the repository; `~` and `$NAME` are followed."""
    return ROOT / os.path.expanduser(os.path.expandvars(written))  # an absolute path stays itself


def lock(file: IO[Any], taken: str | None = None) -> None:
    """Hold the lock of an open file, which goes with its last process; nothing on file systems without locks.

    Raises:
        DataError: another process holds it, in the words of `taken`; without these it is waited for.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if taken else 0))
    except BlockingIOError:
        raise DataError(taken or "") from None
    except OSError:
        pass


@contextmanager
def locked(path: Path, taken: str | None = None) -> Iterator[IO[str]]:
    """Hold a lock that goes with its last process, however that ends; see `lock`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        lock(file, taken)
        yield file


def part_of(path: Path) -> Path:
    """The name under which this process writes a file or folder until it is complete; says nothing of its name."""
    name = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return path.with_name(f".{name}.{_node()}-{os.getpid()}.part")


def _node() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def sweep(folder: str | Path) -> list[Path]:
    """Remove what killed processes of this machine left half-written anywhere below a folder; says what that was."""
    import psutil  # only here, since the benchmark of a bare machine reads this module without it

    swept = []
    pattern = re.compile(rf"\.[0-9a-f]{{8}}\.{_node()}-(\d{{1,9}})\.part")
    for root, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            match = pattern.fullmatch(name)
            if match and not psutil.pid_exists(int(match[1])):
                path = Path(root, name)
                if name in folders:
                    folders.remove(name)
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
                swept.append(path)
    return swept
