"""Result tables: one score per run, mean (SD) over seeds in the shape of Table 3, and what a score is made of."""

from __future__ import annotations

import html
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nbutils.analysis import significance
from nbutils.analysis.significance import INTERVAL, WIDER, Evaluated
from nbutils.files import written_whole
from nbutils.scoring import spans
from nbutils.scoring.spans import NOTHING, Scores, exact_scores, partial_scores
from nbutils.study.file import Study
from nbutils.study.results import Results, Scored
from nbutils.study.runs import figure_folder

KEY = ["system", "train", "evaluate"]
SEEN = "seen (all but unseen)"
PLACE = [*KEY, "setting", "seed"]
MEASURES = ["precision", "recall", "f1", "n_gold", "n_predicted"]
HEADERS = {
    "train": "trained on", "evaluate": "tested on", "precision": "precision (%)", "recall": "recall (%)",
    "f1": "F1 (%)", "n_gold": "gold entities", "n_predicted": "predicted entities",
}  # fmt: skip


# --- the answer -----------------------------------------------------------------------------------------------------


def answer(study: Study, evaluated: Evaluated) -> str:
    """The question of notebook 06 answered in Markdown, every number and verdict from the runs.

    What each system above the floor loses, and for each pair of `compare` who loses less, on each scale.
    """
    gaps = significance.gap_table(study, evaluated)
    if gaps.empty:
        return "No system above the floor has been scored both in-domain and out-of-domain."
    said = []
    for (train, name), rows in gaps.groupby(["train", "evaluate"], sort=False):
        losses = [f"{row.name[0]} {_points(row, 'Δ (points)')}" for _, row in rows.iterrows()]
        certain = int((_best_ends(rows)[1] < 0).sum())
        below = f"The interval is below 0 for {certain} of {len(rows)}."
        said.append(f"**{train} → {name}:** F1 changes by {'; '.join(losses)} points. {below}")
    differences = significance.gap_difference_table(study, evaluated)
    if study.compare and len(differences):
        for key, rows in differences.groupby(["first", "second", "train", "evaluate"], sort=False):
            verdict = _who_loses_less(rows, *key[:2], study.margin)
            said.append(f"**{key[0]} against {key[1]}, {key[2]} → {key[3]}:** {verdict}")
    nothing = significance.not_counted(study, evaluated)
    return "\n".join(f"- {sentence}" for sentence in [*said, *filter(None, [nothing])])


def of_one_run(study: Study, scores: pd.DataFrame) -> str:
    """What one run scored, in a sentence of Markdown; needs its rows of `score_runs`."""
    first = scores.iloc[0]
    inside = scores.loc[scores["setting"] == "ID", "f1"]
    said = [f"{inside.iloc[0]:.1f} on held-out notes of {first['train']}"] if len(inside) else []
    for row in scores[scores["setting"] == "OOD"].to_dict("records"):
        change = f" ({row['f1'] - inside.iloc[0]:+.1f})" if len(inside) else ""
        said.append(f"{row['f1']:.1f} on {row['evaluate']}{change}")
    return f"**{study.systems[first['system']].title}, {first['train']}, seed {first['seed']}:** F1 {', '.join(said)}."


