"""A study for other tools: its runs as MLflow's file store, its corpora and predictions as `datasets`.

    python -m tools.export mlflow studies/demo.yaml OUT        pip install -e '.[mlflow]'
    python -m tools.export datasets studies/demo.yaml OUT      pip install -e '.[datasets]'

Nothing is sent: MLflow's client writes to a folder. Private corpora are not exported, neither their text nor what was
found in it; of their runs only settings, costs and scores are.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nbutils.analysis.main_result import score_runs
from nbutils.corpus import Corpus, Entity
from nbutils.files import DataError
from nbutils.study.corpora import private_names
from nbutils.study.file import load_study
from nbutils.study.results import Results
from nbutils.study.runs import Run, path_name, run_folder
from tools.card import UNSAID
from tools.reference_runs import own_or_bundled

TAGS = ("title", "kind", "device", "git_commit", "finished")


def to_mlflow(results: Results, out: Path) -> int:
    """One MLflow run per run of the study: settings as parameters, scores and costs as metrics; the number of runs."""
    os.environ |= {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=out.resolve().as_uri())
    study = results.study
    experiment = client.create_experiment(study.name, tags={"title": study.title, "caption": study.caption})
    scores = score_runs(results)
    for run in results.runs:
        rows = scores[(scores["system"] == run.system) & (scores["train"] == run.train) & (scores["seed"] == run.seed)]
        made = client.create_run(experiment, run_name=f"{run.system} {run.train} seed {run.seed}")
        measures = [(name, row) for _, row in rows.iterrows() for name in ("f1", "precision", "recall")]
        metrics = {f"{name} {_named(row['evaluate'])}": row[name] for name, row in measures}
        for cost in ("seconds", "joules"):
            metrics |= {f"{cost} {_named(what)}": value for what, value in run.record.get(cost, {}).items()}
        client.log_batch(
            made.info.run_id,
            metrics=[Metric(name, float(value), 0, 0) for name, value in metrics.items()],
            params=[Param(name, str(value)[:500]) for name, value in _parameters(run).items()],
            tags=[RunTag(name, str(run.record.get(name))) for name in TAGS],
        )
        client.set_terminated(made.info.run_id)
    return len(results.runs)


def _parameters(run: Run) -> dict[str, Any]:
    kept = {name: run.record[name] for name in ("system", "train", "seed", "split_seed", "test_fraction")}
    return kept | {name: value for name, value in run.record["settings"].items() if name not in UNSAID}


def _named(text: str) -> str:
    """Part of a metric's name, which MLflow wants of letters, digits and a few signs."""
    return re.sub(r"[^\w.: /-]", "_", text)


def to_datasets(results: Results, out: Path) -> int:
    """Each corpus and each run's predictions as a dataset on disk, of one row per note; the number of datasets."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    private, n = private_names(results.study), 0
    for name, corpus in results.corpora.items():
        if name not in private:
            Dataset.from_list(list(_notes(corpus))).save_to_disk(str(out / "corpora" / path_name(name)))
            n += 1
    for scored in results.scored():
        if not private & {scored.evaluate, scored.run.train}:
            rows = [{"id": p.document_id, "entities": list(map(_entity, p.entities))} for p in scored.predicted]
            run = run_folder(out, "predictions", scored.run.system, scored.run.train, scored.run.seed)
            Dataset.from_list(rows).save_to_disk(str(run / path_name(scored.evaluate)))
            n += 1
    return n


def _notes(corpus: Corpus) -> Iterator[dict[str, Any]]:
    for document in corpus:
        yield {"id": document.id, "text": document.text, "entities": list(map(_entity, document.entities)),
               **{key: str(value) for key, value in document.meta.items()}}  # fmt: skip


def _entity(entity: Entity) -> dict[str, Any]:
    return {"start": entity.start, "end": entity.end, "label": entity.label, "certainty": entity.certainty,
            "score": entity.score}  # fmt: skip


EXPORTS = {"mlflow": to_mlflow, "datasets": to_datasets}


def main(arguments: Sequence[str] | None = None) -> int:
    """Export a study's runs to MLflow's file store, or its corpora and predictions as datasets."""
    parser = argparse.ArgumentParser(prog="python -m tools.export", description=main.__doc__)
    parser.add_argument("to", choices=list(EXPORTS))
    parser.add_argument("file", help="the study file")
    parser.add_argument("out", type=Path, help="a folder that is empty or not there yet")
    chosen = parser.parse_args(arguments)
    try:
        if find_spec(chosen.to) is None:
            raise DataError(f"{chosen.to} is not installed: `.venv/bin/pip install -e '.[{chosen.to}]'` brings it")
        if chosen.out.exists() and (not chosen.out.is_dir() or any(chosen.out.iterdir())):
            raise DataError(f"{chosen.out}: not an empty folder; name another one")
        study = load_study(chosen.file)
        n = EXPORTS[chosen.to](own_or_bundled(study), chosen.out)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    what = {"mlflow": "runs; look at them with `mlflow ui --backend-store-uri`", "datasets": "datasets in"}[chosen.to]
    print(f"{n} {what} {chosen.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
