"""How like real notes the bundled corpora are: measures of text and annotation, each beside its target band.

The bands of case reports come from JMED-LLM's 147 real ones (`CRNER.csv`: positive names, projected to every
occurrence) and, for certainties, from the counts of the official corpus (Shimizu et al. 2025); those of progress notes
from the paper's agreement sample and its Table 1. A corpus is compared with CRNER through `silver`, which gives it
CRNER's labels; measures that need no label are the same either way.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from statistics import mean, pstdev

import numpy as np
import pandas as pd

from nbutils.corpus import CERTAINTIES, Corpus, Document, Entity, lines
from nbutils.corpus.formats.jmed import project_strings
from nbutils.scoring.spans import exact_scores, partial_scores
from nbutils.taggers import crf
from nbutils.taggers.settings import CrfSettings

Band = tuple[float, float]
Fold = tuple[list[Document], list[Document]]  # training and test part
CR_BANDS: Mapping[str, Band] = {
    "entities per document, mean": (14, 18), "entities per document, CV": (0.35, 0.55), "entities per line": (1.0, 1.4),
    "characters per document, CV": (0.3, 0.45), "lines per document, SD": (3, 5), "line length, CV": (0.5, 0.7),
    "lines under 20 characters": (0.12, 0.22), "lines over 80 characters": (0.06, 0.12),
    "lines without an entity": (0.25, 0.4), "documents with 3 entity-free lines in a row": (0.25, 0.4),
    "entities of 10 or more characters": (0.10, 0.16), "entities with hiragana": (0.08, 0.14),
    "entity boundary inside a kanji run": (0.08, 0.15), "entity followed by hiragana": (0.70, 0.82),
    "repeated mentions in a document": (0.18, 0.3), "unseen mentions (8:2)": (0.6, 0.7),
    "entities that are exactly one script run": (0.55, 0.7), "F1 of a run-and-suffix rule": (0.3, 0.5),
    "share positive": (0.68, 0.76), "share negative": (0.08, 0.14), "share suspicious": (0.02, 0.06),
    "share general": (0.1, 0.16), "documents without suspicious": (0.4, 0.8), "documents without negative": (0.15, 0.5),
    "documents without general": (0.15, 0.5), "generic words per 10,000 characters": (32, 50),
    "procedure words per 10,000 characters": (38, 56), "therapy words per 10,000 characters": (40, 60),
    "TNM and grades per 10,000 characters": (9, 17), "CRF F1, exact": (0.55, 0.72),
    "CRF F1, partial minus exact": (0.07, 0.16), "CRF boundary errors, share of gold": (0.07, 0.14),
}  # fmt: skip
SILVER_BANDS: Mapping[str, Band] = {
    name: band for name, band in CR_BANDS.items() if not name.startswith(("share ", "documents without "))
} | {"entities per document, mean": (11, 16), "CRF F1, exact": (0.52, 0.62)}
PN_BANDS: Mapping[str, Band] = {
    "entities per document, mean": (7, 12), "entities per document, CV": (0.3, 0.6), "entities per line": (0.7, 1.1),
    "line length, CV": (0.6, 1.0), "lines per document, SD": (3, 6), "lines without an entity": (0.4, 0.55),
    "repeated mentions in a document": (0.15, 0.3), "unseen mentions (8:2)": (0.25, 0.4),
    "CRF F1, exact": (0.65, 0.8), "CRF F1, partial minus exact": (0.05, 0.12),
}  # fmt: skip
WORDS = {
    "generic words": "病変|病巣|所見|症状|異常|合併症|再発|再燃|原発巣|後遺症",
    "procedure words": "[一-龥]術|切除|摘出|吻合|造設|郭清|穿刺|ドレナージ|移植|留置",
    "therapy words": "療法|投与|内服|点滴|加療|治療",
    "TNM and grades": r"[cpy]?T[0-4]|[cpy]?N[0-3]|M[01]\b|[Ss]tage|Grade|[lL]y[0-3]|v[0-3]\b",
}
# Content characters between particles: kanji, katakana, Latin letters, digits and what joins them.
RUN = re.compile(r"[一-龥々〆ァ-ンーA-Za-z0-9０-９Ａ-Ｚａ-ｚα-ω．.\-－／/％%+＋]+")
N_FOLDS, CRF_ITERATIONS = 5, 40


def dashboard(corpus: Corpus, bands: Mapping[str, Band], *, n_crf: int = 0) -> pd.DataFrame:
    """Every measure of a corpus beside its band, and whether it lies inside; `n_crf` splits are scored with a CRF."""
    measures = text_measures(corpus) | entity_measures(corpus) | (crf_measures(corpus, n_crf) if n_crf else {})
    rows = [
        {"measure": name, "value": value, "band": "" if band is None else f"{band[0]:g}–{band[1]:g}",
         "inside": band is None or band[0] <= value <= band[1]}
        for name, value in measures.items()
        for band in [bands.get(name)]
    ]  # fmt: skip
    return pd.DataFrame(rows).set_index("measure")


def silver(corpus: Corpus) -> Corpus:
    """The corpus with CRNER's labels: positive names on every occurrence, neighbours behind a separator merged."""
    documents = []
    for d in corpus:
        names = {d.surface(e) for e in d.entities if e.certainty in ("positive", None)}
        merged: list[Entity] = []
        for e in project_strings(d.text, names):
            if merged and d.text[merged[-1].end : e.start] in ("", "、", "，", "・", ","):
                merged[-1] = replace(merged[-1], end=e.end)
            else:
                merged.append(e)
        documents.append(replace(d, entities=tuple(merged)))
    return replace(corpus, documents=tuple(documents))


