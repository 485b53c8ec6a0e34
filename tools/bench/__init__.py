"""`make bench`: decoding, training and scoring, each side by side with the usual way, in one run, as ratios.

Leaves bench.json (all numbers and where they were measured), bench.md (tables) and bench.png/svg in runs/bench. The
published ones are made with `--out figures`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers

from nbutils import ROOT
from nbutils.figures.style import write_figure
from nbutils.files import written_whole
from nbutils.study.provenance import provenance
from tools.bench import decoding, others
from tools.bench.figure import speed_ups

OUT = ROOT / "runs" / "bench"
LINES = {1: 12, 8: 16, 32: 32}  # by batch size; of one text at a time fewer are enough
QUICK = {1: 2, 8: 8}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look: few lines, small batches, no claim")
    parser.add_argument("--hidden", type=int, default=512, help="size of the language model's hidden states")
    parser.add_argument("--layers", type=int, default=6, help="layers of the language model")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for bench.json, .md, .png and .svg")
    chosen = parser.parse_args()
    transformers.logging.set_verbosity_error()
    begin = time.perf_counter()
    decoded = decoding.measure(QUICK if chosen.quick else LINES, (0, 400), chosen.hidden, chosen.layers, _say)
    training = others.training(24 if chosen.quick else 128, _say)
    scoring = others.scoring(2_000 if chosen.quick else 100_000, _say)
    resampling = others.bootstrapping(100 if chosen.quick else 1000)
    about = {
        "quick": chosen.quick, "hidden": chosen.hidden, "layers": chosen.layers,
        "vocabulary": decoding.VOCABULARY,
        "seconds": round(time.perf_counter() - begin), "torch threads": torch.get_num_threads(), **provenance(),
    }  # fmt: skip
    tables = {"decoding": decoded, "training": training, "scoring": scoring, "bootstrap": resampling}
    write(chosen.out, about, tables)
    print((chosen.out / "bench.md").read_text(encoding="utf-8"))


def write(folder: Path, about: dict[str, Any], tables: dict[str, pd.DataFrame]) -> None:
    """bench.json, bench.md and the figure, each whole or not at all."""
    with written_whole(folder / "bench.json") as file:
        rows = {name: json.loads(table.to_json(orient="records")) for name, table in tables.items()}
        json.dump({"about": about} | rows, file, indent=1, ensure_ascii=False)
        file.write("\n")
    with written_whole(folder / "bench.md") as file:
        file.write(
            f"Measured in one run on: {about['device']}, {about['torch threads']} threads. A Llama of random weights, "
            f"{about['layers']} layers × {about['hidden']}, vocabulary {about['vocabulary']:,}. Ratios hold for this "
            "shape and machine; docs/copy_decoding.md says what they depend on.\n"
        )
        for name, table in tables.items():
            file.write(f"\n**{name}**\n\n{markdown(table)}")
    write_figure(speed_ups(tables["decoding"]), folder / "bench")


def markdown(table: pd.DataFrame) -> str:
    """A Markdown table; numbers with three digits."""
    cells = [[f"{v:.3g}" if isinstance(v, float) and abs(v) < 100 else _whole(v) for v in row]
             for row in table.itertuples(index=False)]  # fmt: skip
    lines = [list(table.columns), ["---"] * len(table.columns), *cells]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def _whole(value: Any) -> str:
    return f"{value:,.0f}" if isinstance(value, float) else str(value)


def _say(line: str) -> None:
    print(line, flush=True)
