"""The notebooks of a study: which trains which kind of system, and which analyses its corpora allow."""

from __future__ import annotations

from nbutils.corpus import Corpus
from nbutils.study.corpora import main_setting, open_corpus
from nbutils.study.file import Study
from nbutils.taggers import KINDS

NOTEBOOKS = {name: kind.notebook for name, kind in KINDS.items()}

WITHOUT_RUNS = ("02_inter_annotator_agreement", "10_generalisation")  # the other analyses wait for all runs


def analyses(study: Study) -> dict[str, dict[str, str]]:
    """The analysis notebooks that the study's corpora allow, and the parameters that each gets besides the study file.

    Agreement needs a second annotator; stratification a note of every case by every physician; generalisation two kinds
    of notes, adaptation `adapt` in the study file; the efficiency of runs and their errors are looked at in any study.
    Generalisation and adaptation train taggers of their own for minutes (adaptation of large models: hours), unless
    results on the very same notes and settings came with the repository.
    """
    runs, (train, evaluate) = {"runs_folder": "runs"}, main_setting(study)
    chosen: dict[str, dict[str, str]] = {}
    if any(entry.second for entry in study.corpora.values()):
        chosen["02_inter_annotator_agreement"] = {}
    if _is_full_grid(open_corpus(study, evaluate)) and evaluate != train:
        chosen["07_stratification"] = runs | {"train": train, "evaluate": evaluate}
    chosen["08_error_analysis"] = runs | {"train": train, "evaluate": evaluate}
    chosen["09_efficiency"] = runs
    if evaluate != train:
        chosen["10_generalisation"] = {"target": evaluate, "source": train}
    if study.adapt is not None:
        chosen["12_adaptation"] = runs | {"train_missing": "yes"}
    return chosen


def _is_full_grid(corpus: Corpus) -> bool:
    """Whether every physician, of two or more, wrote on every case, of two or more."""
    cells = {(d.meta.get("physician"), d.meta.get("case")) for d in corpus}
    levels = [{cell[k] for cell in cells} for k in (0, 1)]
    return all(len(some) > 1 and None not in some for some in levels) and len(cells) == len(levels[0]) * len(levels[1])
