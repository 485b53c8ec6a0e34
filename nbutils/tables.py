"""Result tables: one score a run, then mean (SD) over seeds in the shape of Table 3 of the paper.

Knows runs and scores, and how the paper prints them. Rounds only when a table is shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from nbutils import ROOT
from nbutils.corpus import Corpus
from nbutils.formats import written_whole
from nbutils.runs import Run, copied_models
from nbutils.scores import Scores, carry_certainty, certainty_scores, exact_scores, scores_by_label
from nbutils.study import Study, evaluation_corpus

PAPER_TABLES = ROOT / "data" / "paper_tables"


def score_runs(study: Study, runs: Iterable[Run], corpora: Mapping[str, Corpus]) -> pd.DataFrame:
    """One row a run and evaluation corpus: exact micro precision, recall and F1 in percent, and the counts.

    Runs that the study file does not (or no longer) ask for are left out.
    """
    rows = []
    for run, name in _evaluated(study, runs):
        gold = evaluation_corpus(study, corpora, run.train, name)
        rows.append(_place(run, name) | _in_percent(exact_scores(gold, run.predictions(gold))))
    return pd.DataFrame(rows, columns=[*PLACE, *MEASURES])


def score_by_type(study: Study, runs: Iterable[Run], corpora: Mapping[str, Corpus]) -> pd.DataFrame:
    """One row a run, evaluation corpus and type of the study, as `score_runs`; the counts of a type may be 0."""
    rows = []
    for run, name in _evaluated(study, runs):
        gold = evaluation_corpus(study, corpora, run.train, name)
        found = scores_by_label(gold, run.predictions(gold))
        for kind in study.types:
            rows.append(_place(run, name) | {"type": kind} | _in_percent(found.get(kind, Scores(0, 0, 0, 0))))
    return pd.DataFrame(rows, columns=[*PLACE, "type", *MEASURES])


def score_certainty(study: Study, runs: Iterable[Run], corpora: Mapping[str, Corpus]) -> pd.DataFrame:
    """One row a run that predicts certainties, and evaluation corpus: F1 without and with them, in percent.

    `right` is the share, in percent, of the rightly found spans whose certainty is right too; nan without any.
    """
    rows = []
    for run, name in _evaluated(study, runs):
        gold = evaluation_corpus(study, corpora, run.train, name)
        predicted = run.predictions(gold)
        if study.certainty_in_type or carry_certainty(predicted):
            plain, exact = certainty_scores(gold, predicted)
            right = exact.matched_gold / plain.matched_gold if plain.matched_gold else math.nan
            rows.append(
                _place(run, name) | {"plain": 100 * plain.f1, "certainty": 100 * exact.f1, "right": 100 * right}
            )
    return pd.DataFrame(rows, columns=[*PLACE, "plain", "certainty", "right"])


PLACE = ["system", "train", "evaluate", "setting", "seed"]
MEASURES = ["precision", "recall", "f1", "n_gold", "n_predicted"]


def _evaluated(study: Study, runs: Iterable[Run]) -> list[tuple[Run, str]]:
    """Every run that the study file asks for, with each of its evaluation corpora."""
    grid = {(system.name, train, seed) for system, train, seed in study.runs()}
    return [(r, name) for r in runs if (r.system, r.train, r.seed) in grid for name in study.evaluate]


def _place(run: Run, evaluate: str) -> dict[str, str | int]:
    setting = "ID" if run.train == evaluate else "OOD"
    return dict(zip(PLACE, (run.system, run.train, evaluate, setting, run.seed), strict=True))


def _in_percent(s: Scores) -> dict[str, float]:
    values = (100 * s.precision, 100 * s.recall, 100 * s.f1, s.n_gold, s.n_predicted)
    return dict(zip(MEASURES, values, strict=True))


def mean_sd(scores: pd.DataFrame, value: str = "f1") -> pd.DataFrame:
    """Mean and sample SD over seeds by system, train and evaluate, and the number of runs; the SD of one run is nan."""
    grouped = scores.groupby(["system", "train", "evaluate", "setting"], sort=False)[value]
    return grouped.agg(mean="mean", sd="std", n="count").reset_index()


def main_table(study: Study, scores: pd.DataFrame) -> pd.DataFrame:
    """Table 3: a row a system; for each training corpus the in-domain score, the others, and Δ = OOD − ID.

    Δ is the difference of the two means, with the sign that Table 3 prints (the paper's text defines ID − OOD).
    """
    summary = mean_sd(scores).set_index(["system", "train", "evaluate"])
    columns: dict[tuple[str, str], list[str]] = {}
    for train in study.train:
        order = [train] + [name for name in study.evaluate if name != train]
        for name in [n for n in order if n in study.evaluate]:
            kind = "ID" if name == train else "OOD"
            columns[(f"trained on {train}", f"→{name} ({kind})")] = [
                _cell(summary, (system, train, name)) for system in study.systems
            ]
            if kind == "OOD" and train in study.evaluate:
                columns[(f"trained on {train}", f"Δ{train}→{name}")] = [
                    _difference(summary, (system, train, train), (system, train, name)) for system in study.systems
                ]
    table = pd.DataFrame(columns, index=[s.title for s in study.systems.values()])
    table.columns = pd.MultiIndex.from_tuples(columns, names=["micro F1 (%), mean (SD)", ""])
    return table


def type_table(study: Study, by_type: pd.DataFrame) -> pd.DataFrame:
    """The main table once for each type (rows: type, system), headed by the number of gold entities.

    What a type without gold entities scores in an evaluation corpus has no meaning, and is "—".
    """
    blocks = []
    for kind in study.types:
        rows = by_type[(by_type["type"] == kind) & (by_type["n_gold"] > 0)]
        block = main_table(study, rows)
        counts = rows.groupby(["train", "evaluate"])["n_gold"].first()
        head = pd.DataFrame([_counts(study, counts)], index=["gold entities (n)"], columns=block.columns)
        block = pd.concat([head, block])
        block.index = pd.MultiIndex.from_product([[kind], block.index], names=["type", "system"])
        blocks.append(block)
    return pd.concat(blocks)


def _counts(study: Study, counts: pd.Series) -> list[str]:
    """The number for each column of the main table that is a score, and nothing for a Δ."""
    cells = []
    for train in study.train:
        for name in [n for n in dict.fromkeys((train, *study.evaluate)) if n in study.evaluate]:
            cells.append(f"{counts[train, name]:,}" if (train, name) in counts.index else "—")
            if name != train and train in study.evaluate:
                cells.append("")
    return cells


def certainty_table(study: Study, by_certainty: pd.DataFrame) -> pd.DataFrame:
    """Exact scores without and with the certainty, mean (SD) over seeds: a row for each setting and system."""
    columns = {"plain": "F1, span and tag (%)", "certainty": "F1, certainty too (%)",
               "right": "right certainty (% of right spans)"}  # fmt: skip
    found = {value: mean_sd(by_certainty, value).set_index(["system", "train", "evaluate"]) for value in columns}
    keys = [(train, name, system) for train in study.train for name in study.evaluate for system in study.systems]
    keys = [k for k in keys if (k[2], k[0], k[1]) in found["plain"].index]
    rows = [[_cell(found[value], (s, train, name)) for value in columns] for train, name, s in keys]
    index = pd.MultiIndex.from_tuples(
        [(f"{train}→{name}", study.systems[s].title) for train, name, s in keys], names=["setting", "system"]
    )
    return pd.DataFrame(rows, index=index, columns=list(columns.values()))


def _cell(summary: pd.DataFrame, key: tuple[str, str, str]) -> str:
    if key not in summary.index:
        return "—"
    row = summary.loc[key]
    if math.isnan(row["mean"]):
        return "—"
    return f"{row['mean']:.1f} ({'—' if math.isnan(row['sd']) else format(row['sd'], '.1f')})"


def _difference(summary: pd.DataFrame, inside: tuple[str, str, str], outside: tuple[str, str, str]) -> str:
    if inside not in summary.index or outside not in summary.index:
        return "—"
    return f"{summary.loc[outside, 'mean'] - summary.loc[inside, 'mean']:+.1f}"


def paper_table(number: int) -> pd.DataFrame:
    """A table of the paper as printed, every oddity flagged in its last column; never a target for ours."""
    return pd.read_csv(PAPER_TABLES / f"table{number}.csv", dtype=str, keep_default_na=False)


def to_markdown(table: pd.DataFrame) -> str:
    """The table in Markdown, two header levels folded into one, and a column for each level of the rows."""
    heads = [" ".join(filter(None, c)) if isinstance(c, tuple) else str(c) for c in table.columns]
    names = [name or "system" for name in table.index.names]
    labels = [key if isinstance(key, tuple) else (key,) for key in table.index]
    rows = [[*names, *heads], *([*key, *row] for key, row in zip(labels, table.to_numpy(), strict=True))]
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(names) + "---:|" * len(heads), *lines[1:]]) + "\n"


def write_main_result(
    study: Study,
    table: pd.DataFrame,
    folder: str | Path,
    by_type: pd.DataFrame | None = None,
    by_certainty: pd.DataFrame | None = None,
    runs: Iterable[Run] = (),
) -> Path:
    """main_result.md and .csv in the study's figure folder, with the caption that says what the numbers are not.

    `by_type` (of `type_table`) and `by_certainty` (of `certainty_table`) follow in main_result.md where the study is
    about more than one type; `by_type` goes into main_result_types.csv as well. Models of `runs` that are copies and
    not the originals are named in the caption.
    """
    folder = Path(folder)
    _write_csv(table, folder / "main_result.csv", "system")
    path = folder / "main_result.md"
    with written_whole(path) as file:
        seeds = f"{len(study.seeds)} seed{'s' if len(study.seeds) > 1 else ''}"
        file.write(f"**{study.title}** — micro F1 in percent, mean (SD) over {seeds}, exact spans.\n")
        caption = "\n".join(filter(None, [study.caption, *copied_models(runs)]))
        file.write(f"{caption}\nΔ = OOD − ID, as in Table 3 of the paper.\n\n{to_markdown(table)}")
        if by_type is not None and len(study.types) > 1:
            file.write(f"\nThe same for each type, F1 in percent:\n\n{to_markdown(by_type)}")
            _write_csv(by_type, folder / "main_result_types.csv", None)
        if by_certainty is not None and len(study.types) > 1 and len(by_certainty):
            file.write(f"\nWithout and with the certainty, mean (SD):\n\n{to_markdown(by_certainty)}")
    return path


def _write_csv(table: pd.DataFrame, path: Path, index_label: str | None) -> None:
    with written_whole(path) as file:
        flat = table.copy()
        flat.columns = [" ".join(filter(None, c)) for c in table.columns]
        flat.to_csv(file, index_label=index_label)
