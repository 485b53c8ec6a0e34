"""The main figure: F1 by setting and system, the gaps with their intervals, and precision against recall."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from nbutils.analysis.significance import INTERVAL
from nbutils.figures.style import MARKERS, system_dots, system_styles, use_style
from nbutils.study.file import Study


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


def gaps(study: Study, table: pd.DataFrame) -> Figure:
    """Δ of every system with its 95 % interval, a panel a direction. Needs `statistics.gap_table`."""
    use_style()
    if table.empty:
        return plt.figure().suptitle("No system has been scored both in-domain and out-of-domain").figure
    directions = list(dict.fromkeys(table.index.droplevel("system")))
    figure, panels = plt.subplots(
        1, len(directions), figsize=(1.5 + 4 * len(directions), 1.2 + 0.45 * len(study.systems)),
        sharey=True, sharex=True, squeeze=False,
    )  # fmt: skip
    for axes, (train, evaluate) in zip(panels[0], directions, strict=True):
        system_dots(axes, study, table.xs((train, evaluate), level=("train", "evaluate")), "Δ (points)")
        axes.axvline(0, color="0.3", linewidth=1)
        axes.set_xlabel(f"Δ = F1 on {evaluate} − F1 on {train} (points)")
        axes.set_title(f"trained on {train}", loc="left", fontsize=11)
    sure = int(((table[INTERVAL[0]] > 0) | (table[INTERVAL[1]] < 0)).sum())
    title = f"The interval of Δ leaves out 0 for {sure} of {len(table)} pairs of system and training corpus"
    figure.suptitle(title, x=0.01, ha="left")
    figure.tight_layout()
    return figure


def precision_recall(study: Study, table: pd.DataFrame) -> Figure:
    """Precision against recall as the threshold rises, a panel a setting. Needs `statistics.threshold_table`."""
    use_style()
    settings = [(t, e) for t in study.train for e in sorted(study.evaluate, key=lambda e: e != t)]
    figure, panels = plt.subplots(
        1, len(settings), figsize=(3.1 * len(settings), 3.6), sharex=True, sharey=True, squeeze=False
    )
    for axes, (train, evaluate) in zip(panels[0], settings, strict=True):
        for k, (name, (colour, _)) in enumerate(system_styles(study).items()):
            mine = table.query("system == @name and train == @train and evaluate == @evaluate")
            axes.plot(mine["recall"], mine["precision"], color=colour, marker=MARKERS[k % len(MARKERS)], markersize=4,
                      markeredgecolor="black", markeredgewidth=0.3, label=study.systems[name].title)  # fmt: skip
        axes.set_title(f"{train} → {evaluate}", loc="left", fontsize=11)
        axes.set_xlabel("recall (%)")
    panels[0, 0].set(ylabel="precision (%)", xlim=(-3, 103), ylim=(-3, 103))
    ends = table.dropna(subset="precision").groupby(["system", "train", "evaluate"])["precision"].agg(["first", "last"])
    gained = int((ends["last"] > ends["first"]).sum())
    figure.suptitle(f"Precision rises with the threshold in {gained} of {len(ends)} curves", x=0.01, ha="left")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.tight_layout()
    figure.legend(handles, labels, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 0))
    return figure
