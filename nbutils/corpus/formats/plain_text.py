"""Bare notes, one .txt file each: to be tagged, or the text half of brat."""

from __future__ import annotations

import re
from pathlib import Path

from nbutils.corpus import Corpus, Document
from nbutils.corpus.formats.reading import Read, Reading
from nbutils.files import DataError, text_of, write_whole
from nbutils.privacy import shown_id

# What every file system takes; a name with a leading dot is hidden and would not be read again.
_NAME = re.compile(r"""(?![.])[^\x00-\x1f\x7f/\\:*?"<>|]{1,80}(?<![. ])""")


def read_text(path: Path, how: Reading, read: Read) -> None:
    """One note without entities; the text is the whole file, line ends as they are."""
    where = how.at(path)
    read.add(document_id(path, how.root), text_of(path, how.encoding, where), (), how, where)


def write_text(corpus: Corpus, folder: Path) -> None:
    """One .txt file per document."""
    for document in corpus:
        if document.entities:
            what = "has entities, which plain text cannot hold; write brat or JSONL instead"
            raise DataError(f'document "{shown_id(document)}" {what}')
        write_whole(file_for(document, folder), document.text, private=corpus.private)


def document_id(path: Path, root: Path | None) -> str:
    """The file's name without its ending, after the folders between the corpus' folder and it."""
    return (path.relative_to(root) if root else Path(path.name)).with_suffix("").as_posix()


def file_for(document: Document, folder: Path) -> Path:
    """The .txt file of a document, inside the folder whatever its id says."""
    parts = document.id.split("/")
    if not all(_NAME.fullmatch(part) for part in parts):
        what = "its id cannot be a file name; rename it or write JSONL instead"
        raise DataError(f"document {shown_id(document)!r}: {what}")
    return folder.joinpath(*parts[:-1], f"{parts[-1]}.txt")
