"""The study's graph of jobs as a picture: a box a rule with its number of jobs, arrows along the way of the data.

Asks Snakemake for the graph and draws it with networkx and matplotlib, so that no Graphviz program is needed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import networkx as nx
from matplotlib.figure import Figure

from nbutils import ROOT
from nbutils.files import DataError
from nbutils.plots import COLOURS, use_style
from nbutils.study import NOTEBOOKS, Study

_NODE = re.compile(r'^\s*(\d+)\[label = "([^"\\]+)', re.MULTILINE)
_EDGE = re.compile(r"^\s*(\d+) -> (\d+)", re.MULTILINE)
_NOTEBOOK_OF = {kind: Path(notebook).stem for kind, notebook in NOTEBOOKS.items()} | {
    "explore": "01_data_exploration",
    "inter_annotator_agreement": "02_inter_annotator_agreement",
    "evaluate": "06_evaluation",
    "stratification": "07_stratification",
    "error_analysis": "08_error_analysis",
    "efficiency": "09_efficiency",
    "generalisation": "10_generalisation",
}


def picture(study: Study) -> Figure:
    """The graph of all jobs of a study, finished or not."""
    return draw(rules(job_graph(study)))


def job_graph(study: Study) -> str:
    """All jobs and what each waits for, in the dot language, from Snakemake itself."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(ROOT),
               "--config", f"study={study.path.resolve()}", "--nolock", "--forceall", "--dag", "dot"]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise DataError(f"{study.path}: the graph of jobs could not be made: {result.stderr.strip()[-300:]}")
    return result.stdout


def rules(dot: str) -> nx.DiGraph:
    """The graph of jobs with the jobs of a rule folded into one node, whose `jobs` is their number."""
    rule_of = dict(_NODE.findall(dot))
    graph = nx.DiGraph()
    for rule, jobs in Counter(rule_of.values()).items():
        graph.add_node(rule, jobs=jobs)
    graph.add_edges_from((rule_of[a], rule_of[b]) for a, b in _EDGE.findall(dot) if rule_of[a] != rule_of[b])
    return graph


def draw(graph: nx.DiGraph) -> Figure:
    """Rules from left to right, each as late as its followers allow; indirect arrows are left out."""
    use_style()
    columns = list(nx.topological_generations(graph.reverse()))[::-1]
    places = {
        rule: (column, (len(names) - 1) / 2 - row)
        for column, names in enumerate(columns)
        for row, rule in enumerate(sorted(names))
    }
    height = max(map(len, columns))
    figure, axes = plt.subplots(figsize=(2.6 * len(columns), 0.9 * height + 0.8))
    for a, b in nx.transitive_reduction(graph).edges:
        (x_a, y_a), (x_b, y_b) = places[a], places[b]
        arrow = {"arrowstyle": "-|>", "color": "0.5", "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", xy=(x_b - 0.34, y_b), xytext=(x_a + 0.34, y_a), arrowprops=arrow)
    for rule, (x, y) in places.items():
        label = f"{rule} × {graph.nodes[rule]['jobs']}" + (f"\n{_NOTEBOOK_OF[rule]}" if rule in _NOTEBOOK_OF else "")
        axes.text(x, y, label, ha="center", va="center", fontsize=9,
                  bbox={"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": COLOURS[0]})  # fmt: skip
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_ylim(-height / 2 - 0.1, height / 2 + 0.1)
    axes.set_axis_off()
    axes.set_title(f"The study is {sum(nx.get_node_attributes(graph, 'jobs').values())} jobs", loc="left")
    return figure