def text_measures(corpus: Corpus) -> dict[str, float]:
    """Measures of lines, documents and words, most of them without a look at the annotation."""
    of_lines = [list(_lines(d)) for d in corpus]
    lengths = [len(text) for document in of_lines for text, _ in document]
    bare = ["".join("01"[bool(spans)] for _, spans in document) for document in of_lines]
    text = _one_to_one("".join(d.text for d in corpus))
    return {
        "characters per document, CV": _cv([len(d.text) for d in corpus]),
        "lines per document, SD": pstdev(map(len, of_lines)),
        "line length, CV": _cv(lengths),
        "lines under 20 characters": mean(n < 20 for n in lengths),
        "lines over 80 characters": mean(n > 80 for n in lengths),
        "lines without an entity": mean(flag == "0" for flags in bare for flag in flags),
        "documents with 3 entity-free lines in a row": mean("000" in flags for flags in bare),
    } | {
        f"{name} per 10,000 characters": 1e4 * len(re.findall(pattern, text)) / len(text)
        for name, pattern in WORDS.items()
    }


def entity_measures(corpus: Corpus) -> dict[str, float]:
    """Measures of entities: how many, how long, what stands around them, and how far a rule without context comes."""
    per_document = [len(d.entities) for d in corpus]
    surfaces = [d.surface(e) for d in corpus for e in d.entities]
    n_lines = sum(len(lines(d.text)) for d in corpus)
    inside = [any(_is_kanji(d.text[k - 1 : k + 1]) for k in (e.start, e.end) if k) for d in corpus for e in d.entities]
    after = [bool(re.match("[ぁ-ん]", d.text[e.end : e.end + 1])) for d in corpus for e in d.entities]
    repeated = [1 - len({d.surface(e) for e in d.entities}) / len(d.entities) for d in corpus if d.entities]
    folds = list(_folds(corpus))
    rules = [_run_rule(*fold) for fold in folds]
    certainty = {c: [sum(e.certainty == c for e in d.entities) for d in corpus] for c in CERTAINTIES}
    return {
        "entities per document, mean": mean(per_document),
        "entities per document, CV": _cv(per_document),
        "entities per line": len(surfaces) / n_lines,
        "entities of 10 or more characters": mean(len(s) >= 10 for s in surfaces),
        "entities with hiragana": mean(bool(re.search("[ぁ-ん]", s)) for s in surfaces),
        "entity boundary inside a kanji run": mean(inside),
        "entity followed by hiragana": mean(after),
        "repeated mentions in a document": mean(repeated),
        "unseen mentions (8:2)": mean(_unseen(*fold) for fold in folds),
        "entities that are exactly one script run": mean(share for share, _ in rules),
        "F1 of a run-and-suffix rule": mean(f1 for _, f1 in rules),
    } | {
        name: value
        for c, counts in certainty.items()
        for name, value in (
            (f"share {c}", sum(counts) / len(surfaces)),
            (f"documents without {c}", mean(not n for n in counts)),
        )
    }


