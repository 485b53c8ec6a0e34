"""The study as a static site: the main table and figure first, then every executed notebook. Opens without a network.

Only what a program executed is published: the notebooks of the study as it left them, and of the others the version
that is committed. Pages hold no script, no widget, no address of another machine and no folder of this one.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from pygments.formatters import HtmlFormatter

from nbutils import ROOT
from nbutils.files import DataError, written_whole
from nbutils.study.file import Study, load_study
from nbutils.study.notebooks import NOTEBOOKS
from nbutils.study.papermill import as_executed
from nbutils.study.provenance import without_paths
from nbutils.study.runs import path_name, read_runs
from tools.notebook_outputs import notebooks, without_widgets

STYLE = """
body{font-family:system-ui,sans-serif;line-height:1.5;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;font-size:90%}td,th{border:1px solid #bbb;padding:.25rem .6rem}
thead th{background:#f2f2f2}img{max-width:100%;height:auto}pre{overflow-x:auto;font-size:85%}
.highlight pre{background:#f7f7f7;border-left:3px solid #0072b2;padding:.6rem}
.output{margin:.6rem 0 1.2rem;overflow-x:auto}
figure img{display:block}nav{margin-bottom:1.5rem}a{color:#0060a0}figure{margin:1.5rem 0}.anchor-link{display:none}
"""


# A browser runs nothing and fetches nothing that a page names, whatever stands in it.
POLICY = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'"
# What could run or fetch all the same, where a page is put into another one.
PROGRAMS = re.compile(
    r"<script\b.*?(?:</script\s*>|\Z)|</?(?:script|iframe|object|embed|link|meta|base|form)\b[^>]*>?",
    re.IGNORECASE | re.DOTALL,
)
HANDLERS = re.compile(r"(<[^<>]*?\s)on\w+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s>]+)", re.IGNORECASE)
SOURCES = re.compile(
    r"(<(?:img|image|audio|video|source|track|input)\b[^>]*?\s)(?:src|srcset|(?:xlink:)?href)\s*=\s*"
    r"(?:\"(?!data:image/)[^\"]*\"|'(?!data:image/)[^']*'|[^\s\"'>][^\s>]*)",
    re.IGNORECASE,
)
FETCHED = ("text/html", "image/svg+xml", "text/markdown")


@dataclass(frozen=True)
class Page:
    """An executed notebook, and where its page stands."""

    name: str
    title: str
    notebook: nbformat.NotebookNode


def build(study: Study, folder: str | Path) -> Path:
    """Write the site of a study into a folder and return its first page.

    Raises:
        DataError: the study has no main table yet.
    """
    folder = Path(folder)
    table = result_table(figures_of(study))
    story, of_runs = list(notebook_pages(study)), list(run_pages(study))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for page in (*story, *of_runs):
        _write(folder / f"{page.name}.html", page.title, notebook_html(page.notebook), home=True)
    figures = sorted(figures_of(study).glob("*.png"), key=lambda p: (p.stem != "main_result", p.stem))
    for figure in figures:
        shutil.copyfile(figure, folder / figure.name)
    index = folder / "index.html"
    _write(index, study.title or study.name, _index(table, figures, story, of_runs))
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


def notebook_pages(study: Study) -> Iterator[Page]:
    """The notebooks by number: as this study executed them, else as they were committed."""
    for path in notebooks():
        executed = ROOT / "runs" / study.name / "notebooks" / path.name
        notebook = _read(executed) if executed.exists() else committed(path)
        if notebook is not None and any(cell.get("outputs") for cell in notebook.cells):
            yield Page(path.stem, _title(notebook), notebook)


def run_pages(study: Study) -> Iterator[Page]:
    """The notebook of every run of the study."""
    for run in read_runs(ROOT / "runs", study.name):
        notebook = _read(run.folder / "notebook.ipynb") if run.system in study.systems else None
        if notebook is not None:
            title = f"{study.systems[run.system].title}, trained on {run.train}, seed {run.seed}"
            yield Page(f"run-{path_name(run.system)}-{path_name(run.train)}-{run.seed}", title, notebook)


def _read(path: Path) -> nbformat.NotebookNode | None:
    """A notebook as the study left it; None, said in a sentence, for one that somebody has opened and saved since."""
    if not path.exists():
        return None
    if not as_executed(path):
        name = path.relative_to(ROOT)
        print(
            f"{name} is left out: it is not as the study wrote it. Delete it and run `make study` again.",
            file=sys.stderr,
        )
        return None
    return nbformat.read(path, as_version=4)


def committed(path: Path) -> nbformat.NotebookNode | None:
    """A notebook as it was committed, whatever has been run or shown in it since; None without git."""
    command = ["git", "-C", str(path.parent), "show", f"HEAD:./{path.name}"]
    try:
        done = subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return nbformat.reads(done.stdout.decode("utf-8"), as_version=4)


def notebook_html(notebook: nbformat.NotebookNode) -> str:
    """A notebook as HTML without a page around it; widgets and scripts, which need a kernel or run, are left out."""
    notebook = without_paths(without_widgets(notebook))
    for cell in notebook.cells:
        cell.pop("attachments", None)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in [kind for kind in data if kind.startswith("application/") and kind != "application/json"]:
                del data[kind]
            for kind in FETCHED:
                if kind in data:
                    data[kind] = _harmless(data[kind])
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    return _harmless(exporter.from_notebook_node(notebook)[0])


def _harmless(html: Any) -> str:
    """HTML without what runs or fetches; text that shows such markup is escaped already and stays."""
    html = PROGRAMS.sub("", html if isinstance(html, str) else "".join(html))
    for pattern in (HANDLERS, SOURCES):
        while (cleaned := pattern.sub(r"\1", html)) != html:
            html = cleaned
    return re.sub(r"(href|src)=([\"'])\s*javascript:[^\"']*\2", r"\1=\2#\2", html, flags=re.IGNORECASE)


def _index(table: str, figures: Sequence[Path], story: Sequence[Page], of_runs: Sequence[Page]) -> str:
    shown = [f'<figure><img src="{quote(p.name)}" alt="{escape(p.stem.replace("_", " "))}"></figure>' for p in figures]
    missing = [p.stem for p in notebooks() if p.stem not in {page.name for page in story} and not _trains(p)]
    parts = [_harmless(markdown2html(table)), *shown[:1], "<h2>Notebooks</h2>", _links(story)]
    if missing:
        parts.append(f"<p>Not executed yet: {escape(', '.join(missing))}.</p>")
    if of_runs:
        parts += ["<h2>Runs</h2>", _links(of_runs)]
    if shown[1:]:
        parts += ["<h2>Further figures</h2>", *shown[1:]]
    return "".join(parts)


def _links(pages: Sequence[Page]) -> str:
    items = (f'<li><a href="{quote(page.name)}.html">{escape(page.title)}</a></li>' for page in pages)
    return f"<ul>{''.join(items)}</ul>"


def _trains(path: Path) -> bool:
    return any(notebook.endswith(path.name) for notebook in NOTEBOOKS.values())


def _title(notebook: nbformat.NotebookNode) -> str:
    return re.sub(r"^#\s*", "", notebook.cells[0].source.splitlines()[0])


def _write(path: Path, title: str, body: str, *, home: bool = False) -> None:
    nav = '<nav><a href="index.html">← all results</a></nav>' if home else ""
    heading = "" if home else f"<h1>{escape(title)}</h1>"
    style = STYLE + HtmlFormatter(style="default").get_style_defs(".highlight")
    with written_whole(path) as file:
        file.write(
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{escape(title)}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{style}</style></head>'
            f"<body>{nav}{heading}{body}</body></html>\n"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site of a study in report/."""
    parser = argparse.ArgumentParser(prog="python -m tools.report", description=main.__doc__)
    parser.add_argument("command", choices=["site"])
    parser.add_argument("file", help="the study file")
    chosen = parser.parse_args(arguments)
    try:
        study = load_study(chosen.file)
        print(f"Open {build(study, ROOT / 'report' / study.name).relative_to(ROOT)} in a browser.")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
