"""How much of the gap is memory: the gap decomposed, and learning curves."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nbutils.analysis.generalisation import BEYOND, ID, OOD, WHOLE
from nbutils.analysis.significance import INTERVAL
from nbutils.figures.style import COLOURS, HATCHES, MARKERS, caption_below, system_styles, use_style
from nbutils.study.file import Study


def gap_decomposed(study: Study, table: pd.DataFrame, gaps: pd.DataFrame) -> Figure:
    """F1 from the nearest training notes to the farthest, with 95 % intervals, one bar per tagger.

    Needs `generalisation.regime_table` and `gap_table`. The number above a bar is its distance from the in-domain bar.
    """
    use_style()
    order = list(dict.fromkeys(table.index.get_level_values("regime")))
    figure, axes = plt.subplots(figsize=(1.8 + 1.6 * len(order), 4.4))
    looks = _tagger_looks(study)
    taggers = [name for name in looks if name in table.index.get_level_values("tagger")]
    width = 0.8 / len(taggers)
    for k, tagger in enumerate(taggers):
        rows = table.loc[tagger].loc[order]
        colour, hatch = looks[tagger]
        x = np.arange(len(order)) - 0.4 + (k + 0.5) * width
        f1 = rows["F1 (%)"].to_numpy(float)
        reach = np.abs([f1 - rows[INTERVAL[0]], rows[INTERVAL[1]] - f1])
        axes.bar(x, f1, 0.92 * width, yerr=reach, color=colour, hatch=hatch, edgecolor="white", label=tagger,
                 error_kw={"ecolor": "black", "capsize": 3})  # fmt: skip
        for place, value, top in list(zip(x, f1, f1 + reach[1], strict=True))[1:]:
            axes.text(place, top + 1.5, f"{value - f1[0]:+.1f}", ha="center", fontsize=9)
    axes.set_xticks(range(len(order)), [_wrapped(name) for name in order])
    xlabel = "training notes, all of the same number of entities"
    axes.set(ylim=(0, 105), ylabel="micro F1, exact spans (%)", xlabel=xlabel)
    axes.set_title(_where_the_gap_is(gaps), loc="left")
    axes.grid(axis="x", visible=False)
    axes.legend(frameon=False, loc="upper right", ncols=len(taggers))
    caption_below(study, axes)
    return figure


def learning_curves(study: Study, curves: pd.DataFrame, taggers: Sequence[str] = ("CRF", "dictionary")) -> Figure:
    """F1 by training entities (log scale), one panel per test corpus, one line per tagger and training part."""
    use_style()
    tests, trains = list(dict.fromkeys(curves["evaluate"])), list(dict.fromkeys(curves["train"]))
    figure, panels = plt.subplots(1, len(tests), figsize=(5 * len(tests), 3.8), sharey=True, squeeze=False)
    for axes, evaluate in zip(panels[0], tests, strict=True):
        for train, colour, marker in zip(trains, COLOURS, MARKERS * 2, strict=False):
            for tagger, dash in zip(taggers, ("-", ":"), strict=False):
                rows = curves.query("evaluate == @evaluate and train == @train and tagger == @tagger")
                means = rows.groupby("size")[["train_entities", "f1"]].mean()
                label = f"{tagger}, trained on {train}"
                axes.plot(means["train_entities"], means["f1"], dash, color=colour, label=label)
                axes.plot(rows["train_entities"], rows["f1"], marker, color=colour, markersize=4, alpha=0.6)
        axes.set(xscale="log", xlabel=f"training entities; tested on {evaluate}")
        sizes = sorted(set(curves["size"]))
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
    panels[0][0].set(ylabel="micro F1, exact spans (%)", ylim=(0, 100))
    panels[0][0].set_title(_who_needs_more(curves), loc="left")
    panels[0][-1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    caption_below(study, panels[0][0])
    return figure


def _tagger_looks(study: Study) -> dict[str, tuple[str, str]]:
    """The CRF as everywhere in this study; the dictionary, which is no system of it, in grey."""
    of_study = system_styles(study)
    own = next((of_study[name] for name, system in study.systems.items() if system.kind == "crf"), None)
    return {"CRF": own or (COLOURS[0], HATCHES[0]), "dictionary": (COLOURS[7], HATCHES[1])}


def _where_the_gap_is(gaps: pd.DataFrame) -> str:
    """The title: how much of the CRF's gap stays when notes of the same case and physician are no longer trained on."""
    if "CRF" not in gaps.index.get_level_values("tagger"):
        return "F1 from the nearest training notes to the farthest"
    points = gaps.loc["CRF"]["change of F1 (points)"]
    whole, beyond = points[WHOLE], points[BEYOND]
    if whole == beyond:  # the notes name neither case nor physician
        return f"CRF, from in-domain to out-of-domain: {whole:+.1f} points"
    within = round(whole, 1) - round(beyond, 1)  # of the rounded ones, so that the sum is right as printed
    return (
        f"CRF, from in-domain to out-of-domain: {whole:+.1f} points = {within:+.1f} without what\n"
        f"in-domain notes share (case, physician) and {beyond:+.1f} for the other document type and its topics"
    )


def _who_needs_more(curves: pd.DataFrame) -> str:
    """The title: whether the other type's notes ever reach what a corpus' own notes give at the largest common size."""
    largest = min(curves.groupby("train")["size"].max())
    means = curves.query("tagger == 'CRF' and size == @largest").groupby(["evaluate", "train"])["f1"].mean()
    own = [means[e, e] > means[e].drop(e).max() for e in means.index.levels[0] if (e, e) in means and len(means[e]) > 1]
    return f"At {largest} entities the CRF's own document type is better for {sum(own)} of {len(own)} test corpora"


def _wrapped(name: str) -> str:
    ends = {ID: "in-domain\n(any notes)", OOD: "out-of-domain\n(other type)"}
    return ends.get(name, name.replace("without", "without\n", 1))
