"""The figure of a benchmark: how many times faster, by batch size.

python -m tools.bench.figure runs/bench/bench.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nbutils.figures.style import COLOURS, HATCHES, use_style, write_figure
from tools.bench.decoding import CLASSIFIER, OURS


def draw(file: Path) -> None:
    """The figure of a benchmark's JSON, beside it."""
    write_figure(speed_ups(json.loads(file.read_text(encoding="utf-8"))), file.with_suffix(""))


def speed_ups(bench: Mapping[str, Any]) -> Figure:
    """Bars of the speed-up over HF's constrained generation by batch size, a panel for each shared prompt; log scale.

    The token classifier needs no decoding and is left to the table.
    """
    use_style()
    decoding = pd.DataFrame(bench["decoding"])
    decoding = decoding[decoding["method"] != CLASSIFIER]
    prefixes = list(decoding["shared prompt (tokens)"].unique())
    sizes, methods = list(decoding["batch"].unique()), list(decoding["method"].unique())
    figure, panels = plt.subplots(1, len(prefixes), figsize=(6.4 * len(prefixes), 3.8), sharey=True, squeeze=False)
    width = 0.8 / len(methods)
    for axes, prefix in zip(panels[0], prefixes, strict=True):
        for k, method in enumerate(methods):
            of_method = decoding[(decoding["shared prompt (tokens)"] == prefix) & (decoding["method"] == method)]
            x = np.array([sizes.index(b) for b in of_method["batch"]]) - 0.4 + (k + 0.5) * width
            bars = axes.bar(x, of_method["speed-up"], 0.92 * width, color=COLOURS[k], hatch=HATCHES[k], label=method)
            axes.bar_label(bars, fmt="%.1f", fontsize=8, padding=2)
        axes.set(yscale="log", xlabel="batch size (lines)", title=f"shared prompt of {prefix} tokens")
        axes.set_xticks(range(len(sizes)), sizes)
        axes.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
        axes.margins(y=0.1)  # space for the figures above the tallest bar
        axes.axhline(1, color="black", linewidth=0.8)
        axes.grid(axis="x", visible=False)
    panels[0, 0].set_ylabel("speed over HF constrained (ratio)")
    ours = decoding[decoding["method"] == OURS]["speed-up"]
    title = f"Copy decoding is {ours.min():.1f} to {ours.max():.1f} times as fast"
    about = bench["about"]
    figure.suptitle(f"{title} (random weights, {about['device']})", x=0.01, ha="left")
    figure.tight_layout()
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 0))
    return figure


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
