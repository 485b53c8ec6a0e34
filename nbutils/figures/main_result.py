"""The main figure: F1 by setting and system, the gaps with their intervals, and precision against recall."""

from __future__ import annotations

from collections.abc import Collection

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from nbutils.analysis.significance import INTERVAL, WIDER
from nbutils.figures import style
from nbutils.figures.style import plain, system_styles, use_style
from nbutils.study.file import Study


def main_result(study: Study, scores: pd.DataFrame, nothing: Collection[str] = ()) -> Figure:
    """Bars of mean F1 by setting and system, whiskers of one SD, a dot per run. Needs `main_result.score_runs`.

    Systems of `nothing` (`significance.at_floor`) are named below the figure and not drawn.
    """
    use_style()
    settings = study.pairings()
    styles = {name: look for name, look in system_styles(study).items() if name not in nothing}
    figure, axes = plt.subplots(figsize=(1.6 + 1.9 * len(settings), 4.6), layout="constrained")
    width = 0.8 / max(len(styles), 1)
    for k, (name, (colour, hatch)) in enumerate(styles.items()):
        label: str | None = plain(study.systems[name].title)  # once in the legend
        for place, setting in enumerate(settings):
            rows = (scores["system"] == name) & (scores[["train", "evaluate"]].apply(tuple, axis=1) == setting)
            f1 = scores.loc[rows, "f1"].dropna()
            if f1.empty:
                continue
            x = place - 0.4 + (k + 0.5) * width
            sd = f1.std() if len(f1) > 1 else None
            axes.bar(x, f1.mean(), 0.92 * width, yerr=sd, color=colour, hatch=hatch, edgecolor="white", label=label,
                     error_kw={"ecolor": "black", "capsize": 3})  # fmt: skip
            axes.plot([x] * len(f1), f1, "o", color="black", markersize=3, alpha=0.6)
            label = None
    labels = [f"{t} → {e}\n{'in-domain' if t == e else 'out-of-domain'}" for t, e in settings]
    axes.set_xticks(range(len(settings)), labels)
    axes.set(ylim=(0, 100), ylabel="micro F1, exact spans (%)")
    axes.set_title(_finding(study, scores[~scores["system"].isin(nothing)]), loc="left")
    axes.grid(axis="x", visible=False)
    style.legend_and_caption(figure, style.caption_without(study, {"F1 near 0": nothing}))
    return figure


def _finding(study: Study, scores: pd.DataFrame) -> str:
    """The title says what the figure shows: how many systems lose by the change of document type, and how much."""
    means = scores.groupby(["system", "train", "setting"])["f1"].mean().unstack()
    if not {"ID", "OOD"} <= set(means.columns):
        return f"{plain(study.title)}: micro F1 by setting"
    gap = (means["OOD"] - means["ID"]).dropna()
    losses = -gap[gap < 0]
    points = f", by {losses.min():.0f} to {losses.max():.0f} points" if len(losses) else ""
    return f"F1 falls out-of-domain in {len(losses)} of {len(gap)} pairs of system and training corpus{points}"


def gaps(study: Study, table: pd.DataFrame) -> Figure:
    """Δ of every system above the floor with its 95 % intervals, one panel per direction: thick over other notes, thin
    over other trainings as well. Needs `significance.gap_table`."""
    use_style()
    if table.empty:
        return plt.figure().suptitle("No system has been scored both in-domain and out-of-domain").figure
    directions = list(dict.fromkeys(table.index.droplevel("system")))
    systems = list(dict.fromkeys(table.index.get_level_values("system")))
    figure, panels = plt.subplots(
        1, len(directions), figsize=(2.5 + 4 * len(directions), 1.4 + 0.45 * len(systems)),
        sharey=True, sharex=True, squeeze=False,
    )  # fmt: skip
    for axes, (train, evaluate) in zip(panels[0], directions, strict=True):
        style.system_dots(axes, study, table.xs((train, evaluate), level=("train", "evaluate")), "Δ (points)", systems)
        axes.axvline(0, color="0.3", linewidth=1)
        axes.set_xlabel(style.wrapped(f"Δ = F1 on {evaluate} − F1 on {train} (points)"))
        axes.set_title(f"trained on {train}", loc="left", fontsize=11)
    below = int((table[WIDER[1]].fillna(table[INTERVAL[1]]) < 0).sum())
    title = f"The interval of Δ lies below 0 for {below} of {len(table)} pairs of system and training corpus"
    figure.suptitle(title, x=0.01, ha="left")
    figure.tight_layout()
    style.legend_and_caption(figure, study.caption)
    return figure


def precision_recall(study: Study, table: pd.DataFrame) -> Figure:
    """Precision against recall as the threshold rises, one panel per setting. Needs `calibration.threshold_table`."""
    use_style()
    settings = study.pairings()
    figure, panels = plt.subplots(
        1, len(settings), figsize=(3.1 * len(settings), 4.2), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    drawn = set(table["system"])
    for axes, (train, evaluate) in zip(panels[0], settings, strict=True):
        for k, (name, (colour, _)) in enumerate(system_styles(study).items()):
            if name in drawn:
                rows = table.query("system == @name and train == @train and evaluate == @evaluate")
                axes.plot(
                    rows["recall"], rows["precision"], color=colour, marker=style.marker(k), markersize=4,
                    markeredgecolor="black", markeredgewidth=0.3, label=plain(study.systems[name].title),
                )  # fmt: skip
        axes.set_title(f"{train} → {evaluate}", loc="left", fontsize=11)
        axes.set_xlabel("recall (%)")
    panels[0, 0].set(ylabel="precision (%)", xlim=(-3, 103), ylim=(-3, 103))
    ends = table.dropna(subset="precision").groupby(["system", "train", "evaluate"])["precision"].agg(["first", "last"])
    gained = int((ends["last"] > ends["first"]).sum())
    figure.suptitle(f"Precision rises with the threshold in {gained} of {len(ends)} curves", x=0.01, ha="left")
    style.legend_and_caption(figure, study.caption)
    return figure
