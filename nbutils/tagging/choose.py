"""Which notes a person should annotate next: where a run expects to do worst, spread over authors, no near-copies.

`choose` works on tagged notes (entities with scores); `write_choice` on what `tag` left in a folder.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nbutils.corpus import Document
from nbutils.files import DataError, written_whole
from nbutils.privacy import NAMES
from nbutils.tagging.job import documents_of

WAYS = ("expected", "random")
SPREAD = tuple(key for key in NAMES if key not in ("patient", "case"))  # hospital first, author last
NEAR_COPY = 0.6  # Jaccard similarity of character trigrams; a note copied forward with a changed line has some 0.8
_GRAM = 3  # characters


@dataclass(frozen=True)
class Choice:
    """One note to annotate: which, the F1 that the run expects on it (0 … 1), and why it was chosen."""

    note: Document
    expected_f1: float
    why: str


def expected_f1(notes: Sequence[Document]) -> np.ndarray:
    """The F1 that a run's own scores promise on each note: (2·tp + 1) / (predicted + gold + 1), between 0 and 1.

    tp is the sum of the entities' scores. How many names a note really holds is unknown: at least tp, and as many as
    its length lets expect (predicted entities per character over all these notes). So a long note in which nothing was
    found comes first, and the 1, a name's worth of doubt, keeps a short one ("no change") from doing so. The numbers
    order notes; they estimate nothing, since scores are overconfident on other hospitals' notes.

    Raises:
        DataError: entities without scores, of a system that gives none.
    """
    if any(e.score is None for note in notes for e in note.entities):
        raise DataError("this system gives its entities no scores, so no F1 can be expected; choose with BY=random")
    tp = np.array([sum(e.score for e in note.entities) for note in notes], dtype=float)
    predicted = np.array([len(note.entities) for note in notes], dtype=float)
    characters = np.array([len("".join(note.text.split())) for note in notes], dtype=float)
    gold = np.maximum(tp, characters * predicted.sum() / max(characters.sum(), 1))
    return (2 * tp + 1) / (predicted + gold + 1)


def choose(notes: Sequence[Document], k: int, by: str = "expected", seed: int = 0) -> list[Choice]:
    """The `k` notes to annotate next, in this order; fewer where there are no more.

    `expected`: each time the note of the hospital (site, ward, physician, author …) of which the fewest have been
    chosen, of those the one of least expected F1; notes that are nearly a copy of a chosen one are left out. `random`:
    a plain draw, the only one from which the score on all notes can be estimated.

    Raises:
        DataError: a way that is not known, or no scores to choose by.
    """
    if by == "random":
        drawn = np.random.default_rng(seed).permutation(len(notes))[:k]
        return [Choice(notes[n], float("nan"), f"drawn at random, seed {seed}") for n in drawn]
    if by != "expected":
        raise DataError(f'there is no way to choose notes by "{by}"; use one of {", ".join(WAYS)}')
    f1 = expected_f1(notes)
    keys = [key for key in SPREAD if any(note.meta.get(key) for note in notes)]
    taken: Counter[tuple[str, str]] = Counter()
    left, chosen, grams = set(range(len(notes))), [], []
    while left and len(chosen) < k:
        best = min(left, key=lambda n: (*(taken[key, notes[n].meta.get(key, "")] for key in keys), f1[n], n))
        left.remove(best)
        own = _grams(notes[best].text)
        if any(len(own & other) / len(own | other) >= NEAR_COPY for other in grams):
            continue
        grams.append(own)
        taken.update((key, notes[best].meta.get(key, "")) for key in keys)
        chosen.append(Choice(notes[best], float(f1[best]), _why(notes[best])))
    return chosen


def _why(note: Document) -> str:
    if not note.entities:
        return "no name found"
    weak = sum(e.score < 0.5 for e in note.entities)
    return f"{weak} of {len(note.entities)} names with a score below 0.5"


def _grams(text: str) -> frozenset[str]:
    text = "".join(text.split())
    return frozenset(text[k : k + _GRAM] for k in range(max(len(text) - _GRAM + 1, 1)))


def tagged_notes(out: Path) -> list[Document]:
    """What `tag` left in a folder."""
    return list(documents_of([out / "tagged.jsonl"]))


def write_choice(out: Path, k: int, by: str = "expected", seed: int = 0) -> list[Choice]:
    """Choose among the tagged notes in a folder, write `next.csv` beside them, and print it; no text of a note."""
    notes = tagged_notes(out)
    chosen = choose(notes, k, by, seed)
    keys = [key for key in SPREAD if any(c.note.meta.get(key) for c in chosen)]
    rows = [["rank", "id", "expected_f1", "names_found", "characters", *keys, "why"]]
    for rank, c in enumerate(chosen, 1):
        f1 = "" if np.isnan(c.expected_f1) else f"{100 * c.expected_f1:.1f}"
        facts = [c.note.meta.get(key, "") for key in keys]
        rows.append([rank, c.note.id, f1, len(c.note.entities), len(c.note.text), *facts, c.why])
    with written_whole(out / "next.csv", private=True) as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    for row in rows:
        print("  ".join(map(str, row)))
    print(f"{len(chosen)} of {len(notes):,} notes to annotate next: {out}/next.csv")
    return chosen
