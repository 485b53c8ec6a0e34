"""Corpora on disk: MedTxt XML, JMED-LLM CSV and JSONL, read into `Corpus` and written back.

Knows files, encodings and markup. Refuses to guess: what is not plainly right stops the reading with one sentence
that names the file, the place and the mend, and no part of such a file is ever returned.
"""

from __future__ import annotations

import ast
import codecs
import csv
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from nbutils.corpus import CERTAINTIES, MEDTXT_TAGS, Corpus, Document, Entity, problems

MAX_BYTES = 100_000_000  # a hundred times the largest public corpus of this kind; memory, not taste, sets the limit
STRUCTURE = {"article": "articles", "articles": "root", "metadata": "root", "root": None}
MEDTXT_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<root><articles>\n'
MEDTXT_TAIL = "</articles></root>\n"
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_HALVES = re.compile("[\ud800-\udbff][\udc00-\udfff]")


class DataError(ValueError):
    """Faulty input: one sentence with file, place and mend, fit to be shown to a person as it is."""


# --- reading ---------------------------------------------------------------------------------------------------------


def read_corpus(
    path: str | Path,
    format: str = "medtxt",
    name: str | None = None,
    *,
    private: bool = False,
    encoding: str | None = None,
) -> Corpus:
    """Read a file, or every file of that format in a folder (by name), as one corpus.

    Args:
        format: `medtxt` (XML), `jmed` (CSV of JMED-LLM, gives silver spans) or `jsonl`.
        encoding: of CSV and JSONL (default UTF-8); XML says its own.

    Raises:
        DataError: anything that is not plainly right; nothing is returned then.
    """
    if format not in READERS:
        raise DataError(f'{path}: unknown format "{format}"; use one of {", ".join(READERS)}')
    path, (reader, suffix) = Path(path), READERS[format]
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; correct the path in the study file")
    files = sorted(p for p in path.iterdir() if p.suffix == suffix) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: the folder holds no {suffix} file; put the corpus there or correct the path")
    documents: list[Document] = []
    meta: dict[str, str] = {}
    file_of: dict[str, Path] = {}
    for file in files:
        found, file_meta = reader(file, encoding)
        for document in found:
            if document.id in file_of:
                where = f"already in {file_of[document.id]}" if file_of[document.id] != file else "twice"
                raise DataError(f'{file}: the id "{document.id}" stands {where}; every document needs one of its own')
            file_of[document.id] = file
        documents += found
        meta |= file_meta
    if not documents:
        raise DataError(f"{path}: there is no document in it; is this the right file?")
    return Corpus(name or path.stem, tuple(documents), private=private, silver=format == "jmed", meta=meta)


def _bytes(path: Path) -> bytes:
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


def _decode(path: Path, data: bytes, encoding: str) -> str:
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


def _xml_text(path: Path, data: bytes) -> str:
    """The characters of an XML file by its byte-order mark, else by its declaration, else UTF-8 (XML 1.0, app. F)."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decode(path, data, "utf-16")
    if data.startswith(codecs.BOM_UTF8):
        return _decode(path, data, "utf-8")
    declared = re.match(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._:-]+)["']""", data)
    return _decode(path, data, declared.group(1).decode("ascii") if declared else "utf-8")


def read_medtxt(path: Path, encoding: str | None = None) -> tuple[list[Document], dict[str, str]]:
    """Documents and metadata of a MedTxt XML file; text and offsets are exactly those between the article's tags.

    Document types and entities are refused, so that nothing is expanded and nothing fetched. Line ends become LF,
    as XML 1.0 (2.11) prescribes.
    """
    data = _bytes(path)
    text = _decode(path, data, encoding) if encoding else _xml_text(path, data)
    return _MedTxtReader(path).read(text)


