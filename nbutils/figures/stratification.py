"""Whose notes a result depends on: Figures 2 and 3 of the paper, the heat map of notes and the variance components."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from nbutils.analysis.significance import INTERVAL
from nbutils.analysis.stratification import corpus_grid, grid, outliers, stratum_name
from nbutils.corpus import Corpus, Document
from nbutils.figures.style import legend_and_caption, plain, system_dots, system_styles, use_style
from nbutils.scoring.evaluation import Evaluation
from nbutils.study.file import Study


def components(study: Study, table: pd.DataFrame) -> Figure:
    """The SD of note F1 due to physician, case and rest, with intervals. Needs `stratification.component_table`."""
    use_style()
    parts = list(dict.fromkeys(table.index.get_level_values("due to")))
    systems = list(dict.fromkeys(table.index.get_level_values("system")))
    figure, panels = plt.subplots(1, 3, figsize=(12, 1.2 + 0.45 * len(systems)), sharey=True, sharex=True)
    for axes, component in zip(panels, parts, strict=True):
        system_dots(axes, study, table.xs(component, level="due to"), "SD (points)", systems)
        axes.set_xlabel("SD of note F1 (points)")
        axes.set_title(f"due to {component}", loc="left", fontsize=11)
    panels[0].set_xlim(-0.04 * table[INTERVAL[1]].max(), 1.04 * table[INTERVAL[1]].max() + 1)
    sds = table["SD (points)"].unstack("due to")
    more, less, larger = _larger(sds, parts[0], parts[1])
    title = f"The {more} makes more of the spread than the {less} for {larger} of {len(sds)} systems"
    figure.suptitle(title, x=0.01, ha="left")
    figure.tight_layout()
    legend_and_caption(figure, study.caption)
    return figure


def overview(corpus: Corpus) -> Figure:
    """Figure 2, drawn from the data: every note in its physician's row and its case's column, shaded by its entities.

    One row and one column are framed: the notes that one physician-based and one case-based score are averaged over.
    """
    use_style()
    cells = corpus_grid(corpus)
    figure, axes = plt.subplots(figsize=(2.6 + 0.7 * cells.shape[1], 1.6 + 0.45 * cells.shape[0]))
    image = _heat(axes, cells, corpus.documents, low=cells.min().min(), high=cells.max().max())
    n_rows, n_columns = cells.shape
    frame = {"fill": False, "edgecolor": "#D55E00", "linewidth": 3, "clip_on": False}
    axes.add_patch(Rectangle((-0.5, 0.5), n_columns, 1, linestyle="-", **frame))
    axes.add_patch(Rectangle((1.5, -0.5), 1, n_rows, linestyle="--", **frame))
    row_key, column_key = cells.index.name, cells.columns.name
    axes.annotate(f"{row_key}-based:\nmean of a row", (n_columns - 0.5, 1), (12, 0), textcoords="offset points",
                  va="center", fontsize=10, color="#D55E00")  # fmt: skip
    axes.annotate(f"{column_key}-based: mean of a column", (2, -0.5), (0, 6), textcoords="offset points", ha="center",
                  fontsize=10, color="#D55E00")  # fmt: skip
    notes = "one note" if len(corpus) == cells.size else f"{len(corpus)} notes in {cells.size} cells"
    n_cells = f"{n_rows} {row_key}s × {n_columns} {column_key}s, {notes}" + (" per cell" if notes == "one note" else "")
    axes.set_title(plain(f"{corpus.name}: {n_cells}"), loc="left", pad=26)
    axes.set(xlabel="", ylabel="")
    figure.colorbar(image, ax=axes, label="entities in the note", pad=0.19, shrink=0.8)
    return figure


def boxes(study: Study, strata: pd.DataFrame, value: str = "mean of notes") -> Figure:
    """Figure 3: box plots of F1 by physician and by case, systems side by side; whiskers 1.5 IQR, outliers named.

    Needs `stratification.strata_table`.
    """
    use_style()
    styles = {name: style for name, style in system_styles(study).items() if name in set(strata["system"])}
    keys = list(dict.fromkeys(strata["by"]))
    figure, panels = plt.subplots(1, len(keys), figsize=(5.5 * len(keys), 4.6), sharey=True, squeeze=False)
    for axes, by in zip(panels[0], keys, strict=True):
        for place, (system, (colour, hatch)) in enumerate(styles.items()):
            rows = (strata["system"] == system) & (strata["by"] == by)
            values = strata[rows].set_index("name")[value]
            axes.boxplot(values, positions=[place], widths=0.6, whis=1.5, patch_artist=True,
                         label=plain(study.systems[system].title),
                         boxprops={"facecolor": colour, "hatch": hatch, "edgecolor": "black", "alpha": 0.8},
                         medianprops={"color": "black", "linewidth": 2}, flierprops={"marker": "o"})  # fmt: skip
            for f1, names in _near(values[outliers(values)]):
                axes.annotate(plain(names), (place, f1), (6, 6), textcoords="offset points", va="center", fontsize=8)
        axes.set(xticks=[], xlim=(-0.6, len(styles) - 0.1))
        axes.set_title(f"by {by}", loc="left", fontsize=11)
    panels[0, 0].set(ylim=(-2, 102), ylabel="F1, exact spans (%), one value per stratum")
    figure.suptitle(_wider(strata, value, keys), x=0.01, ha="left")
    figure.tight_layout()
    legend_and_caption(figure, study.caption)
    return figure


def _wider(strata: pd.DataFrame, value: str, keys: Sequence[str]) -> str:
    sds = strata.groupby(["system", "by"])[value].std().unstack("by")
    if len(keys) < 2:
        return f"F1 varies over {keys[0]}s with an SD of {sds[keys[0]].min():.0f} to {sds[keys[0]].max():.0f} points"
    more, less, larger = _larger(sds, keys[0], keys[1])
    return f"F1 varies more over {more}s than over {less}s for {larger} of {len(sds)} systems"


def _larger(sds: pd.DataFrame, first: str, second: str) -> tuple[str, str, int]:
    """The column with the larger SD for most systems, the other one, and for how many: no title says "0 of 3"."""
    larger = int((sds[first] > sds[second]).sum())
    return (first, second, larger) if 2 * larger >= len(sds) else (second, first, int((sds[second] > sds[first]).sum()))


def _near(values: pd.Series, reach: float = 3.0) -> list[tuple[float, str]]:
    """(height, label) of outliers; those within `reach` points share a label, since theirs would overprint."""
    labels: list[tuple[float, str]] = []
    for name, f1 in values.sort_values().items():
        if labels and f1 - labels[-1][0] < reach:
            labels[-1] = (labels[-1][0], f"{labels[-1][1]}, {name}")
        else:
            labels.append((f1, str(name)))
    return labels


def heat_map(study: Study, chosen: Mapping[str, Evaluation]) -> Figure:
    """F1 of every note (percent, mean over seeds), physician by case, one panel per system, one scale for all."""
    use_style()
    cells = {system: grid(evaluation) for system, evaluation in chosen.items()}
    height, width = next(iter(cells.values())).shape
    n_columns = min(2, len(cells))
    n_rows = -(-len(cells) // n_columns)
    figure, panels = plt.subplots(
        n_rows, n_columns, figsize=(n_columns * (1.2 + 0.52 * width), n_rows * (0.6 + 0.36 * height) + 1.8),
        squeeze=False, sharex=True, sharey=True, layout="constrained",
    )  # fmt: skip
    for axes in panels.flat[len(cells) :]:
        axes.set_visible(False)
    for axes in panels.flat[max(len(cells) - n_columns, 0) : len(cells)]:  # the lowest of a column names the cases
        axes.tick_params(labelbottom=True)
    for axes, (system, values) in zip(panels.flat, cells.items(), strict=False):
        image = _heat(axes, values, chosen[system].documents, low=0, high=100)
        axes.set_title(plain(study.systems[system].title), loc="left", fontsize=11)
    figure.colorbar(image, ax=panels, label="F1 of the note (%)", shrink=0.6)
    names = _row_names(next(iter(chosen.values())).documents, next(iter(cells.values())))
    means = {system: values.mean(axis=1) for system, values in cells.items()}
    hardest = pd.Series([m.idxmin() for m in means.values() if (m == m.min()).sum() == 1], dtype=object).value_counts()
    if len(hardest):
        of_systems = f"writes the hardest notes for {hardest.iloc[0]} of {len(cells)} systems"
        figure.suptitle(f"{plain(names[hardest.index[0]])} {of_systems}", x=0.01, ha="left")
    legend_and_caption(figure, study.caption)
    return figure


def _heat(axes: Axes, cells: pd.DataFrame, documents: Sequence[Document], *, low: float, high: float) -> AxesImage:
    """A grid of shaded cells with their value written in, dark on light and light on dark; empty cells stay blank."""
    image = axes.imshow(cells, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    for (row, column), value in pd.DataFrame(cells.to_numpy()).stack().dropna().items():
        dark = value < (low + high) / 2
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=9, color="white" if dark else "black")
    columns, rows = _row_names(documents, cells.T), _row_names(documents, cells)
    labels = [plain(columns[c]) for c in cells.columns]
    axes.set_xticks(range(cells.shape[1]), labels, rotation=90, fontsize=9)  # aslant, Japanese clogs
    axes.set_yticks(range(cells.shape[0]), [plain(rows[r]) for r in cells.index], fontsize=9)
    axes.grid(visible=False)
    return image


def _row_names(documents: Iterable[Document], cells: pd.DataFrame) -> dict[str, str]:
    """What the rows of a grid are called."""
    key = cells.index.name
    return {d.meta[key]: stratum_name(d, key) for d in documents}
