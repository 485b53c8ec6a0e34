"""papermill's command line, started in one second instead of four: `python -m nbutils.study.papermill IN OUT -p NAME VALUE`.

The grid starts it for every run and every analysis, so the seconds count.
"""

from __future__ import annotations

import sys

# jsonschema's check of international web addresses builds a grammar for 3 s on import and is optional; a notebook's
# schema asks for no such check.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

from papermill.cli import papermill  # noqa: E402

if __name__ == "__main__":
    papermill(prog_name="papermill")
