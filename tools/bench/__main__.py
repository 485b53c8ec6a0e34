"""`python -m tools.bench`: decoding, training, tagging, reading answers and scoring beside the usual ways; 10 minutes.

Ratios of one run on one machine. `--quick` is a look at everything on small sizes, with no claim.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from nbutils.study.provenance import provenance
from tools.bench import OUT, decoding, markdown, others, passes, say, training, write

LINES = {1: 8, 8: 16, 32: 32}  # by batch size; of one text at a time fewer are enough
HEAD = (
    "Measured in one run on: {device}, {threads} threads. Decoding with a Llama of random weights, {layers} layers × "
    "{hidden}, vocabulary {vocabulary:,}. Ratios hold for this shape and machine; docs/copy_decoding.md says what they "
    "depend on."
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look: few lines, small batches, no claim")
    parser.add_argument("--hidden", type=int, default=512, help="size of the language model's hidden states")
    parser.add_argument("--layers", type=int, default=6, help="layers of the language model")
    parser.add_argument("--vocabulary", type=int, default=128_256, help="rows of its output layer")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for bench.json, .md, .png and .svg")
    chosen = parser.parse_args(arguments)
    transformers.logging.set_verbosity_error()
    begin, quick = time.perf_counter(), chosen.quick
    config = decoding.llama(chosen.hidden, chosen.layers, chosen.vocabulary)
    sizes = {1: 2, 8: 8} if quick else LINES
    tables = {
        "decoding": decoding.measure(config, sizes, (0, 400), say),
        "passes": passes.table(10 if quick else 50),
        "training an encoder": training.encoder(24 if quick else 160, say),
        "tuning with LoRA": training.lora_steps(16 if quick else 48, say),
        "tagging with an encoder": training.tagging(100 if quick else 2_000, say),
        "reading damaged answers": others.reading(5 if quick else 100, say),
        "scoring": others.scoring(2_000 if quick else 50_000, say),
        "bootstrap": others.bootstrapping(100 if quick else 1000),
    }
    about = {"quick": quick, "hidden": chosen.hidden, "layers": chosen.layers, "vocabulary": chosen.vocabulary,
             "seconds": round(time.perf_counter() - begin), "torch threads": torch.get_num_threads(),
             **provenance()}  # fmt: skip
    head = HEAD.format(**about | {"threads": about["torch threads"]})
    write(chosen.out / "bench", head, about, tables)
    print(f"{head}\n")
    for name, rows in tables.items():
        print(f"{name}\n\n{markdown(rows)}")


if __name__ == "__main__":
    main()
