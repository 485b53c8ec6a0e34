"""The notebooks of a study: which trains which kind of system, and which analyses its corpora allow."""

from __future__ import annotations

from nbutils import privacy
from nbutils.corpus import Corpus
from nbutils.study.corpora import main_setting, open_corpus
from nbutils.study.file import Study
from nbutils.taggers import KINDS

NOTEBOOKS = {name: kind.notebook for name, kind in KINDS.items()}

WITHOUT_RUNS = ("02_inter_annotator_agreement", "10_generalisation")  # the other analyses wait for all runs


def analyses(study: Study) -> dict[str, dict[str, str]]:
    """The analysis notebooks that the study's corpora allow, and the parameters that each gets besides the study file.

    Agreement needs a second annotator; stratification notes that name a physician, a case, a hospital …; generalisation
    two kinds of notes, adaptation `adapt` in the study file; the efficiency of runs and their errors are looked at in
    any study. Generalisation and adaptation train taggers of their own for minutes (adaptation of large models: hours),
    unless results on the very same notes and settings came with the repository.
    """
    runs, (train, evaluate) = {"runs_folder": "runs"}, main_setting(study)
    chosen: dict[str, dict[str, str]] = {}
    if any(entry.second for entry in study.corpora.values()):
        chosen["02_inter_annotator_agreement"] = {}
    if _has_strata(open_corpus(study, evaluate)) and evaluate != train:
        chosen["07_stratification"] = runs | {"train": train, "evaluate": evaluate}
    chosen["08_error_analysis"] = runs | {"train": train, "evaluate": evaluate}
    chosen["09_efficiency"] = runs
    if evaluate != train:
        chosen["10_generalisation"] = {"target": evaluate, "source": train}
    if study.adapt is not None:
        chosen["12_adaptation"] = runs | {"train_missing": "yes"}
    return chosen


def _has_strata(corpus: Corpus) -> bool:
    """Whether a key that every note names (physician, case, hospital …) puts some notes together and others apart."""
    values = [[d.meta.get(key) for d in corpus] for key in privacy.NAMES]
    return any(all(some) and 1 < len(set(some)) < len(some) for some in values)
