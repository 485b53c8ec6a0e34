"""How far apart corpora are before any model sees them: lengths, shared vocabulary, unseen entities (notebook 01)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import permutations

import pandas as pd

from nbutils.analysis.paper import paper_table
from nbutils.corpus import UNMARKED, Corpus, lines
from nbutils.privacy import shown, shown_fact


def line_lengths(corpus: Corpus) -> list[int]:
    """Characters of every non-blank line."""
    return [end - start for d in corpus for start, end in lines(d.text)]


def entity_lengths(corpus: Corpus) -> list[int]:
    """Characters of every entity."""
    return [e.end - e.start for d in corpus for e in d.entities]


def length_table(corpora: Iterable[Corpus]) -> pd.DataFrame:
    """Quartiles of line and entity lengths in characters, one row per corpus and kind."""
    rows = {}
    for corpus in corpora:
        for what, lengths in (("line", line_lengths(corpus)), ("entity", entity_lengths(corpus))):
            rows[corpus.name, what] = pd.Series(lengths, dtype=float).describe().drop("std")
    table = pd.DataFrame(rows).T.rename_axis(["corpus", "length (characters) of"])
    return table.astype(dict.fromkeys(["count", "min", "max"], "Int64"))


def overlap_table(corpora: Mapping[str, Corpus]) -> pd.DataFrame:
    """For each ordered pair of corpora, the share of entity mentions of the second unseen in the first."""
    keys = ["trained on", "tested on"]
    rows = [(a, b, unseen_rate(corpora[a], corpora[b])) for a, b in permutations(corpora, 2)]
    return pd.DataFrame(rows, columns=[*keys, "unseen-entity rate"]).set_index(keys)


def answer(corpora: Mapping[str, Corpus]) -> str:
    """The question of notebook 01 answered in Markdown: what share of a corpus's mentions another has never named."""
    if len(corpora) == 1:
        return "There is one corpus, so there is no other kind of notes to set it beside."
    rates = overlap_table(corpora)["unseen-entity rate"]
    said = [
        f"- {rate:.0%} of the entity mentions in {test} are unseen in {known}." for (known, test), rate in rates.items()
    ]
    return "\n".join(said)


def vocabulary_overlap(corpora: Mapping[str, Corpus]) -> pd.DataFrame:
    """For each ordered pair, the share of character and bigram tokens of the second that the first has at all."""
    grams = {name: (_grams(c, 1), _grams(c, 2)) for name, c in corpora.items()}
    rows = []
    for a, b in permutations(corpora, 2):
        known = [(set(first), second) for first, second in zip(grams[a], grams[b], strict=True)]
        rows.append((a, b, *(sum(g in first for g in second) / max(len(second), 1) for first, second in known)))
    keys, shares = ["known in", "text of"], ["characters, share known", "character bigrams, share known"]
    return pd.DataFrame(rows, columns=[*keys, *shares]).set_index(keys)


def _grams(corpus: Corpus, n: int) -> list[str]:
    texts = [d.text[s:e] for d in corpus for s, e in lines(d.text)]
    return [t[k : k + n] for t in texts for k in range(len(t) - n + 1)]


def statistics(corpora: Iterable[Corpus]) -> pd.DataFrame:
    """One row per corpus: documents, lines, characters, entities and their mean length in characters."""
    rows = []
    for corpus in corpora:
        surfaces = [d.surface(e) for d in corpus for e in d.entities]
        n_lines = sum(len(lines(d.text)) for d in corpus)
        rows.append(
            {"corpus": corpus.name, "documents": len(corpus), "lines": n_lines}
            | {"characters": sum(len(d.text) for d in corpus), "entities": len(surfaces)}
            | {"entities per document": len(surfaces) / max(len(corpus), 1)}
            | {"entities per line": len(surfaces) / max(n_lines, 1), "distinct surfaces": len(set(surfaces))}
            | {"mean entity length (characters)": sum(map(len, surfaces)) / max(len(surfaces), 1)}
        )
    return pd.DataFrame(rows).set_index("corpus")


def certainty_table(corpora: Iterable[Corpus]) -> pd.DataFrame:
    """Entities by certainty, one column per corpus; an unmarked certainty is its own row."""
    counts = {c.name: Counter(e.certainty or UNMARKED for d in c for e in d.entities) for c in corpora}
    return pd.DataFrame(counts).fillna(0).astype(int).sort_index()


def top_entities(corpus: Corpus, by: str = "case", n: int = 3) -> pd.DataFrame:
    """The `n` most frequent surfaces of each group of documents, one row each (Table 1 of the paper groups by case)."""
    groups: dict[str, Counter[str]] = {}
    titles: dict[str, str] = {}
    for document in corpus:
        group = shown_fact(document, by)
        document = shown(document)
        titles.setdefault(group, document.meta.get("title", ""))
        groups.setdefault(group, Counter()).update(document.surface(e) for e in document.entities)
    rows = []
    for group in sorted(groups):
        most = sorted(groups[group].items(), key=lambda item: (-item[1], item[0]))[:n]
        rows.append((group, titles[group], ", ".join(f"{surface} ({count})" for surface, count in most)))
    return pd.DataFrame(rows, columns=[by, "title", "most frequent entities (n)"])


def papers_cases() -> pd.DataFrame:
    """Table 1 of the paper without the rows of which our copy has nothing but a frequency."""
    table = paper_table(1)
    table = table[(table.iloc[:, :4] != "").any(axis=1)].reset_index(drop=True)
    return table.rename(columns={"title_en": "title in English", "entity_en": "entity in English"})


def unseen_rate(train: Corpus, test: Corpus) -> float:
    """Share of the test corpus' entity mentions whose surface is no entity of the training corpus; nan without any."""
    known = {d.surface(e) for d in train for e in d.entities}
    mentions = [d.surface(e) for d in test for e in d.entities]
    return sum(s not in known for s in mentions) / len(mentions) if mentions else float("nan")
