"""The whole study on a handful of notes: the grid, the notebooks, a kill in the middle, the table at the end."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import papermill
import pytest
from clones import changes, clone, environment

from nbutils import ROOT, figures
from nbutils.analysis import main_result
from nbutils.corpus import Corpus, Document, Entity
from nbutils.corpus.formats import read_corpus, write_medtxt
from nbutils.study.corpora import open_corpus, split
from nbutils.study.execute import execute
from nbutils.study.file import load_study
from nbutils.study.notebooks import analyses
from nbutils.study.results import open_results
from nbutils.study.runs import read_runs
from nbutils.study.systems import build_tiny

STUDY = """
title: Self-test
caption: A handful of notes.
corpora:
  CR: {{path: {folder}/cr.xml}}
  PN: {{path: {folder}/pn.xml, private: true}}
train: [PN]
seeds: [0]
tiny:
  encoder: {{hidden: 32, layers: 1, epochs: 1}}
  llm: {{hidden: 32, layers: 1, samples: 64, longest: 12}}
systems:
  crf: {{iterations: 10, title: A CRF}}
  bert: {{model: tiny/encoder, epochs: 1, learning_rate: 1.0e-3, title: An encoder}}
  lora: {{model: tiny/llm, prompt: tiny_ja, max_length: 100, epochs: 1, train_tags: true, title: A Llama}}
  icl: {{model: tiny/llm, prompt: tiny_icl, unit: sentence, decoding: copy, shots: 1, shot_characters: 40,
        decode_batch_size: 64, title: A prompted Llama}}
"""


CANARY = "カナリア謎病"  # stands in every private note and in no other text


def with_canary(document: Document) -> Document:
    """The note with a line more, in which the canary is an entity, and with the canary in its title."""
    start = len(document.text)
    entities = (*document.entities, Entity(start, start + len(CANARY), certainty="positive"))
    meta = {**document.meta, "title": CANARY}
    return replace(document, text=f"{document.text}{CANARY}の疑い。\n", entities=entities, meta=meta)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The repository as a newcomer has it: a clone without runs and models."""
    return clone(tmp_path_factory.mktemp("clone") / "repository")


@pytest.fixture(scope="module")
def study_file(place):
    folder = place.parent / "study"
    folder.mkdir()
    for name in ("cr", "pn"):
        corpus = read_corpus(ROOT / "data" / name)
        documents = corpus.documents[:5]
        if name == "pn":
            documents = tuple(map(with_canary, documents))
        write_medtxt(Corpus(name, documents), folder / f"{name}.xml")
    path = folder / "selftest.yaml"
    path.write_text(STUDY.format(folder=folder), encoding="utf-8")
    # A table from elsewhere, as a fresh clone has one: it must not count as this study's result.
    stale = place / "runs" / path.stem / "figures" / "main_result.md"
    stale.parent.mkdir(parents=True)
    for suffix in (".md", ".csv", ".png", ".svg"):
        stale.with_suffix(suffix).write_text("of another machine", encoding="utf-8")
    return path


@pytest.fixture
def inside(place, monkeypatch):
    """What this process runs counts paths from the clone, so that it finds its runs and models and no others."""
    for name, module in list(sys.modules.items()):
        if name.startswith("nbutils") and getattr(module, "ROOT", None) == ROOT:
            monkeypatch.setattr(module, "ROOT", place)


