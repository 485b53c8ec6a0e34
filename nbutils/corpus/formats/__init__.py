"""Corpora on disk, one module per format: read into `Corpus` and written back.

Nothing is guessed: what is not plainly right stops the reading, with a sentence for every kind of problem that names
the file, the place and the fix, and no part of such a corpus is ever returned.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nbutils.corpus import Corpus, problems
from nbutils.corpus.formats.brat import annotations_of, check_pairs, read_brat, write_brat
from nbutils.corpus.formats.conll import read_conll, write_conll
from nbutils.corpus.formats.doccano import read_doccano, write_doccano
from nbutils.corpus.formats.jmed import read_jmed
from nbutils.corpus.formats.jsonl import read_jsonl, write_jsonl
from nbutils.corpus.formats.labelstudio import read_labelstudio, write_labelstudio
from nbutils.corpus.formats.medtxt import read_medtxt, write_medtxt
from nbutils.corpus.formats.metadata import TABLE, with_names, with_table, write_table
from nbutils.corpus.formats.plain_text import read_text, write_text
from nbutils.corpus.formats.reading import CHOICES, Read, Reading
from nbutils.files import HIDDEN, DataError, Place, part_of, printable, summarised
from nbutils.privacy import hidden, shown_id


@dataclass(frozen=True)
class Format:
    """A format: how to read one of its files, how these end, how to write a corpus, and which choices it leaves."""

    read: Callable[[Path, Reading, Read], None]
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
    unannotated: bool = False,
    encoding: str | None = None,
    meta: str | None = None,
    names: str | None = None,
    labels_as: Mapping[str, str] | None = None,
    **choices: str | None,
) -> Corpus:
    """Read a file, or every file of that format in a folder (by name), as one corpus.

    Args:
        format: one of `FORMATS`; docs/your_own_notes.md describes each.
        private: its notes are marked so, and no sentence quotes its files or names them.
        unannotated: the notes need not have entities; without it a corpus without any is refused.
        encoding: of all but XML, which says its own (default UTF-8).
        meta: a CSV with columns id, case, physician, …, its name counted from the folder of the notes.
        names: what the ids say, such as `{physician}_{case}`.
        labels_as: type in the file -> type in the study; entities of other types are left out and counted.
        choices: `overlaps`, `discontinuous`, `offsets`, `join`, `documents`, as far as the format leaves them
            (formats/reading.py).

    Returns:
        The corpus; its `notices` say in a sentence each what reading changed or left out.

    Raises:
        DataError: anything that is not plainly right, all of it at once; nothing is returned then.
    """
    path = Path(path)
    how = _reading(path, format, choices, encoding=encoding, labels_as=labels_as)
    covered = hidden(private)
    alias = f'corpus "{name}"' if name else "the private corpus"
    where = Place(alias if covered else path)
    read = Read()
    notes = notes_of(path, format, meta)
    for number, file in enumerate(notes, 1):
        if covered:
            how = replace(how, alias=f"{alias}, file {number} of {len(notes)} by name" if path.is_dir() else alias)
        with read.noting():
            FORMATS[format].read(file, how, read)
    if format == "brat" and path.is_dir():
        check_pairs(path, how, read)
    documents = read.documents
    if not read.faults:
        if meta is not None:
            table = (path if path.is_dir() else path.parent) / meta
            its_place = Place(f"{where}, {meta}" if covered else table)
            with read.noting():
                documents = with_table(documents, table, its_place, encoding, read)
        if names is not None:
            with read.noting():
                documents = with_names(documents, names, where, read)
        _check_entities(read, how, where, covered, needed=not unannotated and format != "text")
    if read.faults:
        sentences = summarised(read.faults, covered)
        if len(sentences) > 1:
            sentences.insert(0, f"{printable(where)}: {len(sentences)} kinds of problems")
        raise DataError("\n  ".join(sentences))
    return Corpus(
        name or ("private" if private else path.stem),
        tuple(documents),
        private=private,
        silver=format == "jmed",
        meta=read.meta,
        notices=_notices(read, where, covered, passed_over(path, notes, format, meta), needed=format != "text"),
    )


def _check_entities(read: Read, how: Reading, where: Place, covered: bool, needed: bool) -> None:
    """A corpus without documents or, where they are needed, entities is a fault, and so is a type that never occurs."""
    if not read.documents:
        read.fault(where, "there is no document in it", "is this the right file?")
        return
    here = ", ".join(printable(t) for t in sorted(read.types)[:20])
    for wanted in how.labels_as or {}:
        if wanted not in read.types and (needed or read.types):
            what, place = 'labels_as names "{}", but ', Place(wanted)
            if read.types:
                read.fault(where, what + "the types here are {}", "correct labels_as in the study file", place, here)
            else:
                read.fault(where, what + "there is no entity here", "is everything exported?", place)
    if needed and not read.faults and not any(d.entities for d in read.documents):
        what = "not one entity in {} notes, so there is nothing to learn from or to score against"
        fix = "is the export complete? To tag these notes only, say `unannotated: true` in the study file"
        read.fault(where, what, fix, len(read.documents))


def _notices(read: Read, where: Place, covered: bool, strange: Counter[str], *, needed: bool) -> tuple[str, ...]:
    """What reading left out, types first, and what it changed, a sentence for each kind."""
    where = printable(where)
    counts = [(HIDDEN if covered else printable(label), n) for label, n in read.unwanted.most_common()]
    notices = [
        f'{where}: left out {n:,} entities of the type "{label}", which labels_as does not name' for label, n in counts
    ]
    if len(counts) > 10:
        each, total = ", ".join(f'"{label}" {n:,}' for label, n in counts), read.unwanted.total()
        notices = [f"{where}: left out {total:,} entities of types that labels_as does not name: {each}"]
    if needed and read.bare and any(d.entities for d in read.documents):
        first = "" if covered else f" (the first: {printable(read.bare[0])})"
        notices.append(f"{where}: {len(read.bare):,} of {len(read.documents):,} notes have no annotation at all{first}")
    for (what, name), n in sorted(read.left_out.items()):
        if n:
            notices.append(f"{where}: left out {n:,} {what.format(HIDDEN if covered else printable(name))}")
    if strange:
        each = ", ".join(f"{n:,} {suffix}" for suffix, n in sorted(strange.items()))
        notices.append(f"{where}: passed over files that this format does not have ({each})")
    return (*notices, *summarised(read.remarks, covered))


def _reading(path: Path, format: str, choices: Mapping[str, str | None], **declared: Any) -> Reading:
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
    return Reading(root=path if path.is_dir() else None, **declared, **chosen)


def notes_of(path: Path, format: str, meta: str | None = None) -> list[Path]:
    """The files that a corpus' documents are read from, in the order of their names; hidden files are none."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; correct the path in the study file")
    if not path.is_dir():
        return [path]
    suffix = FORMATS[format].suffix
    files = path.rglob("*") if FORMATS[format].folder else path.glob("*")
    table = None if meta is None else path / meta
    notes = sorted(p for p in files if p.suffix.lower() == suffix and p != table and not _is_hidden(p, path))
    if not notes:
        raise DataError(f"{path}: the folder holds no {suffix} file; put the corpus there or correct the path")
    return notes


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def passed_over(path: Path, notes: list[Path], format: str, meta: str | None) -> Counter[str]:
    """How many files of each ending lie in a corpus' folder that look like notes or annotations and are not read."""
    if not path.is_dir():
        return Counter()
    known = {*notes, *((path / meta,) if meta else ()), path / TABLE}
    own = {".ann"} if format == "brat" else set()
    files = (p for p in path.rglob("*") if p not in known and not _is_hidden(p, path))
    return Counter(s for p in files if (s := p.suffix.lower()) in _NOTE_LIKE - own and p.is_file())


