"""The corpora of a study: opened, chosen from, split, and set against each other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nbutils import ROOT
from nbutils.corpus import Corpus, select
from nbutils.corpus.formats import files_of, read_corpus
from nbutils.corpus.splits import split_by_document
from nbutils.files import DataError
from nbutils.study.file import Study, nearest


def open_corpora(study: Study) -> dict[str, Corpus]:
    """Every corpus of the study, with only the entity types (and certainties) that the study is about."""
    return {name: open_corpus(study, name) for name in study.corpora}


def open_corpus(study: Study, name: str) -> Corpus:
    path, entry = corpus_path(study, name), study.corpora[name]
    corpus = read_corpus(path, name=name, **entry.reading)
    notices = tuple(notice.replace(f"{ROOT}/", "") for notice in corpus.notices)  # no path of this machine
    corpus = replace(corpus, notices=notices)
    chosen = select(corpus, study.labels, study.certainties, certainty_in_type=study.certainty_in_type)
    if any(d.entities for d in corpus) and not any(d.entities for d in chosen):
        raise DataError(
            f"{study.path}, corpora.{name}: none of its entities has the labels and certainties of the study; "
            "correct these, or leave out certainties"
        )
    return chosen


def open_second(study: Study, name: str) -> Corpus | None:
    """What a second annotator marked in some documents of a corpus, chosen as in `open_corpus`; None without one."""
    return open_corpus(_of_second(study), name) if study.corpora[name].second else None


def corpus_path(study: Study, name: str) -> Path:
    """Where a corpus lies: relative paths count from the repository, `$NAME` comes from the environment."""
    if name not in study.corpora:
        raise DataError(f'{study.path}, corpora: no corpus "{name}"{nearest(name, study.corpora)}')
    path = os.path.expanduser(os.path.expandvars(study.corpora[name].path))
    if "$" in path:
        variable = path[path.index("$") :].split("/")[0]
        raise DataError(f"{study.path}, corpora.{name}: {variable} is not set; set it to the folder of that corpus")
    full = ROOT / path  # an absolute path stays itself
    if not full.exists():
        raise DataError(f"{study.path}, corpora.{name}: there is no {path}; put the corpus there or correct the path")
    return full


def corpus_files(study: Study) -> list[str]:
    """Every file that the study reads text from."""
    files = []
    for name, entry in study.corpora.items():
        files += map(str, files_of(corpus_path(study, name), entry.format, entry.meta))
    return files


def second_files(study: Study) -> list[str]:
    """Every file of a second annotator."""
    return corpus_files(_of_second(study))


def _of_second(study: Study) -> Study:
    """The study with a second annotator's corpora in the place of the first's."""
    seconds = {name: replace(entry, path=entry.second) for name, entry in study.corpora.items() if entry.second}
    return replace(study, corpora=seconds)


def split(study: Study, corpus: Corpus) -> tuple[Corpus, Corpus]:
    """The training and the in-domain test part of a corpus."""
    return split_by_document(corpus, test_fraction=study.test_fraction, split_seed=study.split_seed)


def main_setting(study: Study) -> tuple[str, str]:
    """The setting that single-setting notebooks look at: the first training corpus, and the first other one (CR→PN)."""
    train = study.train[0]
    return train, next((name for name in study.evaluate if name != train), study.evaluate[0])


def evaluation_corpus(study: Study, corpora: Mapping[str, Corpus], train: str, evaluate: str) -> Corpus:
    """What a system trained on `train` is scored on: the held-out part of the same corpus, or all of another one."""
    return split(study, corpora[train])[1] if train == evaluate else corpora[evaluate]
