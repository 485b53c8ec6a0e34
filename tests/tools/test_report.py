"""The site opens without a network and shows what the study found; nothing in it runs, and nothing private is in it."""

import re
import subprocess

import nbformat
import pytest

from nbutils import ROOT
from nbutils.files import DataError
from nbutils.study import papermill
from nbutils.study.file import load_study
from tools import notebook_outputs, report

EVIL = {
    "script": "<script>alert(1)</script>",
    "cut script": "<SCRIPT src=//evil.example/x.js>",
    "handler": "<img src=x onerror=alert(1)><b ONCLICK='alert(1)' onmouseover = alert(2)>bold</b>",
    "frame": "<iframe src='//evil.example'></iframe><object data=x></object><meta http-equiv=refresh>",
    "address": '<a href="javascript:alert(1)">x</a>',
}


def notebook(*outputs, title="# 06 · Does it survive?"):
    cell = nbformat.v4.new_code_cell("x", execution_count=1, outputs=list(outputs))
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"{title}\n\n**Question.** $x$?"), cell])


def executed(path, content):
    """A notebook as the grid leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, path)
    papermill._mark(path).write_text(papermill._hash(path), encoding="utf-8")


@pytest.fixture
def study():
    return load_study(ROOT / "studies" / "demo.yaml")


@pytest.fixture
def place(tmp_path, monkeypatch, study):
    """A repository with two notebooks and a finished study."""
    names = ("06_evaluation.ipynb", "07_later.ipynb")
    monkeypatch.setattr(report, "notebooks", lambda: [tmp_path / "notebooks" / name for name in names])
    monkeypatch.setattr(report, "read_runs", lambda *_: [])
    monkeypatch.setattr(report, "ROOT", tmp_path)
    figures = tmp_path / "runs" / study.name / "figures"
    figures.mkdir(parents=True)
    for name in ("gaps", "main_result"):
        (figures / f"{name}.png").write_bytes(b"")
    (figures / "main_result.md").write_text(
        "A caption.\n\n| system | F1 |\n|---|---:|\n| CRF <b onclick=x()>y</b> | 62.4 |\n"
    )
    (tmp_path / "notebooks").mkdir()
    return tmp_path


@pytest.fixture
def site(place, study):
    """The demo's site with one executed notebook, whose outputs try to be programs, and a widget."""
    content = notebook(
        nbformat.v4.new_output("stream", text=f"<script>alert(1)</script> {ROOT}/x.py /home/someone/ward"),
        nbformat.v4.new_output("display_data", {notebook_outputs.WIDGET: {"model_id": "abc"}, "text/plain": "VBox()"}),
        nbformat.v4.new_output("display_data", {"application/javascript": "alert(3)", "text/plain": "js"}),
        nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}),
        *(nbformat.v4.new_output("display_data", {"text/html": html}) for html in EVIL.values()),
    )
    content.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {"x": "WIDGETSTATE"}}}
    executed(place / "runs" / study.name / "notebooks" / "06_evaluation.ipynb", content)
    return report.build(study, place / "site").parent


def test_the_first_page_begins_with_the_main_table_and_figure_then_notebooks_then_figures(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    places = [page.index(part) for part in ("<td>CRF", "main_result.png", "06_evaluation.html", "07_later", "gaps.png")]
    assert places == sorted(places) and (site / "main_result.png").exists()


def test_no_page_asks_for_anything_outside_its_folder(site):
    for path in site.glob("*.html"):
        page = path.read_text(encoding="utf-8")
        assert not re.search(r"<script|<link|<iframe|@import|url\(", page), path.name
        sources = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert sources
        assert all(source.startswith("data:image/") or (site / source.split("#")[0]).exists() for source in sources)


def test_nothing_in_a_page_runs_and_a_widget_leaves_nothing(site):
    for path in site.glob("*.html"):
        page = path.read_text(encoding="utf-8")
        assert "default-src 'none'" in page
        body = page.partition("<body>")[2]
        assert not re.search(
            r"<script|<iframe|<object|<meta|<[^<>]*\son\w+\s*=|[\"']javascript:", body, re.IGNORECASE
        ), path
    page = (site / "06_evaluation.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in page and "bold" in page
    assert not any(part in page for part in ("VBox", "abc", "WIDGETSTATE", "alert(3)"))


def test_no_page_names_a_folder_of_this_machine(site):
    page = (site / "06_evaluation.html").read_text(encoding="utf-8")
    assert str(ROOT) not in page and "/home/someone" not in page and "~/ward" in page


def test_a_notebook_saved_by_a_person_is_left_out_and_named(place, study, capsys):
    path = place / "runs" / study.name / "notebooks" / "06_evaluation.ipynb"
    executed(path, notebook(nbformat.v4.new_output("stream", text="covered ■■■")))
    nbformat.write(notebook(nbformat.v4.new_output("stream", text="秘匿REVEALED")), path)
    folder = report.build(study, place / "site").parent
    assert "06_evaluation.ipynb is left out" in capsys.readouterr().err
    assert not any("REVEALED" in p.read_text(encoding="utf-8") for p in folder.glob("*.html"))


def test_of_a_notebook_that_the_study_did_not_run_the_committed_version_is_published(place, study):
    path = place / "notebooks" / "07_later.ipynb"
    nbformat.write(notebook(nbformat.v4.new_output("stream", text="as committed"), title="# 07 · Later"), path)
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "notebooks"], [*who, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", "-C", str(place), *command], check=True)
    nbformat.write(notebook(nbformat.v4.new_output("stream", text="秘匿REVEALED")), path)
    page = (report.build(study, place / "site").parent / "07_later.html").read_text(encoding="utf-8")
    assert "as committed" in page and "REVEALED" not in page


def test_a_notebook_that_was_never_committed_is_not_published(place, study):
    nbformat.write(notebook(nbformat.v4.new_output("stream", text="秘匿")), place / "notebooks" / "07_later.ipynb")
    assert not (report.build(study, place / "site").parent / "07_later.html").exists()


def test_a_study_without_a_table_gives_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "ROOT", tmp_path)
    plan = load_study(ROOT / "studies" / "demo.yaml")
    with pytest.raises(DataError, match="run `make study`"):
        report.build(plan, tmp_path / "site")
