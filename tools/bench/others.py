"""Reading damaged answers, scoring and resampling beside other libraries and plain ways."""

from __future__ import annotations

import difflib
import random
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

from nbutils import ROOT
from nbutils.corpus import Document, Entity, Prediction
from nbutils.corpus.formats import read_corpus
from nbutils.prompting import markup
from nbutils.scoring.spans import exact_scores
from tools.bench import Table
from tools.bench.decoding import annotated_lines

DAMAGES: dict[str, Callable[[str, random.Random], str]] = {  # of one character
    "none": lambda c, rng: c,
    "2 % of the characters lost": lambda c, rng: "" if rng.random() < 0.02 else c,
    "2 % replaced": lambda c, rng: rng.choice("のにはをがと") if rng.random() < 0.02 else c,
    "2 % doubled": lambda c, rng: c + c if rng.random() < 0.02 else c,
    "widths made uniform": lambda c, rng: unicodedata.normalize("NFKC", c),
}


def reading(notes: int, progress: Callable[[str], None] = print) -> Table:
    """F1 of the entities that are read back from damaged copies of annotated notes, by kind of damage, and seconds.

    Two aligners stand beside ours: difflib of the standard library and, where installed, rapidfuzz (insertions and
    deletions). With these, tags are cut out, what is left is aligned with the note, and an entity reaches from the
    first to the last character between its tags that the note has.
    """
    documents = read_corpus(ROOT / "data" / "cr").documents
    documents = documents[:: max(len(documents) // notes, 1)][:notes]
    readers: dict[str, Callable[[str, str], Sequence[Entity]]] = {
        "nbutils.prompting.markup": lambda text, answer: markup.read(text, answer).entities,
        "difflib": partial(_read_by, _difflib),
    }
    if find_spec("rapidfuzz") is not None:
        readers["rapidfuzz"] = partial(_read_by, _rapidfuzz)
    else:
        progress("reading, rapidfuzz: not measured, since it is not installed")
    table: Table = []
    for name_of_damage, damage in DAMAGES.items():
        rng = random.Random(0)
        answers = [_damaged(markup.write(d.text, d.entities), damage, rng) for d in documents]
        for name, read in readers.items():
            begin = time.perf_counter()
            entities = [tuple(read(d.text, answer)) for d, answer in zip(documents, answers, strict=True)]
            seconds = time.perf_counter() - begin
            predictions = [Prediction(d.id, e) for d, e in zip(documents, entities, strict=True)]
            table.append({"damage": name_of_damage, "method": name, "notes": len(documents), "seconds": seconds,
                          "F1 (%)": 100 * exact_scores(documents, predictions).f1})  # fmt: skip
            progress(f"reading, {name_of_damage}, {name}: F1 {table[-1]['F1 (%)']:.1f} in {seconds:.1f} s")
    return table


def _damaged(answer: str, damage: Callable[[str, random.Random], str], rng: random.Random) -> str:
    """An answer whose text, never its tags, has suffered."""
    parts = re.split(r"(</?d>)", answer)
    return "".join(part if k % 2 else "".join(damage(c, rng) for c in part) for k, part in enumerate(parts))


def _read_by(align: Callable[[str, str], list[int | None]], text: str, answer: str) -> list[Entity]:
    """The entities of an answer by an alignment: for each character of the answer its place in the text, or None."""
    parts = re.split(r"(</?d>)", answer)
    place = align(text, "".join(parts[::2]))
    entities, at, begin = [], 0, None
    for k, part in enumerate(parts):
        if k % 2 == 0:
            at += len(part)
        elif part == "<d>":
            begin = at
        elif begin is not None:
            known = [n for n in place[begin:at] if n is not None]
            entities += [Entity(known[0], known[-1] + 1)] if known else []
            begin = None
    return entities


def _difflib(text: str, written: str) -> list[int | None]:
    blocks = difflib.SequenceMatcher(None, text, written, autojunk=False).get_matching_blocks()
    return _places(len(written), ((a, b, n) for a, b, n in blocks))


def _rapidfuzz(text: str, written: str) -> list[int | None]:
    from rapidfuzz.distance import Indel

    equal = (step for step in Indel.opcodes(text, written) if step.tag == "equal")
    return _places(len(written), ((s.src_start, s.dest_start, s.src_end - s.src_start) for s in equal))


def _places(length: int, blocks: Iterable[tuple[int, int, int]]) -> list[int | None]:
    places: list[int | None] = [None] * length
    for a, b, n in blocks:
        places[b : b + n] = range(a, a + n)
    return places


def scoring(sentences: int, progress: Callable[[str], None] = print) -> Table:
    """Seconds to score the same gold and predicted entities with ours, seqeval (strict) and nervaluate; and the counts.

    Each gets its own kind of input, made before the clock starts: entities, BIO labels, or dictionaries.
    """
    gold, predicted = sample(sentences)
    table: Table = []
    for name, method, convert in (
        ("nbutils.scoring.spans", _ours, lambda sides: sides),
        ("seqeval (strict)", _seqeval, lambda sides: [_bio([d.text for d in gold], side) for side in sides]),
        ("nervaluate", _nervaluate, lambda sides: [_dicts(side) for side in sides]),
    ):
        sides = convert((gold, predicted))
        begin = time.perf_counter()
        counts = method(*sides)
        seconds = time.perf_counter() - begin
        table.append({"method": name, "sentences": sentences, "seconds": seconds, "matched": counts[0],
                      "predicted": counts[1], "gold": counts[2]})  # fmt: skip
        progress(f"scoring, {name}: {seconds:.1f} s for {sentences} sentences, matched {counts[0]}")
    for row in table:
        row["time over ours"] = row["seconds"] / table[0]["seconds"]
        row["equal counts"] = all(row[k] == table[0][k] for k in ("matched", "predicted", "gold"))
    return table


def sample(sentences: int, seed: int = 0) -> tuple[list[Document], list[Prediction]]:
    """Lines of the bundled case reports, again and again, and predictions that miss, move and invent some entities."""
    rng = random.Random(seed)
    lines = annotated_lines("cr")
    documents, predictions = [], []
    for k in range(sentences):
        text, entities = lines[k % len(lines)]
        documents.append(Document(str(k), text, tuple(entities)))
        kept = [e for e in entities if rng.random() > 0.2]
        moved = [Entity(e.start, e.end - 1) if rng.random() < 0.2 and e.end - e.start > 1 else e for e in kept]
        free = max((e.end for e in entities), default=0)
        invented = [Entity(free, free + 1)] if free < len(text) and rng.random() < 0.3 else []
        predictions.append(Prediction(str(k), (*moved, *invented)))
    return documents, predictions


def _ours(gold: Sequence[Document], predicted: Sequence[Prediction]) -> tuple[int, int, int]:
    s = exact_scores(gold, predicted)
    return int(s.matched_gold), s.n_predicted, s.n_gold


def _bio(texts: Sequence[str], side: Sequence[Document | Prediction]) -> list[list[str]]:
    """One label a character."""
    rows = []
    for text, row in zip(texts, side, strict=True):
        labels = ["O"] * len(text)
        for e in row.entities:
            labels[e.start : e.end] = ["B-d"] + ["I-d"] * (e.end - e.start - 1)
        rows.append(labels)
    return rows


def _seqeval(gold: list[list[str]], predicted: list[list[str]]) -> tuple[int, int, int]:
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2

    p, r, _, n_gold = precision_recall_fscore_support(gold, predicted, average="micro", scheme=IOB2)
    matched = round(r * n_gold)
    return matched, round(matched / p), int(n_gold)


def _dicts(side: Sequence[Document | Prediction]) -> list[list[dict[str, Any]]]:
    """nervaluate's ends are inclusive."""
    return [[{"label": e.label, "start": e.start, "end": e.end - 1} for e in row.entities] for row in side]


def _nervaluate(gold: list[list[dict]], predicted: list[list[dict]]) -> tuple[int, int, int]:
    from nervaluate.evaluator import Evaluator

    counts = Evaluator(gold, predicted, tags=["d"], loader="dict").evaluate()["overall"]["strict"]
    return counts.correct, counts.actual, counts.possible


def bootstrapping(n_boot: int = 1000) -> Table:
    """Seconds for `n_boot` two-way bootstrap replicates of F1 on 100 notes and 3 seeds: ours beside a plain loop.

    The loop draws notes, sums their counts and divides, a replicate at a time, as one would write it down.
    """
    import numpy as np

    from nbutils.scoring.evaluation import Evaluation
    from nbutils.scoring.resampling import bootstrap
    from tools.interval_coverage import crossed_notes, simulated

    notes = Evaluation(crossed_notes(), simulated(np.random.default_rng(0), np.zeros((3, 100))))
    begin = time.perf_counter()
    bootstrap(notes, n_boot=n_boot)
    ours_seconds = time.perf_counter() - begin
    rng, cells = np.random.default_rng(0), notes.counts.reshape(3, 10, 10, 3).tolist()
    begin = time.perf_counter()
    for _ in range(n_boot):
        rows, columns = rng.integers(0, 10, 10).tolist(), rng.integers(0, 10, 10).tolist()
        for seed in cells:
            drawn = [seed[row][column] for row in rows for column in columns]
            m, p, g = (sum(counts[k] for counts in drawn) for k in range(3))
            2 * m / (p + g)
    loop_seconds = time.perf_counter() - begin
    return [
        {"method": name, "replicates": n_boot, "notes": 100, "seeds": 3, "seconds": seconds,
         "time over ours": seconds / ours_seconds}
        for name, seconds in (("scoring.resampling", ours_seconds), ("plain loop", loop_seconds))
    ]  # fmt: skip