def crf_measures(corpus: Corpus, n_splits: int) -> dict[str, float]:
    """In-domain F1 of the study's CRF, exact and by any overlap, and its boundary errors; mean over splits."""
    exact, overlap, boundary = [], [], []
    for train, test in list(_folds(corpus))[:n_splits]:
        found = crf.fit(train, CrfSettings(iterations=CRF_ITERATIONS), seed=0, progress=False).predict(test)
        exact.append(exact_scores(test, found).f1)
        overlap.append(partial_scores(test, found, "any").f1)
        missed = [
            any(p.start < e.end and e.start < p.end for p in prediction.entities)
            for d, prediction in zip(test, found, strict=True)
            for e in d.entities
            if e.key not in {p.key for p in prediction.entities}
        ]
        boundary.append(sum(missed) / sum(len(d.entities) for d in test))
    return {
        "CRF F1, exact": mean(exact),
        "CRF F1, partial minus exact": mean(overlap) - mean(exact),
        "CRF boundary errors, share of gold": mean(boundary),
    }


# --- parts -----------------------------------------------------------------------------------------------------------


def _lines(document: Document) -> Iterator[tuple[str, set[tuple[int, int]]]]:
    """Each line with the spans inside it, counted from its start."""
    for start, end in lines(document.text):
        spans = {(e.start - start, e.end - start) for e in document.entities if start <= e.start and e.end <= end}
        yield document.text[start:end], spans


def _folds(corpus: Corpus) -> Iterator[Fold]:
    """Five random splits 8:2 by document."""
    for seed in range(N_FOLDS):
        order = np.random.default_rng(seed).permutation(len(corpus))
        cut = len(corpus) // 5
        documents = [corpus.documents[k] for k in order]
        yield documents[cut:], documents[:cut]


def _unseen(train: Sequence[Document], test: Sequence[Document]) -> float:
    seen = {_one_to_one(d.surface(e)) for d in train for e in d.entities}
    return mean(_one_to_one(d.surface(e)) not in seen for d in test for e in d.entities)


def _run_rule(train: Sequence[Document], test: Sequence[Document]) -> tuple[float, float]:
    """Share of entities that are one run, and the F1 of marking a run when most runs with its ending were entities.

    The ending is the whole run, or its last three, two or one characters, whichever training has seen at least twice.
    """
    counts: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])
    for document in train:
        for text, spans in _lines(document):
            for run in RUN.finditer(text):
                for n in (99, 3, 2, 1):
                    counts[n, _one_to_one(run[0])[-n:]][run.span() in spans] += 1
    n_right = n_marked = n_gold = n_runs = 0
    for document in test:
        for text, spans in _lines(document):
            n_gold += len(spans)
            for run in RUN.finditer(text):
                n_runs += run.span() in spans
                votes = [counts.get((n, _one_to_one(run[0])[-n:]), [0, 0]) for n in (99, 3, 2, 1)]
                known = [v for v, least in zip(votes, (1, 2, 2, 2), strict=True) if sum(v) >= least] or votes[-1:]
                if known[0][1] > known[0][0]:
                    n_marked += 1
                    n_right += run.span() in spans
    return n_runs / n_gold, 2 * n_right / (n_marked + n_gold)


def _is_kanji(pair: str) -> bool:
    return re.fullmatch("[一-龥々]{2}", pair) is not None


def _cv(values: Sequence[float]) -> float:
    return pstdev(values) / mean(values)


def _one_to_one(text: str) -> str:
    """NFKC, one character for one."""
    return "".join(map(_folded, text))


@cache
def _folded(character: str) -> str:
    return unicodedata.normalize("NFKC", character)[:1] or character
