"""MedTxt XML, the form of the paper's corpora: inline tags in <article>s.

Knows XML without document types and entities, so that nothing is expanded and nothing fetched.
"""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from nbutils.corpus import CERTAINTIES, MEDTXT_TAGS, Corpus, Document, Entity, problems
from nbutils.corpus.formats.reading import Read, Reading
from nbutils.files import DataError, bytes_of, decoded, written_whole

STRUCTURE = {"article": "articles", "articles": "root", "metadata": "root", "root": None}
MEDTXT_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<root><articles>\n'
MEDTXT_TAIL = "</articles></root>\n"
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def read_medtxt(path: Path, how: Reading) -> Read:
    """Documents and metadata of a MedTxt XML file; text and offsets are exactly those between the article's tags.

    Document types and entities are refused, so that nothing is expanded and nothing fetched. Line ends become LF,
    as XML 1.0 (2.11) prescribes.
    """
    data = bytes_of(path)
    text = decoded(path, data, how.encoding) if how.encoding else _xml_text(path, data)
    return Read(*_MedTxtReader(path).read(text))


def _xml_text(path: Path, data: bytes) -> str:
    """The characters of an XML file by its byte-order mark, else by its declaration, else UTF-8 (XML 1.0, app. F)."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return decoded(path, data, "utf-16")
    if data.startswith(codecs.BOM_UTF8):
        return decoded(path, data, "utf-8")
    declared = re.match(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._:-]+)["']""", data)
    return decoded(path, data, declared.group(1).decode("ascii") if declared else "utf-8")


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
            self.fail("text outside an article; move it into one")


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
