"""papermill's command line, started in one second instead of four: `python -m nbutils.study.papermill IN OUT …`.

The grid starts it for every run and every analysis, so the seconds count. What it writes names no folder of this
machine. Text goes in by `-r NAME VALUE`, which is never read as a number, a truth value or YAML.
"""

from __future__ import annotations

import sys
from pathlib import Path

# jsonschema's check of international web addresses builds a grammar for 3 s on import and is optional; a notebook's
# schema asks for no such check.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

import nbformat  # noqa: E402
from papermill.cli import papermill  # noqa: E402

from nbutils.files import written_whole  # noqa: E402
from nbutils.study.provenance import without_paths  # noqa: E402


def main() -> None:
    """Execute a notebook as papermill does, and take the folders of this machine out of what was written."""
    try:
        papermill(prog_name="papermill")
    finally:
        written = Path(sys.argv[2]) if len(sys.argv) > 2 else None
        if written is not None and written.is_file():
            notebook = without_paths(nbformat.read(written, as_version=4))
            with written_whole(written) as file:
                nbformat.write(notebook, file)


if __name__ == "__main__":
    main()
