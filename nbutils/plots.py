"""Figures: one look for the whole study, the same colour for the same system everywhere, Japanese labels rendered."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import matplotlib.pyplot as plt
import matplotlib_fontja  # registers IPAexGothic, so that Japanese labels render on any machine
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from nbutils.analysis.exploration import entity_lengths, line_lengths
from nbutils.corpus import Corpus
from nbutils.study.file import Study

# Okabe and Ito's palette is told apart by colour-blind readers; the hatches tell bars apart in grey print.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--")


def use_style() -> None:
    """The study's look; called by every figure function, and once at the top of a notebook."""
    sns.set_theme(style="whitegrid", context="notebook")
    matplotlib_fontja.japanize()
    # Fixed ids and no date: the same numbers give the same file.
    plt.rcParams.update({"svg.hashsalt": "study", "figure.dpi": 100, "savefig.bbox": "tight"})


def system_styles(study: Study) -> dict[str, tuple[str, str]]:
    """(colour, hatch) of each system, by its place in the study file."""
    return {name: (COLOURS[k % len(COLOURS)], HATCHES[k % len(HATCHES)]) for k, name in enumerate(study.systems)}


def main_result(study: Study, scores: pd.DataFrame) -> Figure:
    """Bars of mean F1 by setting and system, whiskers of one SD, a dot a run. Needs `tables.score_runs`."""
    use_style()
    settings = [(t, e) for t in study.train for e in sorted(study.evaluate, key=lambda e: e != t)]
    styles = system_styles(study)
    figure, axes = plt.subplots(figsize=(1.6 + 1.9 * len(settings), 4.2))
    width = 0.8 / len(styles)
    for k, (name, (colour, hatch)) in enumerate(styles.items()):
        label: str | None = study.systems[name].title  # once in the legend
        for place, setting in enumerate(settings):
            rows = (scores["system"] == name) & (scores[["train", "evaluate"]].apply(tuple, axis=1) == setting)
            mine = scores.loc[rows, "f1"]
            if mine.empty:
                continue
            x = place - 0.4 + (k + 0.5) * width
            sd = mine.std() if len(mine) > 1 else None
            axes.bar(x, mine.mean(), 0.92 * width, yerr=sd, color=colour, hatch=hatch, edgecolor="white", label=label,
                     error_kw={"ecolor": "black", "capsize": 3})  # fmt: skip
            axes.plot([x] * len(mine), mine, "o", color="black", markersize=3, alpha=0.6)
            label = None
    axes.set_xticks(range(len(settings)), [_setting_label(t, e) for t, e in settings])
    axes.set_ylim(0, 100)
    axes.set_ylabel("micro F1, exact spans (%)")
    axes.set_title(_finding(study, scores), loc="left")
    axes.grid(axis="x", visible=False)
    axes.legend(frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    figure.text(0.01, -0.16, study.caption, fontsize=8, color="0.35", ha="left")
    return figure


def _setting_label(train: str, evaluate: str) -> str:
    return f"{train} → {evaluate}\n{'in-domain' if train == evaluate else 'out-of-domain'}"


def _finding(study: Study, scores: pd.DataFrame) -> str:
    """The title says what the figure shows: how many of the systems lose by the change of document type."""
    means = scores.groupby(["system", "train", "setting"])["f1"].mean().unstack()
    if not {"ID", "OOD"} <= set(means.columns):
        return f"{study.title}: micro F1 by setting"
    gap = (means["OOD"] - means["ID"]).dropna()
    return f"F1 falls out-of-domain in {int((gap < 0).sum())} of {len(gap)} pairs of system and training corpus"


def lengths(corpora: Iterable[Corpus]) -> Figure:
    """Distributions of line and entity lengths in characters, one curve a corpus."""
    use_style()
    corpora = list(corpora)
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2))
    for axes, what, measure in zip(panels, ("lines", "entities"), (line_lengths, entity_lengths), strict=True):
        for corpus, colour, dash in zip(corpora, cycle(COLOURS), cycle(("-", "--", ":", "-.")), strict=False):
            sns.ecdfplot(x=measure(corpus), ax=axes, color=colour, linestyle=dash, label=corpus.name)
        axes.set_xlabel(f"length of {what} (characters)")
        axes.set_ylabel("share of at most this length")
    panels[0].set_title("How long lines and entities are, by corpus", loc="left")
    panels[1].legend(frameon=False)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write `path` as PNG and SVG, each beside first and then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, and not anew at every drawing
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
        beside = path.with_name(f".{path.name}.part{suffix}")
        try:
            figure.savefig(beside, metadata=metadata, dpi=150)
            os.replace(beside, path.with_suffix(suffix))
        finally:
            with suppress(FileNotFoundError):
                beside.unlink()