def _best_ends(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """The ends over other trainings, or of these models where one training says nothing of others."""
    low, high = (rows[wide].fillna(rows[own]) for wide, own in zip(WIDER, INTERVAL, strict=True))
    return low, high


def _points(row: pd.Series, value: str, digits: int = 1) -> str:
    low, high = (end.iloc[0] for end in _best_ends(row.to_frame().T))
    return f"{row[value]:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _who_loses_less(rows: pd.DataFrame, first: str, second: str, margin: float) -> str:
    """One pair in one direction: the difference of Δ with its test, then whether the other scales agree."""
    verdicts = {}
    for scale, row in rows.reset_index().set_index("scale").iterrows():
        better = first if row["value"] > (0 if scale == significance.BETWEEN["points"] else 1) else second
        verdicts[scale] = f"{better} loses less" if row["p (Holm)"] < 0.05 else "these notes cannot tell who loses less"
    row = rows.iloc[0]
    same = row.get(f"p within ±{margin:g}", 1) < 0.05
    main = f"equivalent within ±{margin:g} points" if same else next(iter(verdicts.values()))
    p = "p < 0.001" if row["p (Holm)"] < 0.001 else f"p {row['p (Holm)']:.3f}"
    text = f"difference of Δ {_points(row, 'value')} points, {p}: {main}."
    others = "; ".join(f"{scale}: {verdict}" for scale, verdict in list(verdicts.items())[1:])
    depends = "depends on the scale" if len(set(verdicts.values())) > 1 else "is the same on each scale"
    return f"{text} The verdict {depends} ({others})."


# --- scores ----------------------------------------------------------------------------------------------------------


def score_runs(results: Results) -> pd.DataFrame:
    """One row per run and evaluation corpus: exact micro precision, recall and F1 in percent, and the counts."""
    rows = [s.place | _in_percent(exact_scores(s.gold, s.predicted)) for s in results.scored()]
    return pd.DataFrame(rows, columns=[*PLACE, *MEASURES])


def score_by_type(results: Results) -> pd.DataFrame:
    """One row per run, evaluation corpus and type of the study, as `score_runs`; the counts of a type may be 0."""
    rows = []
    for scored in results.scored():
        by_label = spans.scores_by_label(scored.gold, scored.predicted)
        for kind in results.study.types:
            rows.append(scored.place | {"type": kind} | _in_percent(by_label.get(kind, NOTHING)))
    return pd.DataFrame(rows, columns=[*PLACE, "type", *MEASURES])


def score_certainty(results: Results) -> pd.DataFrame:
    """One row per evaluation corpus and run that predicts certainties: F1 without and with them, in percent.

    `right` is the share, in percent, of the correct spans whose certainty is correct too; nan without any.
    """
    rows = []
    for scored in results.scored():
        predicted = scored.predicted
        if results.study.certainty_in_type or spans.carry_certainty(predicted):
            plain, exact = spans.certainty_scores(scored.gold, predicted)
            right = exact.matched_gold / plain.matched_gold if plain.matched_gold else math.nan
            rows.append(scored.place | {"plain": 100 * plain.f1, "certainty": 100 * exact.f1, "right": 100 * right})
    return pd.DataFrame(rows, columns=[*PLACE, "plain", "certainty", "right"])


def partial_table(results: Results, *, draws: int = 2, seed: int = 0) -> pd.DataFrame:
    """F1 in percent of every system and setting, mean over seeds: exact, and with credit for a part three ways.

    `overlap`, `half` and `any` as in `scoring.spans.partial_scores`. `by chance` is what the same entities score at
    random places of their lines (`draws` times): only what `overlap` and `any` have above it is skill.
    """
    rows = []
    for scored in results.scored():
        gold, predicted = scored.gold, scored.predicted
        row = _titled(scored) | {"exact (%)": 100 * exact_scores(gold, predicted).f1}
        row |= {f"{mode} (%)": 100 * partial_scores(gold, predicted, mode).f1 for mode in spans.PARTIAL_MODES}
        documents, rng = {d.id: d for d in gold}, np.random.default_rng([seed, scored.run.seed])
        for mode in ("overlap", "any"):
            f1 = []
            for _ in range(draws):
                places = [spans.moved_at_random(documents[p.document_id], p.entities, rng) for p in predicted]
                guessed = [replace(p, entities=moved) for p, moved in zip(predicted, places, strict=True)]
                f1.append(partial_scores(gold, guessed, mode).f1)
            row[f"{mode} by chance (%)"] = 100 * float(np.mean(f1))
        rows.append(row)
    return pd.DataFrame(rows).groupby(KEY, sort=False).mean() if rows else pd.DataFrame()


def frequency_table(results: Results) -> pd.DataFrame:
    """Precision, recall and F1 in percent, mean over seeds, by how often training has marked the string of an entity.

    `gold (n)` counts the mentions of a class in the test notes. Precision counts the predictions of that class; a class
    without gold mentions or without predictions has the score that `scoring.spans` gives it.
    """
    rows = []
    for scored in results.scored():
        by_class = spans.scores_by_frequency(scored.gold, scored.predicted, results.training_part(scored.run.train))
        by_class[SEEN] = sum((s for name, s in by_class.items() if name != "unseen"), NOTHING)
        for frequency in ("unseen", SEEN, *[f for f in spans.FREQUENCIES if f != "unseen"]):
            s = by_class[frequency]
            percents = {"precision (%)": 100 * s.precision, "recall (%)": 100 * s.recall, "F1 (%)": 100 * s.f1}
            rows.append(_titled(scored) | {"in training": frequency, "gold (n)": s.n_gold} | percents)
    if not rows:
        return pd.DataFrame()
    return pd.DataFrame(rows).groupby([*KEY, "in training"], sort=False).mean().astype({"gold (n)": int})


def _titled(scored: Scored) -> dict[str, str]:
    return {"system": scored.title, "train": scored.run.train, "evaluate": scored.evaluate}


def _in_percent(s: Scores) -> dict[str, float]:
    nothing = not s.n_gold and not s.n_predicted  # nothing to find and nothing found: no score, not a perfect one
    scores = (math.nan,) * 3 if nothing else (100 * s.precision, 100 * s.recall, 100 * s.f1)
    return dict(zip(MEASURES, (*scores, s.n_gold, s.n_predicted), strict=True))


def mean_sd(scores: pd.DataFrame, value: str = "f1") -> pd.DataFrame:
    """Mean and sample SD over seeds by system, train and evaluate, and the number of runs; the SD of one run is nan."""
    grouped = scores.groupby([*KEY, "setting"], sort=False)[value]
    return grouped.agg(mean="mean", sd="std", n="count").reset_index()


def main_table(study: Study, scores: pd.DataFrame, gaps: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 3, one row per system: for each training corpus the in-domain score, the others, and Δ = OOD − ID.

    Δ is the difference of the two means, with the sign that Table 3 prints (the paper's text defines ID − OOD). With
    `gaps` (of `significance.gap_table`) it has its 95 % interval: over other trainings and other notes, or over other
    notes alone where there was one training.
    """
    summary = mean_sd(scores).set_index(KEY)
    columns: dict[tuple[str, str], list[str]] = {}
    for train, name in study.pairings():
        kind = "ID" if name == train else "OOD"
        cells = [_cell(summary, (system, train, name)) for system in study.systems]
        columns[(f"trained on {train}", f"→{name} ({kind})")] = cells
        if kind == "OOD" and train in study.evaluate:
            columns[(f"trained on {train}", f"Δ{train}→{name}")] = [
                _difference(summary, (system, train, train), (system, train, name))
                + _bounds(gaps, (study.systems[system].title, train, name))
                for system in study.systems
            ]
    table = pd.DataFrame(columns, index=[s.title for s in study.systems.values()])
    table.columns = pd.MultiIndex.from_tuples(columns, names=["micro F1 (%), mean (SD)", ""])
    return table


def _bounds(gaps: pd.DataFrame | None, key: tuple[str, str, str]) -> str:
    if gaps is None or key not in gaps.index:
        return ""
    row = gaps.loc[key]
    low, high = row[INTERVAL] if row[WIDER].isna().any() else row[WIDER]
    return "" if math.isnan(low) else f" [{low:+.1f}, {high:+.1f}]"


def trainings_sentence(study: Study, scores: pd.DataFrame) -> str:
    """How many trainings the means and SDs are over, and whose are one run repeated."""
    runs = scores.groupby("system")["seed"].nunique()
    spread = scores.groupby(KEY)["f1"].std().groupby("system").max()
    many = [s for s in study.systems if runs.get(s, 0) > 1]
    same = [study.systems[s].title for s in many if spread[s] == 0]
    counts = " or ".join(str(n) for n in sorted({int(runs[s]) for s in many}))
    sentence = f"mean (SD) over {counts} trainings" if many else "one run each"
    single = [study.systems[s].title for s in study.systems if runs.get(s, 0) == 1]
    if many and single:
        sentence += f"; one run of {', '.join(single)}"
    return sentence + (f"; the trainings of {', '.join(same)} are identical" if same else "")


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
    for train, name in study.pairings():
        cells.append(f"{counts[train, name]:,}" if (train, name) in counts.index else "—")
        if name != train and train in study.evaluate:
            cells.append("")
    return cells


def certainty_table(study: Study, by_certainty: pd.DataFrame) -> pd.DataFrame:
    """Exact scores without and with the certainty, mean (SD) over seeds: a row for each setting and system."""
    columns = {"plain": "F1, span and tag (%)", "certainty": "F1, certainty too (%)",
               "right": "right certainty (% of right spans)"}  # fmt: skip
    found = {value: mean_sd(by_certainty, value).set_index(KEY) for value in columns}
    keys = [(train, name, system) for train in study.train for name in study.evaluate for system in study.systems]
    keys = [k for k in keys if (k[2], k[0], k[1]) in found["plain"].index]
    rows = [[_cell(found[value], (s, train, name)) for value in columns] for train, name, s in keys]
    titles = [(f"{train}→{name}", study.systems[s].title) for train, name, s in keys]
    index = pd.MultiIndex.from_tuples(titles, names=["setting", "system"])
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


def to_markdown(table: pd.DataFrame) -> str:
    """The table in Markdown, two header levels folded into one, and a column for each level of the rows."""
    heads = [" ".join(filter(None, c)) if isinstance(c, tuple) else str(c) for c in table.columns]
    names = [name or "system" for name in table.index.names]
    labels = [key if isinstance(key, tuple) else (key,) for key in table.index]
    rows = [[*names, *heads], *([*key, *row] for key, row in zip(labels, table.to_numpy(), strict=True))]
    lines = ["| " + " | ".join(map(_as_text, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(names) + "---:|" * len(heads), *lines[1:]]) + "\n"


def _as_text(cell: Any) -> str:
    """A title or a number in Markdown, where nothing of it is markup, HTML or the end of a cell."""
    text = re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", str(cell)).strip()
    return re.sub(r"([\\`*\[\]|])", r"\\\1", html.escape(text, quote=False))


def write_main_result(
    study: Study,
    table: pd.DataFrame,
    by_type: pd.DataFrame | None = None,
    by_certainty: pd.DataFrame | None = None,
    trainings: str = "",
) -> Path:
    """Write main_result.md and .csv into the study's figure folder, with the caption that says what they are not.

    `by_type` (of `type_table`) and `by_certainty` (of `certainty_table`) follow in main_result.md where the study is
    about more than one type; `by_type` goes into main_result_types.csv as well. `trainings` is `trainings_sentence`'s.
    """
    folder, how = figure_folder(study.name), f", {trainings}" if trainings else ""
    _write_csv(table, folder / "main_result.csv", "system")
    with written_whole(path := folder / "main_result.md") as file:
        file.write(f"**{_as_text(study.title or study.name)}** — micro F1 in percent, exact spans{how}.\n")
        delta = (
            "Δ = OOD − ID, as in Table 3 of the paper; in brackets its 95 % interval, over other notes and trainings."
        )
        caption = "\n".join(map(_as_text, study.caption.splitlines()))
        file.write(f"{caption}\n{delta}\n\n{to_markdown(table)}")
        if by_type is not None and len(study.types) > 1:
            file.write(f"\nThe same for each type, F1 in percent:\n\n{to_markdown(by_type)}")
            _write_csv(by_type, folder / "main_result_types.csv", None)
        if by_certainty is not None and len(study.types) > 1 and len(by_certainty):
            file.write(f"\nWithout and with the certainty, mean (SD):\n\n{to_markdown(by_certainty)}")
    return path


def _write_csv(table: pd.DataFrame, path: Path, index_label: str | None) -> None:
    with written_whole(path) as file:
        flat = table.rename(index=_no_formula).map(_no_formula)
        flat.columns = [_no_formula(" ".join(filter(None, c))) for c in table.columns]
        flat.to_csv(file, index_label=index_label)


def _no_formula(cell: Any) -> Any:
    """A cell that a spreadsheet shows and never computes; numbers with their SD stay numbers."""
    number = r"[-+]?\d+(\.\d+)?( \([\d.—]+\))?"
    computed = isinstance(cell, str) and re.match(r"\s*[=+\-@\t\r]", cell) and not re.fullmatch(number, cell)
    return f"'{cell}" if computed else cell
