"""Tables as notebooks show them: text to the left, numbers rounded once, intervals in one cell, "—" for nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML
from pandas.io.formats.style import Styler

from nbutils.analysis.significance import INTERVAL, WIDER

NONE = "—"
JOINED = {"95 %: these models": INTERVAL, "95 %: other trainings": WIDER}
ALONE = "95 % interval"  # where a table has one kind: of annotators, say, who are no models


def show(frame: pd.DataFrame, digits: int = 1, **of_columns: int) -> HTML:
    """The frame as HTML: row labels as columns of their own, each written once; `of_columns` are digits by column.

    Columns that start with "p" and a blank or are "p" are p values, with four digits. Counts have none, and commas.
    """
    table = _rows_named(_intervals_joined(frame, digits))
    numeric = [c for c in table.columns if table[c].dtype.kind in "if"]
    for column in table.columns:
        name = column if isinstance(column, str) else " ".join(filter(None, column))
        is_p = name == "p" or name.startswith(("p ", "p,"))
        cells = [_cell(value, 4 if is_p else of_columns.get(name, digits)) for value in table[column]]
        table[column] = ["<0.0001" if is_p and cell == "0.0000" else cell for cell in cells]
    right = {k for k, column in enumerate(table.columns) if column in numeric}

    def aligned(cell: re.Match[str]) -> str:
        return f'<{cell[1]} style="text-align: {"right" if int(cell[2]) in right else "left"}"'

    styler = Styler(table, cell_ids=False).hide(axis="index").format(escape="html").format_index(escape="html", axis=1)
    html = styler.to_html()
    # Inline, since JupyterLab drops <style> from saved outputs that this machine has not made.
    rows = re.sub(r'<(t[hd]) class="[^"]*\bcol(\d+)"', aligned, html[html.index("  <thead>") :])
    small = ' style="font-size: 90%"' if len(table.columns) > 11 else ""  # else wider than JupyterLab's page at 1280 px
    return HTML(f"<table{small}>\n{rows}")


def _intervals_joined(frame: pd.DataFrame, digits: int) -> pd.DataFrame:
    table = frame.copy()
    for name, (low, high) in JOINED.items():
        if low in table.columns:
            ends = zip(table[low], table[high], strict=True)
            cells = [NONE if math.isnan(a) else f"[{a:,.{digits}f}, {b:,.{digits}f}]" for a, b in ends]
            both = {*INTERVAL, *WIDER} <= {*frame.columns}
            table.insert(table.columns.get_loc(low), name if both else ALONE, cells)
            table = table.drop(columns=[low, high])
    return table


def _rows_named(table: pd.DataFrame) -> pd.DataFrame:
    """Row labels as the first columns, a repeated one left blank; a plain count of rows is left out."""
    if isinstance(table.index, pd.RangeIndex) and table.index.name is None:
        return table.reset_index(drop=True)
    n_levels = table.index.nlevels
    table = table.rename_axis([name or f"{'' if k == 0 else k}" for k, name in enumerate(table.index.names)])
    labels = list(table.index.to_frame(index=False).itertuples(index=False, name=None))
    table = table.reset_index()
    for k in range(n_levels - 1):
        same = [i > 0 and labels[i][: k + 1] == labels[i - 1][: k + 1] for i in range(len(labels))]
        written = ["" if s else str(v) for s, v in zip(same, table.iloc[:, k], strict=True)]
        table.isetitem(k, pd.Series(written, dtype=object))
    return table


def settings(chosen: Any, title: str) -> HTML:
    """The settings of a system, a row each, with values as a study file has them; those at their default closed below,
    unless all are.

    Args:
        chosen: what `nbutils.settings` gives.
        title: the heading of their column.
    """
    silent = [f.name for f in fields(chosen) if getattr(chosen, f.name) in (f.default, _made(f))]
    values = [str(v) if isinstance(v, int | float) else v for v in vars(chosen).values()]
    column = pd.Series(values, index=list(vars(chosen)), name=title, dtype=object)
    if len(silent) == len(column):
        return show(column.to_frame())
    by_default = fold(show(column[silent].to_frame()), f"{len(silent)} more, where the study file is silent")
    return HTML(show(column.drop(silent).to_frame()).data + by_default.data)


def _made(field: Field[Any]) -> Any:
    """What a setting without a plain default starts as, such as an empty mapping."""
    return MISSING if field.default_factory is MISSING else field.default_factory()


def _cell(value: object, digits: int) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return NONE
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_cell(one, digits)}" for key, one in value.items()) or NONE
    if isinstance(value, list | tuple):
        return ", ".join(_cell(one, digits) for one in value) or NONE
    return f"{value:,.{digits}f}" if isinstance(value, float) else str(value)


def fold(html: HTML, title: str) -> HTML:
    """A table that is closed until its title is clicked."""
    return HTML(f"<details><summary>{title}</summary>{html.data}</details>")


def by_title(titles: Mapping[str, str], frame: pd.DataFrame, level: str = "system") -> pd.DataFrame:
    """The frame with systems by their titles instead of their names, in rows and in columns."""
    if level in frame.index.names:
        frame = frame.rename(index=titles, level=level if frame.index.nlevels > 1 else None)
    if level in frame.columns.names:
        frame = frame.rename(columns=titles, level=level if frame.columns.nlevels > 1 else None)
    return frame.assign(**{level: frame[level].map(titles)}) if level in frame.columns else frame
