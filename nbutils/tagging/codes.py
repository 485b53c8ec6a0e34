"""Codes for the names that a run finds: from a list of terms, by the longest match after NFKC."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nbutils.corpus import Document
from nbutils.files import DataError
from nbutils.taggers.terms import TERMS, Terms, read_terms


def terms_with_codes(model: Path, named: Path | None) -> Terms | None:
    """The named list of terms, or the one beside a run's model; None where there is none with codes.

    Raises:
        DataError: the named list cannot be read or has no code.
    """
    beside = model / TERMS
    terms = read_terms(named) if named else read_terms(beside.resolve()) if beside.exists() else None
    if named and not any(terms.codes.values()):
        raise DataError(f"{named}: no term in it has a code; name the columns term and code")
    return terms if terms and any(terms.codes.values()) else None


def coded(note: Document, terms: Terms) -> Document:
    """The note, each entity whose name has a code (`Terms.code`) with the attribute `code`."""
    told = ((e, terms.code(note.surface(e))) for e in note.entities)
    return replace(note, entities=tuple(replace(e, attributes=(("code", code),)) if code else e for e, code in told))
