"""The corpora of a study: opened, chosen from, split, and set against each other."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path

from nbutils import ROOT
from nbutils.corpus import Corpus, Document, private_by_text, select
from nbutils.corpus.formats import files_of, read_corpus
from nbutils.corpus.splits import split_by_document
from nbutils.files import DataError, from_repository
from nbutils.study.file import Study, nearest

NOTE = 20  # characters: a note that long in two corpora is the same one; short lines ("no fever") are alike by chance
_private_names: dict[tuple[object, ...], frozenset[str]] = {}


def open_corpora(study: Study) -> dict[str, Corpus]:
    """Every corpus of the study, with only the entity types (and certainties) that the study is about."""
    return {name: open_corpus(study, name) for name in study.corpora}


def open_corpus(study: Study, name: str) -> Corpus:
    """One corpus of the study; private when it is marked so, or holds notes of one that is.

    Raises:
        DataError: the corpus is not there, is faulty, or has no entity that the study is about.
    """
    path, corpus = corpus_path(study, name), _read(study, name)
    if name in private_names(study):
        corpus = replace(corpus, private=True)
    # No path of this machine, since notebooks show them.
    shown = {f"{ROOT}/": "", f"{path if path.is_dir() else path.parent}/": "", str(path): path.name}
    notices = tuple(reduce(lambda text, pair: text.replace(*pair), shown.items(), n) for n in corpus.notices)
    corpus = replace(corpus, notices=notices)
    chosen = select(corpus, study.labels, study.certainties, certainty_in_type=study.certainty_in_type)
    if any(d.entities for d in corpus) and not any(d.entities for d in chosen):
        raise DataError(
            f"{study.path}, corpora.{name}: none of its entities has the labels and certainties of the study; "
            "correct these, or leave out certainties"
        )
    return chosen


def _read(study: Study, name: str) -> Corpus:
    return read_corpus(corpus_path(study, name), name=name, **study.corpora[name].reading)


def private_names(study: Study) -> frozenset[str]:
    """The corpora whose text is private: those marked so, and those that hold a file or a note of one marked so.

    Privacy belongs to the notes, under whatever name, path or format a study file reads them a second time.
    """
    marked = {name for name, entry in study.corpora.items() if entry.private}
    others = study.corpora.keys() - marked
    if not marked or not others:
        return frozenset(marked)
    stats = ((file, os.stat(file)) for name in study.corpora for file in _note_files(study, name))
    key = (repr(sorted(study.corpora.items())), *((str(file), stat.st_mtime_ns, stat.st_size) for file, stat in stats))
    if key not in _private_names:
        contents = {c for name in marked for c in _contents(study, name)}
        again = {name for name in others if not contents.isdisjoint(_contents(study, name))}
        notes = {name: _long_notes(study, name, name in marked) for name in study.corpora if name not in again}
        by_text = {name for name, corpus in private_by_text(notes).items() if corpus.private}
        _private_names[key] = frozenset(by_text | again)
    return _private_names[key]


def _note_files(study: Study, name: str) -> list[Path]:
    return files_of(corpus_path(study, name), study.corpora[name].format)


def _contents(study: Study, name: str) -> Iterator[object]:
    """What tells a file: its place on the disk, whatever leads there, and what is in it."""
    for file in _note_files(study, name):
        stat = file.stat()
        yield stat.st_dev, stat.st_ino
        if stat.st_size >= NOTE:
            yield digest([file])


def _long_notes(study: Study, name: str, private: bool) -> Corpus:
    notes = tuple(d for d in _read(study, name) if len("".join(d.text.split())) >= NOTE)
    return Corpus(name, notes, private=private)


def open_annotators(study: Study, name: str) -> tuple[Corpus, Corpus] | None:
    """What two annotators marked in some documents of a corpus, chosen as in `open_corpus`; None with one only."""
    if not study.corpora[name].second:
        return None
    return open_corpus(_of_annotator(study, "first"), name), open_corpus(_of_annotator(study, "second"), name)


def corpus_path(study: Study, name: str) -> Path:
    """Where a corpus lies: relative paths count from the repository, `$NAME` comes from the environment."""
    if name not in study.corpora:
        raise DataError(f'{study.path}, corpora: no corpus "{name}"{nearest(name, study.corpora)}')
    written, where = study.corpora[name].path, f"{study.path}, corpora.{name}"
    for variable in re.findall(r"\$(?:(\w+)|\{([^}]*)\})", written):
        if "".join(variable) not in os.environ:
            raise DataError(f"{where}: ${''.join(variable)} is not set; set it to the folder of that corpus")
    full = from_repository(written)
    if not full.exists():  # as it was written, since the value of a variable may be a secret
        raise DataError(f"{where}: there is no {written}; put the corpus there or correct the path")
    return full


def digest(files: Iterable[str | Path]) -> str:
    """A short hash of what is in these files, in their order; another one means that a file was changed."""
    total = hashlib.sha256()
    for file in files:
        with open(file, "rb") as data:
            total.update(hashlib.file_digest(data, "sha256").digest())
    return total.hexdigest()[:16]


def corpus_files(study: Study) -> list[str]:
    """Every file that the study reads text from."""
    files = []
    for name, entry in study.corpora.items():
        files += map(str, files_of(corpus_path(study, name), entry.format, entry.meta))
    return files


def annotator_files(study: Study) -> list[str]:
    """Every file of the corpora that two annotators marked."""
    return [file for which in ("first", "second") for file in corpus_files(_of_annotator(study, which))]


def _of_annotator(study: Study, which: str) -> Study:
    """The study with one annotator's corpora in the place of the adjudicated ones, as private as these."""
    private = private_names(study)
    layers = {name: replace(entry, path=getattr(entry, which) or entry.path, first=None, second=None,
                            private=name in private)
              for name, entry in study.corpora.items() if entry.second}  # fmt: skip
    return replace(study, corpora=layers)


def split(study: Study, corpus: Corpus) -> tuple[Corpus, Corpus]:
    """The training and the in-domain test part of a corpus."""
    return split_by_document(corpus, test_fraction=study.test_fraction, split_seed=study.split_seed)


def main_setting(study: Study) -> tuple[str, str]:
    """The setting that single-setting notebooks look at: the first training corpus, and the first other one (CR→PN)."""
    train = study.train[0]
    return train, elsewhere(study, train)


def elsewhere(study: Study, train: str) -> str:
    """The first evaluation corpus other than `train`, or `train` itself in a study that has no other."""
    return next((name for name in study.evaluate if name != train), train)


def evaluation_corpus(study: Study, corpora: Mapping[str, Corpus], train: str, evaluate: str) -> Corpus:
    """What a system trained on `train` is scored on: the held-out part of the same corpus, or all of another one."""
    return split(study, corpora[train])[1] if train == evaluate else corpora[evaluate]


def bare_notes(study: Study, name: str) -> Corpus:
    """The notes of a corpus that the systems of the study tag, without entities and what else is known of them."""
    corpus = open_corpus(study, name)
    tagged = {d.id for train in study.train for d in evaluation_corpus(study, {name: corpus}, train, name)}
    notes = tuple(Document(d.id, d.text, private=d.private, shown_as=d.shown_as) for d in corpus if d.id in tagged)
    return Corpus(name, notes, private=corpus.private)