class _MedTxtReader:
    """One pass of expat over one file; holds the article and the entity that are open."""

    def __init__(self, path: Path):
        self.path = path
        self.documents: list[Document] = []
        self.ids: set[str] = set()
        self.meta: dict[str, str] = {}
        self.stack: list[str] = []
        self.article: dict[str, str] | None = None
        self.pieces: list[str] = []
        self.length = 0
        self.entities: list[Entity] = []
        self.open: tuple[str, int, dict[str, str]] | None = None
        self.parser = expat.ParserCreate("utf-8")  # unbuffered, so that the place of every text is known
        self.parser.ordered_attributes = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.parser.EntityDeclHandler = self.doctype

    def read(self, text: str) -> tuple[list[Document], dict[str, str]]:
        try:
            self.parser.Parse(text.encode("utf-8", "surrogatepass"), True)
        except expat.ExpatError as error:
            what = expat.errors.messages[error.code]
            raise DataError(
                f"{self.path}, line {error.lineno}, column {error.offset + 1}: not well-formed XML ({what}); "
                "close every tag, put attribute values in plain double quotes, write & and < as &amp; and &lt;"
            ) from None
        if not self.documents:
            raise DataError(f"{self.path}: no <article> in it; a MedTxt file is root > articles > article")
        return self.documents, self.meta

    def fail(self, sentence: str) -> None:
        line, column = self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1
        raise DataError(f"{self.path}, line {line}, column {column}: {sentence}")

    def doctype(self, *_: Any) -> None:
        self.fail("document types and entity declarations are refused; delete the <!DOCTYPE …>")

    def start(self, tag: str, flat: list[str]) -> None:
        attributes = dict(zip(flat[::2], flat[1::2], strict=True))
        parent = self.stack[-1] if self.stack else None
        if self.article is not None:
            self.start_entity(tag, attributes)
        elif tag in STRUCTURE:
            if parent != STRUCTURE[tag]:
                place = f"inside <{parent}>" if parent else "as the outermost tag"
                self.fail(f"<{tag}> {place}; a MedTxt file is root > articles > article")
            if tag == "article":
                self.start_article(attributes)
        elif parent != "metadata":
            self.fail(f"<{tag}> outside an article; a MedTxt file is root > articles > article")
        elif tag in self.meta:
            self.fail(f"a second <{tag}> in <metadata>; keep one")
        else:
            self.meta[tag] = ""
        self.stack.append(tag)

    def start_article(self, attributes: dict[str, str]) -> None:
        if not attributes.get("id"):
            self.fail('an <article> without id; write <article id="…">')
        if attributes["id"] in self.ids:
            self.fail(f'the article id "{attributes["id"]}" stands twice; every article needs one of its own')
        self.ids.add(attributes["id"])
        self.article, self.pieces, self.length, self.entities = attributes, [], 0, []

    def start_entity(self, tag: str, attributes: dict[str, str]) -> None:
        where = f'in article "{self.article["id"]}"'
        if tag not in MEDTXT_TAGS:
            self.fail(f"<{tag}> {where} is no MedTxt tag; use one of {' '.join(sorted(MEDTXT_TAGS))}")
        if self.open is not None:
            self.fail(
                f"<{tag}> inside <{self.open[0]}> {where}. Entities may not nest; "
                "close the first one before opening the second"
            )
        certainty = attributes.get("certainty")
        if certainty is not None and certainty not in CERTAINTIES:
            self.fail(f'certainty="{certainty}" {where}; use one of {", ".join(sorted(CERTAINTIES))}')
        self.open = (tag, self.length, attributes)

    def end(self, tag: str) -> None:
        self.stack.pop()
        if self.open is not None:
            label, start, attributes = self.open
            if start == self.length:
                self.fail(f'an empty <{label}> in article "{self.article["id"]}"; put its text inside or remove it')
            certainty = attributes.pop("certainty", None)
            self.entities.append(Entity(start, self.length, label, certainty, tuple(attributes.items())))
            self.open = None
        elif tag == "article":
            meta = {k: v for k, v in self.article.items() if k != "id"}
            document = Document(self.article["id"], "".join(self.pieces), tuple(self.entities), meta)
            if not document.text.strip():
                self.fail(f'article "{document.id}" has no text; write its text or remove it')
            self.documents.append(document)
            self.article = None

    def characters(self, text: str) -> None:
        if self.article is not None:
            self.pieces.append(text)
            self.length += len(text)
        elif self.stack and "metadata" in self.stack[:-1]:
            self.meta[self.stack[-1]] += text
        elif text.strip():
            self.fail("text outside an article; move it into one")  # not quoted: it may be a note's


