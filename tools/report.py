"""The study as a static site: the main table and figures first, then every executed notebook. Opens without a network.

Knows files that a study left: its table, its figures, its notebooks. Pages hold no script and no address of another
machine; images lie inside them. Also fills the result table of the READMEs.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from pygments.formatters import HtmlFormatter

from nbutils import ROOT
from nbutils.files import DataError, written_whole
from nbutils.study.file import Study, load_study
from nbutils.study.notebooks import NOTEBOOKS
from nbutils.study.runs import read_runs
from tools import readmes
from tools.notebook_outputs import WIDGET, has_outputs, notebooks

STYLE = """
body{font-family:system-ui,sans-serif;line-height:1.5;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;font-size:90%}td,th{border:1px solid #bbb;padding:.25rem .6rem}
thead th{background:#f2f2f2}img{max-width:100%;height:auto}pre{overflow-x:auto;font-size:85%}
.highlight pre{background:#f7f7f7;border-left:3px solid #0072b2;padding:.6rem}
.output{margin:.6rem 0 1.2rem;overflow-x:auto}
nav{margin-bottom:1.5rem}a{color:#0060a0}figure{margin:1.5rem 0}.anchor-link{display:none}
"""


@dataclass(frozen=True)
class Page:
    """An executed notebook and where its page stands."""

    name: str
    title: str
    source: Path


def build(study: Study, folder: str | Path) -> Path:
    """Write the site of a study into a folder and return its first page.

    Raises:
        DataError: the study has no main table yet.
    """
    folder = Path(folder)
    table = result_table(figures_of(study))
    pages = executed(study)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for page in pages:
        _write(folder / f"{page.name}.html", page.title, notebook_html(page.source), home=True)
    figures = sorted(figures_of(study).glob("*.png"), key=lambda p: (p.stem != "main_result", p.stem))
    for figure in figures:
        shutil.copyfile(figure, folder / figure.name)
    index = folder / "index.html"
    _write(index, study.title or study.name, _index(table, figures, pages))
    return index


def result_table(folder: Path) -> str:
    """A main table with its caption, in Markdown, as notebook 06 wrote it into a folder of figures."""
    path = folder / "main_result.md"
    if not path.exists():
        raise DataError(f"{path.relative_to(ROOT)}: not there yet; run `make study` for this study first")
    return path.read_text(encoding="utf-8").strip()


def figures_of(study: Study) -> Path:
    """The figures of the study's own runs, else those of the bundled reference runs."""
    own, bundled = ROOT / "runs" / study.name / "figures", ROOT / "figures" / study.name
    return bundled if (bundled / "main_result.md").exists() and not (own / "main_result.md").exists() else own


def executed(study: Study) -> list[Page]:
    """Every notebook in its executed form: as this study ran it, else as committed; the runs' own at the end."""
    found = []
    for path in notebooks():
        of_study = ROOT / "runs" / study.name / "notebooks" / path.name
        source = of_study if of_study.exists() else path
        if has_outputs(source):
            found.append(Page(path.stem, _title(source), source))
    for run in read_runs(ROOT / "runs", study.name):
        source = run.folder / "notebook.ipynb"
        if run.system in study.systems and source.exists():
            title = f"{study.systems[run.system].title}, trained on {run.train}, seed {run.seed}"
            found.append(Page(f"run-{run.system}-{run.train}-{run.seed}", title, source))
    return found


def notebook_html(path: Path) -> str:
    """A notebook as HTML without a page around it; widgets, which need a kernel, are left out."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if WIDGET not in out.get("data", {})]
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    return exporter.from_notebook_node(notebook)[0]


def _index(table: str, figures: Sequence[Path], pages: Sequence[Page]) -> str:
    shown = "".join(
        f'<figure><img src="{escape(p.name)}" alt="{escape(p.stem.replace("_", " "))}"></figure>' for p in figures
    )
    of_runs = [page for page in pages if page.name.startswith("run-")]
    story = [page for page in pages if page not in of_runs]
    missing = [p.stem for p in notebooks() if p.stem not in {page.name for page in story} and not _trains(p)]
    parts = [markdown2html(table), shown, "<h2>Notebooks</h2>", _links(story)]
    if missing:
        parts.append(f"<p>Not executed yet: {escape(', '.join(missing))}.</p>")
    if of_runs:
        parts += ["<h2>Runs</h2>", _links(of_runs)]
    return "".join(parts)


def _links(pages: Sequence[Page]) -> str:
    items = (f'<li><a href="{escape(page.name)}.html">{escape(page.title)}</a></li>' for page in pages)
    return f"<ul>{''.join(items)}</ul>"


def _trains(path: Path) -> bool:
    return any(notebook.endswith(path.name) for notebook in NOTEBOOKS.values())


def _title(path: Path) -> str:
    first = nbformat.read(path, as_version=4).cells[0].source
    return re.sub(r"^#\s*", "", first.splitlines()[0])


def _write(path: Path, title: str, body: str, *, home: bool = False) -> None:
    nav = '<nav><a href="index.html">← all results</a></nav>' if home else ""
    heading = "" if home else f"<h1>{escape(title)}</h1>"
    style = STYLE + HtmlFormatter(style="default").get_style_defs(".highlight")
    with written_whole(path) as file:
        file.write(
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{style}</style></head>'
            f"<body>{nav}{heading}{body}</body></html>\n"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site of a study, or fill the result table of the READMEs with the demo's."""
    parser = argparse.ArgumentParser(prog="python -m tools.report", description=main.__doc__)
    parser.add_argument("command", choices=["site", "readme"])
    parser.add_argument("file", help="the study file")
    chosen = parser.parse_args(arguments)
    try:
        study = load_study(chosen.file)
        if chosen.command == "site":
            print(f"Open {build(study, ROOT / 'report' / study.name).relative_to(ROOT)} in a browser.")
        else:
            changed = readmes.fill("result", result_table(ROOT / "figures" / study.name))
            print(", ".join(p.name for p in changed) + " filled" if changed else "The READMEs show the table already.")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
