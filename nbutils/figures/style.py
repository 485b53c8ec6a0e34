"""Figures: one look for the whole study, the same colour for the same system everywhere, Japanese labels rendered."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import matplotlib.pyplot as plt
import matplotlib_fontja  # registers IPAexGothic, so that Japanese labels render on any machine
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nbutils.analysis.significance import INTERVAL
from nbutils.study.file import Study
from nbutils.study.runs import figure_folder

# Okabe and Ito's palette is told apart by colour-blind readers; the hatches tell bars apart in grey print.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
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


def save_figure(figure: Figure, study: Study, name: str) -> None:
    """Write a figure of a study as PNG and SVG into `runs/<study>/figures`."""
    write_figure(figure, figure_folder(study.name) / name)


def write_figure(figure: Figure, path: Path) -> None:
    """Write `path` as PNG and SVG, each beside first and then renamed."""
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


def caption_below(study: Study, axes: Axes) -> None:
    """What the numbers are not, below the axis' label."""
    place = {"xytext": (0, -62), "textcoords": "offset points", "xycoords": "axes fraction", "annotation_clip": False}
    axes.annotate(study.caption, (0, 0), fontsize=8, color="0.35", va="top", **place)


def system_dots(axes: Axes, study: Study, rows: pd.DataFrame, value: str) -> None:
    """One row per system: its value as a marker, its interval as a line."""
    styles = system_styles(study)
    titles = [s.title for s in study.systems.values()]
    for k, name in enumerate(study.systems):
        if titles[k] in rows.index:
            row, colour = rows.loc[titles[k]], styles[name][0]
            axes.plot(row[INTERVAL].astype(float), [k, k], color=colour, linewidth=2)
            axes.plot(row[value], k, MARKERS[k % len(MARKERS)], color=colour, markersize=8, markeredgecolor="black")
    axes.set_yticks(range(len(titles)), titles)
    axes.set_ylim(len(titles) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
