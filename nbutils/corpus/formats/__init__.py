"""Corpora on disk, one room a format: read into `Corpus` and written back.

Knows which formats there are. Refuses to guess: what is not plainly right stops the reading with one sentence that
names the file, the place and the mend, and no part of such a file is ever returned.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nbutils.corpus import CERTAINTIES, MEDTXT_TAGS, Corpus, Document, problems
from nbutils.corpus.formats.brat import check_pairs, read_brat, write_brat
from nbutils.corpus.formats.conll import read_conll, write_conll
from nbutils.corpus.formats.doccano import read_doccano, write_doccano
from nbutils.corpus.formats.jmed import project_strings, read_jmed
from nbutils.corpus.formats.jsonl import (
    entities_from_json,
    entity_from_json,
    entity_to_json,
    jsonl_document,
    jsonl_line,
    read_jsonl,
    write_jsonl,
)
from nbutils.corpus.formats.labelstudio import read_labelstudio, write_labelstudio
from nbutils.corpus.formats.medtxt import (
    MEDTXT_HEAD,
    MEDTXT_TAIL,
    medtxt_article,
    medtxt_problem,
    medtxt_string,
    read_medtxt,
    write_medtxt,
)
from nbutils.corpus.formats.metadata import TABLE, with_names, with_table, write_table
from nbutils.corpus.formats.plain_text import read_text, write_text
from nbutils.corpus.formats.reading import CHOICES, Read, Reading, relabelled
from nbutils.files import DataError

__all__ = [
    "CERTAINTIES", "FORMATS", "MEDTXT_HEAD", "MEDTXT_TAGS", "MEDTXT_TAIL", "entities_from_json",
    "entity_from_json", "entity_to_json", "files_of", "jsonl_document", "jsonl_line", "medtxt_article",
    "medtxt_problem", "medtxt_string", "project_strings", "read_corpus", "write_corpus", "write_jsonl", "write_medtxt",
]  # fmt: skip


@dataclass(frozen=True)
class Format:
    """A format: how to read one of its files, how these end, how to write a corpus, and which choices it leaves."""

    read: Callable[[Path, Reading], Read]
    suffix: str
    write: Callable[[Corpus, Path], None] | None = None
    folder: bool = False  # a folder of notes, searched with all folders in it
    choices: tuple[str, ...] = ()
    declared: Mapping[str, str] = field(default_factory=dict)  # what reading back needs to know of what `write` wrote


FORMATS = {
    "medtxt": Format(read_medtxt, ".xml", write_medtxt),
    "brat": Format(read_brat, ".txt", write_brat, True, ("discontinuous", "overlaps", "offsets")),
    "conll": Format(read_conll, ".conll", write_conll, False, ("join", "documents"), {"join": "offsets"}),
    "doccano": Format(read_doccano, ".jsonl", write_doccano, False, ("overlaps", "offsets"), {"offsets": "codepoints"}),
    "labelstudio": Format(
        read_labelstudio, ".json", write_labelstudio, False, ("overlaps", "offsets"), {"offsets": "codepoints"}
    ),
    "jmed": Format(read_jmed, ".csv"),
    "jsonl": Format(read_jsonl, ".jsonl", write_jsonl),
    "text": Format(read_text, ".txt", write_text, True),
}


def read_corpus(
    path: str | Path,
    format: str = "medtxt",
    name: str | None = None,
    *,
    private: bool = False,
    encoding: str | None = None,
    meta: str | None = None,
    names: str | None = None,
    labels_as: Mapping[str, str] | None = None,
    **choices: str | None,
) -> Corpus:
    """Read a file, or every file of that format in a folder (by name), as one corpus.

    Args:
        format: one of `FORMATS`; docs/your_own_notes.md describes each.
        encoding: of all but XML, which says its own (default UTF-8).
        meta: a CSV with columns id, case, physician, …, its name counted from the folder of the notes.
        names: what the ids say, such as `{physician}_{case}`.
        labels_as: type in the file -> type in the study; entities of other types are left out and counted.
        choices: `overlaps`, `discontinuous`, `offsets`, `join`, `documents`, as far as the format leaves them
            (formats/reading.py).

    Returns:
        The corpus; its `notices` say in a sentence each what reading changed or left out.

    Raises:
        DataError: anything that is not plainly right; nothing is returned then.
    """
    path = Path(path)
    how = _reading(path, format, encoding, labels_as, choices)
    table = None if meta is None else (path if path.is_dir() else path.parent) / meta
    documents: list[Document] = []
    facts: dict[str, str] = {}
    notices: list[str] = []
    left_out: Counter[str] = Counter()
    types: Counter[str] = Counter()
    file_of: dict[str, Path] = {}
    for file in notes_of(path, format, meta):
        read = FORMATS[format].read(file, how)
        if format in ("medtxt", "jmed", "jsonl"):
            read = relabelled(read, how)
        for document in read.documents:
            if document.id in file_of:
                where = f"already in {file_of[document.id]}" if file_of[document.id] != file else "twice"
                raise DataError(f'{file}: the id "{document.id}" stands {where}; every document needs one of its own')
            file_of[document.id] = file
        documents += read.documents
        facts |= read.meta
        notices += read.notices
        left_out += read.left_out
        types += read.types
    if not documents:
        raise DataError(f"{path}: there is no document in it; is this the right file?")
    for wanted in labels_as or ():
        if types and wanted not in types:
            raise DataError(f'{path}: labels_as names "{wanted}", but the types here are {", ".join(sorted(types))}')
    if table is not None:
        documents = with_table(documents, table, encoding)
    if names is not None:
        documents = with_names(documents, names, path)
    notices += [f"{path}: left out {count} {what}" for what, count in sorted(left_out.items())]
    return Corpus(
        name or path.stem,
        tuple(documents),
        private=private,
        silver=format == "jmed",
        meta=facts,
        notices=tuple(notices),
    )


def _reading(
    path: Path,
    format: str,
    encoding: str | None,
    labels_as: Mapping[str, str] | None,
    choices: Mapping[str, str | None],
) -> Reading:
    """The declared choices, checked against the format."""
    if format not in FORMATS:
        raise DataError(f'{path}: unknown format "{format}"; use one of {", ".join(FORMATS)}')
    chosen = {key: value for key, value in choices.items() if value is not None}
    for key, value in chosen.items():
        if key not in CHOICES:
            raise TypeError(f"read_corpus() has no argument {key!r}")
        if key not in FORMATS[format].choices:
            raise DataError(f"{path}: `{key}` means nothing for the format {format}; delete it from the study file")
        if value not in CHOICES[key]:
            raise DataError(f'{path}: {key}: "{value}" is unknown; use one of {", ".join(CHOICES[key])}')
    return Reading(encoding=encoding, labels_as=labels_as, root=path if path.is_dir() else None, **chosen)


def notes_of(path: Path, format: str, meta: str | None = None) -> list[Path]:
    """The files that a corpus' documents are read from, in the order of their names; hidden files are none."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; correct the path in the study file")
    if not path.is_dir():
        return [path]
    suffix = FORMATS[format].suffix
    found = path.rglob(f"*{suffix}") if FORMATS[format].folder else path.glob(f"*{suffix}")
    table = None if meta is None else path / meta
    notes = sorted(p for p in found if p != table and not any(s.startswith(".") for s in p.relative_to(path).parts))
    if not notes:
        raise DataError(f"{path}: the folder holds no {suffix} file; put the corpus there or correct the path")
    if format == "brat":
        check_pairs(path)
    return notes


