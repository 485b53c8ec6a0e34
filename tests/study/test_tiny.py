"""Tiny models: built where they are missing, once, whole, and with the threads that a study gives them."""

import multiprocessing
import sys
from dataclasses import replace

import pytest
import torch

from nbutils import ROOT
from nbutils.corpus import Corpus
from nbutils.corpus.formats import read_corpus, write_medtxt
from nbutils.study import systems
from nbutils.study.execute import execute
from nbutils.study.file import load_study
from nbutils.taggers import models  # noqa: F401  (its ROOT is replaced)

STUDY = """
corpora: {{CR: {{path: {folder}/cr.xml}}}}
seeds: [0]
tiny: {{encoder: {{hidden: 32, layers: 1, epochs: 1}}}}
systems:
  bert: {{model: tiny/encoder, epochs: 1}}
  crf: {{iterations: 5}}
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    write_medtxt(Corpus("CR", read_corpus(ROOT / "data" / "cr").documents[:5]), tmp_path / "cr.xml")
    (tmp_path / "s.yaml").write_text(STUDY.format(folder=tmp_path), encoding="utf-8")
    for name, module in list(sys.modules.items()):
        if name.startswith("nbutils") and getattr(module, "ROOT", None) == ROOT:
            monkeypatch.setattr(module, "ROOT", tmp_path)
    return load_study(tmp_path / "s.yaml")


def model(tmp_path):
    return tmp_path / "models" / "s" / "CR" / "encoder" / "model.safetensors"


def test_a_missing_tiny_model_is_built_with_a_sentence_and_then_kept(study, tmp_path, capsys):
    systems.prepare(study, "bert", "CR", progress=False)
    assert "Building the tiny encoder from CR" in capsys.readouterr().out
    before = model(tmp_path).stat().st_mtime_ns
    systems.prepare(study, "bert", "CR", progress=False)
    assert model(tmp_path).stat().st_mtime_ns == before and capsys.readouterr().out == ""


def test_a_tiny_model_of_other_settings_is_built_again(study, tmp_path):
    systems.prepare(study, "bert", "CR", progress=False)
    before = model(tmp_path).read_bytes()
    systems.prepare(
        replace(study, tiny={"encoder": {"hidden": 64, "layers": 1, "epochs": 1}}), "bert", "CR", progress=False
    )
    assert len(model(tmp_path).read_bytes()) > len(before)


def test_of_two_processes_that_need_a_tiny_model_at_once_one_builds_it(study, tmp_path, monkeypatch):
    log = tmp_path / "log"
    build = systems.make_tiny

    def slow(*arguments, **options):
        with open(log, "a") as file:
            file.write("built\n")
        build(*arguments, **options)

    monkeypatch.setattr(systems, "make_tiny", slow)
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=systems.build_tiny, args=(study, "CR", "encoder"), kwargs={"progress": False})
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [p.exitcode for p in processes] == [0, 0] and log.read_text() == "built\n" and model(tmp_path).exists()


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    systems._State.clear()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
    systems._State.clear()


def test_a_tiny_model_has_one_thread_and_others_have_what_they_had(study, threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(systems, "build_tiny", lambda *_, **__: None)
    systems.prepare(study, "bert", "CR")
    assert torch.get_num_threads() == 1
    systems.prepare(study, "crf", "CR")
    assert torch.get_num_threads() == 2


def test_a_number_of_threads_that_a_person_chose_is_kept(study, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(systems, "build_tiny", lambda *_, **__: None)
    systems.prepare(study, "bert", "CR")
    assert torch.get_num_threads() == 2


def test_training_a_tiny_model_warns_of_nothing(study, capfd, recwarn):
    execute(study, "bert", "CR", 0, runs=systems.ROOT / "runs", progress=False)
    assert not [w for w in recwarn if "gradient_checkpointing" in str(w.message)]
    assert "LOAD REPORT" not in capfd.readouterr().err and "torch" in sys.modules


def test_a_run_on_private_notes_from_a_notebook_is_for_its_owner_alone(study):
    corpora = {name: replace(entry, private=True) for name, entry in study.corpora.items()}
    run = execute(replace(study, corpora=corpora), "crf", "CR", 0, runs=systems.ROOT / "runs", progress=False)
    files = [path for path in run.folder.rglob("*") if path.is_file() and path.name != "run.json"]
    assert len(files) >= 2 and all(path.stat().st_mode & 0o077 == 0 for path in files)
