"""The outputs of the committed notebooks: made from the reference runs, and compared with them again by nbval.

Both happen in a sandbox: a copy of what the notebooks read, as a fresh clone has it, without `runs/` and `models/`. So
neither reads nor touches what lies in the checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from nbutils import ROOT
from nbutils.files import DataError, written_whole
from tools.reference_runs import REFERENCE, TABLES, copy_files

REFERENCE_RUNS = Path(REFERENCE)
SANITIZE = ROOT / "tests" / "nbval_sanitize.cfg"
TRAINING = ("03_", "04_", "05_")  # they train: run by the study in small, their outputs are not compared
IGNORED = "nbval-ignore-output"
WIDGET = "application/vnd.jupyter.widget-view+json"
TIMEOUT = 900  # seconds a cell may take
# A path of a person or of a temporary folder, and not a part of a word or of an address.
_MACHINE_PATH = re.compile(r"(?<![\w/.])(?:/home/|/root/|/Users/|/tmp/|/var/folders/|[A-Z]:\\\\?Users)")


def notebooks() -> list[Path]:
    """All notebooks of the repository, by number."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def is_compared(path: Path) -> bool:
    """Whether the outputs of a notebook are compared exactly: all but those that train."""
    return not path.name.startswith(TRAINING)


def has_outputs(path: Path) -> bool:
    """Whether a notebook was saved with any output."""
    return any(cell.get("outputs") for cell in nbformat.read(path, as_version=4).cells)


@contextmanager
def sandbox() -> Iterator[Path]:
    """A temporary copy of what notebooks read, without runs and models, where they may write."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        skipped = shutil.ignore_patterns("__pycache__", "jmed-llm", ".ipynb_checkpoints", "*.part")
        for name in ("nbutils", "studies", "notebooks", "data"):
            shutil.copytree(ROOT / name, place / name, ignore=skipped)
        yield place


def execute(path: Path, place: Path) -> nbformat.NotebookNode:
    """Run a notebook in a sandbox and give it back with its outputs, tidied.

    Raises:
        DataError: a cell failed, or shows a path of this machine.
    """
    notebook = nbformat.read(path, as_version=4)
    before = os.environ.copy()
    os.environ.update(environment(place))  # the kernel inherits it
    try:
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=TIMEOUT,
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(place / "notebooks")}},  # where JupyterLab starts a kernel
        )
        client.execute()
    except CellExecutionError as error:
        raise DataError(f"{path.name}: a cell failed with {error.ename}: {error.evalue}") from None
    finally:
        os.environ.clear()
        os.environ.update(before)
    return tidy(notebook, path.name)


def tidy(notebook: nbformat.NotebookNode, name: str = "notebook") -> nbformat.NotebookNode:
    """Take out of a notebook what differs each time and what only a running kernel can use.

    Times of execution, the version of Python, widgets and their ids; in cells that are not compared also what was
    written to the error stream (progress bars). Changes the notebook and returns it.
    """
    notebook.metadata.pop("papermill", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for number, cell in enumerate(notebook.cells):
        cell.metadata.pop("execution", None)
        cell.metadata.pop("papermill", None)
        if cell.cell_type != "code":
            continue
        ignored = IGNORED in cell.metadata.get("tags", [])
        cell.outputs = [out for out in cell.outputs if not (ignored and out.get("name") == "stderr")]
        if not ignored and any(WIDGET in out.get("data", {}) for out in cell.outputs):
            raise DataError(f"{name}, cell {number}: shows a widget; tag the cell {IGNORED}")
        if _MACHINE_PATH.search(json.dumps(cell.outputs)):
            raise DataError(f"{name}, cell {number}: its output shows a path of this machine")
    return without_widgets(notebook)


def without_widgets(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out widgets and their state: a progress bar leaves nothing, other widgets a line that says how to get them.

    Changes the notebook and returns it.
    """
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs = [out for out in cell.outputs if not _is_bar(out)]
        for out in cell.outputs:
            if WIDGET in out.get("data", {}):
                out.data = {"text/plain": "(interactive: open the notebook in JupyterLab and run it)"}
    return notebook


