"""Notes and the entities in them: plain data that every other package passes around."""

from nbutils.corpus.documents import (
    Corpus,
    Document,
    Entity,
    Prediction,
    cut_to,
    entities_within,
    fingerprint,
    lines,
    paired,
    private_by_text,
    problems,
    same_words_hash,
    sentence_spans,
    text_hash,
    without_overlaps,
)
from nbutils.corpus.types import (
    CERTAINTIES,
    MEDTXT_TAGS,
    UNMARKED,
    WITHOUT_CERTAINTY,
    entity_types,
    select,
    separated,
    spans_only,
)

__all__ = [
    "CERTAINTIES", "MEDTXT_TAGS", "UNMARKED", "WITHOUT_CERTAINTY", "Corpus", "Document", "Entity", "Prediction",
    "cut_to", "entities_within", "entity_types", "fingerprint", "lines", "paired", "private_by_text", "problems",
    "same_words_hash", "select", "sentence_spans", "separated", "spans_only", "text_hash",
    "without_overlaps",
]  # fmt: skip
