"""One run of the grid: fit a system on one corpus, tag every evaluation corpus, write predictions and the record."""

from __future__ import annotations

import os
from contextlib import chdir
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from nbutils import ROOT
from nbutils.corpus import fingerprint
from nbutils.study.corpora import digest, evaluation_corpus, open_corpora, private_names, split
from nbutils.study.file import Study
from nbutils.study.runs import (
    Run,
    checkpoint_folder,
    finished_run,
    latency,
    model_size,
    predictions_file,
    read_run,
    remove_checkpoints,
    run_folder,
    timed,
    write_predictions,
    write_run,
)
from nbutils.study.systems import hub_notes, made_elsewhere, model_source, prepare, settings, tiny_kinds
from nbutils.taggers import KINDS
from nbutils.taggers.terms import terms_path


def execute(
    study: Study, system: str, train: str, seed: int, *, runs: str | Path = "runs", progress: bool = True
) -> Run | None:
    """One run of the grid: fit on the training part, tag every evaluation corpus, write predictions, then run.json.

    A run that is finished and was made from the same settings and corpora is kept as it is, with its times. One that
    was cut off in its training goes on from its last checkpoint, to the same predictions. `runs` counts from the
    repository, and so do models, wherever the notebook is opened. A tiny model is built first where it is missing.
    None in the further processes that `accelerate launch` starts: the first one tags and writes.
    """
    chosen = study.systems[system]
    corpora = open_corpora(study)
    values = settings(study, chosen, train)
    place = run_folder(runs, study.name, system, train, seed)
    folder = ROOT / place  # an absolute one stays itself
    train_part = split(study, corpora[train])[0]
    recipe = {
        "study": study.name, "system": system, "title": chosen.title, "kind": chosen.kind, "train": train, "seed": seed,
        "settings": asdict(values), "split_seed": study.split_seed, "test_fraction": study.test_fraction,
        "train_documents": [d.id for d in train_part],
        "corpora": {name: fingerprint(corpora[name]) for name in sorted({train, *study.evaluate})},
        "tiny": {kind: study.tiny.get(kind, {}) for kind in tiny_kinds(study, system)},
        "model_source": model_source(chosen),
    }  # fmt: skip
    elsewhere = KINDS[chosen.kind].elsewhere
    if elsewhere:
        recipe["predictions"] = made_elsewhere(study, chosen)
    if terms := getattr(values, "dictionary", None):
        recipe["dictionary"] = digest([terms_path(terms)])
    if (finished := finished_run(folder, recipe)) is not None:
        print(f"This run was finished before; delete {place} to train it again.")
        remove_checkpoints(folder)
        return finished
    prepare(study, system, train, progress=progress)
    module = import_module(KINDS[chosen.kind].module)  # only now, since torch takes seconds to load
    options: dict[str, Any] = {}
    about: dict[str, Any] = {}
    before = 0.0  # seconds of training, of a run that was cut off
    if KINDS[chosen.kind].resumable:
        kept = checkpoint_folder(folder, recipe)
        about["resumed"] = any(kept.glob("checkpoint-*"))
        before = import_module("nbutils.taggers.training").seconds_trained(kept)
        options = {"checkpoints": kept, "checkpoint_steps": study.checkpoint_steps}
        hub_notes(values.model, values.revision)
    seconds: dict[str, float] = {}
    joules: dict[str, float] = {}
    with timed(seconds, "fit", joules), chdir(ROOT):
        tagger = module.fit(train_part.documents, values, seed=seed, progress=progress, **options)
    seconds["fit"] = round(seconds["fit"] + before, 3)
    if int(os.environ.get("RANK", 0)) > 0:
        return None
    if chosen.model and not chosen.settings.get("endpoint"):
        about["model_commit"] = import_module("nbutils.taggers.hub").commit(values.model, values.revision)
    n_notes = 0
    for name in study.evaluate:
        target = evaluation_corpus(study, corpora, train, name)
        with timed(seconds, f"predict {name}", joules):
            predictions = tagger.predict(target, progress=progress)
        n_notes += len(predictions)
        write_predictions(predictions, target, predictions_file(folder, name))
    if (used := getattr(tagger, "used", None)) is not None:
        about["tokens"] = {"notes": n_notes, **asdict(used)}
    tagger.save(folder / "model")
    if private_names(study):  # a model holds words of the notes it learned from
        for path in folder.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
    costs: dict[str, Any] = {} if elsewhere else {"model_size": model_size(tagger, folder / "model")}
    if not (elsewhere or chosen.settings.get("endpoint")):  # answers are paid, and come from a cache the second time
        costs["latency"] = {"corpus": name} | latency(tagger, target.documents)
    costs |= {"joules": joules} if joules and not elsewhere else {}
    write_run(folder, recipe | about | {"seconds": {} if elsewhere else seconds} | costs)
    remove_checkpoints(folder)
    return read_run(folder)