def _is_bar(output: nbformat.NotebookNode) -> bool:
    data = output.get("data", {})
    return WIDGET in data and bool(re.search(r"%\||it/s", data.get("text/plain", "")))


def make(chosen: Iterable[Path]) -> None:
    """Execute notebooks in a sandbox and save them with their outputs, and the figures that they drew.

    Results that a notebook computes once (such as those of notebook 10) are kept beside the reference runs.
    """
    with sandbox() as place:
        for path in chosen:
            print(f"{path.name} ...", end=" ", flush=True)
            notebook = execute(path, place)
            with written_whole(path) as file:
                nbformat.write(notebook, file)
            print("done", flush=True)
        for drawn in (place / "runs").glob("*/figures"):
            if (ROOT / REFERENCE_RUNS / drawn.parent.name).is_dir():  # not those of own notes, which are an example
                shutil.copytree(drawn, ROOT / "figures" / drawn.parent.name, dirs_exist_ok=True)
        if (ROOT / REFERENCE_RUNS).is_dir():
            _keep_tables(place / "runs", ROOT / REFERENCE_RUNS)
            _keep_tables(place / REFERENCE_RUNS, ROOT / REFERENCE_RUNS)


def compare(paths: Sequence[Path], place: Path, *options: str, quiet: bool = True) -> subprocess.CompletedProcess[str]:
    """Run nbval over notebooks of a sandbox: every cell's new output against the saved one.

    Its report is captured, or printed as it comes, one line per cell.
    """
    command = [sys.executable, "-m", "pytest", "-q" if quiet else "-v", "-p", "no:cacheprovider", "-c", os.devnull,
               "--rootdir", str(place), "--nbval", "--nbval-current-env", "--nbval-sanitize-with", str(SANITIZE),
               "--nbval-cell-timeout", str(TIMEOUT), *options, *map(str, paths)]  # fmt: skip
    return subprocess.run(command, cwd=place, env=environment(place), capture_output=quiet, text=True, check=False)


def environment(place: Path) -> dict[str, str]:
    """Our modules from the sandbox, and one thread, since the order of a sum depends on their number."""
    return os.environ | {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def _keep_tables(source: Path, target: Path) -> None:
    """Copy the tables that notebooks keep beside the runs of `source` and that `target` does not have; no run."""
    tables = (path for pattern in TABLES for path in source.glob(f"*/{pattern}"))
    copy_files((path for path in tables if not (target / path.relative_to(source)).exists()), source, target)


def _compare_all(paths: Iterable[Path]) -> int:
    """Compare notebooks in a sandbox, visibly; those saved without outputs are named and left out."""
    compared = [path for path in paths if is_compared(path)]
    empty = [path.name for path in compared if not has_outputs(path)]
    with sandbox() as place:
        copies = [place / "notebooks" / path.name for path in compared if path.name not in empty]
        # Two at a time at most: each has a kernel of its own beside the process that compares.
        workers = min(2, os.cpu_count() or 1)
        status = compare(copies, place, "-n", str(workers), "--dist", "loadfile", quiet=False).returncode
    for name in empty:
        print(f"{name} was saved without outputs; `make reference` makes them.")
    return status or int(bool(empty))


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the outputs of the notebooks again, or compare them with what the notebooks print now."""
    parser = argparse.ArgumentParser(prog="python -m tools.notebook_outputs", description=main.__doc__)
    parser.add_argument("command", choices=["make", "compare"])
    parser.add_argument("notebooks", nargs="*", type=Path, help="some notebooks only, such as notebooks/00_*.ipynb")
    chosen = parser.parse_args(arguments)
    paths = [path.resolve() for path in chosen.notebooks] or notebooks()
    try:
        if chosen.command == "compare":
            return _compare_all(paths)
        make(paths)
    except (DataError, OSError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
