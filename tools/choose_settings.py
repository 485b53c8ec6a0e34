"""Choose a system's settings without its test notes: `python -m tools.choose_settings bert` (docs/outputs.md).

The training part of a corpus is split again, 8:2 by document, whole cases where the notes name them, with a seed of its
own. Each candidate is trained on the larger part (its tiny model, too) and scored on the smaller one. All candidates
take about as long as the study's own settings, so that none wins by training longer.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from nbutils import load_study
from nbutils.analysis.cross_fitting import fit_system
from nbutils.analysis.significance import INTERVAL
from nbutils.corpus import Corpus
from nbutils.corpus.splits import leave_out, split_by_document
from nbutils.scoring.evaluation import Evaluation, document_counts
from nbutils.scoring.intervals import contrast
from nbutils.scoring.permutation import holm
from nbutils.study.corpora import open_corpus, split
from nbutils.study.file import Study
from nbutils.study.systems import tiny_kinds

TODAY = "as in the study file"
# What each candidate changes: of the system, and under `start` of the self-supervised start of its tiny model.
CANDIDATES: dict[str, dict[str, dict[str, Any]]] = {
    "bert": {
        TODAY: {},
        "learning rate 1e-3": {"learning_rate": 1e-3},
        "learning rate 4e-3": {"learning_rate": 4e-3},
        "batches of 8": {"batch_size": 8},
        "batches of 32": {"batch_size": 32},
    },
    "lora": {
        TODAY: {},
        "learning rate 2e-3": {"learning_rate": 2e-3},
        "learning rate 8e-3": {"learning_rate": 8e-3},
        "start: learning rate 1e-3": {"start": {"learning_rate": 1e-3}},
        "start: learning rate 4e-3": {"start": {"learning_rate": 4e-3}},
        "half the start, 2 epochs": {"epochs": 2, "start": {"samples": 6000}},
    },
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what each candidate scores on a part of the training notes, and which settings to keep."""
    parser = argparse.ArgumentParser(prog="python -m tools.choose_settings", description=main.__doc__)
    parser.add_argument("system", choices=CANDIDATES)
    parser.add_argument("--study", default="demo")
    parser.add_argument("--train", default="CR", help="the corpus whose training part is split again")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the second split; trainings have the study's first seed"
    )
    parser.add_argument("--most", type=int, help="only the first so many candidates")
    chosen = parser.parse_args(arguments)
    study = load_study(f"studies/{chosen.study}.yaml")
    candidates = dict(list(CANDIDATES[chosen.system].items())[: chosen.most])
    table = candidates_table(study, chosen.system, chosen.train, candidates, seed=chosen.seed)
    print(table.round(3).to_string(index=False), verdict(table, study.margin), sep="\n")


def parts_of_training(study: Study, train: str, *, seed: int) -> tuple[Corpus, Corpus]:
    """The training part of a corpus in two: to train the candidates, and to score them. No test note is in either."""
    part = split(study, open_corpus(study, train))[0]
    if all(d.meta.get("case") for d in part):
        fold = next(leave_out(part, "case", n_groups=5, seed=seed))
        return fold.train, fold.test
    return split_by_document(part, test_fraction=0.2, split_seed=seed)


def candidates_table(
    study: Study, system: str, train: str, candidates: Mapping[str, Mapping[str, Any]], *, seed: int = 1
) -> pd.DataFrame:
    """One row per candidate: scores in percent, and the difference to the first with its interval over other notes."""
    fitted_on, scored_on = parts_of_training(study, train, seed=seed)
    print(f"{len(fitted_on)} training notes of {train} to train on, {len(scored_on)} to score on", flush=True)
    scored: dict[str, Evaluation] = {}
    with TemporaryDirectory() as folder:
        for name, changes in tqdm(candidates.items(), desc=system, unit="candidate"):
            start = "".join(str(item) for item in changes.get("start", {}).items())  # candidates of one start share it
            tagger = fit_system(
                changed(study, system, changes),
                system,
                fitted_on.documents,
                seed=study.systems[system].seeds[0],
                folder=Path(folder) / f"start{start}",
            )
            counts = document_counts(scored_on, tagger.predict(scored_on))
            scored[name] = Evaluation(scored_on.documents, counts[None], cluster=study.cluster)
            tqdm.write(f"{name}: F1 {scored[name].f1:.1f}")
    first = next(iter(scored.values()))
    rows = []
    for name, e in scored.items():
        matched, predicted, gold = e.counts[0].sum(axis=0)
        change = contrast([(1, e), (-1, first)])
        rows.append(
            {"settings": name, "precision (%)": 100 * matched / max(predicted, 1), "recall (%)": 100 * matched / gold}
            | {"F1 (%)": e.f1, "change (points)": change.value}
            | (dict(zip(INTERVAL, change.interval(), strict=True)) | {"p": change.p()} if e is not first else {})
        )  # fmt: skip
    table = pd.DataFrame(rows)
    others = table["settings"] != rows[0]["settings"]
    return table.assign(**{"p (Holm)": pd.Series(holm(table.loc[others, "p"]), index=table.index[others])})


def changed(study: Study, system: str, changes: Mapping[str, Any]) -> Study:
    """The study with other settings of one system, and of the start of its tiny model."""
    settings = {key: value for key, value in changes.items() if key != "start"}
    of_system = replace(study.systems[system], settings={**study.systems[system].settings, **settings})
    tiny = dict(study.tiny)
    for kind in tiny_kinds(study, system):
        tiny[kind] = {**tiny.get(kind, {}), **changes.get("start", {})}
    return replace(study, systems={**study.systems, system: of_system}, tiny=tiny)


def verdict(table: pd.DataFrame, margin: float) -> str:
    """Settings are changed only for a gain above the study's margin whose p, corrected for all candidates, is small."""
    better = table[(table["change (points)"] > margin) & (table["p (Holm)"] < 0.05)]
    if better.empty:
        return f"Kept: {table['settings'][0]}. No candidate gains more than {margin:g} points with p (Holm) < 0.05."
    best = better.sort_values("F1 (%)").iloc[-1]
    return f"Changed to: {best['settings']}, {best['change (points)']:+.1f} points, p (Holm) {best['p (Holm)']:.4f}."


if __name__ == "__main__":
    main()
