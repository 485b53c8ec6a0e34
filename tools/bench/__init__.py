"""`make bench`: what the package does beside what people would use instead, in one run each, as ratios.

`python -m tools.bench` is for any machine, `python -m tools.bench.gpu` for one GPU with 80 GB or more. Both write JSON,
Markdown tables and a figure below runs/bench; the published ones are made with `--out figures`. This module and those
that the GPU's script loads import nothing but torch and transformers at once, so that it starts on a bare machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbutils import ROOT
from nbutils.files import written_whole

OUT = ROOT / "runs" / "bench"
Table = list[dict[str, Any]]


def write(stem: Path, head: str, about: Mapping[str, Any], tables: Mapping[str, Table]) -> None:
    """STEM.json, STEM.md and, where matplotlib is installed, the figure, each whole or not at all."""
    with written_whole(stem.with_suffix(".json")) as file:
        json.dump({"about": about} | dict(tables), file, indent=1, ensure_ascii=False)
        file.write("\n")
    with written_whole(stem.with_suffix(".md")) as file:
        file.write(f"{head}\n")
        for name, table in tables.items():
            file.write(f"\n**{name}**\n\n{markdown(table)}")
    try:
        from tools.bench.figure import draw
    except ImportError as error:
        say(f"no figure: {error.name} is not installed; python -m tools.bench.figure {stem}.json draws it elsewhere")
    else:
        draw(stem.with_suffix(".json"))


def markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of rows with the same keys, numbers with three digits; "—" for what does not apply."""
    lines = [list(table[0]), ["---"] * len(table[0]), *([_cell(value) for value in row.values()] for row in table)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "—"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def say(line: str) -> None:
    print(line, flush=True)
