"""The one rule of what a page, a table or a file may show: the words of a private note are covered, sign by sign.

Whatever shows text asks `shown` first. Covered text has the length and the lines of the original, so spans still lie
where they lay. Only a person at JupyterLab can lift the cover (`reveal`). Knows no file, no page and no corpus.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Any, TypeVar

COVER = "■"
NAMES = ("case", "physician")  # of meta: what tables group by; a corpus should hold codes there
_State: dict[str, bool] = {"revealed": False}

Note = TypeVar("Note")  # a corpus.Document: anything frozen with `private`, `text` and `meta`


def shown(document: Note) -> Note:
    """The document as it may be shown: itself, or with its text and titles covered when it is private.

    Its id and what `meta` calls case and physician stay, since tables are made by them.
    """
    note: Any = document
    if not note.private or _State["revealed"]:
        return document
    meta = {key: value if key in NAMES else cover(value) for key, value in note.meta.items()}
    return replace(note, text=cover(note.text), meta=meta)


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
