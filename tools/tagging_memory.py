"""How fast is a large collection tagged, does its memory stay flat, and what do shards gain?

    make tag-memory RUN=runs/demo/crf/CR/seed-0

Short notes, made from the lines of the bundled progress notes in turn, are tagged in processes of their own with one
thread each: fewer and more of them for the memory, then as many in shards side by side. The peak is that of resident
memory, as the system reports it (`ru_maxrss`); seconds are those behind the loading of the model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from nbutils import ROOT
from nbutils.corpus import Document, lines
from nbutils.corpus.formats import read_corpus
from nbutils.corpus.formats.jsonl import jsonl_line
from nbutils.files import written_whole
from nbutils.study import provenance

SIZES = (1_000, 10_000)  # notes


def measured(run: str | Path, n_notes: int, texts: Sequence[str], shards: int = 1) -> tuple[float, int]:
    """Seconds until so many notes, made from the texts in turn, are tagged, and the highest peak of memory in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes.jsonl"
        with written_whole(notes) as file:
            rows = enumerate(islice(cycle(texts), n_notes))
            file.writelines(jsonl_line(Document(f"note-{k}", text)) for k, text in rows)
        command = [sys.executable, "-m", "tools.tagging_memory", str(run), "--notes", str(notes), "--shard"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        started = [
            subprocess.Popen([*command, f"{k}/{shards}"], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
            for k in range(1, shards + 1)
        ]
        told = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    return max(end for _, end, _ in told) - min(begin for begin, _, _ in told), max(peak for *_, peak in told)


def _tag_and_report(run: str, notes: Path, shard: str) -> None:
    from nbutils.tagging.__main__ import tag_shard
    from nbutils.tagging.job import load, prepare

    job = prepare(run, notes, notes.parent / "out")
    load(job.run)  # what it imports and reads from disk stays at hand
    begin = time.time()
    tag_shard(job, *map(int, shard.split("/")))
    print(json.dumps([begin, time.time(), provenance.peak_memory()["cpu"]]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print notes a second and peak memory of tagging, for two numbers of notes, and what shards gain."""
    parser = argparse.ArgumentParser(prog="python -m tools.tagging_memory", description=main.__doc__)
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("--sizes", type=int, nargs=2, default=SIZES, metavar="N", help="numbers of notes (1000 10000)")
    parser.add_argument("--shards", type=int, default=2, help="processes side by side, one core each (2)")
    parser.add_argument("--notes", type=Path, help=argparse.SUPPRESS)  # what the inner processes are given
    parser.add_argument("--shard", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.notes:
        _tag_and_report(chosen.run, chosen.notes, chosen.shard)
        return 0
    texts = [d.text[start:end] for d in read_corpus(ROOT / "data" / "pn") for start, end in lines(d.text)]
    fewer, more = chosen.sizes
    peaks = {}
    for n in chosen.sizes:
        seconds, peaks[n] = measured(chosen.run, n, texts)
        print(f"{n:>6,} notes: {n / seconds:7.1f} notes/s, peak of memory {peaks[n] / 2**20:7.1f} MiB", flush=True)
    growth = (peaks[more] - peaks[fewer]) / (more - fewer)
    print(f"memory: ratio {peaks[more] / peaks[fewer]:.3f}, {growth:.0f} bytes a note")
    together, peak = measured(chosen.run, more, texts, chosen.shards)
    gain = f"{seconds / together:.2f} times as many as in one"
    print(f"{chosen.shards} processes: {more / together:7.1f} notes/s, {gain}, {peak / 2**20:.1f} MiB each at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
