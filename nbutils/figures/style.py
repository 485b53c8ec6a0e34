"""Figures: one look for the whole study, the same colour for the same system everywhere, Japanese labels rendered."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import matplotlib_fontja  # registers IPAexGothic, so that Japanese labels render on any machine
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nbutils.analysis.significance import INTERVAL, WIDER
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
    """(colour, hatch) of each system, by its place in the study file; no two are the same."""
    return {name: (COLOURS[k % len(COLOURS)], HATCHES[_turned(k)]) for k, name in enumerate(study.systems)}


def marker(k: int) -> str:
    """The marker of the system at place `k` of the study file, which goes with its colour."""
    return MARKERS[_turned(k)]


def _turned(k: int) -> int:
    """Where colours begin again, hatches and markers are one further."""
    return (k + k // len(COLOURS)) % len(COLOURS)


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


def plain(text: object) -> str:
    """Text of a corpus or a study as matplotlib draws it: a dollar sign starts no formula."""
    return str(text).replace("$", r"\$")


def wrapped(text: str, width: int = 30) -> str:
    """`plain` text in lines of at most `width` characters; never between a dollar sign and its backslash."""
    return plain(fill(text, width))


def caption_below(study: Study, axes: Axes) -> None:
    """What the numbers are not, below the axis' label."""
    place = {"xytext": (0, -62), "textcoords": "offset points", "xycoords": "axes fraction", "annotation_clip": False}
    axes.annotate(plain(study.caption), (0, 0), fontsize=8, color="0.35", va="top", **place)


def legend_and_caption(figure: Figure, caption: str) -> None:
    """The legend of all panels below a figure, however tall, and below the legend what the numbers are not."""
    handles = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    bottom = 0.0
    if handles:
        below = {"loc": "upper left", "bbox_to_anchor": (0, 0)}
        legend = figure.legend(handles.values(), handles, frameon=False, ncols=2, **below)
        figure.draw_without_rendering()
        bottom = legend.get_window_extent().transformed(figure.transFigure.inverted()).y0
    figure.text(0.01, bottom, plain(caption), fontsize=8, color="0.35", ha="left", va="top")


def caption_without(study: Study, hidden: Mapping[str, Collection[str]]) -> str:
    """The study's caption, then a line for each reason why systems are not drawn, with their titles in its order."""
    lines = [study.caption]
    for why, systems in hidden.items():
        titles = ", ".join(s.title for name, s in study.systems.items() if name in systems)
        lines.append(f"Not drawn ({why}): {plain(titles)}." if systems else "")
    return "\n".join(filter(None, lines))


def system_dots(axes: Axes, study: Study, rows: pd.DataFrame, value: str, titles: Sequence[str] | None = None) -> None:
    """One row per system (or per title given): its value as a marker, intervals as lines, the wider one thin."""
    looks = {study.systems[name].title: (style[0], k) for k, (name, style) in enumerate(system_styles(study).items())}
    titles = list(looks) if titles is None else titles
    for y, title in enumerate(titles):
        if title in rows.index:
            row, (colour, k) = rows.loc[title], looks[title]
            if WIDER[0] in row:
                axes.plot(row[WIDER].astype(float), [y, y], color=colour, linewidth=1)
            axes.plot(row[INTERVAL].astype(float), [y, y], color=colour, linewidth=3)
            axes.plot(row[value], y, marker(k), color=colour, markersize=8, markeredgecolor="black")
    axes.set_yticks(range(len(titles)), [wrapped(title) for title in titles])
    axes.set_ylim(len(titles) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
