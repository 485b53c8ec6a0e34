"""What may be shown of a private note: never its words, its title, its id, nor who wrote it on which case.

Whatever shows text asks `shown` first. Covered text has the length and the lines of the original, so spans still lie
where they lay; names become numbers that stay the same wherever the note goes. Only a person at JupyterLab can lift
the cover (`reveal`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

COVER = "■"
# Keys of `meta` that tables group by and intervals sample by; private values are told apart by number.
NAMES = ("hospital", "site", "department", "ward", "physician", "author", "patient", "case")
_State: dict[str, bool] = {"revealed": False}

Note = TypeVar("Note")  # a corpus.Document: anything frozen with `id`, `text`, `meta`, `private` and `shown_as`


def shown(document: Note) -> Note:
    """The document as it may be shown: itself, or, when it is private, with its text, titles, id and names covered.

    Look predictions up by the id of the document itself, before it is covered.
    """
    note: Any = document
    if not hidden(note.private):
        return document
    meta = {key: shown_fact(note, key) for key in note.meta}
    return replace(note, id=shown_id(note), text=cover(note.text), meta=meta)


def shown_id(document: Any) -> str:
    """The document's id as it may be shown: "note 17" for the seventeenth note of a private corpus."""
    return document.shown_as.get("id", "a private note") if hidden(document.private) else document.id


def shown_fact(document: Any, key: str) -> str:
    """A value of the document's meta as it may be shown: "case 3", "physician 2", a covered title; "" for none."""
    value = document.meta.get(key, "")
    return document.shown_as.get(key) or cover(value) if value and hidden(document.private) else value


def pseudonyms(documents: Iterable[Any]) -> list[dict[str, str]]:
    """For each document what stands for its id and its names (`NAMES`): numbers in the order of the documents."""
    seen: dict[str, dict[str, str]] = {key: {} for key in NAMES}
    given = []
    for number, document in enumerate(documents, 1):
        names = {"id": f"note {number}"}
        for key in NAMES:
            if value := document.meta.get(key):
                names[key] = seen[key].setdefault(value, f"{key} {len(seen[key]) + 1}")
        given.append(names)
    return given


def hidden(private: bool) -> bool:
    """Whether what is private must be covered now."""
    return private and not _State["revealed"]


def cover(text: str) -> str:
    """Every visible character replaced; length, spaces and line breaks stay."""
    return re.sub(r"\S", COVER, text)


def reveal() -> None:
    """Show the text of private notes in this kernel from here on: for a person who looks at them in JupyterLab.

    What is shown is kept in the notebook when it is saved: clear its outputs before anybody else gets it.

    Raises:
        RuntimeError: the notebook is executed by a program, which would write the text to a file.
    """
    if not os.environ.get("JPY_SESSION_NAME"):  # Jupyter's server sets it for the kernels that it starts for a person
        raise RuntimeError("the text of private notes is shown in JupyterLab only, not where a program runs a notebook")
    _State["revealed"] = True


def hide() -> None:
    """Cover the text of private notes again."""
    _State["revealed"] = False
