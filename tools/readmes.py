"""The parts of the READMEs that commands fill: what stands between two marks (<!-- result --> and <!-- /result -->)."""

from __future__ import annotations

import re
from pathlib import Path

from nbutils import ROOT
from nbutils.analysis.significance import FLOOR
from nbutils.files import DataError, write_whole
from tools import report

READMES = ("README.md", "README.ja.md")
TABLES = ("small", "demo")  # the studies whose main table stands in the READMEs, each between marks of its name


def main_table(study: str) -> str:
    """A study's main table with its caption as notebook 06 wrote it, without the rows of systems that find nothing.

    Raises:
        DataError: there is none.
    """
    lines = report.result_table(ROOT / "figures" / study).splitlines()
    kept = [line for line in lines if not _finds_nothing(line)]
    if left_out := len(lines) - len(kept):
        kept += ["", f"Left out: {left_out} systems below {FLOOR:.0f} everywhere (figures/{study}/main_result.md)."]
    return "\n".join(kept)


def _finds_nothing(line: str) -> bool:
    """Whether a line is the row of a system whose every score is below the floor of the tests."""
    scores = [float(score) for score in re.findall(r"\| (\d+\.\d) \(", line)]
    return bool(scores) and max(scores) < FLOOR


def fill(mark: str, content: str, folder: Path = ROOT) -> list[Path]:
    """Put the content between the marks of every README; returns those that changed.

    Raises:
        DataError: a README lacks one of the marks; none is changed then.
    """
    paths = [folder / name for name in READMES if (folder / name).exists()]
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    filled = {path: between(mark, content, text, path.name) for path, text in texts.items()}
    changed = [path for path in paths if filled[path] != texts[path]]
    for path in changed:
        write_whole(path, filled[path])
    return changed


def between(mark: str, content: str, text: str, name: str = "README.md") -> str:
    """The text with this content between its marks, each on a line of its own."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, begun, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not begun or not ended:
        raise DataError(f"{name}: the marks {begin} and {end} are missing; put them where the {mark} belongs")
    return f"{before}{begin}\n{content}\n{end}{after}"


def shown(mark: str, text: str) -> str:
    """What stands between the marks."""
    return text.partition(f"<!-- {mark} -->")[2].partition(f"<!-- /{mark} -->")[0].strip()
