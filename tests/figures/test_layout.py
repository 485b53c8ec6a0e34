"""Nothing overlaps or is cut, whatever the number of systems; one look per system; no orphan among the figures."""

import math
import re
from dataclasses import replace
from itertools import pairwise

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from nbutils import ROOT, figures
from nbutils.analysis import adaptation
from nbutils.analysis.adaptation import Half
from nbutils.analysis.significance import INTERVAL, WIDER
from nbutils.figures.style import marker, system_styles
from nbutils.study.file import load_study

DEMO = load_study(ROOT / "studies" / "demo.yaml")
TITLES = ["CRF (MeCab and character features)", "Tiny BERT (fine-tuned)", "小さな Llama(LoRA)", "A", "B" * 40]


def study_of(n):
    """The demo study with `n` systems, some with long titles."""
    first = DEMO.systems["crf"]
    systems = {f"s{k}": replace(first, name=f"s{k}", title=f"{TITLES[k % len(TITLES)]} {k}") for k in range(n)}
    return replace(DEMO, systems=systems, compare=())


def scores_of(study):
    rows = [
        {"system": name, "train": train, "evaluate": evaluate, "setting": "ID" if train == evaluate else "OOD",
         "seed": seed, "f1": 90 - 9 * k - 20 * (train != evaluate) + seed}
        for k, name in enumerate(study.systems) for train, evaluate in study.pairings() for seed in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def costs_of(study):
    rows = [
        {"system": name, "mean F1 (%)": 80 - k, "p50 (ms a note)": 3.0 * 2**k} for k, name in enumerate(study.systems)
    ]
    return pd.DataFrame(rows)


def errors_of(study):
    titles = [s.title for s in study.systems.values()]
    table = pd.DataFrame(5.0, index=["too short", "too long", "missed", "all"], columns=titles)
    return table.rename_axis("false negative")


def adapted(study):
    """Curves of every system; only the last has been pretrained on the bare target."""
    titles, ways = [s.title for s in study.systems.values()], [(way, n) for way in adaptation.CURVES for n in (5, 40)]
    ways += [(adaptation.SOURCE, 0), (adaptation.INSIDE, 0), ("no labels: self-training", 0)]
    keys = [(title, *way) for title in titles for way in ways] + [(titles[-1], "no labels: pretraining", 0)]
    index = pd.MultiIndex.from_tuples(keys, names=["system", "way", "notes"])
    table = pd.DataFrame(50.0, index=index, columns=["F1 (%)", *adaptation.ENDS])
    halves = [Half(title, adaptation.BOTH, 20.0, 8.0, 5.0, math.inf, 40, 0.9) for title in titles]
    return figures.adaptation.curves(study, table, halves)


def thresholds_of(study):
    """Precision and recall of every system, of the last one in the last setting alone."""
    rows = [{"system": name, "train": train, "evaluate": evaluate, "threshold": at, "recall": 60 - at, "precision": at}
            for train, evaluate in study.pairings() for name in study.systems for at in (0, 50)]  # fmt: skip
    rows = pd.DataFrame(rows)
    return rows[(rows["system"] != list(study.systems)[-1]) | (rows["train"] != study.train[0])]


def dots_of(study, value, keys):
    """A row per system and key: the value and its intervals."""
    rows = [{"system": s.title, **key, value: 8.0, INTERVAL[0]: 2, INTERVAL[1]: 9, WIDER[0]: 1, WIDER[1]: 10}
            for s in study.systems.values() for key in keys]  # fmt: skip
    return pd.DataFrame(rows).set_index(["system", *keys[0]])


DIRECTIONS = [{"train": "CR", "evaluate": "PN"}, {"train": "PN", "evaluate": "CR"}]
SOURCES = [{"due to": "physician"}, {"due to": "case"}, {"due to": "rest"}]


def strata_of(study):
    places = [(name, by, k) for name in study.systems for by in ("physician", "case") for k in range(5)]
    rows = [{"system": name, "by": by, "name": f"{by} {k}", "mean of notes": 9.0 * k} for name, by, k in places]
    return pd.DataFrame(rows)


FIGURES = {
    "gaps": lambda study: figures.main_result.gaps(study, dots_of(study, "Δ (points)", DIRECTIONS)),
    "components": lambda study: figures.stratification.components(study, dots_of(study, "SD (points)", SOURCES)),
    "boxes": lambda study: figures.stratification.boxes(study, strata_of(study)),
    "adaptation": adapted,
    "precision and recall": lambda study: figures.main_result.precision_recall(study, thresholds_of(study)),
    "main result": lambda study: figures.main_result.main_result(study, scores_of(study), nothing=["s1"]),
    "cost": lambda study: figures.costs.score_against_cost(study, costs_of(study), "p50 (ms a note)"),
    "errors": lambda study: figures.errors.kinds(study, errors_of(study), nothing=["s1"]),
}


def boxes(figure):
    """Where the panels (with their labels), the legend and the caption stand on the page, in pixels."""
    figure.draw_without_rendering()
    (caption,) = [text for text in figure.texts if text.get_text().startswith("Tiny models")]
    panels = {f"panel {k}": axes.get_tightbbox() for k, axes in enumerate(figure.axes)}
    legend = {"legend": figure.legends[0].get_window_extent()} if figure.legends else {}
    return panels | legend | {"caption": caption.get_window_extent()}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.mark.parametrize("n", [2, 6, 9])
@pytest.mark.parametrize("name", FIGURES)
def test_legend_caption_and_panels_do_not_overlap(name, n):
    placed = boxes(FIGURES[name](study_of(n)))
    names = list(placed)
    overlapping = [
        (a, b)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if placed[a].padded(-1).overlaps(placed[b].padded(-1))
    ]
    assert not overlapping
    below = [placed[name] for name in ("panel 0", "legend", "caption") if name in placed]
    assert all(upper.y0 + 1 >= lower.y1 for upper, lower in pairwise(below))


@pytest.mark.parametrize("n", range(26, 40))
@pytest.mark.parametrize("name", ["gaps", "adaptation"])
def test_a_title_is_never_wrapped_between_a_dollar_sign_and_its_backslash(name, n):
    study = study_of(2)
    study = replace(study, systems={k: replace(s, title="x" * n + "$_$" + k) for k, s in study.systems.items()})
    figure = FIGURES[name](study)
    figure.draw_without_rendering()
    assert not [text for text in figure.findobj(Text) if "\\\n" in text.get_text()]


@pytest.mark.parametrize("name", FIGURES)
def test_the_legend_names_what_is_drawn_in_any_panel(name):
    figure = FIGURES[name](study_of(3))
    drawn = {label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]}
    shown = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert sorted(shown) == sorted(drawn)


