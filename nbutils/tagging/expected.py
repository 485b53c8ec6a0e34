"""What a tagging job may expect of its result before anybody has labelled a note: a sentence at its end."""

from __future__ import annotations

import json
from collections.abc import Iterable

from nbutils.corpus import fingerprint
from nbutils.files import DataError
from nbutils.scoring.estimate import Labelled, expected_scores, labelled
from nbutils.study.corpora import open_corpus, split
from nbutils.study.file import load_study
from nbutils.study.runs import Run, study_file


def expectation(run: Run, lines: Iterable[str]) -> str:
    """Expected precision, recall and F1 of tagged notes (lines of tagged.jsonl); empty where nothing can be said.

    It needs what the run found in its own test part, and that corpus as it was.
    """
    own = _own_test_part(run)
    if own is None:
        return ""
    entities = (json.loads(line)["entities"] for line in lines)
    e = expected_scores(own, [[float(x["score"]) for x in of_note if "score" in x] for of_note in entities])
    return "" if e is None else (
        f"Expected before any label: precision {e.precision:.0f} %, recall {e.recall:.0f} %, F1 {e.f1:.0f} % "
        f"({e.low:.0f}–{e.high:.0f}), if the run's probabilities mean here what they mean on its own test notes; "
        "another hospital's notes often break that (notebook 12)."
    )  # fmt: skip


def _own_test_part(run: Run) -> Labelled | None:
    """What the run found in the held-out part of its training corpus; None when that cannot be had."""
    own, record = study_file(run), run.record
    places = (own, *(parent / own.name for parent in run.folder.resolve().parents[2:3]))
    try:
        wanted = (record["corpora"][run.train], record["split_seed"], record["test_fraction"])
        study = load_study(next(path for path in places if path.is_file()))
        corpus = open_corpus(study, run.train)
        if (fingerprint(corpus), study.split_seed, study.test_fraction) != wanted:
            return None
        part = split(study, corpus)[1]
        return labelled(part, run.predictions(part))
    except (DataError, OSError, KeyError, TypeError, StopIteration, ValueError):
        return None