def start(place, study_file):
    command = [sys.executable, "-m", "nbutils.study", "run", str(study_file), "--cores", "2"]
    return subprocess.Popen(
        command, cwd=place, env=environment(place), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def records(place):
    return {p: p.read_text(encoding="utf-8") for p in (place / "runs" / "selftest").glob("*/*/seed-*/run.json")}


@pytest.fixture(scope="module")
def finished(place, study_file):
    """The study killed with -9 once two runs were done, and started again; what was done before, and the output."""
    process = start(place, study_file)
    deadline = time.time() + 240
    while len(records(place)) < 2 and process.poll() is None and time.time() < deadline:
        time.sleep(0.5)
    before = records(place)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    again = start(place, study_file)
    output = again.communicate(timeout=400)[0]
    assert again.returncode == 0, output
    return before, output


def test_a_killed_study_goes_on_and_finished_runs_keep_their_records(place, study_file, finished):
    before, _ = finished
    after = records(place)
    assert len(before) >= 2 and len(after) == 4  # systems
    assert all(after[path] == text for path, text in before.items())


def test_the_study_ends_with_its_table_and_figure(place, study_file, finished):
    _, output = finished
    figures = place / "runs" / study_file.stem / "figures"
    assert "| A Llama |" in output and "| A prompted Llama |" in output and "→CR (OOD)" in output and "ΔPN→CR" in output
    assert {p.suffix for p in figures.glob("main_result.*")} == {".md", ".csv", ".png", ".svg"}


def test_the_study_executes_the_analyses_that_its_corpora_allow(place, study_file, finished):
    notebooks = {p.stem for p in (place / "runs" / study_file.stem / "notebooks").glob("*.ipynb")}
    wanted = set(analyses(load_study(study_file)))
    assert {"08_error_analysis", "09_efficiency", "10_generalisation"} <= wanted <= notebooks
    assert "07_stratification" not in notebooks  # case reports name no physician


def test_a_second_call_does_nothing_and_says_so(place, study_file, finished):
    before = records(place)
    again = start(place, study_file)
    output = again.communicate(timeout=120)[0]
    assert "Nothing was left to train" in output
    assert records(place) == before


@pytest.mark.parametrize(
    ("change", "remade"),
    [
        (("A handful", "Two handfuls"), True),
        (("A Llama", "The Llama"), True),
        (("title: Self-test", "#\ntitle: Self-test"), False),
    ],
)
def test_tables_and_figures_are_made_again_where_their_words_change_and_nothing_is_trained(
    place, study_file, finished, change, remade
):
    text = study_file.read_text(encoding="utf-8")
    study_file.write_text(text.replace(*change), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--config", f"study={study_file}", "--cores", "1", "--nolock", "-n"]
    try:
        plan = subprocess.run(command, cwd=place, env=environment(place), text=True, capture_output=True, timeout=200)
    finally:
        study_file.write_text(text, encoding="utf-8")
    planned = set(plan.stdout.split())
    assert plan.returncode == 0 and ({"evaluate", "error_analysis", "efficiency"} <= planned) == remade, plan.stdout
    assert not {"crf", "bert", "lora", "icl"} & planned


def test_a_run_whose_job_was_killed_after_its_end_keeps_its_record(place, study_file, finished):
    before = records(place)
    runs = place / "runs" / study_file.stem
    notebook = runs / "crf" / "PN" / "seed-0" / "notebook.ipynb"
    notebook.unlink()  # as Snakemake does with the outputs of a job that it did not see end
    command = [sys.executable, "-m", "snakemake", "crf/PN/seed-0/notebook.ipynb", "--config", f"study={study_file}",
               "--cores", "1", "--nolock", "--quiet", "all"]  # fmt: skip
    subprocess.run(command, cwd=place, env=environment(place), check=True, timeout=200)
    assert notebook.exists() and records(place) == before


def test_a_run_with_other_settings_is_trained_again(inside, study_file, finished, tmp_path):
    plan = load_study(study_file)
    first = execute(plan, "crf", "PN", 0, runs=tmp_path, progress=False).record
    assert execute(plan, "crf", "PN", 0, runs=tmp_path, progress=False).record == first
    crf = replace(plan.systems["crf"], settings={"iterations": 5})
    other = execute(replace(plan, systems={"crf": crf}), "crf", "PN", 0, runs=tmp_path, progress=False).record
    assert other["settings"]["iterations"] == 5 and other["finished"] >= first["finished"]


def test_every_run_has_its_notebook_predictions_and_costs(place, study_file, finished):
    plan = load_study(study_file)
    for run in read_runs(place / "runs", plan.name):
        assert (run.folder / "notebook.ipynb").exists()
        assert {p.stem for p in (run.folder / "predictions").iterdir()} == {"CR", "PN"}
        assert run.record["seconds"]["fit"] > 0 or run.record["kind"] == "icl"  # which trains nothing
        assert run.record["peak_memory_bytes"]["cpu"] > 0
        assert run.record["versions"]["torch"] and run.record["device"] and run.record["threads"] >= 1


def test_no_record_and_no_notebook_names_a_folder_of_this_machine(place, study_file, finished):
    notebooks = {p: p.read_text(encoding="utf-8") for p in (place / "runs").rglob("*.ipynb")}
    assert len(notebooks) > 8
    for path, text in (records(place) | notebooks).items():
        assert not any(part in text for part in (str(place.parent), str(ROOT), "/tmp/", "/home/", "/root")), path


def test_what_a_study_of_private_notes_leaves_is_for_its_owner_alone(place, study_file, finished):
    for path in (place / "runs" / "selftest").rglob("*"):
        if path.suffix in (".ipynb", ".log", ".jsonl", ".crfsuite") and ".snakemake" not in path.parts:
            assert path.stat().st_mode & 0o077 == 0, path


def test_git_sees_nothing_after_a_study_its_report_and_tagging(place, study_file, finished):
    for arguments in (
        ["tools.report", "site", str(study_file)],
        ["nbutils.tagging", "--run=runs/selftest/crf/PN/seed-0", "--notes=data/examples/own_notes/mori_stroke.txt"],
    ):
        subprocess.run([sys.executable, "-m", *arguments], cwd=place, env=environment(place), check=True, timeout=200)
    assert list(place.glob("report/selftest/index.html")) and list(place.glob("tagged/*/*/tagged.jsonl"))
    assert changes(place) == ""


def test_predictions_hold_no_text_of_a_note(place, study_file, finished):
    plan = load_study(study_file)
    line = open_corpus(plan, "PN").documents[0].text.strip().splitlines()[0]
    for path in (place / "runs" / plan.name).glob("*/*/seed-*/predictions/*.jsonl"):
        assert line not in path.read_text(encoding="utf-8")


def test_nothing_that_is_written_or_printed_holds_the_text_of_a_private_note(place, study_file, finished, monkeypatch):
    folder = place / "runs" / study_file.stem
    errors = folder / "notebooks" / "08_error_analysis.ipynb"
    chosen = {"study_file": str(study_file), "train": "PN", "evaluate": "PN"}
    monkeypatch.setenv("PYTHONPATH", str(place))
    papermill.execute_notebook(
        place / "notebooks" / errors.name, errors, chosen, kernel_name="python3", progress_bar=False
    )
    assert "■" in errors.read_text(encoding="utf-8")  # lines are shown, covered
    # A trained model does hold words of its training notes: SECURITY.md says to treat it like the notes.
    written = [p for p in folder.rglob("*") if p.is_file() and "model" not in p.relative_to(folder).parts]
    assert {".ipynb", ".log", ".json", ".jsonl", ".md", ".csv", ".svg"} <= {p.suffix for p in written}
    escaped = json.dumps(CANARY).strip('"')
    for path in written:
        content = path.read_bytes()
        assert CANARY.encode() not in content and escaped.encode() not in content, path
    assert CANARY not in finished[1]


def test_the_same_seed_gives_the_same_predictions_in_any_folder(inside, study_file, finished, tmp_path, monkeypatch):
    plan = load_study(study_file)
    monkeypatch.chdir(tmp_path)  # as JupyterLab starts a kernel in notebooks/
    for system in plan.systems:
        run = execute(plan, system, "PN", 0, runs=tmp_path, progress=False)
        twice = execute(plan, system, "PN", 0, runs=tmp_path / "again", progress=False)
        for name in plan.evaluate:
            rows = [(r.folder / "predictions" / f"{name}.jsonl").read_text(encoding="utf-8") for r in (run, twice)]
            assert rows[0] == rows[1], (system, name)


def test_a_run_that_fails_leaves_no_record(inside, study_file, tmp_path, monkeypatch):
    plan = load_study(study_file)

    def fail(*_, **__):
        raise RuntimeError("no")

    monkeypatch.setattr("nbutils.taggers.crf.fit", fail)
    with pytest.raises(RuntimeError):
        execute(plan, "crf", "CR", 0, runs=tmp_path, progress=False)
    assert not list(tmp_path.rglob("run.json"))


def test_tiny_models_are_ordinary_folders_that_the_training_text_alone_decides(study_file, monkeypatch, tmp_path):
    plan = replace(load_study(study_file), name="tiny")
    for module in ("systems", "execute", "corpora"):
        monkeypatch.setattr(f"nbutils.study.{module}.ROOT", tmp_path)
    monkeypatch.setattr("nbutils.study.corpora.corpus_path", lambda s, name: study_file.parent / f"{name.lower()}.xml")
    for kind in ("encoder", "llm"):
        build_tiny(plan, "CR", kind, progress=False)
        folder = tmp_path / "models" / "tiny" / "CR" / kind
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in folder.iterdir()}
        vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
        train = split(plan, open_corpus(plan, "CR"))[0]
        allowed = set("".join(d.text for d in train)) | set("病名：写し:")
        import unicodedata

        allowed |= set(unicodedata.normalize("NFKC", "".join(allowed)))
        assert {w for w in vocabulary if len(w) == 1} <= allowed


def test_the_main_figure_shows_every_system(inside, study_file, finished):
    plan = load_study(study_file)
    scores = main_result.score_runs(open_results(plan, "runs"))
    figure = figures.main_result.main_result(plan, scores)
    shown = {text.get_text() for text in figure.legends[0].get_texts()}
    assert shown == {s.title for s in plan.systems.values()}
