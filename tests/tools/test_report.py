"""The site opens without a network and shows what the study found; the READMEs show the same table."""

import re
from dataclasses import replace

import matplotlib.pyplot as plt
import nbformat
import networkx as nx
import pytest

from nbutils import ROOT, dag
from nbutils.files import DataError
from nbutils.study.file import load_study
from tools import notebook_outputs, report

DOT = """digraph snakemake_dag {
    node[shape=box];
	0[label = "study", color = "0.4 0.6 0.85"];
	1[label = "evaluate", color = "0.4 0.6 0.85"];
	2[label = "crf\\nseed: 0", color = "0.4 0.6 0.85"];
	3[label = "crf\\nseed: 1", color = "0.4 0.6 0.85"];
	4[label = "tiny_model\\nkind: encoder", color = "0.4 0.6 0.85"];
	1 -> 0
	2 -> 1
	3 -> 1
	4 -> 2
}"""


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
    monkeypatch.setattr(dag, "job_graph", lambda _: DOT)
    (tmp_path / plan.figures).mkdir()
    (tmp_path / plan.figures / "main_result.md").write_text(
        "A caption.\n\n| system | F1 |\n|---|---:|\n| CRF | 62.4 |\n"
    )
    return report.build(plan, tmp_path / "site").parent


def test_the_first_page_begins_with_the_main_table_then_figures_then_notebooks(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    places = [page.index(part) for part in ("<td>CRF</td>", "dag.png", "06_evaluation.html", "07_later")]
    assert places == sorted(places) and (site / "dag.png").exists()


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
    plan = replace(load_study(ROOT / "studies" / "demo.yaml"), figures="nowhere")
    with pytest.raises(DataError, match="run `make study`"):
        report.build(plan, tmp_path / "site")


def test_the_jobs_of_a_rule_are_one_box_with_their_number():
    graph = dag.rules(DOT)
    assert nx.get_node_attributes(graph, "jobs") == {"study": 1, "evaluate": 1, "crf": 2, "tiny_model": 1}
    assert set(graph.edges) == {("evaluate", "study"), ("crf", "evaluate"), ("tiny_model", "crf")}


def test_the_picture_names_every_rule_its_jobs_and_its_notebook():
    figure = dag.draw(dag.rules(DOT))
    shown = {text.get_text() for text in figure.axes[0].texts if text.get_text()}
    plt.close(figure)
    assert shown == {"study × 1", "evaluate × 1\n06_evaluation", "crf × 2\n03_crf_baseline", "tiny_model × 1"}


def test_every_rule_of_the_whole_study_has_its_notebook_in_the_picture():
    plan = load_study(ROOT / "studies" / "demo.yaml")
    jobs = set(dag.rules(dag.job_graph(plan))) - {"study", "tiny_model"}  # these two execute no notebook
    assert {s.kind for s in plan.systems.values()} <= jobs and "efficiency" in jobs
    assert {rule: (ROOT / "notebooks" / f"{dag._NOTEBOOK_OF.get(rule)}.ipynb").exists() for rule in jobs} == (
        dict.fromkeys(jobs, True)
    )
