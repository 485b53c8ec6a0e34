"""MedTxt XML, the form of the paper's corpora: inline tags in <article>s, without document types and entities."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from nbutils.corpus import CERTAINTIES, MEDTXT_TAGS, Corpus, Document, Entity, problems
from nbutils.corpus.formats.reading import Located, Read, Reading, attributes_of
from nbutils.files import DataError, Fault, Place, Remark, bytes_of, decoded, write_whole
from nbutils.privacy import shown_id

STRUCTURE = {"article": "articles", "articles": "root", "metadata": "root", "root": None}
MEDTXT_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<root><articles>\n'
MEDTXT_TAIL = "</articles></root>\n"
_FORM = "a MedTxt file is root > articles > article"
_WELL_FORMED = "close every tag, put attribute values in plain double quotes, write & and < as &amp; and &lt; in text"
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def read_medtxt(path: Path, how: Reading, read: Read) -> None:
    """Documents and metadata of a MedTxt XML file; text and offsets are exactly those between the article's tags.

    Document types and entities are refused, so that nothing is expanded and nothing fetched. Line ends become LF,
    as XML 1.0 (2.11) prescribes.
    """
    where = how.at(path)
    data = bytes_of(path, where)
    text = decoded(where, data, how.encoding) if how.encoding else _xml_text(where, data)
    reader = _MedTxtReader(where)
    try:
        reader.read(text)
    finally:
        read.faults += reader.faults
    for (place, places), document in zip(reader.places, reader.documents, strict=True):
        marked = map(Located, document.entities, places)
        read.add(document.id, document.text, marked, how, place, meta=document.meta)
    read.meta |= reader.meta


def _xml_text(where: Place, data: bytes) -> str:
    """The characters of an XML file by its byte-order mark, else by its declaration, else UTF-8 (XML 1.0, app. F)."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return decoded(where, data, "utf-16")
    if data.startswith(codecs.BOM_UTF8):
        return decoded(where, data, "utf-8")
    declared = re.match(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._:-]+)["']""", data)
    return decoded(where, data, declared.group(1).decode("ascii") if declared else "utf-8")


class _MedTxtReader:
    """One pass of expat over one file; holds the article and the entity that are open, and what is wrong so far."""

    def __init__(self, where: str):
        self.where = where
        self.documents: list[Document] = []
        self.places: list[tuple[Place, list[Place]]] = []  # of every document and its entities
        self.faults: list[Remark] = []
        self.meta: dict[str, str] = {}
        self.stack: list[str] = []
        self.article: tuple[Place, dict[str, str]] | None = None
        self.marks: list[Place] = []
        self.pieces: list[str] = []
        self.length = 0
        self.entities: list[Entity] = []
        self.open: tuple[int, str, int, dict[str, str]] | None = None  # depth, tag, start, attributes
        self.parser = expat.ParserCreate("utf-8")  # unbuffered, so that the place of every text is known
        self.parser.ordered_attributes = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.parser.EntityDeclHandler = self.doctype

    def read(self, text: str) -> tuple[list[Document], dict[str, str]]:
        """Documents and metadata; `faults` says what is wrong in them.

        Raises:
            Fault: no XML, a document type, or no article.
        """
        try:
            self.parser.Parse(text.encode("utf-8", "surrogatepass"), True)
        except expat.ExpatError as error:
            place = f"{self.where}, line {error.lineno}, column {error.offset + 1}"
            reason = Place(expat.errors.messages[error.code])
            raise Fault(place, "not well-formed XML ({})", _WELL_FORMED, reason) from None
        if not self.documents and not self.faults:
            raise Fault(self.where, "no <article> in it", _FORM)
        return self.documents, self.meta

    def here(self) -> Place:
        parser = self.parser
        return Place(f"{self.where}, line {parser.CurrentLineNumber}, column {parser.CurrentColumnNumber + 1}")

    def fault(self, what: str, fix: str, *says: object) -> None:
        self.faults.append(Remark(self.here(), what, fix, says))

    def doctype(self, *_: Any) -> None:
        raise Fault(self.here(), "document types and entity declarations are refused", "delete the <!DOCTYPE …>")

    def start(self, tag: str, flat: list[str]) -> None:
        attributes = dict(zip(flat[::2], flat[1::2], strict=True))
        parent = self.stack[-1] if self.stack else None
        self.stack.append(tag)
        if self.article is not None:
            self.start_entity(tag, attributes)
        elif tag in STRUCTURE:
            if parent != STRUCTURE[tag]:
                place = Place(f"inside <{parent}>" if parent in STRUCTURE else "at this place")
                self.fault("<{}> {}", _FORM, Place(tag), place)
            if tag == "article":
                if not attributes.get("id"):
                    self.fault("an <article> without id", 'write <article id="…">')
                self.article = self.here(), attributes
                self.pieces, self.length, self.entities, self.marks = [], 0, [], []
        elif parent != "metadata":
            self.fault("<{}> outside an article", _FORM, tag)
        elif tag in self.meta:
            self.fault("a second <{}> in <metadata>", "keep one", tag)
        else:
            self.meta[tag] = ""

    def start_entity(self, tag: str, attributes: dict[str, str]) -> None:
        id = self.article[1].get("id", "")
        certainty = attributes.get("certainty")
        if tag not in MEDTXT_TAGS:
            fix = f"use one of {' '.join(sorted(MEDTXT_TAGS))}, and write < in text as &lt;"
            self.fault('<{}> in article "{}" is no MedTxt tag', fix, tag, id)
        elif self.open is not None:
            fix = "entities may not nest; close the first one before opening the second"
            self.fault('<{}> inside <{}> in article "{}"', fix, tag, self.open[1], id)
        else:
            if certainty is not None and certainty not in CERTAINTIES:
                fix = f"use one of {', '.join(sorted(CERTAINTIES))}"
                self.fault('certainty="{}" in article "{}"', fix, certainty, id)
            self.open = (len(self.stack), tag, self.length, attributes)
            self.marks.append(self.here())

    def end(self, tag: str) -> None:
        depth = len(self.stack)
        self.stack.pop()
        if self.open is not None and self.open[0] == depth:
            _, label, start, attributes = self.open
            certainty = attributes.pop("certainty", None)
            if start < self.length:
                self.entities.append(Entity(start, self.length, label, certainty, tuple(attributes.items())))
            else:
                self.marks.pop()
                fix = "put its text inside or remove it"
                self.fault('an empty <{}> in article "{}"', fix, label, self.article[1].get("id", ""))
            self.open = None
        elif tag == "article" and self.article is not None:
            place, attributes = self.article
            meta = {k: v for k, v in attributes.items() if k != "id"}
            document = Document(attributes.get("id", ""), "".join(self.pieces), tuple(self.entities), meta)
            if not document.text.strip():
                self.fault('article "{}" has no text', "write its text or remove it", document.id)
            if document.id:
                self.documents.append(document)
                self.places.append((place, self.marks))
            self.article = None

    def characters(self, text: str) -> None:
        if self.article is not None:
            self.pieces.append(text)
            self.length += len(text)
        elif self.stack and "metadata" in self.stack[:-1]:
            self.meta[self.stack[-1]] += text
        elif text.strip():
            self.fault("text outside an article", "move it into one")