@pytest.mark.parametrize("name", FIGURES)
def test_what_is_saved_holds_all_of_it(name, tmp_path):
    """The saved page is as tall as what is drawn: a caption below nine systems is not cut."""
    figure = FIGURES[name](study_of(9))
    placed = boxes(figure)
    figures.style.write_figure(figure, tmp_path / "figure")
    height, width = imread(tmp_path / "figure.png").shape[:2]
    scale = 150 / figure.dpi
    assert height >= scale * (placed["panel 0"].y1 - placed["caption"].y0)
    assert width >= scale * max(box.x1 - box.x0 for box in placed.values())
    svg = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    points_wide = float(re.search(r'width="([\d.]+)pt"', svg)[1])
    assert points_wide / 72 == pytest.approx(width / 150, abs=0.05)  # SVG and PNG agree


def test_a_system_that_finds_nothing_leads_no_title_and_is_named_below():
    study = study_of(3)
    table = costs_of(study).assign(**{"mean F1 (%)": [3.0, 60.0, 50.0]})
    figure = figures.costs.score_against_cost(study, table, "p50 (ms a note)")
    assert figure.axes[0].get_title("left").startswith(study.systems["s1"].title)
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert study.systems["s0"].title not in shown and study.systems["s0"].title in figure.texts[-1].get_text()


def test_a_system_without_a_cost_is_named_below_and_not_in_the_legend():
    study = study_of(3)
    table = costs_of(study).assign(**{"p50 (ms a note)": [0.0, 10.0, 20.0]})
    figure = figures.costs.score_against_cost(study, table, "p50 (ms a note)")
    assert len(figure.legends[0].get_texts()) == 2 and "no such cost" in figure.texts[-1].get_text()


def test_no_two_systems_look_alike_and_each_looks_the_same_in_every_figure():
    study = study_of(12)
    assert len(set(system_styles(study).values())) == 12
    colours = [colour for colour, _ in system_styles(study).values()]
    assert len({(colour, marker(k)) for k, colour in enumerate(colours)}) == 12
    bars = figures.main_result.main_result(study, scores_of(study)).axes[0].containers
    faces = {c.get_label(): c.patches[0].get_facecolor() for c in bars if not c.get_label().startswith("_")}
    dots = figures.costs.score_against_cost(study, costs_of(study), "p50 (ms a note)").axes[0].collections
    for collection in dots:
        assert tuple(collection.get_facecolor()[0]) == pytest.approx(faces[collection.get_label()])


def test_japanese_titles_have_glyphs(recwarn):
    boxes(FIGURES["main result"](study_of(4)))
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_every_committed_figure_is_made_by_a_notebook_or_the_benchmark_of_a_study_that_is_here():
    cells = [
        cell.source
        for path in (ROOT / "notebooks").glob("*.ipynb")
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
    ]
    made = set(re.findall(r'save_figure\(.*?"(\w+)"\)', "\n".join(cells)))
    studies = {path.stem for path in (ROOT / "studies").glob("*.yaml")}
    assert {"main_result", "gaps"} <= made
    for path in (ROOT / "figures").rglob("*"):
        if path.suffix in (".png", ".svg"):
            assert path.stem in made | {"bench"} and path.parent.name in studies | {"figures"}, path
            assert path.with_suffix(".svg").exists() and path.with_suffix(".png").exists(), path
