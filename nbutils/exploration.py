"""How far apart corpora are before any model sees them: lengths, shared vocabulary, unseen entities (notebook 01)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import permutations

import pandas as pd

from nbutils.corpus import Corpus, lines, unseen_rate


def line_lengths(corpus: Corpus) -> list[int]:
    """Characters of every non-blank line."""
    return [end - start for d in corpus for start, end in lines(d.text)]


def entity_lengths(corpus: Corpus) -> list[int]:
    """Characters of every entity."""
    return [e.end - e.start for d in corpus for e in d.entities]


def length_table(corpora: Iterable[Corpus]) -> pd.DataFrame:
    """Quartiles of line and entity lengths in characters, one row a corpus and kind."""
    rows = {}
    for corpus in corpora:
        for what, lengths in (("line", line_lengths(corpus)), ("entity", entity_lengths(corpus))):
            rows[corpus.name, what] = pd.Series(lengths, dtype=float).describe()[
                ["count", "mean", "min", "25%", "50%", "75%", "max"]
            ]
    table = pd.DataFrame(rows).T
    table.index.names = ["corpus", "length in characters of a"]
    return table


def overlap_table(corpora: Mapping[str, Corpus]) -> pd.DataFrame:
    """For each ordered pair of corpora, the share of entity mentions of the second unseen in the first."""
    rows = [
        {"trained on": a, "tested on": b, "unseen-entity rate": unseen_rate(corpora[a], corpora[b])}
        for a, b in permutations(corpora, 2)
    ]
    return pd.DataFrame(rows, columns=["trained on", "tested on", "unseen-entity rate"]).set_index(
        ["trained on", "tested on"]
    )


def vocabulary_overlap(corpora: Mapping[str, Corpus]) -> pd.DataFrame:
    """For each ordered pair, the share of character and bigram tokens of the second that the first has at all."""
    grams = {name: (_grams(c, 1), _grams(c, 2)) for name, c in corpora.items()}
    shares = {"characters, share known": 0, "character bigrams, share known": 1}
    rows = []
    for a, b in permutations(corpora, 2):
        row = {"known in": a, "text of": b}
        for column, n in shares.items():
            known = set(grams[a][n])
            row[column] = sum(g in known for g in grams[b][n]) / max(len(grams[b][n]), 1)
        rows.append(row)
    return pd.DataFrame(rows, columns=["known in", "text of", *shares]).set_index(["known in", "text of"])


def _grams(corpus: Corpus, n: int) -> list[str]:
    texts = [d.text[s:e] for d in corpus for s, e in lines(d.text)]
    return [t[k : k + n] for t in texts for k in range(len(t) - n + 1)]