def files_of(path: Path, format: str, meta: str | None = None) -> list[Path]:
    """Every file that reading a corpus depends on."""
    found = notes_of(path, format, meta)
    if format == "brat":
        found += [p.with_suffix(".ann") for p in found if p.with_suffix(".ann").exists()]
    return found if meta is None else [*found, (path if path.is_dir() else path.parent) / meta]


def write_corpus(corpus: Corpus, path: str | Path, format: str | None = None) -> None:
    """Write a corpus in a format, or by the file's ending (`.xml`, `.jsonl`).

    It reads back the same (`FORMATS` says what has to be declared for that), or nothing is left. brat and plain text
    make a new folder, with who and which case in `notes.csv`.

    Raises:
        DataError: what the format cannot hold, or a folder that is not empty. Nothing is written then.
    """
    path = Path(path)
    by_ending = {".xml": "medtxt", ".jsonl": "jsonl"}
    format = format or by_ending.get(path.suffix, "")
    if format not in FORMATS or not FORMATS[format].write:
        writable = ", ".join(name for name, f in FORMATS.items() if f.write)
        raise DataError(f"{path}: name a format that can be written ({writable}), or end it in .xml or .jsonl")
    if found := [sentence for document in corpus for sentence in problems(document)]:
        raise DataError(f"{path}: {found[0]}; mend the corpus first")
    if FORMATS[format].folder and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path}: is there already; name a new folder, so that nothing of yours is overwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as beside:
        draft = Path(beside) / path.name
        _write_and_judge(corpus, draft, format, path)
        if path.is_dir():
            path.rmdir()
        os.replace(draft, path)


def _write_and_judge(corpus: Corpus, draft: Path, format: str, path: Path) -> None:
    """Write a draft and read it back: the reader is the judge of what a format can hold."""
    chosen = FORMATS[format]
    how: dict[str, str] = dict(chosen.declared)
    try:
        chosen.write(corpus, draft)
        if chosen.folder:
            write_table(corpus, draft)
            how |= {"meta": TABLE} if (draft / TABLE).exists() else {}
        back = read_corpus(draft, format, **how)
    except UnicodeEncodeError:
        raise DataError(
            f"{path}: a lone surrogate is no character that {format} can hold; write JSONL instead"
        ) from None
    except DataError as error:
        raise DataError(str(error).replace(str(draft), f"{path} (not written)")) from None
    # An empty fact cannot be told from none in a table; the order of documents is that of file names in a folder.
    expected = [replace(d, entities=tuple(sorted(d.entities))) for d in corpus]
    if chosen.folder:
        expected = sorted(expected, key=lambda d: d.id)
        back = replace(back, documents=tuple(sorted(back, key=lambda d: d.id)))
    lost = next((f'document "{a.id}"' for a, b in zip(expected, back, strict=False) if not _same(a, b)), None)
    if lost is None and dict(corpus.meta) != dict(back.meta):
        lost = "what the corpus says about itself (its meta)"
    if lost:
        raise DataError(
            f'{path}: {lost} of "{corpus.name}" would not read back the same from {format}; write JSONL instead'
        )


def _same(a: Document, b: Document) -> bool:
    return (a.id, a.text, tuple(a.entities), dict(a.meta)) == (b.id, b.text, tuple(b.entities), dict(b.meta))
