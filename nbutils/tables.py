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
from nbutils.runs import Run
from nbutils.scores import exact_scores
from nbutils.study import Study, evaluation_corpus

PAPER_TABLES = ROOT / "data" / "paper_tables"


def score_runs(study: Study, runs: Iterable[Run], corpora: Mapping[str, Corpus]) -> pd.DataFrame:
    """One row a run and evaluation corpus: exact micro precision, recall and F1 in percent, and the counts.

    Runs that the study file does not (or no longer) ask for are left out.
    """
    grid = {(system.name, train, seed) for system, train, seed in study.runs()}
    rows = []
    for run in runs:
        if (run.system, run.train, run.seed) not in grid:
            continue
        for name in study.evaluate:
            gold = evaluation_corpus(study, corpora, run.train, name)
            s = exact_scores(gold, run.predictions(gold))
            rows.append(
                {
                    "system": run.system,
                    "train": run.train,
                    "evaluate": name,
                    "setting": "ID" if run.train == name else "OOD",
                    "seed": run.seed,
                    "precision": 100 * s.precision,
                    "recall": 100 * s.recall,
                    "f1": 100 * s.f1,
                    "n_gold": s.n_gold,
                    "n_predicted": s.n_predicted,
                }
            )
    columns = ["system", "train", "evaluate", "setting", "seed", "precision", "recall", "f1", "n_gold", "n_predicted"]
    return pd.DataFrame(rows, columns=columns)


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


def _cell(summary: pd.DataFrame, key: tuple[str, str, str]) -> str:
    if key not in summary.index:
        return "—"
    row = summary.loc[key]
    return f"{row['mean']:.1f} ({'—' if math.isnan(row['sd']) else format(row['sd'], '.1f')})"


def _difference(summary: pd.DataFrame, inside: tuple[str, str, str], outside: tuple[str, str, str]) -> str:
    if inside not in summary.index or outside not in summary.index:
        return "—"
    return f"{summary.loc[outside, 'mean'] - summary.loc[inside, 'mean']:+.1f}"


def paper_table(number: int) -> pd.DataFrame:
    """A table of the paper as printed, every oddity flagged in its last column; never a target for ours."""
    return pd.read_csv(PAPER_TABLES / f"table{number}.csv", dtype=str, keep_default_na=False)


def to_markdown(table: pd.DataFrame) -> str:
    """The table in Markdown, two header levels folded into one."""
    heads = [" ".join(filter(None, c)) if isinstance(c, tuple) else str(c) for c in table.columns]
    rows = [["system", *heads], *([name, *row] for name, row in zip(table.index, table.to_numpy(), strict=True))]
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|" + "---:|" * len(heads), *lines[1:]]) + "\n"


def write_main_result(study: Study, table: pd.DataFrame, folder: str | Path) -> Path:
    """main_result.md and .csv in the study's figure folder, with the caption that says what the numbers are not."""
    folder = Path(folder)
    with written_whole(folder / "main_result.csv") as file:
        flat = table.copy()
        flat.columns = [" ".join(filter(None, c)) for c in table.columns]
        flat.to_csv(file, index_label="system")
    path = folder / "main_result.md"
    with written_whole(path) as file:
        file.write(f"**{study.title}** — micro F1 in percent, mean (SD) over {len(study.seeds)} seeds, exact spans.\n")
        file.write(f"{study.caption}\nΔ = OOD − ID, as in Table 3 of the paper.\n\n{to_markdown(table)}")
    return path