def read_jmed(path: Path, encoding: str | None = None) -> tuple[list[Document], dict[str, str]]:
    """Case reports or nursing records of a JMED-LLM CSV file (its rows with tag `d`), with *silver* spans.

    The file gives strings without offsets. Each string is marked at every place where it occurs, the longest string
    first, and no place is marked twice; so a string that is an entity here and not there is marked in both places.
    Documents are named after the file and the row's number among the `d` rows (`CRNER-001`).
    """
    text = _decode(path, _bytes(path), encoding or "utf-8")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    documents: list[Document] = []
    csv.field_size_limit(MAX_BYTES)
    line = 1
    try:
        if missing := {"tag", "question", "answer"} - set(reader.fieldnames or ()):
            raise DataError(f"{path}, line 1: no column {', '.join(sorted(missing))}; this is no NER file of JMED-LLM")
        for row in reader:
            first, line = line + 1, reader.line_num
            if row["tag"] == "d":
                id = f"{path.stem}-{len(documents) + 1:03d}"
                documents.append(_jmed_document(id, row["question"], row["answer"], f"{path}, line {first}"))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error}); fetch the file anew") from None
    return documents, {}


def _jmed_document(id: str, question: str | None, answer: str | None, where: str) -> Document:
    start, end = (question or "").find("「"), (question or "").rfind("」")
    if not 0 <= start < end:
        raise DataError(f"{where}: no document between 「 and 」 in the column question; fetch the file anew")
    text = question[start + 1 : end]
    try:
        strings = ast.literal_eval(answer or "")
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        strings = None
    if not isinstance(strings, list) or not all(isinstance(s, str) and s for s in strings):
        raise DataError(f"{where}: the column answer is no list of strings; fetch the file anew")
    for string in strings:
        if string not in text:
            raise DataError(f"{where}: {string!r} does not occur in its document; fetch the file anew")
    return Document(id, text, tuple(project_strings(text, strings)))


def project_strings(text: str, strings: list[str], label: str = "d") -> list[Entity]:
    """Mark every occurrence of every string, longest string first, skipping what is already marked."""
    taken = bytearray(len(text))
    entities = []
    for string in sorted(set(strings), key=lambda s: (-len(s), s)):
        start = text.find(string)
        while start >= 0:
            end = start + len(string)
            if any(taken[start:end]):
                start = text.find(string, start + 1)
            else:
                taken[start:end] = b"\x01" * len(string)
                entities.append(Entity(start, end, label))
                start = text.find(string, end)
    return sorted(entities)


def read_jsonl(path: Path, encoding: str | None = None) -> tuple[list[Document], dict[str, str]]:
    """One JSON object a line: `id`, `text`, `entities` (start, end, label, certainty, attributes), `meta`."""
    documents: list[Document] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(_decode(path, _bytes(path), encoding or "utf-8").split("\n"), 1):
        if line.strip():
            document = jsonl_document(line, f"{path}, line {number}")
            if document.id in line_of:
                raise DataError(
                    f'{path}, line {number}: the id "{document.id}" stands already in line {line_of[document.id]}; '
                    "every document needs one of its own"
                )
            line_of[document.id] = number
            documents.append(document)
    return documents, {}


