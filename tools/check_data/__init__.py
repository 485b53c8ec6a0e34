"""The bundled corpora held against their rules and set beside real notes: `python -m tools.check_data`.

What a program can decide about the form of the files is checked and fails. How like real notes they are
(`dashboard`), how far the two annotators agree (`annotators`) and which places look uneven (`places`) is printed.
"""

from __future__ import annotations

import argparse
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from nbutils import ROOT
from nbutils.analysis.exploration import certainty_table, statistics
from nbutils.corpus import CERTAINTIES, Corpus, Document, lines, problems
from nbutils.corpus.formats import read_corpus
from nbutils.files import DataError
from tools.check_data.annotators import Layers, agreement_summary, layer_faults
from tools.check_data.dashboard import PN_BANDS, SILVER_BANDS, dashboard, silver
from tools.check_data.places import doubtful_certainties, untagged_strings

PAPER_FIGURES = {"CR": {"documents": 148, "lines": 1898}, "PN": {"documents": 100, "lines": 1094}}
FEWEST = 10  # documents that the measures need
STYLE_BAND = (0.5, 0.75)  # of the notes whose physician is told by the style of writing; chance is 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the bundled corpora, print how like real notes they are and how the annotators agree; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.check_data", description=main.__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="the folder with cr/, pn/, cr-first/ …")
    parser.add_argument("--crf", type=int, default=0, metavar="N", help="also score a CRF on N random splits")
    chosen = parser.parse_args(arguments)
    try:
        corpora = {name: read_corpus(chosen.data / name.lower(), name=name) for name in PAPER_FIGURES}
        layers = {name: _layers(chosen.data, name) for name in PAPER_FIGURES}
        faults = violations(corpora, layers)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    if faults:
        print(f"{len(faults)} violations", *faults, sep="\n", file=sys.stderr)
        return 1
    print(f"{figures_table(corpora.values()).to_string()}\n\nTwo annotators, before adjudication")
    print(agreement_summary(layers).to_string())
    for name, corpus, bands in (("CR with the labels of CRNER", silver(corpora["CR"]), SILVER_BANDS),
                                ("PN", corpora["PN"], PN_BANDS)):  # fmt: skip
        if len(corpus) >= FEWEST:
            print(f"\n{name}\n{_shown(dashboard(corpus, bands, n_crf=chosen.crf))}")
    low, high = STYLE_BAND
    print(f"\nphysician told by character n-grams, leave one case out: {style_accuracy(corpora['PN']):.2f} "
          f"(band {low:g}–{high:g}, chance 0.10)")  # fmt: skip
    for name, corpus in corpora.items():
        print(f"{name}: {len(untagged_strings(corpus.documents)):,} places where a string stands untagged that is an "
              f"entity elsewhere, {len(doubtful_certainties(corpus)):,} certainties that the words beside them seem to "
              "contradict, to be read by a person")  # fmt: skip
    print("\nThe files obey their rules.")
    return 0


def violations(corpora: Mapping[str, Corpus], layers: Mapping[str, Layers]) -> list[str]:
    """Every broken rule of form of the corpora CR and PN and of their annotators' layers, one sentence each."""
    faults = [sentence for corpus in corpora.values() for d in corpus for sentence in document_faults(d)]
    faults += case_report_faults(corpora["CR"]) + progress_note_faults(corpora["PN"])
    return faults + [sentence for name, corpus in corpora.items() for sentence in layer_faults(corpus, layers[name])]


def _layers(folder: Path, name: str) -> Layers:
    return tuple(read_corpus(folder / f"{name.lower()}-{which}", name=name) for which in ("first", "second"))


def _shown(table: pd.DataFrame) -> str:
    outside = int((~table["inside"]).sum())
    marked = table.assign(inside=table["inside"].map({True: "", False: "outside"})).round(3)
    return f"{marked.to_string()}\n{outside} outside their bands"


def figures_table(corpora: Iterable[Corpus]) -> pd.DataFrame:
    """Documents, lines and entities of each corpus, beside the paper's figures where the paper gives one."""
    corpora = list(corpora)
    ours = statistics(corpora).T
    ours.loc["lines per document"] = ours.loc["lines"] / ours.loc["documents"]
    ours.loc["mean line length (characters)"] = {
        c.name: np.mean([end - start for d in c for start, end in lines(d.text)]) for c in corpora
    }
    certainty = certainty_table(corpora)
    for name in certainty.index:
        ours.loc[f"entities, {name}"] = certainty.loc[name]
    table = ours.astype(object).map(lambda x: f"{x:,.0f}" if float(x).is_integer() else f"{x:.2f}")
    for name, figures in PAPER_FIGURES.items():
        table[f"{name} of the paper"] = [f"{figures[row]:,}" if row in figures else "—" for row in table.index]
    return table


