"""The second annotation of the bundled corpora: is it whole and of the same texts, and does it agree with the first?

Knows two annotations of the same documents. Not the guideline: the second annotation is distributed as it was made, so
what it does against a rule is disagreement, which is counted and never mended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pandas as pd

from nbutils.analysis.agreement import agreement_table
from nbutils.analysis.exploration import certainty_table
from nbutils.corpus import Corpus, lines, paired, problems
from nbutils.corpus.formats import CERTAINTIES

# How much was annotated again; a smaller corpus must be covered as far as it goes.
NOTES_A_PHYSICIAN = 3  # of ten physicians: thirty notes
REPORTS = 15


def second_annotation_faults(first: Mapping[str, Corpus], second: Mapping[str, Corpus]) -> list[str]:
    """Everything that makes the second annotation of CR and PN unfit for a comparison with the first, by sentences."""
    found = [sentence for corpus in second.values() for sentence in span_faults(corpus)]
    for name, corpus in second.items():
        found += text_faults(first[name], corpus)
    return found + report_coverage_faults(first["CR"], second["CR"]) + note_coverage_faults(first["PN"], second["PN"])


def span_faults(second: Corpus) -> list[str]:
    """Entities that lie badly in their text, or have no certainty."""
    found = []
    for document in second:
        found += [f"second annotation: {sentence}" for sentence in problems(document, labels={"d"})]
        found += [
            f'second annotation: document "{document.id}": the entity "{document.surface(entity)}" has no certainty; '
            "ask its annotator for one"
            for entity in document.entities
            if entity.certainty not in CERTAINTIES
        ]
    return found


def text_faults(first: Corpus, second: Corpus) -> list[str]:
    """Documents that the first annotation has not, or has with another text."""
    texts = {d.id: d.text for d in first}
    return [
        f'second annotation: document "{d.id}" has another text than the first annotation\'s; restore its text'
        if d.id in texts
        else f'second annotation: document "{d.id}" is not in the first annotation; remove it'
        for d in second
        if texts.get(d.id) != d.text
    ]


def report_coverage_faults(first: Corpus, second: Corpus) -> list[str]:
    wanted = min(REPORTS, len(first))
    few = f"second annotation: {len(second)} case reports; at least {wanted} are wanted"
    return [few] if len(second) < wanted else []


def note_coverage_faults(first: Corpus, second: Corpus) -> list[str]:
    """Physicians with fewer notes than wanted, and cases without any; who wrote a note, the first annotation says."""
    meta = {d.id: d.meta for d in first}
    again = [meta[d.id] for d in second if d.id in meta]
    notes = Counter(m.get("physician", "") for m in again)
    of_each = Counter(m.get("physician", "") for m in meta.values())
    found = [
        f"second annotation: {notes[physician]} notes of {physician}; at least {wanted} are wanted"
        for physician, n in sorted(of_each.items())
        if notes[physician] < (wanted := min(NOTES_A_PHYSICIAN, n))
    ]
    missing = sorted({m.get("case", "") for m in meta.values()} - {m.get("case", "") for m in again})
    return found + [f"second annotation: no note on {case}; every case is wanted" for case in missing]


def second_table(first: Mapping[str, Corpus], second: Mapping[str, Corpus]) -> pd.DataFrame:
    """Counts of both annotations on the documents that both have, and their agreement; one column a corpus.

    F1 comes with its 95 % interval over documents (`agreement.agreement_table`).

    Raises:
        ValueError: a document of the second annotation is not in the first, or has another text there.
    """
    certainty = certainty_table(second.values())
    columns = {}
    for name, corpus in second.items():
        pairs = paired(first[name], corpus)
        physicians, cases = ({a.meta[key] for a, _ in pairs if key in a.meta} for key in ("physician", "case"))
        agreement = agreement_table(pairs)
        columns[name] = {
            "documents annotated twice": f"{len(pairs)}",
            "physicians": f"{len(physicians) or '—'}",
            "cases": f"{len(cases) or '—'}",
            "lines": f"{sum(len(lines(b.text)) for _, b in pairs):,}",
            "entities, first annotation": f"{agreement['entities of first'].iloc[0]:,}",
            "entities, second annotation": f"{agreement['entities of second'].iloc[0]:,}",
            **{f"second's entities, {kind}": f"{n:,}" for kind, n in certainty[name].items()},
            **{f"matched, {kind}": f"{n:,}" for kind, n in agreement["matched"].items()},
            **{
                f"F1, {kind}": f"{row['F1']:.3f} ({row['F1, 95 % from']:.3f}–{row['F1, 95 % to']:.3f})"
                for kind, row in agreement.iterrows()
            },
        }
    return pd.DataFrame(columns)
