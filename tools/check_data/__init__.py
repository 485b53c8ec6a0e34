"""The bundled corpora held against their own rules: `python -m tools.check_data`, exit 1 with a sentence a violation.

Knows that part of the annotation guideline which a program can decide. The places that only a reader can judge are
`check_review`'s, and the second annotation is `check_second`'s.
"""

from __future__ import annotations

import argparse
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from nbutils import ROOT
from nbutils.analysis.exploration import certainty_table, statistics
from nbutils.corpus import Corpus, Document, lines, problems
from nbutils.corpus.formats import CERTAINTIES, read_corpus
from nbutils.files import DataError
from tools.check_data.review import doubtful_certainties, review_faults, untagged_strings
from tools.check_data.second import second_annotation_faults, second_table

PAPER_FIGURES = {"CR": {"documents": 148, "lines": 1898}, "PN": {"documents": 100, "lines": 1094}}
MAX_SIMILARITY = 0.8  # of two lines in different documents (difflib's ratio)
MIN_STYLE_ACCURACY = 0.80


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the bundled corpora, print their figures and the annotators' agreement, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.check_data", description=main.__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="the folder with cr/, pn/, cr-second/ …")
    folder = parser.parse_args(arguments).data
    try:
        corpora = {name: read_corpus(folder / name.lower(), name=name) for name in PAPER_FIGURES}
        second = {name: read_corpus(folder / f"{name.lower()}-second", name=name) for name in PAPER_FIGURES}
        found = violations(corpora, folder / "reviewed")
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    accuracy = style_accuracy(corpora["PN"])
    if not accuracy >= MIN_STYLE_ACCURACY:  # also when it is nan, for want of a second case
        found.append(
            f"{folder / 'pn'}: the writing style names the physician of {accuracy:.0%} of the notes, and "
            f"{MIN_STYLE_ACCURACY:.0%} are wanted; make the physicians' handwriting differ more"
        )
    n_physicians = len({d.meta.get("physician") for d in corpora["PN"]})
    print(figures_table(corpora.values()).to_string())
    print(f"\nphysician named by character n-grams, leave one case out: {accuracy:.2f} (chance {1 / n_physicians:.2f})")
    if amiss := second_annotation_faults(corpora, second):
        found += amiss
    else:
        print(f"\nSecond annotation\n{second_table(corpora, second).to_string()}\n")
    print(f"{len(found)} violations" if found else "The corpora obey their rules.")
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


def violations(corpora: Mapping[str, Corpus], reviewed: Path) -> list[str]:
    """Every broken rule of the corpora CR and PN, one sentence each; `reviewed` holds untagged.csv and cues.csv."""
    documents = [d for corpus in corpora.values() for d in corpus]
    found = [sentence for d in documents for sentence in document_faults(d)]
    found += case_report_faults(corpora["CR"]) + progress_note_faults(corpora["PN"])
    for (first, line), (second, other), ratio in similar_lines(documents):
        found.append(f"{first} and {second}: lines of similarity {ratio:.2f}; reword one of them: {line} ~ {other}")
    found += review_faults(untagged_strings(documents), reviewed / "untagged.csv", "homonym")
    return found + review_faults(doubtful_certainties(documents), reviewed / "cues.csv", "right")


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
# Alone these name no disease, or only its return (data/GUIDELINE.md, clarifications).
NOT_ALONE = frozenset(
    ["再発", "再燃", "局所再発", "病変", "病巣", "原発巣", "症状", "所見", "異常", "合併症", "後遺症", "後遺障害"]
)
DEGREE = re.compile("強い|軽い|激しい|著しい|ひどい|わずかな|著明な|(?:軽|中等|高|重)度[のな]")


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
    elif any(unicodedata.category(c)[0] in "PZC" for c in surface[:1] + surface[-1:]):
        yield "begins or ends with punctuation or a space; leave that outside the tag"
    if any(surface.count(pair[0]) != surface.count(pair[1]) for pair in BRACKETS):
        yield "has a bracket without its partner; take in both or neither"
    if surface in NOT_ALONE:
        yield "names no disease when it stands alone; remove the tag"
    if DEGREE.match(surface):
        yield "begins with a word of degree; leave that outside the tag"


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


def similar_lines(
    documents: Iterable[Document], threshold: float = MAX_SIMILARITY
) -> list[tuple[tuple[str, str], tuple[str, str], float]]:
    """Pairs of lines of different documents whose difflib ratio is above the threshold: (id, line), (id, line), ratio.

    The ratio is 2 · matches / (len a + len b), and there are no more matches than characters that both lines have. So
    two cheap upper bounds come first, on lengths and on character counts in buckets, and difflib sees what is left.
    """
    entries = sorted(((d.id, d.text[s:e]) for d in documents for s, e in lines(d.text)), key=lambda x: len(x[1]))
    lengths = np.array([len(line) for _, line in entries])
    counts = np.zeros((len(entries), 256), dtype=np.uint16)
    for row, (_, line) in enumerate(entries):
        np.add.at(counts[row], [ord(c) % 256 for c in line], 1)
    found = []
    for k, (document, line) in enumerate(entries):
        end = np.searchsorted(lengths, len(line) * (2 - threshold) / threshold, side="right")
        shared = np.minimum(counts[k], counts[k + 1 : end]).sum(axis=1)
        for j in np.flatnonzero(2 * shared > threshold * (len(line) + lengths[k + 1 : end])) + k + 1:
            matcher = SequenceMatcher(None, line, entries[j][1], autojunk=False)
            if entries[j][0] != document and matcher.quick_ratio() > threshold and matcher.ratio() > threshold:
                found.append((entries[k], entries[j], matcher.ratio()))
    return found


def style_accuracy(corpus: Corpus, *, n_max: int = 3, smoothing: float = 0.1) -> float:
    """Share of notes whose physician a classifier names that was trained on all other cases; nan with fewer than two.

    Multinomial naive Bayes over character 1–3-grams, one class a physician. The tenth case's words are new to it, so
    what it can go by is the handwriting.
    """
    cases, physicians = (np.array([d.meta.get(key, "") for d in corpus]) for key in ("case", "physician"))
    if len(set(cases)) < 2:
        return float("nan")
    sizes = range(1, n_max + 1)
    grams = [Counter(d.text[k : k + n] for n in sizes for k in range(len(d.text) - n + 1)) for d in corpus]
    column = {gram: k for k, gram in enumerate(set().union(*grams))}
    counts = np.zeros((len(grams), len(column)), dtype=np.float32)
    for row, found in enumerate(grams):
        counts[row, [column[gram] for gram in found]] = list(found.values())
    names = np.unique(physicians)
    n_right = 0
    for case in set(cases):
        train, test = cases != case, cases == case
        weights = np.stack([counts[train & (physicians == name)].sum(axis=0) for name in names]) + smoothing
        log_likelihood = np.log(weights / weights.sum(axis=1, keepdims=True))
        n_right += int((names[(counts[test] @ log_likelihood.T).argmax(axis=1)] == physicians[test]).sum())
    return n_right / len(grams)