# --- one document ----------------------------------------------------------------------------------------------------

BRACKETS = ("()", "（）", "[]", "［］", "「」", "『』", "【】", "〔〕")


def document_faults(document: Document) -> list[str]:
    """What is wrong with the layout of one document, or with the span or certainty of its entities."""
    where, text = f'document "{document.id}"', document.text
    found = problems(document, labels={"d"})
    if not (text.startswith("\n") and text.endswith("\n")):
        found.append(f"{where}: the text must start and end with a line break")
    for line in text[1:-1].split("\n"):
        if not line or line != line.strip():
            found.append(f'{where}: the line "{line}" is blank or has a space at its edge')
    for entity in document.entities:
        surface = document.surface(entity)
        found += [f'{where}: the entity "{surface}" {fault}' for fault in entity_faults(surface, entity.certainty)]
    return found


def entity_faults(surface: str, certainty: str | None) -> Iterator[str]:
    """Faults of one entity, as the end of a sentence about it."""
    if certainty not in CERTAINTIES:
        yield f"has no certainty; give it one of {', '.join(sorted(CERTAINTIES))}"
    if "\n" in surface:
        yield "runs across a line break; end it in its line"
    elif any(unicodedata.category(c)[0] in "PZC" and c not in "".join(BRACKETS) for c in surface[:1] + surface[-1:]):
        yield "begins or ends with punctuation or a space; leave that outside the tag"
    if any(surface.count(pair[0]) != surface.count(pair[1]) for pair in BRACKETS):
        yield "has a bracket without its partner; take in both or neither"


# --- one corpus ------------------------------------------------------------------------------------------------------


def case_report_faults(corpus: Corpus) -> list[str]:
    """Case reports are numbered CR-001 … without a gap, and each has a title of its own."""
    wanted = {f"CR-{k:03d}" for k in range(1, len(corpus) + 1)}
    missing = sorted(wanted - {d.id for d in corpus})
    titles = Counter(d.meta.get("title", "") for d in corpus)
    return [f'case reports: the id "{i}" is missing; number them without a gap' for i in missing] + [
        f'case reports: the title "{title}" stands {n} times; give each report one of its own'
        for title, n in titles.items()
        if n > 1 or not title
    ]


def progress_note_faults(corpus: Corpus) -> list[str]:
    """Every physician wrote one note on every case, the ids say which, and a case has one title."""
    found = []
    notes: Counter[tuple[str, str]] = Counter()
    titles: dict[str, set[str]] = defaultdict(set)
    for d in corpus:
        physician, case = d.meta.get("physician", ""), d.meta.get("case", "")
        if d.id != f"PN-{physician.removeprefix('phys-')}-{case.removeprefix('case-')}":
            found.append(f'document "{d.id}" is by "{physician}" on "{case}"; make id and attributes agree')
        notes[physician, case] += 1
        titles[case].add(d.meta.get("title", ""))
    for physician, case in product(sorted({p for p, _ in notes}), sorted(titles)):
        if (n := notes[physician, case]) != 1:
            found.append(f"progress notes: {physician} wrote {n} notes on {case}; one is wanted")
    return found + [
        f"progress notes: {case} has the titles {', '.join(sorted(names))}; one is wanted"
        for case, names in sorted(titles.items())
        if len(names) > 1
    ]


def style_accuracy(corpus: Corpus) -> float:
    """Share of notes whose physician a classifier names that was trained on all other cases; nan with fewer than two.

    Multinomial naive Bayes over character 1–3-grams (scikit-learn). The words of the case left out are new to it, so
    what it can go by is the style of writing.
    """
    cases, physicians = (np.array([d.meta.get(key, "") for d in corpus]) for key in ("case", "physician"))
    if len(set(cases)) < 2:
        return float("nan")
    classifier = make_pipeline(CountVectorizer(analyzer="char", ngram_range=(1, 3), lowercase=False),
                               MultinomialNB(alpha=0.1, fit_prior=False))  # fmt: skip
    texts = [d.text for d in corpus]
    named = cross_val_predict(classifier, texts, physicians, groups=cases, cv=LeaveOneGroupOut())
    return float(np.mean(named == physicians))
