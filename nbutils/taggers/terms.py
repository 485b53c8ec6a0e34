"""A list of medical terms, with or without codes: read from a file, found in texts after NFKC, longest first.

Tables with the columns `term` and `code` (CSV or TSV), and the Japanese disease list MANBYO (J-MeDic; Ito et al. 2018,
LREC) as CSV, by its own column names.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nbutils.files import DataError, from_repository, text_of, written_whole

TERMS = "terms.csv"  # the name of a list beside a model
TERM = ("term", "出現形")
CODE = ("code", "ICDコード", "ICD10コード")  # MANBYO from 2019 and before
NO_CODE = frozenset(("", "-1", "nan"))  # as MANBYO writes it


@dataclass(frozen=True)
class Terms:
    """Terms in normal form NFKC, each with its code ("" for none)."""

    codes: Mapping[str, str]

    @cached_property
    def lengths(self) -> dict[str, list[int]]:
        return lengths_by_first(self.codes)

    def spans(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Every term of a text, from left to right, the longest first: start and end in the text as it is, the term."""
        plain, starts, ends = normalised(text)
        at = 0
        while at < len(plain):
            length = self._at(plain, at, starts, ends)
            if length:
                yield starts[at], ends[at + length - 1], plain[at : at + length]
            at += length or 1

    def _at(self, plain: str, at: int, starts: list[int], ends: list[int]) -> int:
        """The length of the longest term that begins here, with whole characters of the text; 0 for none."""
        for n in self.lengths.get(plain[at], ()):
            last = at + n - 1
            whole = last < len(plain) and (at == 0 or starts[at - 1] < starts[at])
            if whole and plain[at : at + n] in self.codes and (last + 1 == len(plain) or ends[last] < ends[last + 1]):
                return n
        return 0

    def code(self, name: str) -> str:
        """The code of a name: its own, else that of the longest term with a code in it, of equals the last; or ""."""
        plain = unicodedata.normalize("NFKC", name)
        if self.codes.get(plain):
            return self.codes[plain]
        inside = [
            (n, at, code)
            for at in range(len(plain))
            for n in self.lengths.get(plain[at], ())
            if (code := self.codes.get(plain[at : at + n], "")) and at + n <= len(plain)
        ]
        return max(inside)[2] if inside else ""


def lengths_by_first(terms: Iterable[str]) -> dict[str, list[int]]:
    """By first character, the lengths of the terms that begin so, the longest first."""
    lengths: dict[str, set[int]] = defaultdict(set)
    for term in terms:
        lengths[term[0]].add(len(term))
    return {first: sorted(some, reverse=True) for first, some in lengths.items()}


def normalised(text: str) -> tuple[str, list[int], list[int]]:
    """A text in NFKC and, for each of its characters, start and end of what it comes from in the text.

    A half-width letter and the voicing mark behind it (ﾀﾞ) are one character, as is a letter with combining marks.
    """
    plain, starts, ends = [], [], []
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and (text[end] in "ﾞﾟ" or unicodedata.combining(text[end])):
            end += 1
        for character in unicodedata.normalize("NFKC", text[start:end]):
            plain.append(character)
            starts.append(start)
            ends.append(end)
        start = end
    return "".join(plain), starts, ends


def terms_path(path: str | Path) -> Path:
    """Where a list lies: relative paths count from the repository, `~` and `$NAME` are followed.

    Raises:
        DataError: there is no such file.
    """
    full = from_repository(path)
    if not full.is_file():  # as it was written, since the value of a variable may be a secret
        raise DataError(f"{path}: there is no such dictionary; correct `dictionary` in the study file")
    return full


def read_terms(path: str | Path) -> Terms:
    """The terms of a file (`terms_path`); a term that stands twice has its first code.

    Raises:
        DataError: no such file, no column of terms, or no term.
    """
    path = terms_path(path)
    text = text_of(path)
    dialect = "excel-tab" if "\t" in text.split("\n", 1)[0] else "excel"
    codes: dict[str, str] = {}
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""), dialect=dialect, strict=True)
        names = [name.strip() for name in rows.fieldnames or ()]
        rows.fieldnames = names
        term = next((name for name in TERM if name in names), None)
        code = next((name for name in CODE if name in names), None)
        if term is None:
            raise DataError(
                f"{path.name}, line 1: no column is called {' or '.join(TERM)}; name the columns term and code"
            )
        for row in rows:
            plain = unicodedata.normalize("NFKC", (row[term] or "").strip())
            given = ((row[code] if code else "") or "").strip()
            if plain:
                codes[plain] = codes.get(plain) or ("" if given in NO_CODE else given)
    except csv.Error:
        raise DataError(f"{path.name}, line {rows.line_num}: not CSV; save it again as CSV in UTF-8") from None
    if not codes:
        raise DataError(f"{path.name}: there is no term in it; is this the right file?")
    return Terms(codes)


def write_terms(terms: Terms, path: Path) -> None:
    """A table that `read_terms` reads."""
    with written_whole(path) as file:
        csv.writer(file, lineterminator="\n").writerows([("term", "code"), *terms.codes.items()])
