"""The site opens without a network and shows what the study found; the READMEs show the same table."""

import re

import nbformat
import pytest

from nbutils import ROOT
from nbutils.files import DataError
from nbutils.study.file import load_study
from tools import notebook_outputs, report


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The demo's site with one executed notebook, whose output tries to be markup, and a widget."""
    plan = load_study(ROOT / "studies" / "demo.yaml")
    cell = nbformat.v4.new_code_cell("x", execution_count=1)
    cell.outputs = [
        nbformat.v4.new_output("stream", text="<script>alert(1)</script>"),
        nbformat.v4.new_output("display_data", {notebook_outputs.WIDGET: {"model_id": "abc"}, "text/plain": "VBox()"}),
        nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}),
    ]
    path = tmp_path / "06_evaluation.ipynb"
    cells = [nbformat.v4.new_markdown_cell("# 06 · Does it survive?\n\n**Question.** $x$?"), cell]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    monkeypatch.setattr(report, "notebooks", lambda: [path, tmp_path / "07_later.ipynb"])
    monkeypatch.setattr(report, "has_outputs", lambda p: p == path)
    monkeypatch.setattr(report, "read_runs", lambda *_: [])
    monkeypatch.setattr(report, "ROOT", tmp_path)
    figures = tmp_path / "runs" / plan.name / "figures"
    figures.mkdir(parents=True)
    (figures / "main_result.png").write_bytes(b"")
    (figures / "main_result.md").write_text(
        "A caption.\n\n| system | F1 |\n|---|---:|\n| CRF | 62.4 |\n"
    )
    return report.build(plan, tmp_path / "site").parent


def test_the_first_page_begins_with_the_main_table_then_figures_then_notebooks(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    places = [page.index(part) for part in ("<td>CRF</td>", "main_result.png", "06_evaluation.html", "07_later")]
    assert places == sorted(places) and (site / "main_result.png").exists()


def test_no_page_asks_for_anything_outside_its_folder(site):
    for path in site.glob("*.html"):
        page = path.read_text(encoding="utf-8")
        assert not re.search(r"<script|<link|<iframe|@import|url\(", page), path.name
        sources = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert sources
        assert all(source.startswith("data:image/") or (site / source.split("#")[0]).exists() for source in sources)


def test_an_output_cannot_put_markup_into_a_page_and_a_widget_leaves_nothing(site):
    page = (site / "06_evaluation.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in page and "VBox" not in page and "abc" not in page


def test_a_study_without_a_table_gives_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "ROOT", tmp_path)
    plan = load_study(ROOT / "studies" / "demo.yaml")
    with pytest.raises(DataError, match="run `make study`"):
        report.build(plan, tmp_path / "site")
