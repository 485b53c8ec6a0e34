"""Choose settings of the demo's tiny models on training notes alone: `python -m tools.tune_tiny`.

The training part of each corpus is split 8:2 once more. Every candidate is built and trained on the larger piece and
scored on the smaller one, so no note that the study tests on is looked at. The candidate with the highest mean F1 over
the training corpora goes into `studies/demo.yaml`; docs/outputs.md has the table.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from nbutils.corpus.splits import split_by_document
from nbutils.scoring.spans import exact_scores
from nbutils.study.corpora import open_corpora, split
from nbutils.study.file import Study, load_study
from nbutils.study.systems import settings
from nbutils.taggers import bert, lora, tiny
from nbutils.taggers.settings import TINY

INNER_SEED = 1  # of the second split
# What is tried beside the study file's own value: settings of the start (tiny) and of the fine-tuning (system).
CANDIDATES: Mapping[str, Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {
    "llm": [
        ({"learning_rate": start}, {"learning_rate": tune}) for start, tune in product((1e-3, 2e-3, 3e-3), (2e-3, 4e-3))
    ],
    "encoder": [({}, {"learning_rate": rate}) for rate in (5e-4, 1e-3, 2e-3)],
}
FIT = {"llm": ("lora", lora, tiny.build_llm), "encoder": ("bert", bert, tiny.build_encoder)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.tune_tiny", description=__doc__)
    parser.add_argument("kind", choices=list(FIT))
    parser.add_argument("file", nargs="?", default="studies/demo.yaml", help="the study file")
    parser.add_argument("--seeds", type=int, default=1)
    chosen = parser.parse_args(arguments)
    study = load_study(chosen.file)
    rows = [
        {"start": dict(start), "fine-tuning": dict(tune)} | scores(study, chosen.kind, start, tune, chosen.seeds)
        for start, tune in CANDIDATES[chosen.kind]
    ]
    print(pd.DataFrame(rows).round(1).to_string(index=False))


def scores(
    study: Study, kind: str, of_start: Mapping[str, Any], of_system: Mapping[str, Any], seeds: int
) -> dict[str, float]:
    """F1 in percent on the inner test piece of each training corpus, mean over seeds, and their mean."""
    name, module, build = FIT[kind]
    by_corpus: dict[str, float] = {}
    for train, corpus in open_corpora(study).items():
        inner, held_out = split_by_document(split(study, corpus)[0], test_fraction=0.2, split_seed=INNER_SEED)
        with tempfile.TemporaryDirectory() as folder:
            start = TINY[kind](**dict(study.tiny.get(kind, {})) | dict(of_start))
            more = {"labels": study.types} if kind == "llm" else {}
            build(inner.documents, Path(folder) / kind, start, progress=False, **more)
            values = replace(settings(study, study.systems[name], train), model=str(Path(folder) / kind), **of_system)
            taggers = (module.fit(inner.documents, values, seed=seed, progress=False) for seed in range(seeds))
            f1 = [exact_scores(held_out, tagger.predict(held_out)).f1 for tagger in taggers]
        by_corpus[train] = 100 * sum(f1) / len(f1)
        print(kind, train, dict(of_start), dict(of_system), round(by_corpus[train], 1), flush=True)
    return by_corpus | {"mean": sum(by_corpus.values()) / len(by_corpus)}


if __name__ == "__main__":
    main()
