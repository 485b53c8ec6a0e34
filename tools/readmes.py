"""What commands fill in the READMEs and in docs/: the text between two marks (<!-- demo --> and <!-- /demo -->)."""

from __future__ import annotations

import re
from pathlib import Path

from nbutils import ROOT
from nbutils.analysis.significance import FLOOR
from nbutils.files import DataError, write_whole
from tools import report

READMES = ("README.md", "README.ja.md")
MODELS_PAGE = ("docs/real_models.md",)
# The studies whose main table is shown, each between marks of its name, and on which pages.
TABLES = {"small": READMES, "demo": READMES, "small_lm": MODELS_PAGE, "small_icl": MODELS_PAGE}


def main_table(study: str) -> str:
    """A study's main table with its caption as notebook 06 wrote it; in a README without rows that find nothing.

    Raises:
        DataError: there is none.
    """
    lines = report.result_table(ROOT / "figures" / study).splitlines()
    if TABLES[study] != READMES:
        return "\n".join(lines)
    kept = [line for line in lines if not _finds_nothing(line)]
    if left_out := len(lines) - len(kept):
        kept += ["", f"Left out: {left_out} systems below {FLOOR:.0f} everywhere (figures/{study}/main_result.md)."]
    return "\n".join(kept)


def _finds_nothing(line: str) -> bool:
    """Whether a line is the row of a system whose every score is below the floor of the tests."""
    scores = [float(score) for score in re.findall(r"\| (\d+\.\d) \(", line)]
    return bool(scores) and max(scores) < FLOOR


def fill(mark: str, content: str, folder: Path = ROOT) -> list[Path]:
    """Put the content between the marks on every page that shows them; returns those that changed.

    Raises:
        DataError: a page lacks one of the marks; none is changed then.
    """
    paths = [folder / name for name in TABLES.get(mark, READMES) if (folder / name).exists()]
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