def jsonl_document(line: str, where: str, *, bare: bool = False) -> Document:
    """The document of one line of JSON Lines; `bare` passes over its entities, whatever they are.

    Raises:
        DataError: any other shape; `where` opens the sentence.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits, too
        column = getattr(error, "colno", 1)
        raise DataError(f"{where}, column {column}: not JSON; write one object a line") from None
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("id", "text")) or not row["id"]:
        raise DataError(f'{where}: an object with the strings "id" (not empty) and "text" is needed')
    if unknown := set(row) - {"id", "text", "entities", "meta"}:
        raise DataError(f'{where}: unknown key "{min(unknown)}"; put further facts about the note under "meta"')
    meta = row.get("meta", {})
    if not isinstance(meta, dict) or not all(isinstance(v, str) for v in meta.values()):
        raise DataError(f'{where}: "meta" must be an object whose values are strings')
    if bare:
        return Document(row["id"], row["text"], (), meta)
    try:
        entities = entities_from_json(row.get("entities", []))
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None
    document = Document(row["id"], row["text"], entities, meta)
    if found := problems(document):
        raise DataError(f"{where}: {found[0]}; mend the offsets (0-based code points, end not included)")
    for entity, given in zip(entities, row.get("entities", []), strict=True):
        if given.get("text", document.surface(entity)) != document.surface(entity):
            raise DataError(
                f'{where}: entity {entity.start}–{entity.end} is "{document.surface(entity)}" in the text, but its own '
                '"text" says otherwise; mend the offsets (0-based code points, end not included)'
            )
    return document


def entities_from_json(rows: Any) -> tuple[Entity, ...]:
    """Entities as `entity_to_json` wrote them (their surface may stand beside as `text`).

    Raises:
        ValueError: any other shape, in words that a person understands.
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError('"entities" must be a list of objects')
    return tuple(entity_from_json(row) for row in rows)


def entity_from_json(row: dict[str, Any]) -> Entity:
    if unknown := set(row) - {"start", "end", "label", "certainty", "attributes", "score", "text"}:
        raise ValueError(f'an entity has the unknown key "{min(unknown)}"; put further facts under "attributes"')
    if type(row.get("start")) is not int or type(row.get("end")) is not int:
        raise ValueError('every entity needs "start" and "end" as whole numbers')
    label, certainty, attributes = row.get("label", "d"), row.get("certainty"), row.get("attributes", {})
    if not isinstance(label, str) or not isinstance(certainty, str | None):
        raise ValueError('"label" and "certainty" of an entity must be strings')
    if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
        raise ValueError('"attributes" of an entity must be an object whose values are strings')
    if type(row.get("score")) not in (int, float, type(None)):
        raise ValueError('"score" of an entity must be a number')
    return Entity(row["start"], row["end"], label, certainty, tuple(attributes.items()), row.get("score"))


def entity_to_json(entity: Entity) -> dict[str, Any]:
    row: dict[str, Any] = {"start": entity.start, "end": entity.end, "label": entity.label}
    if entity.certainty is not None:
        row["certainty"] = entity.certainty
    if entity.attributes:
        row["attributes"] = dict(entity.attributes)
    if entity.score is not None:
        row["score"] = round(entity.score, 6)
    return row


READERS = {"medtxt": (read_medtxt, ".xml"), "jmed": (read_jmed, ".csv"), "jsonl": (read_jsonl, ".jsonl")}


# --- writing ---------------------------------------------------------------------------------------------------------


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


def write_medtxt(corpus: Corpus, path: str | Path) -> None:
    """Write MedTxt XML that reads back as the same corpus; files of our own form come back byte for byte.

    Raises:
        DataError: what this form cannot hold: control characters, lone surrogates, empty texts, overlapping entities,
            tags and names that are not MedTxt's. Nothing is written then.
    """
    content = medtxt_string(corpus)
    # The reader is the judge of what can be read back.
    documents, meta = _MedTxtReader(Path(f"{path} (not written)")).read(content)
    expected = [replace(d, entities=tuple(sorted(d.entities))) for d in corpus]
    if documents != expected or meta != dict(corpus.meta):
        lost = next((f'document "{a.id}"' for a, b in zip(expected, documents, strict=False) if a != b), "its metadata")
        raise DataError(f'{path}: {lost} of "{corpus.name}" would not read back the same from XML; write JSONL instead')
    with written_whole(path) as file:
        file.write(content)


