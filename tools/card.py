"""A model card of a finished run in Markdown: `make card RUN=runs/demo/bert/CR/seed-0`.

Data, settings, scores with intervals, costs, licence of the base model, limits: all of it from the run's record, its
predictions and its study file. It holds no text, id or name of a note, of private notes least of all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nbutils.analysis import significance
from nbutils.analysis.significance import INTERVAL
from nbutils.files import DataError, write_whole
from nbutils.study.corpora import private_names
from nbutils.study.file import Study, load_study
from nbutils.study.provenance import without_paths
from nbutils.study.results import Results, open_results
from nbutils.study.runs import Run, read_run, study_file
from nbutils.taggers.hub import KNOWN

# Settings that name a place of this machine or an account stay out.
UNSAID = {"endpoint", "allowed_hosts", "price", "budget"}


def card(results: Results) -> str:
    """The model card of the only run of `results`."""
    (run,) = results.runs
    study, record = results.study, run.record
    evaluated = significance.evaluations(results)
    name = f"{record['title']}, trained on {run.train}, seed {run.seed}"
    parts = [f"# {name}", *_about(study, run), "## Data", *_data(results, run), "## Settings", *_settings(record)]
    parts += ["## Scores", *_scores(study, evaluated), "## What it took", *_costs(record)]
    parts += ["## Licence", _licence(record), "## Limits", _list(_limits(results, run))]
    parts += ["## What made it", *_versions(record)]
    return without_paths("\n\n".join(filter(None, parts)) + "\n")


def _about(study: Study, run: Run) -> list[str]:
    what = {
        "icl": "A prompted model: nothing was trained.",
        "dictionary": "A dictionary of names from the training part.",
    }
    types = ", ".join(f"`{kind}`" for kind in study.types)
    return [
        what.get(run.record["kind"], "A tagger trained for one study.")
        + f" It marks {types} in Japanese clinical text, as exact character offsets.",
        f"Study: {study.title or study.name} (`{study.name}`). {study.caption}".rstrip(),
    ]


def _data(results: Results, run: Run) -> Iterator[str]:
    private = private_names(results.study)
    rows = [("training", results.training_part(run.train), run.train)]
    rows += [("evaluation", s.gold, s.evaluate) for s in results.scored()]
    yield _table(["part", "corpus", "notes", "entities", "characters", ""], [
        (part, name, f"{len(notes):,}", f"{sum(len(d.entities) for d in notes):,}",
         f"{sum(len(d.text) for d in notes):,}", "private" if name in private else "")
        for part, notes, name in rows
    ])  # fmt: skip
    yield (
        f"The training corpus is split by document, {1 - results.study.test_fraction:.0%} for training, with the seed "
        f"{results.study.split_seed}; the other part is its evaluation. Another corpus is evaluated whole."
    )


def _settings(record: Mapping[str, Any]) -> Iterator[str]:
    said = {name: value for name, value in record["settings"].items() if name not in UNSAID and value is not None}
    yield _table(["setting", "value"], [(f"`{name}`", f"`{_short(value)}`") for name, value in said.items()])


def _scores(study: Study, evaluated: significance.Evaluated) -> Iterator[str]:
    yield _table(["evaluation", "", "F1 (%)", "95 % interval", "notes are a sample of"], [
        (name, "in-domain" if train == name else "out-of-domain", f"{row['F1 (%)']:.1f}", _interval(row),
         row["sampled"])
        for (_, train, name), row in significance.f1_table(study, evaluated).iterrows()
    ])  # fmt: skip
    gaps = significance.gap_table(study, evaluated)
    for (_, train, name), row in gaps.iterrows():
        yield f"Δ {train} → {name}: {row['Δ (points)']:+.1f} points {_interval(row)}."
    yield (
        "Micro-averaged exact match: document, start, end and type must all agree. The intervals are those of other "
        "notes of the same kind under this one model; another training would vary more."
    )


def _interval(row: pd.Series) -> str:
    low, high = row[INTERVAL]
    return "—" if pd.isna(low) else f"[{low:.1f}, {high:.1f}]"


def _costs(record: Mapping[str, Any]) -> Iterator[str]:
    seconds, size, memory = record["seconds"], record.get("model_size", {}), record.get("peak_memory_bytes", {})
    joules = record.get("joules", {})
    rows = [("training", f"{seconds.get('fit', 0):,.1f} s"), ("energy of the training", "—")]
    if "fit" in joules:
        rows[1] = ("energy of the training", f"{joules['fit'] / 1000:,.1f} kJ (the whole processor and GPU)")
    rows += [("parameters", f"{size['parameters'] / 1e6:,.1f} M")] if "parameters" in size else []
    rows += [(f"peak memory ({where.upper()})", f"{n / 1e6:,.0f} MB") for where, n in memory.items()]
    yield _table(["what", "how much"], [*rows, ("machine", f"{record['device']}, {record['threads']} threads")])


def _licence(record: Mapping[str, Any]) -> str:
    model = record["settings"].get("model")
    if not model:
        return "There is no base model. What was learned comes from the training notes: their terms apply to it."
    if source := record.get("model_source"):
        licence = source.get("licence", "see its page")
        return f"The base model is {source['model']}, {source['weights']}. Its licence: {licence}."
    if record.get("tiny"):
        return "The base model was built for this study from the training notes alone: their terms apply to it."
    known = KNOWN.get(model)
    licence = f"{known.licence}{'' if known.sells else ', not for commercial use'}" if known else "see its page"
    commit = f" (commit {record['model_commit']})" if record.get("model_commit") else ""
    return f"The base model is {model}{commit}. Its licence: {licence}. A tuned model is bound by it."


def _limits(results: Results, run: Run) -> Iterator[str]:
    study, record = results.study, run.record
    yield "A result for these notes and these authors; no claim for another hospital, which is what the study is about."
    yield "One training with one seed; the study's table has the mean and the spread over seeds."
    if record.get("tiny"):
        yield "A tiny model, pretrained on the training notes alone: it shows the method, not what a real one reaches."
    if record["settings"].get("load_in_4bit"):
        yield "Its base weights are in 4 bits; in full precision the scores may differ."
    if any(entry.format == "jmed" for entry in study.corpora.values()):
        yield "Gold of JMED-LLM is a list of strings; where they stand was found by a rule (silver spans)."
    if private_names(study):
        yield "Private notes are part of the study. A trained model can give words away: treat it like the notes."
    yield "Not a medical device: nobody has checked it for use in care."


def _versions(record: Mapping[str, Any]) -> Iterator[str]:
    yield ", ".join(f"{name} {number}" for name, number in record["versions"].items() if number) + "."
    yield f"Code: commit {record.get('git_commit') or '—'}. Finished: {record['finished']}."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell(value) for value in row)} |" for row in lines)


def cell(value: object) -> str:
    """A value in a cell of a Markdown table."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def _list(lines: Iterator[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def study_of(run: Run, file: str | None) -> Study:
    """The study file of a run: the one named, else the one in studies/ that has its name.

    Raises:
        DataError: there is none, or it is not the study that this run belongs to.
    """
    path = Path(file) if file else study_file(run)
    if not path.is_file():
        raise DataError(f"{path}: the study file of {run.folder} is not there; name it with STUDY=FILE.yaml")
    study = load_study(path)
    if run.system not in study.systems or run.train not in study.corpora:
        raise DataError(f"{path}: knows no {run.system} trained on {run.train}; it is not the study of {run.folder}")
    return study


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the model card of a finished run into its folder, as card.md."""
    parser = argparse.ArgumentParser(prog="python -m tools.card", description=main.__doc__)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--study", help="its study file (default: the one in studies/ with its name)")
    parser.add_argument("--out", type=Path, help="the file to write (default: card.md in the run's folder)")
    chosen = parser.parse_args(arguments)
    try:
        run = read_run(chosen.run)
        study = study_of(run, chosen.study)
        results = open_results(study, runs=[run])
        if not results.runs:
            raise DataError(f"{study.path}: has no seed {run.seed} of {run.system}; name the study of the run")
        path = chosen.out or chosen.run / "card.md"
        write_whole(path, card(results), private=bool(private_names(study)))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