_NOTE_LIKE = {f.suffix for f in FORMATS.values()} | {".ann", ".bio", ".iob", ".iob2", ".tsv", ".zip", ".gz"}


def files_of(path: Path, format: str, meta: str | None = None) -> list[Path]:
    """Every file that reading a corpus depends on."""
    files = notes_of(path, format, meta)
    if format == "brat":
        files += [ann for ann in map(annotations_of, files) if ann]
    return files if meta is None else [*files, (path if path.is_dir() else path.parent) / meta]


def write_corpus(corpus: Corpus, path: str | Path, format: str | None = None) -> None:
    """Write a corpus in a format, or by the file's ending (`.xml`, `.jsonl`).

    It reads back the same (`FORMATS` says what has to be declared for that), or nothing is left. brat and plain text
    make a new folder, with who and which case in `notes.csv`. The files of a private corpus are its owner's alone.

    Raises:
        DataError: what the format cannot hold, or a folder that is not empty. Nothing is written then.
    """
    path = Path(path)
    by_ending = {".xml": "medtxt", ".jsonl": "jsonl"}
    format = format or by_ending.get(path.suffix.lower(), "")
    if format not in FORMATS or not FORMATS[format].write:
        writable = ", ".join(name for name, f in FORMATS.items() if f.write)
        raise DataError(f"{path}: name a format that can be written ({writable}), or end it in .xml or .jsonl")
    if sentences := [sentence for document in corpus for sentence in problems(document)]:
        raise DataError(f"{path}: {sentences[0]}; correct the corpus first")
    if FORMATS[format].folder and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path}: is there already; name a new folder, so that nothing of yours is overwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = part_of(path)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(mode=0o700)
    try:
        draft = beside / path.name
        _write_and_judge(corpus, draft, format, path)
        if path.is_dir():
            path.rmdir()
        os.replace(draft, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_and_judge(corpus: Corpus, draft: Path, format: str, path: Path) -> None:
    """Write a draft and read it back: the reader is the judge of what a format can hold."""
    chosen = FORMATS[format]
    how: dict[str, str] = dict(chosen.declared)
    try:
        chosen.write(corpus, draft)
        if chosen.folder:
            write_table(corpus, draft)
            how |= {"meta": TABLE} if (draft / TABLE).exists() else {}
        name = "any" if corpus.private else None
        back = read_corpus(draft, format, name, private=corpus.private, unannotated=True, **how)
    except UnicodeEncodeError:
        what = f"a lone surrogate is no character that {format} can hold; write JSONL instead"
        raise DataError(f"{path}: {what}") from None
    except DataError as error:
        raise DataError(str(error).replace(str(draft), f"{path} (not written)")) from None
    # An empty fact cannot be told from none in a table; the order of documents is that of file names in a folder.
    expected = [replace(d, entities=tuple(sorted(d.entities)), private=corpus.private) for d in corpus]
    if chosen.folder:
        expected = sorted(expected, key=lambda d: d.id)
        back = replace(back, documents=tuple(sorted(back, key=lambda d: d.id)))
    lost = next((f'document "{shown_id(a)}"' for a, b in zip(expected, back, strict=False) if a != b), None)
    if lost is None and dict(corpus.meta) != dict(back.meta):
        lost = "what the corpus says about itself (its meta)"
    if lost:
        what = f"would not read back the same from {format}; write JSONL instead"
        raise DataError(f'{path}: {lost} of "{corpus.name}" {what}')
