"""Figures of cost: what each system's score costs in time, and our decoding beside the usual one."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nbutils.plots import COLOURS, HATCHES, system_styles, use_style
from nbutils.study.file import Study

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def speed_ups(decoding: pd.DataFrame) -> Figure:
    """Bars of the speed-up over HF's constrained generation by batch size, a panel a shared prompt. A log scale."""
    use_style()
    prefixes = list(decoding["shared prompt (tokens)"].unique())
    sizes, methods = list(decoding["batch"].unique()), list(decoding["method"].unique())
    figure, panels = plt.subplots(1, len(prefixes), figsize=(4.6 * len(prefixes), 3.6), sharey=True, squeeze=False)
    width = 0.8 / len(methods)
    for axes, prefix in zip(panels[0], prefixes, strict=True):
        for k, method in enumerate(methods):
            mine = decoding[(decoding["shared prompt (tokens)"] == prefix) & (decoding["method"] == method)]
            x = np.array([sizes.index(b) for b in mine["batch"]]) - 0.4 + (k + 0.5) * width
            bars = axes.bar(x, mine["speed-up"], 0.92 * width, color=COLOURS[k], hatch=HATCHES[k], label=method)
            axes.bar_label(bars, fmt="%.1f", fontsize=8)
        axes.set(yscale="log", xlabel="batch size (lines)", title=f"shared prompt of {prefix} tokens")
        axes.set_xticks(range(len(sizes)), sizes)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.grid(axis="x", visible=False)
    panels[0, 0].set_ylabel("speed over HF constrained (ratio)")
    ours = decoding[decoding["method"].str.contains("ours")]["speed-up"]
    figure.suptitle(f"Copy decoding is {ours.min():.1f} to {ours.max():.1f} times as fast", x=0.01, ha="left")
    figure.tight_layout()
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 0))
    return figure


def score_against_cost(study: Study, table: pd.DataFrame, cost: str) -> Figure:
    """F1 of every run against a cost, training beside inference. Needs `efficiency.cost_table`; a log scale of cost."""
    use_style()
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for k, (name, (colour, _)) in enumerate(system_styles(study).items()):
        mine = table[table["system"] == name]
        axes.scatter(mine[cost], mine["F1 (%)"], color=colour, marker=MARKERS[k % len(MARKERS)], s=60,
                     edgecolor="black", linewidth=0.4, label=study.systems[name].title)  # fmt: skip
    best = table.sort_values("F1 (%)").iloc[-1] if len(table) else None
    title = "F1 against cost" if best is None else f"{study.systems[best['system']].title} has the highest F1"
    axes.set(xscale="log", xlabel=cost, ylabel="micro F1, exact spans, all evaluation notes (%)", ylim=(-3, 103))
    axes.set_title(title, loc="left")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return figure
