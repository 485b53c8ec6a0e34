"""What a run found, as suggestions in an annotation tool: each tool's own import form, with scores where it can.

The annotator corrects them there; what comes back is read by the format of the same name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import quoteattr

from nbutils.corpus import CERTAINTIES, Corpus, Document, Entity
from nbutils.corpus.formats import write_corpus
from nbutils.corpus.formats.labelstudio import write_labelstudio_predictions
from nbutils.files import DataError, write_whole

TOOLS = ("labelstudio", "doccano", "brat")


def write_suggestions(notes: Sequence[Document], tool: str, out: Path, model_version: str) -> Path:
    """Write the notes with their entities as suggestions into a folder; the file or folder to import.

    Label Studio: tasks with `predictions`, and the labelling configuration that they fit. doccano: JSONL with `label`;
    it has no certainties, which become part of the label (`d-negative`), and no score of an entity, so the lowest of a
    note stands in its meta. brat: .txt with .ann, scores as notes of the annotator, and `annotation.conf`. All files
    are their owner's alone (mode 600).

    Raises:
        DataError: no such tool, what it cannot hold, or a brat folder that is there already.
    """
    if tool not in TOOLS:
        raise DataError(f'there are no suggestions for "{tool}"; use AS={", AS=".join(TOOLS)}')
    if not notes:
        raise DataError("there is no note to write suggestions for")
    corpus = Corpus("suggestions", tuple(map(_without_attributes, notes)), private=True)
    labels = sorted({e.label for note in notes for e in note.entities})
    if tool == "brat":
        path = out / "brat"
        write_corpus(corpus, path, "brat")
        write_whole(path / "annotation.conf", _brat_configuration(labels), private=True)
    elif tool == "doccano":
        path = out / "suggestions.doccano.jsonl"
        write_corpus(replace(corpus, documents=tuple(map(_for_doccano, corpus))), path, "doccano")
    else:
        path = out / "suggestions.labelstudio.json"
        write_labelstudio_predictions(corpus, path, model_version)
        write_whole(out / "labelstudio.xml", _labelstudio_configuration(labels), private=True)
    print(f"{len(notes):,} notes with suggestions for {tool}: {path}")
    return path


def _without_attributes(note: Document) -> Document:
    """A code is looked up again; no tool has a place for it that is not configured first."""
    return replace(note, entities=tuple(replace(e, attributes=()) for e in note.entities))


def _for_doccano(note: Document) -> Document:
    scores = [e.score for e in note.entities if e.score is not None]
    meta = {**note.meta, "lowest_score": f"{min(scores):.3f}"} if scores else note.meta
    plain = [Entity(e.start, e.end, f"{e.label}-{e.certainty}" if e.certainty else e.label) for e in note.entities]
    return replace(note, entities=tuple(plain), meta=meta)


def _labelstudio_configuration(labels: Sequence[str]) -> str:
    def tags(name: str, values: Sequence[str]) -> str:
        return "".join(f"    <{name} value={quoteattr(value)}/>\n" for value in values)

    return (
        f'<View>\n  <Labels name="label" toName="text">\n{tags("Label", labels)}  </Labels>\n'
        '  <Text name="text" value="$text"/>\n'
        f'  <Choices name="certainty" toName="text" perRegion="true">\n{tags("Choice", CERTAINTIES)}  </Choices>\n'
        "</View>\n"
    )


def _brat_configuration(labels: Sequence[str]) -> str:
    entities = "\n".join(labels)
    certainty = f"certainty\tArg:<ENTITY>, Value:{'|'.join(CERTAINTIES)}"
    return f"[entities]\n{entities}\n\n[relations]\n\n[events]\n\n[attributes]\n{certainty}\n"