def write_medtxt(corpus: Corpus, path: str | Path) -> None:
    """Write MedTxt XML that reads back as the same corpus; files of our own form come back byte for byte.

    Raises:
        DataError: what this form cannot hold: control characters, lone surrogates, empty texts, overlapping entities,
            tags and names that are not MedTxt's. Nothing is written then.
    """
    content = medtxt_string(corpus)
    documents, meta = _read_back(content, f"{path} (not written)")
    expected = [replace(d, entities=tuple(sorted(d.entities)), private=False) for d in corpus]
    if documents != expected or meta != dict(corpus.meta):
        others = (f'document "{shown_id(a)}"' for a, b in zip(expected, documents, strict=False) if a != b)
        lost = next(others, "its metadata")
        raise DataError(f'{path}: {lost} of "{corpus.name}" would not read back the same from XML; write JSONL instead')
    write_whole(path, content, private=corpus.private)


def _read_back(content: str, where: str) -> tuple[list[Document], dict[str, str]]:
    """What the reader, who is the judge of what XML can hold, makes of it, white space at the edges of entities kept.

    Raises:
        DataError: it finds a fault.
    """
    reader = _MedTxtReader(where)
    documents, meta = reader.read(content)
    if reader.faults:
        raise DataError(reader.faults[0].sentence(hidden=True))
    return documents, meta


def medtxt_problem(document: Document) -> str | None:
    """Why MedTxt XML cannot hold this document, or None when it reads back the same."""
    expected = replace(document, entities=tuple(sorted(document.entities)))
    try:
        content = medtxt_string(Corpus("one", (document,)))
    except DataError as error:
        return str(error)
    with suppress(DataError):
        if _read_back(content, "one")[0] == [replace(expected, private=False)]:
            return None
    return (
        f'document "{shown_id(document)}" would not read back the same from MedTxt XML (no text, a tag that is not '
        "MedTxt's, or a key under meta that is no XML name); write JSONL instead"
    )


def medtxt_string(corpus: Corpus) -> str:
    facts = "".join(f"<{key}>{_xml(value, corpus.name)}</{key}>\n" for key, value in corpus.meta.items())
    metadata = f"\n<metadata>\n{facts}</metadata>\n" if facts else ""
    head = MEDTXT_HEAD.replace("<articles>", f"{metadata}<articles>")
    return "".join([head, *map(medtxt_article, corpus), MEDTXT_TAIL])


def medtxt_article(document: Document) -> str:
    """One article, to stand between `MEDTXT_HEAD` and `MEDTXT_TAIL`.

    Raises:
        DataError: a character that XML cannot hold, or faulty entities.
    """
    where, at = shown_id(document), 0
    out = [_tag("article", [("id", document.id), *document.meta.items()], where)]
    if sentences := problems(document):
        raise DataError(f"{sentences[0]}; MedTxt XML cannot hold it")
    for e in sorted(document.entities):
        out += [_xml(document.text[at : e.start], where), _tag(e.label, attributes_of(e), where)]
        out += [_xml(document.surface(e), where), f"</{e.label}>"]
        at = e.end
    return "".join([*out, _xml(document.text[at:], where), "</article>\n"])


def _tag(name: str, attributes: Iterable[tuple[str, str]], where: str) -> str:
    return f"<{name}" + "".join(f" {k}={_quoted(v, where)}" for k, v in attributes) + ">"


def _xml(text: str, where: str) -> str:
    if match := _NOT_XML.search(text):
        character = f"U+{ord(match.group()):04X}"
        raise DataError(f'document "{where}": XML cannot hold the character {character}; write JSONL instead')
    return escape(text, {"\r": "&#13;"})  # a bare CR would come back as LF


def _quoted(value: str, where: str) -> str:
    _xml(value, where)
    return quoteattr(value)
