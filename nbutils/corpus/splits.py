"""Which documents train and which test: whole documents, never lines of one note."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from nbutils.corpus import Corpus
from nbutils.privacy import NAMES, shown_id


def split_by_document(corpus: Corpus, *, test_fraction: float = 0.2, split_seed: int = 0) -> tuple[Corpus, Corpus]:
    """Train and test parts of a corpus (the paper: 8:2), each in the corpus' own order.

    The split has a seed of its own, apart from the training seed, so that runs differ by training alone.

    Raises:
        ValueError: the corpus is too small to give both parts a document.
    """
    n_test = round(len(corpus) * test_fraction)
    if not 0 < n_test < len(corpus):
        raise ValueError(f'corpus "{corpus.name}" has {len(corpus)} documents, too few to split; add documents')
    test = set(np.random.default_rng(split_seed).permutation(len(corpus))[:n_test].tolist())
    return _divided(corpus, [k in test for k in range(len(corpus))])


def _divided(corpus: Corpus, in_test: Sequence[bool]) -> tuple[Corpus, Corpus]:
    """The documents that are not in the test part and those that are, each in the corpus' own order."""
    train = tuple(d for d, inside in zip(corpus, in_test, strict=True) if not inside)
    test = tuple(d for d, inside in zip(corpus, in_test, strict=True) if inside)
    return replace(corpus, documents=train), replace(corpus, documents=test)


# --- grouped splits: what an 8:2 split leaks --------------------------------------------------------------------------


@dataclass(frozen=True)
class Fold:
    """One way to hold notes out: for each key the held-out values, the training and the test part."""

    held_out: Mapping[str, tuple[str, ...]]
    train: Corpus
    test: Corpus


def leave_out(corpus: Corpus, *keys: str, n_groups: int | None = None, seed: int = 0) -> Iterator[Fold]:
    """Folds that hold out one value of `meta[key]` at a time: `leave_out(pn, "case")`, `leave_out(pn, "physician")`.

    With several keys (leave-both-out) a fold tests the notes that have a held-out value of *every* key and trains on
    those that have one of *none*; notes with only some are in neither part. Every note is tested exactly once.
    With `n_groups` the values of each key are dealt at random into so many groups, and a group is held out at a time:
    fewer, cheaper folds with smaller training parts.

    Raises:
        ValueError: no key, a document without it, fewer values than groups, or a fold that leaves nothing to train on.
    """
    if not keys:
        raise ValueError('leave_out needs a key of the notes\' meta, such as "case" or "physician"')
    rng = np.random.default_rng(seed)
    groups = [_value_groups(corpus, key, n_groups, rng) for key in keys]
    for held in product(*groups):
        inside = [[d.meta[key] in values for key, values in zip(keys, held, strict=True)] for d in corpus]
        test = tuple(d for d, flags in zip(corpus, inside, strict=True) if all(flags))
        train = tuple(d for d, flags in zip(corpus, inside, strict=True) if not any(flags))
        if not test:  # nobody wrote a note on this case
            continue
        if not train:
            names = " and ".join(keys)
            raise ValueError(f'corpus "{corpus.name}": leaving out one {names} leaves no note to train on')
        parts = (replace(corpus, documents=documents) for documents in (train, test))
        yield Fold(dict(zip(keys, held, strict=True)), *parts)


def random_folds(corpus: Corpus, n_folds: int, *, seed: int = 0) -> Iterator[Fold]:
    """The 8:2 split repeated so that every note is tested exactly once (5 folds give 8:2); nothing is grouped.

    Raises:
        ValueError: fewer than two folds or more folds than documents.
    """
    if not 1 < n_folds <= len(corpus):
        raise ValueError(f'corpus "{corpus.name}" has {len(corpus)} documents and cannot be cut into {n_folds} folds')
    fold_of = np.random.default_rng(seed).permutation(len(corpus)) % n_folds
    for k in range(n_folds):
        yield Fold({}, *_divided(corpus, (fold_of == k).tolist()))


def overlap_report(train: Corpus, test: Corpus, keys: Sequence[str] = NAMES[::-1]) -> dict[str, float]:
    """What a training part already tells about a test part: entity strings that both have, notes of the same group.

    For each key that any note has: how many training notes share their value with a test note, on average, and the
    share of test notes with at least one. Nan where there is nothing to count.
    """
    known = {d.surface(e) for d in train for e in d.entities}
    mentions = [d.surface(e) for d in test for e in d.entities]
    report = {
        "training notes": len(train),
        "test notes": len(test),
        "test mentions whose string is a training entity": _mean(s in known for s in mentions),
        "distinct test strings that are training entities": _mean(s in known for s in set(mentions)),
    }
    for key in keys:
        if any(key in d.meta for d in (*train, *test)):
            same = same_group_counts(train, test, key)
            report[f"training notes of the same {key}, mean"] = _mean(same)
            report[f"test notes with any of the same {key}"] = _mean(n > 0 for n in same)
    return report


def same_group_counts(train: Corpus, test: Corpus, key: str) -> list[int]:
    """For each test note, how many training notes have its value of `meta[key]`; a note without one shares nothing."""
    counts = Counter(d.meta.get(key) for d in train)
    return [counts[d.meta[key]] if key in d.meta else 0 for d in test]


def _value_groups(corpus: Corpus, key: str, n_groups: int | None, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """The values of a key, each by itself or dealt into groups of about equal size."""
    if without := next((d for d in corpus if not d.meta.get(key)), None):
        where = f'document "{shown_id(without)}" of "{corpus.name}"'
        raise ValueError(f"{where} has no {key}; every note needs one to group by it")
    values = sorted({d.meta[key] for d in corpus})
    if n_groups is None:
        return [(value,) for value in values]
    if not 1 < n_groups <= len(values):
        why = f"has {len(values)} values of {key}; they cannot make {n_groups} groups"
        raise ValueError(f'corpus "{corpus.name}" {why}')
    dealt = [values[k] for k in rng.permutation(len(values))]
    return [tuple(sorted(dealt[k::n_groups])) for k in range(n_groups)]


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values) if values else float("nan")
