"""Fetch the two files of JMED-LLM that the study "public" reads: `make data`, or `python -m tools.fetch_jmed_llm`.

They come from one commit and are accepted by their SHA-256 only. A download that was cut off goes on where it stopped.
A proxy is taken from the environment (`https_proxy`), as with any program that uses urllib. The files stay out of git.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from tqdm.auto import tqdm

from nbutils import ROOT
from nbutils.files import DataError, lock

COMMIT = "3bddae3598d149a1fbff40a4ad617193e12e8936"
SOURCE = f"https://raw.githubusercontent.com/sociocom/JMED-LLM/{COMMIT}/datasets/all"
# file: SHA-256, bytes, what it is and under which licence
FILES = {
    "CRNER.csv": (
        "d0cd14334f29b8b5b34c437da4d8742ca86dd2ebc247c844af5a0efca3790e52", 548644,
        "147 case reports, CC BY 4.0",
    ),
    "NRNER.csv": (
        "10fa51537e7333b3c47211409113da6645f2d0849c24af6153c7b00dadb963bb", 1199386,
        "895 simulated nursing records, CC BY-NC-SA 4.0 (not for commercial use; what is made from them: same licence)",
    ),
}  # fmt: skip
FOLDER = ROOT / "data" / "jmed-llm"
TRIES, SECONDS, PIECE = 3, 30, 1 << 16


def fetch(folder: Path, source: str = SOURCE, *, progress: bool = True) -> list[Path]:
    """The files, each checked; only what is not there yet is fetched.

    Raises:
        DataError: no connection, or a file is not the expected one; the sentence says what to do by hand.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [_file(folder / name, f"{source.rstrip('/')}/{name}", progress) for name in FILES]


def _file(path: Path, address: str, progress: bool) -> Path:
    expected, size, _ = FILES[path.name]
    if path.exists():
        if _sha256(path) != expected:
            raise DataError(
                f"{path}: not the file of commit {COMMIT[:7]}; move it away, or set JMED_LLM_DIR to another folder"
            )
        return path
    part = path.with_name(f".{path.name}.part")
    with open(part, "ab") as file:
        lock(file, f"{path}: another process is fetching it; wait for its end")
        for left in reversed(range(TRIES)):
            try:
                _go_on(file, address, size, progress)
                break
            except (OSError, HTTPException) as error:
                gone = isinstance(error, urllib.error.HTTPError) and error.code < 500
                if gone or not left:
                    raise DataError(_by_hand(path, error)) from None
                time.sleep(1)
    if (actual := _sha256(part)) != expected:
        part.unlink()
        raise DataError(
            f"{address}: SHA-256 {actual} in place of {expected}; nothing was kept. A proxy may have answered instead"
        )
    os.replace(part, path)
    return path


def _go_on(file: BinaryIO, address: str, size: int, progress: bool) -> None:
    """Fetch what a file lacks; a server that cannot go on from a byte sends all of it again."""
    kept = file.seek(0, os.SEEK_END)
    if kept >= size:
        return
    request = urllib.request.Request(address, headers={"Range": f"bytes={kept}-"} if kept else {})
    with urllib.request.build_opener().open(request, timeout=SECONDS) as answer:  # with the proxy of this moment
        if kept and answer.status != 206:
            kept = file.seek(0)
            file.truncate()
        name = address.rpartition("/")[2]
        with tqdm(total=size, initial=kept, unit="B", unit_scale=True, desc=name, disable=not progress) as bar:
            while kept < size and (piece := answer.read(min(PIECE, size - kept))):
                file.write(piece)
                kept += len(piece)
                bar.update(len(piece))
    file.flush()
    if kept < size:
        raise OSError(f"the connection ended after {kept:,} of {size:,} bytes")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _by_hand(path: Path, error: Exception) -> str:
    lines = [
        f"{path.name} could not be fetched: {error}",
        "With a connection, run `make data` again; it goes on where it was cut off. Behind a proxy set https_proxy.",
        f"Without one, fetch these files on another machine, and put them into {path.parent}:",
        *(f"  {SOURCE}/{name}\n    SHA-256 {FILES[name][0]}" for name in FILES),
        "or set JMED_LLM_DIR to the folder that has them.",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch CRNER.csv and NRNER.csv of JMED-LLM, check them, and say what may be done with them."""
    parser = argparse.ArgumentParser(prog="python -m tools.fetch_jmed_llm", description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="where to (default: data/jmed-llm)")
    parser.add_argument("--source", default=SOURCE, help="a mirror of the folder datasets/all of that commit")
    chosen = parser.parse_args(arguments)
    try:
        for path in fetch(chosen.folder, chosen.source, progress=sys.stderr.isatty()):
            print(f"{path}: {FILES[path.name][2]}")
    except (DataError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print("Cite JMED-LLM when you publish results on them. Next: make study STUDY=public")
    return 0


if __name__ == "__main__":
    sys.exit(main())
