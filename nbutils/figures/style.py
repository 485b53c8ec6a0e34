"""Figures: one look for the whole study, the same colour for the same system everywhere, Japanese labels rendered."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import matplotlib.pyplot as plt
import matplotlib_fontja  # registers IPAexGothic, so that Japanese labels render on any machine
import seaborn as sns
from matplotlib.figure import Figure

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
