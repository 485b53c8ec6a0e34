"""A folder of brat notes goes through the study unchanged: check, grid, table, notebook 11; no text gets out."""

import json
import shutil
import subprocess
import sys

import pytest
from clones import clone, environment

from nbutils import ROOT
from nbutils.analysis import significance, stratification
from nbutils.corpus import Corpus
from nbutils.corpus.formats import read_corpus, write_corpus
from nbutils.study.corpora import open_corpora
from nbutils.study.file import load_study
from nbutils.study.results import open_results

STUDY = """
corpora:
  CR: {{path: {folder}/cr.xml}}
  MINE: {{path: {folder}/mine, format: brat, private: true, names: "{{physician}}_{{case}}",
         labels_as: {{Disease: d, Symptom: d}}, discontinuous: fragments}}
train: [CR]
seeds: [0]
systems:
  crf: {{iterations: 20, title: A CRF}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return clone(tmp_path_factory.mktemp("clone") / "repository")


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """A small study of case reports and brat notes without a table: the names of the files say who and which case."""
    folder = tmp_path_factory.mktemp("own")
    write_corpus(Corpus("CR", read_corpus(ROOT / "data" / "cr").documents[:10]), folder / "cr.xml")
    shutil.copytree(ROOT / "data/examples/own_notes", folder / "mine")
    (folder / "mine/notes.csv").unlink()
    path = folder / "own.yaml"
    path.write_text(STUDY.format(folder=folder), encoding="utf-8")
    return load_study(path)


@pytest.fixture(scope="module")
def finished(place, plan):
    """What the whole grid printed."""
    command = [sys.executable, "-m", "nbutils.study", "run", str(plan.path), "--cores", "1"]
    done = subprocess.run(command, cwd=place, env=environment(place), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_table_has_the_score_on_notes_of_ones_own(finished):
    assert "| A CRF |" in finished and "→MINE (OOD)" in finished and "ΔCR→MINE" in finished


def test_case_and_physician_reach_the_stratified_tables(place, plan, finished):
    evaluated = significance.evaluations(open_results(plan, place / "runs"))
    strata = stratification.strata_table(stratification.in_setting(plan, evaluated, "CR", "MINE"))
    assert strata.groupby("by", sort=False)["stratum"].nunique().to_dict() == {"physician": 2, "case": 4}


def test_notebook_11_runs_on_it_and_holds_no_text_of_a_private_note(place, plan, finished, tmp_path):
    options = ["--no-progress-bar", "--log-level", "ERROR", "-k", "python3"]
    command = [sys.executable, "-m", "nbutils.study.papermill", str(place / "notebooks/11_your_own_notes.ipynb"),
               str(tmp_path / "11.ipynb"), *options, "-r", "study_file", str(plan.path)]  # fmt: skip
    done = subprocess.run(command, cwd=place, env=environment(place), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    notebook = json.loads((tmp_path / "11.ipynb").read_text(encoding="utf-8"))
    saved = json.dumps([c.get("outputs") for c in notebook["cells"]] + [notebook["metadata"]], ensure_ascii=False)
    assert "discontinuous" in saved and "is private" in saved
    for document in open_corpora(plan)["MINE"]:
        assert not any(line in saved for line in document.text.splitlines() if len(line) > 5)
