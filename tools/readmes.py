"""The parts of the READMEs that commands fill: what stands between two marks (<!-- result --> and <!-- /result -->)."""

from __future__ import annotations

from pathlib import Path

from nbutils import ROOT
from nbutils.files import DataError, written_whole

READMES = ("README.md", "README.ja.md")


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
        with written_whole(path) as file:
            file.write(filled[path])
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
