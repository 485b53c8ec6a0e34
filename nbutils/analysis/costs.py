"""What a system costs: time, latency, memory and size from the records of finished runs, and the arithmetic floor.

Measured numbers belong to one machine; every row names it. The floor is exact arithmetic on a model's size and a GPU's
data sheet: no program can be faster, and every real one is slower.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nbutils.analysis.significance import FLOOR
from nbutils.study.file import Study
from nbutils.study.results import Results

COLUMNS = [
    "system", "train", "seed", "training (s)", "training (kJ)", "p50 (ms a note)", "p95 (ms a note)",
    "ms per 1,000 characters",
    "tokens read (a note)", "tokens written (a note)", "peak memory (MB)", "parameters (M)", "saved (MB)",
    "mean F1 (%)", "device",
]  # fmt: skip

# --- measured -------------------------------------------------------------------------------------------------------


def cost_table(results: Results, scores: pd.DataFrame) -> pd.DataFrame:
    """One row per run: training time and energy, latency of a single note, tokens, peak memory, size, machine, and F1.

    F1 is the unweighted mean over the evaluation corpora. What a run's record does not say (an older run, a system
    without weights or without training) is nan. Needs `main_result.score_runs`.
    """
    f1 = scores.groupby(["system", "train", "seed"])["f1"].mean()
    rows: list[dict] = []
    for run in results.runs:
        key = (run.system, run.train, run.seed)
        if key not in f1.index:
            continue
        record = run.record
        latency, tokens = record.get("latency", {}), record.get("tokens", {})
        seconds, characters = np.array(latency.get("seconds", []), dtype=float), sum(latency.get("characters", []))
        n_notes = tokens.get("notes", np.nan)
        threads = record.get("threads", "?")
        machine = f"{record.get('device', '?')}, {threads} thread{'' if threads == 1 else 's'}"
        elsewhere = "predictions" in record  # its own time and memory are not known here
        memory, size = {} if elsewhere else record.get("peak_memory_bytes", {}), record.get("model_size", {})
        rows.append({
            "system": run.system, "train": run.train, "seed": run.seed,
            "training (s)": record.get("seconds", {}).get("fit", np.nan),
            "training (kJ)": record.get("joules", {}).get("fit", np.nan) / 1000,
            "p50 (ms a note)": 1000 * _quantile(seconds, 0.5),
            "p95 (ms a note)": 1000 * _quantile(seconds, 0.95),
            "ms per 1,000 characters": 1e6 * seconds.sum() / characters if characters else np.nan,
            "tokens read (a note)": tokens.get("prompt", np.nan) / n_notes,
            "tokens written (a note)": tokens.get("answer", np.nan) / n_notes,
            "peak memory (MB)": memory.get("gpu", memory.get("cpu", np.nan)) / 1e6,
            "parameters (M)": size.get("parameters", np.nan) / 1e6,
            "saved (MB)": size.get("saved_bytes", np.nan) / 1e6,
            "mean F1 (%)": f1[key],
            "device": "elsewhere" if elsewhere else machine,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def machines(costs: pd.DataFrame) -> str:
    """A sentence that names what the runs of `cost_table` ran on."""
    return f"Measured on: {'; '.join(costs['device'].unique())}."


def by_system(study: Study, costs: pd.DataFrame) -> pd.DataFrame:
    """Medians over training corpora and seeds, one row per system in the study's order; machines if several."""
    grouped = costs.drop(columns=["train", "seed", "device"]).groupby("system", sort=False).median()
    grouped["runs"] = costs.groupby("system").size()
    if costs["device"].nunique() > 1:
        grouped["device"] = costs.groupby("system")["device"].agg(lambda names: " / ".join(sorted(set(names))))
    order = [name for name in study.systems if name in grouped.index]
    return grouped.loc[order].rename(index={name: study.systems[name].title for name in order})


def answer(table: pd.DataFrame, floor: float = FLOOR) -> str:
    """The question of notebook 09 answered in Markdown, from `by_system`: the best by F1, and the others beside it.

    Args:
        floor: a system below it everywhere is left out.
    """
    timed = table[(table["mean F1 (%)"] >= floor) & table["p50 (ms a note)"].notna()]
    if timed.empty:
        return "No system above the floor has been timed."
    ranked = timed.sort_values("mean F1 (%)", ascending=False)
    best = ranked.iloc[0]
    f1, time = best["mean F1 (%)"], best["p50 (ms a note)"]
    said = [f"- **{best.name}** has the highest mean F1 ({f1:.1f}) at {time:.0f} ms a note."]
    for title, row in ranked.iloc[1:].iterrows():
        times, points = row["p50 (ms a note)"] / time, row["mean F1 (%)"] - f1
        said.append(f"- {title}: {points:+.1f} points at {times:{'.1f' if times >= 1 else '.2g'}} times the time.")
    return "\n".join(said)