def medtxt_problem(document: Document) -> str | None:
    """Why MedTxt XML cannot hold this document, or None when it reads back the same."""
    expected = replace(document, entities=tuple(sorted(document.entities)))
    try:
        content = medtxt_string(Corpus("one", (document,)))
    except DataError as error:
        return str(error)
    with suppress(DataError):
        if _MedTxtReader(Path("one")).read(content)[0] == [expected]:
            return None
    return (
        f'document "{document.id}" would not read back the same from MedTxt XML (no text, a tag that is not '
        "MedTxt's, or a key under meta that is no XML name); write JSONL instead"
    )


def medtxt_string(corpus: Corpus) -> str:
    parts = [MEDTXT_HEAD.removesuffix("<articles>\n")]
    if corpus.meta:
        parts.append("\n<metadata>\n")
        parts += [f"<{key}>{_xml(value, corpus.name)}</{key}>\n" for key, value in corpus.meta.items()]
        parts.append("</metadata>\n")
    parts.append("<articles>\n")
    parts += map(medtxt_article, corpus)
    parts.append(MEDTXT_TAIL)
    return "".join(parts)


def medtxt_article(document: Document) -> str:
    """One article, to stand between `MEDTXT_HEAD` and `MEDTXT_TAIL`.

    Raises:
        DataError: a character that XML cannot hold, or faulty entities.
    """
    named = [("id", document.id), *document.meta.items()]
    attributes = "".join(f" {k}={_quoted(v, document.id)}" for k, v in named)
    return f"<article{attributes}>{_inline_xml(document)}</article>\n"


def _inline_xml(document: Document) -> str:
    if found := problems(document):
        raise DataError(f"{found[0]}; MedTxt XML cannot hold it")
    out, at = [], 0
    for e in sorted(document.entities):
        attributes = ([("certainty", e.certainty)] if e.certainty is not None else []) + list(e.attributes)
        head = "".join(f" {k}={_quoted(v, document.id)}" for k, v in attributes)
        out += [_xml(document.text[at : e.start], document.id), f"<{e.label}{head}>"]
        out += [_xml(document.surface(e), document.id), f"</{e.label}>"]
        at = e.end
    return "".join([*out, _xml(document.text[at:], document.id)])


def _xml(text: str, where: str) -> str:
    if found := _NOT_XML.search(text):
        raise DataError(
            f'document "{where}": XML cannot hold the character U+{ord(found.group()):04X}; write JSONL instead'
        )
    return escape(text, {"\r": "&#13;"})  # a bare CR would come back as LF


def _quoted(value: str, where: str) -> str:
    _xml(value, where)
    return quoteattr(value)


def write_jsonl(corpus: Corpus, path: str | Path) -> None:
    """Write one JSON object a line; any text survives, lone surrogates too.

    Raises:
        DataError: two halves of a surrogate pair side by side, which every JSON reader joins into one character.
    """
    with written_whole(path) as file:
        file.writelines(map(jsonl_line, corpus))


def jsonl_line(document: Document) -> str:
    """One document as a line of JSON, with its line break."""
    row = {
        "id": document.id,
        "text": document.text,
        "entities": [entity_to_json(e) for e in document.entities],
        "meta": dict(document.meta),
    }
    line = json.dumps(row, ensure_ascii=False)
    if _SURROGATE_HALVES.search(line):
        raise DataError(
            f"document {document.id!r}: two halves of a surrogate pair side by side; decode its text as UTF-16 first"
        )
    # Lone surrogates are no UTF-8; \uXXXX escapes carry them.
    return (json.dumps(row) if _SURROGATE.search(line) else line) + "\n"


def write_corpus(corpus: Corpus, path: str | Path) -> None:
    """Write by the file's ending: `.xml` or `.jsonl`."""
    writers = {".xml": write_medtxt, ".jsonl": write_jsonl}
    suffix = Path(path).suffix
    if suffix not in writers:
        raise DataError(f"{path}: can be written as {' or '.join(writers)}, by its ending")
    writers[suffix](corpus, path)
