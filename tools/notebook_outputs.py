"""The outputs of the committed notebooks: made from the reference runs, and compared with them again by nbval.

Both happen in a *room*: a copy of what the notebooks read, with the reference runs as its `runs`. So neither touches
the checkout's own runs and figures. Knows notebooks and their outputs; knows nothing of what they are about.
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
def room() -> Iterator[Path]:
    """A temporary copy of what notebooks read and write; its `runs` are the reference runs, where there are any."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        skipped = shutil.ignore_patterns("__pycache__", "jmed-llm", ".ipynb_checkpoints", "*.part")
        for name in ("nbutils", "studies", "notebooks", "data"):
            shutil.copytree(ROOT / name, place / name, ignore=skipped)
        if (ROOT / REFERENCE_RUNS).is_dir():
            shutil.copytree(ROOT / REFERENCE_RUNS, place / "runs")
        yield place


def execute(path: Path, place: Path) -> nbformat.NotebookNode:
    """Run a notebook in a room and give it back with its outputs, tidied.

    Raises:
        DataError: a cell failed, or shows a path of this machine.
    """
    notebook = nbformat.read(path, as_version=4)
    before = os.environ.copy()
    os.environ.update(_environment(place))  # the kernel inherits it
    try:
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=TIMEOUT,
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(place)}},
        )
        client.execute()
    except CellExecutionError as error:
        raise DataError(f"{path.name}: a cell failed with {error.ename}: {error.evalue}") from None
    finally:
        os.environ.clear()
        os.environ.update(before)
    return tidy(notebook, path.name)


def tidy(notebook: nbformat.NotebookNode, name: str = "notebook") -> nbformat.NotebookNode:
    """Take out of a notebook what is another one each time and what only a running kernel can use.

    Times of execution, the version of Python, widgets and their ids; in cells that are not compared also what was
    written to the error stream (progress bars). Changes the notebook and returns it.
    """
    notebook.metadata.pop("widgets", None)
    notebook.metadata.pop("papermill", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for number, cell in enumerate(notebook.cells):
        cell.metadata.pop("execution", None)
        cell.metadata.pop("papermill", None)
        if cell.cell_type != "code":
            continue
        ignored = IGNORED in cell.metadata.get("tags", [])
        cell.outputs = [out for out in cell.outputs if not (ignored and out.get("name") == "stderr")]
        for out in cell.outputs:
            if WIDGET in out.get("data", {}):
                if not ignored:
                    raise DataError(f"{name}, cell {number}: shows a widget; tag the cell {IGNORED}")
                out.data = {"text/plain": "(interactive: open the notebook in JupyterLab and run it)"}
        if _MACHINE_PATH.search(json.dumps(cell.outputs)):
            raise DataError(f"{name}, cell {number}: its output shows a path of this machine")
    return notebook


def make(chosen: Iterable[Path]) -> None:
    """Execute notebooks from the reference runs and save them with their outputs, and the figures they drew.

    Results that a notebook keeps beside the runs (such as those of notebook 10) are kept beside the reference runs.
    """
    with room() as place:
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


def compare(paths: Sequence[Path], place: Path) -> subprocess.CompletedProcess[str]:
    """Run nbval over notebooks of a room: every cell's new output against the saved one."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull,
               "--rootdir", str(place),
               "--nbval", "--nbval-current-env", "--nbval-sanitize-with", str(SANITIZE),
               "--nbval-cell-timeout", str(TIMEOUT), *map(str, paths)]  # fmt: skip
    environment = os.environ | _environment(place)
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


def _environment(place: Path) -> dict[str, str]:
    """Our modules from the room, and one thread, since the order of a sum depends on their number."""
    return {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def _keep_tables(source: Path, target: Path) -> None:
    """Copy the tables that notebooks keep beside the runs of `source` and that `target` does not have; no run."""
    found = source.glob(f"*/{TABLES}")
    copy_files((path for path in found if not (target / path.relative_to(source)).exists()), source, target)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the outputs of the notebooks anew, or compare them."""
    parser = argparse.ArgumentParser(prog="python -m tools.notebook_outputs", description=main.__doc__)
    parser.add_argument("command", choices=["make", "compare"])
    parser.add_argument("notebooks", nargs="*", type=Path, help="some notebooks only, such as notebooks/00_*.ipynb")
    chosen = parser.parse_args(arguments)
    paths = [path.resolve() for path in chosen.notebooks] or [path for path in notebooks() if is_compared(path)]
    try:
        if chosen.command == "make":
            make(paths)
            return 0
        with room() as place:
            result = compare([place / "notebooks" / path.name for path in paths if is_compared(path)], place)
    except (DataError, OSError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(result.stdout)
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