def one_pass_or_many(results: Results, costs: pd.DataFrame, scores: pd.DataFrame, *, window: int = 32) -> pd.DataFrame:
    """Systems that read tokens, by the form of their answer: F1 in- and out-of-domain, passes, time; medians of runs.

    Who labels tokens reads a note in one pass; who rewrites it takes a pass for each token that it writes, or, with
    copy decoding, at most 2 · entities + ⌈tokens / window⌉ + 1 (docs/copy_decoding.md). That is for a note at once:
    lines and notes in a batch share passes. Of an endpoint nobody here knows the passes (nan).

    Args:
        costs: of `cost_table`; scores: of `main_result.score_runs`.
    """
    key = ["system", "train", "seed"]
    f1 = scores.pivot_table(index=key, columns="setting", values="f1").reindex(columns=["ID", "OOD"])
    n_found = scores.groupby(key)["n_predicted"].sum()
    settings = {(r.system, r.train, r.seed): r.record.get("settings", {}) for r in results.runs}
    notes = {(r.system, r.train, r.seed): r.record.get("tokens", {}).get("notes", np.nan) for r in results.runs}
    rows = []
    for row in costs[costs["tokens read (a note)"].notna()].to_dict("records"):
        run = tuple(row[name] for name in key)
        written, how = row["tokens written (a note)"], settings[run]
        bound = 2 * n_found[run] / notes[run] + np.ceil(written / window) + 1
        free = how.get("decoding") == "free"
        passes = np.nan if how.get("endpoint") else 1 if not written else written if free else bound
        rows.append({
            "system": results.study.systems[row["system"]].title, "answer": "rewrites" if written else "labels tokens",
            "F1 ID (%)": f1.loc[run, "ID"], "F1 OOD (%)": f1.loc[run, "OOD"], "passes (a note, at most)": passes,
            "tokens read (a note)": row["tokens read (a note)"], "tokens written (a note)": written,
            "ms per 1,000 characters": row["ms per 1,000 characters"], "training (s)": row["training (s)"],
        })  # fmt: skip
    table = pd.DataFrame(rows)
    return table.groupby(["answer", "system"], sort=False).median() if rows else table


def _quantile(values: np.ndarray, q: float) -> float:
    return float(np.quantile(values, q)) if values.size else float("nan")


# --- the arithmetic floor -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gpu:
    """A GPU by its data sheet."""

    bandwidth: float  # bytes a second between memory and cores
    peak: float  # floating-point operations a second in the model's precision, dense
    price: float  # of an hour, in any currency


@dataclass(frozen=True)
class NoteShape:
    """A typical note in tokens."""

    prompt: float  # instruction and text, before the answer
    text: float  # of the answer without tags
    entities: float  # in a note
    tag: float  # tokens of an opening and a closing tag together

    @property
    def answer(self) -> float:
        return self.text + self.entities * self.tag


def floor_table(parameters: float, bytes_each: float, gpu: Gpu, note: NoteShape, *, window: int = 32,
                batches: Iterable[int] = (1, 32), notes: float = 1e6) -> pd.DataFrame:  # fmt: skip
    """The least time and price of tagging, by way of decoding and batch size; a row each.

    A forward pass reads every weight once, whatever the batch: at least weights / bandwidth. A token that is computed
    takes 2 operations a parameter: at least 2 · parameters / peak. The floor is the larger of the two sums; keys and
    values, attention and everything a program does besides come on top.

    One token at a time computes prompt and answer once and takes a pass for each token of the answer. Copy decoding
    takes at most 2 · entities + ⌈tokens / window⌉ + 1 passes (docs/copy_decoding.md) and computes, at most, a whole
    window in each besides prompt and answer.

    Args:
        parameters, bytes_each: of the model, and of one parameter (2 in bf16).
        window: draft tokens of copy decoding.
        batches: notes that share a pass.
        notes: how many to tag in all.
    """
    at_once = note.prompt + note.answer
    copied = float(2 * note.entities + np.ceil(note.answer / window) + 1)
    passes = {"one token at a time": (note.answer, at_once), "copy decoding": (copied, at_once + copied * window)}
    rows = []
    for way, (n_passes, n_tokens) in passes.items():
        for batch in batches:
            reading = n_passes * parameters * bytes_each / gpu.bandwidth / batch
            computing = 2 * parameters * n_tokens / gpu.peak
            seconds = max(reading, computing)
            rows.append({
                "way": way, "batch": batch, "passes a note": n_passes, "tokens computed a note": n_tokens,
                "reading weights (s a note)": reading, "computing (s a note)": computing,
                "bound by": "bandwidth" if reading > computing else "arithmetic",
                f"hours for {notes:,.0f} notes": seconds * notes / 3600,
                f"price for {notes:,.0f} notes": seconds * notes / 3600 * gpu.price,
            })  # fmt: skip
    return pd.DataFrame(rows).set_index(["way", "batch"])
