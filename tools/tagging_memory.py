"""Does tagging need more memory for more notes? Tags 1,000 and 10,000 short notes, each in a process of its own.

    make tag-memory RUN=runs/demo/crf/CR/seed-0

The peak is that of resident memory, as the system reports it (`ru_maxrss`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from nbutils import ROOT
from nbutils.corpus import Document, lines
from nbutils.corpus.formats import jsonl_line, read_corpus
from nbutils.files import written_whole
from nbutils.study import provenance

SIZES = (1_000, 10_000)  # notes


def peak_memory(run: str | Path, n_notes: int, texts: Sequence[str]) -> int:
    """The peak of resident memory, in bytes, of a process that tags so many notes, made from the texts in turn."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes.jsonl"
        with written_whole(notes) as file:
            rows = enumerate(islice(cycle(texts), n_notes))
            file.writelines(jsonl_line(Document(f"note-{k}", text)) for k, text in rows)
        command = [sys.executable, "-m", "tools.tagging_memory", str(run), "--notes", str(notes)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        return int(done.stdout.split()[-1])


def _tag_and_report(run: str, notes: Path) -> None:
    from nbutils.tagging.__main__ import tag

    tag(run, notes, notes.parent / "out", progress=False)
    print(provenance.peak_memory()["cpu"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the peak memory of tagging 1,000 and 10,000 notes with a finished run."""
    parser = argparse.ArgumentParser(prog="python -m tools.tagging_memory", description=main.__doc__)
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("--notes", type=Path, help=argparse.SUPPRESS)  # what the inner process is given
    chosen = parser.parse_args(arguments)
    if chosen.notes:
        _tag_and_report(chosen.run, chosen.notes)
        return 0
    corpus = read_corpus(ROOT / "data" / "pn")
    texts = [d.text[start:end] for d in corpus for start, end in lines(d.text)]
    peaks = {}
    for n in SIZES:
        peaks[n] = peak_memory(chosen.run, n, texts)
        print(f"{n:>6,} notes: peak of resident memory {peaks[n] / 2**20:7.1f} MiB", flush=True)
    first, last = peaks[SIZES[0]], peaks[SIZES[-1]]
    print(f"ratio {last / first:.3f}, {(last - first) / (SIZES[-1] - SIZES[0]):.0f} bytes a note")
    return 0


if __name__ == "__main__":
    sys.exit(main())
