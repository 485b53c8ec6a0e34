"""Names and paths are never syntax: not to make, the shell, Snakemake, papermill, git or the pages of a report."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from clones import changes, clone, environment

from nbutils.files import part_of

FOLDER = "it's {x} $(touch PWNED) 日本"
FILE = "my study {1} `touch PWNED` #a: b.yaml"
ODD = "it's a $(touch PWNED) {x} 日本 #"
STUDY = """
title: "=cmd|'/c calc'!A1 <script>alert(1)</script> | $x$"
caption: "two\\nlines <img src=x onerror=alert(2)>"
corpora:
  "{NO} `touch PWNED` ;": {path: %s, format: brat, labels_as: {Disease: d, Symptom: d}, discontinuous: cover}
labels: [d]
seeds: [0]
systems:
  "None": {kind: crf, iterations: 5, title: "=1+1 <script>alert(3)</script> | x"}
  "1e5": {kind: crf, iterations: 3}
  INF: {kind: crf, iterations: 3}
  "it's a $(touch PWNED) {x} 日本 #": {kind: crf, iterations: 3}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The repository below a folder with a blank and brackets, and a study in a folder that tries to be a program."""
    top = tmp_path_factory.mktemp("names") / "My Study (1)"
    repository = clone(top / "the 'repository' {y}")
    notes = top / FOLDER / "notes {z}"
    notes.parent.mkdir()
    notes.symlink_to(repository / "data/examples/own_notes")
    (top / FOLDER / FILE).write_text(STUDY % f'"{notes}"', encoding="utf-8")
    return repository


def make(place, *targets, **values):
    """A command of the Makefile; the environment of this test stands in for an installed one."""
    command = ["make", "-o", ".venv/installed", *targets, *(f"{key}={value}" for key, value in values.items())]
    return subprocess.run(command, cwd=place, env=environment(place), capture_output=True, text=True, timeout=400)


@pytest.fixture(scope="module")
def finished(place):
    done = make(place, "study", "report", STUDY=str(place.parent / FOLDER / FILE), CORES="2")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_study_runs_whatever_its_names_and_folders_are(place, finished):
    assert "→{NO} \\`touch PWNED\\` ; (ID)" in finished
    runs = [json.loads(p.read_text(encoding="utf-8")) for p in place.glob("runs/*/*/*/seed-0/run.json")]
    assert {run["system"] for run in runs} == {"None", "1e5", "INF", ODD}
    assert {run["train"] for run in runs} == {"{NO} `touch PWNED` ;"}


def test_no_name_was_run_as_a_command(place, finished):
    assert not [*place.parent.rglob("PWNED"), *place.parent.parent.glob("PWNED")]


def test_titles_are_text_in_the_table_the_report_and_a_spreadsheet(place, finished):
    (folder,) = place.glob("runs/*/figures")
    table = (folder / "main_result.md").read_text(encoding="utf-8")
    assert "<script" not in table and "<img" not in table and "two lines" in table
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    cells = (folder / "main_result.csv").read_text(encoding="utf-8")
    assert "\n'=1+1" in cells and "\n=" not in cells
    for page in place.glob("report/*/*.html"):
        text = page.read_text(encoding="utf-8")
        assert "<script" not in text and "<img src=x" not in text and "onerror=alert(2)>" not in text, page.name


def test_neither_notebooks_nor_the_report_name_a_folder_of_this_machine(place, finished):
    written = [*place.glob("runs/**/*.ipynb"), *place.glob("report/**/*.html")]
    assert len(written) > 10
    for path in written:
        text = path.read_text(encoding="utf-8")
        assert str(place.parent) not in text and "My Study (1)" not in text and "/tmp/" not in text, path.name


def test_git_sees_nothing_changed(place, finished):
    assert changes(place) == ""


def test_a_notebook_that_was_opened_and_saved_since_is_not_published(place, finished):
    notebook = next(place.glob("runs/*/notebooks/08_error_analysis.ipynb"))
    before = notebook.read_text(encoding="utf-8")
    study = str(place.parent / FOLDER / FILE)
    try:
        notebook.write_text(before.replace('"outputs": []', '"outputs": [ ]', 1) + " ", encoding="utf-8")
        done = make(place, "report", STUDY=study)
        assert done.returncode == 0 and "08_error_analysis.ipynb is left out" in done.stderr
        assert not list(place.glob("report/*/08_error_analysis.html"))
    finally:
        notebook.write_text(before, encoding="utf-8")


def start(place):
    command = [sys.executable, "-m", "nbutils.study", "run", str(place.parent / FOLDER / FILE), "--cores", "1"]
    return subprocess.Popen(
        command, cwd=place, env=environment(place), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_that_a_study_started_with_one_sentence(place, finished, number):
    for path in place.glob("runs/*/1e5/*/seed-0/*"):
        if path.is_file():
            path.unlink()
    (runs,) = (path.parent for path in place.glob("runs/*/.lock"))
    left = runs / part_of(Path("x.jsonl")).name.replace(f"-{os.getpid()}.", "-999999999.")
    left.write_text("half written by a process that is gone", encoding="utf-8")
    process = start(place)
    family = []
    deadline = time.time() + 90
    while not any("ipykernel" in " ".join(p) for _, p in family) and time.time() < deadline:
        time.sleep(0.2)
        family = [(p, p.cmdline()) for p in psutil.Process(process.pid).children(recursive=True) if p.is_running()]
    assert any("ipykernel" in " ".join(p) for _, p in family)
    second = start(place)
    assert second.communicate(timeout=60)[1].count("running already") == 1 and second.returncode == 1
    assert not left.exists()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors and "was stopped" in errors.splitlines()[-1]
    assert not [p for p, _ in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
